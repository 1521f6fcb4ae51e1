"""What the operator knows of the cluster: the latest cameras, profiles and pods, by key.

Three sources write to it: watch events, periodic listings, and the answers to our own writes. Older news
never overwrites newer: within one object's life resource versions grow, and a UID that was deleted does not
come back with a listing that was on its way at that time. A listing replaces everything that it is newer
than, so what a lost event has left behind goes. All methods return the keys of the cameras that are
concerned.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from camfleet_operator.cluster.compact import compact
from camfleet_operator.cluster.pods import PodSeen, read_pod
from camfleet_protocol.camera import Camera, CameraProfile, CameraStatus, InvalidObjectError, parse_object
from camfleet_protocol.cluster import GROUP, MOVE_ANNOTATION, PAUSE_ANNOTATION, VERSION

logger = logging.getLogger(__name__)

TOMBSTONE_SECONDS = 600.0
MAX_REQUEST = 64
"""Characters of what asks for a move that are looked at."""


class Kind(Enum):
    """The kinds that are followed."""

    CAMERA = "Camera"
    PROFILE = "CameraProfile"
    POD = "Pod"


@dataclass(frozen=True, slots=True)
class CameraEntry:
    """A camera with what the API server has made of it.

    Attributes:
        camera: None if this version cannot read it; then `problem` says why.
        deleting: Whether it is being deleted and something holds it.
        told: Whether its status says `problem` already.
        paused: Whether its annotation says that it is not to be moved for the sake of health.
        move_request: What its annotation asks a move by; empty if it does not.
    """

    key: str
    namespace: str
    name: str
    uid: str
    generation: int
    camera: Camera | None
    problem: str = ""
    deleting: bool = False
    told: bool = False
    paused: bool = False
    move_request: str = ""

    def reference(self) -> dict[str, Any]:
        """What an Event names it by."""
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "Camera",
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
        }


@dataclass(frozen=True, slots=True)
class _Known:
    uid: str
    version: int


class Store:
    """The view of the cluster. Lives on one event loop.

    Args:
        clock: Monotonic seconds, for tombstones.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._cameras: dict[str, CameraEntry] = {}
        self._profiles: dict[str, CameraProfile | None] = {}
        self._paused_profiles: set[str] = set()
        self._pods: dict[str, PodSeen] = {}
        self._by_uid: dict[str, str] = {}
        self._pods_of: dict[str, set[str]] = defaultdict(set)
        self._users: dict[str, set[str]] = defaultdict(set)
        self._known: dict[Kind, dict[str, _Known]] = {kind: {} for kind in Kind}
        self._tombstones: dict[str, float] = {}
        self._unseen: set[str] = set()

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────────

    def camera(self, key: str) -> CameraEntry | None:
        """The camera `namespace.name`."""
        return self._cameras.get(key)

    def keys(self) -> list[str]:
        """All cameras."""
        return list(self._cameras)

    def profile_of(self, camera: Camera) -> CameraProfile | None:
        """The profile that a camera refers to, if it is there and can be read."""
        reference = camera.spec.profile_ref
        return self._profiles.get(f"{camera.metadata.namespace}.{reference.name}") if reference else None

    def paused_by(self, entry: CameraEntry) -> str:
        """Which annotation, the camera's or its profile's, forbids to move it; empty if none does."""
        if entry.paused:
            return f"Camera {entry.name}"
        reference = entry.camera.spec.profile_ref if entry.camera is not None else None
        if reference is not None and f"{entry.namespace}.{reference.name}" in self._paused_profiles:
            return f"CameraProfile {reference.name}"
        return ""

    def pods_of(self, camera_uid: str) -> list[PodSeen]:
        """The pods that a camera controls."""
        return [self._pods[name] for name in self._pods_of.get(camera_uid, ())]

    @property
    def unseen_pods(self) -> int:
        """How many pods the scheduler has not had a word about yet."""
        return len(self._unseen)

    def counts(self) -> dict[str, int]:
        """How many objects of each kind are known."""
        return {kind.value: len(known) for kind, known in self._known.items()}

    # ── News ────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, kind: Kind, raw: Mapping[str, Any], *, live: bool = True) -> set[str]:
        """Take in an object as it is now.

        Args:
            kind: What it is.
            raw: Its JSON.
            live: Whether it comes from a watch or an answer, rather than from a listing that may be stale.
        """
        metadata = raw["metadata"]
        key, uid, version = _key(metadata), metadata["uid"], _version(metadata)
        known = self._known[kind].get(key)
        if known is not None and known.uid == uid and known.version >= version:
            return set()
        if uid in self._tombstones:
            if not live:
                return set()
            del self._tombstones[uid]  # it has left our selection and come back
        self._known[kind][key] = _Known(uid, version)
        match kind:
            case Kind.CAMERA:
                return self._set_camera(key, raw)
            case Kind.PROFILE:
                return self._set_profile(key, raw)
            case Kind.POD:
                return self._set_pod(key, read_pod(raw))

    def remove(self, kind: Kind, raw: Mapping[str, Any]) -> set[str]:
        """Take note that an object is gone."""
        metadata = raw["metadata"]
        self._tombstones[metadata["uid"]] = self._clock()
        known = self._known[kind].get(key := _key(metadata))
        if known is None or known.uid != metadata["uid"]:
            return set()  # another object has its name by now
        return self._drop(kind, key)

    def status_written(self, key: str, uid: str, version: str, status: CameraStatus) -> None:
        """Take note of a status that we have just written; the watch will only repeat it."""
        known, entry = self._known[Kind.CAMERA].get(key), self._cameras.get(key)
        if known is None or entry is None or entry.camera is None or known.uid != uid:
            return
        if (at := _number(version)) > known.version:
            self._known[Kind.CAMERA][key] = _Known(uid, at)
            compact(status)
            camera = entry.camera.model_copy(update={"status": status})
            self._cameras[key] = replace(entry, camera=camera)

    def pod_deleted(self, pod: PodSeen, gone_by: float) -> None:
        """Take note that the API server has taken our request to delete a pod, with this grace time."""
        key = f"{pod.namespace}.{pod.name}"
        if (known := self._pods.get(key)) is not None and known.uid == pod.uid:
            self._pods[key] = replace(known, deleting=True, gone_by=gone_by)

    def sweep(self, kind: Kind, listed: Set[str], version: str, *, within: str | None = None) -> set[str]:
        """Take note of what a complete listing lacks: it is gone.

        What the listing has must have been applied, with `live=False`, page by page as it came: all of it at
        once, as it is sent, would be many times the size of what is kept.

        Args:
            kind: What was listed.
            listed: The UIDs of everything there is.
            version: The listing's resource version: what is newer than that is not judged by it.
            within: The namespace that was listed; None if all were.
        """
        changed: set[str] = set()
        at = _number(version)
        for key, known in list(self._known[kind].items()):
            if within is not None and key.partition(".")[0] != within:
                continue
            if known.uid not in listed and known.version <= at:
                logger.info("%s %s is gone; no event has said so", kind.value, key)
                self._tombstones[known.uid] = self._clock()
                changed |= self._drop(kind, key)
        self._bury()
        return changed

    # ── Inside ──────────────────────────────────────────────────────────────────────────────────────

    def _set_camera(self, key: str, raw: Mapping[str, Any]) -> set[str]:
        before = self._cameras.get(key)
        entry = _entry(key, raw)
        if before is not None:
            self._forget_user(before)
            self._by_uid.pop(before.uid, None)
        self._cameras[key] = entry
        self._by_uid[entry.uid] = key
        if entry.camera is not None and (reference := entry.camera.spec.profile_ref) is not None:
            self._users[f"{entry.namespace}.{reference.name}"].add(key)
        return set() if entry == before else {key}

    def _set_profile(self, key: str, raw: Mapping[str, Any]) -> set[str]:
        try:
            profile = parse_object({**raw, "kind": "CameraProfile", "apiVersion": "camfleet.io/v1alpha1"})
            assert isinstance(profile, CameraProfile)
        except InvalidObjectError as error:
            logger.error("CameraProfile %s cannot be read: %s", key, error)
            profile = None
        before = self._profiles.get(key)
        self._profiles[key] = profile
        if is_paused(raw["metadata"]):
            self._paused_profiles.add(key)
        else:
            self._paused_profiles.discard(key)
        if before is not None and profile is not None and before.spec == profile.spec:
            return set()
        return set(self._users.get(key, ()))

    def _set_pod(self, key: str, pod: PodSeen) -> set[str]:
        before = self._pods.get(key)
        if before is not None and before.uid == pod.uid:
            changed = bool(before.image) and before.image != pod.image
            pod = replace(pod, edited=before.edited or changed)
        if before is not None and before.owner_uid != pod.owner_uid:
            self._pods_of[before.owner_uid].discard(key)
        self._pods[key] = pod
        self._pods_of[pod.owner_uid].add(key)
        if pod.scheduled is None:
            self._unseen.add(key)
        else:
            self._unseen.discard(key)
        if pod == before:
            return set()
        return self._owner(pod) | (self._owner(before) if before is not None else set())

    def _drop(self, kind: Kind, key: str) -> set[str]:
        del self._known[kind][key]
        match kind:
            case Kind.CAMERA:
                entry = self._cameras.pop(key)
                self._by_uid.pop(entry.uid, None)
                self._forget_user(entry)
                return {key}
            case Kind.PROFILE:
                self._profiles.pop(key, None)
                self._paused_profiles.discard(key)
                return set(self._users.get(key, ()))
            case Kind.POD:
                pod = self._pods.pop(key)
                self._unseen.discard(key)
                names = self._pods_of[pod.owner_uid]
                names.discard(key)
                if not names:
                    del self._pods_of[pod.owner_uid]
                return self._owner(pod)

    def _owner(self, pod: PodSeen) -> set[str]:
        key = self._by_uid.get(pod.owner_uid)
        return set() if key is None else {key}

    def _forget_user(self, entry: CameraEntry) -> None:
        if entry.camera is not None and (reference := entry.camera.spec.profile_ref) is not None:
            users = self._users[name := f"{entry.namespace}.{reference.name}"]
            users.discard(entry.key)
            if not users:
                del self._users[name]

    def _bury(self) -> None:
        limit = self._clock() - TOMBSTONE_SECONDS
        self._tombstones = {uid: since for uid, since in self._tombstones.items() if since > limit}


def _entry(key: str, raw: Mapping[str, Any]) -> CameraEntry:
    metadata = raw["metadata"]
    facts = {
        "key": key,
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "generation": metadata.get("generation", 0),
        "deleting": "deletionTimestamp" in metadata,
        "paused": is_paused(metadata),
        "move_request": _plain((metadata.get("annotations") or {}).get(MOVE_ANNOTATION, "")),
    }
    # Only what is used is kept: managed fields alone are larger than all the rest.
    slim = {k: metadata[k] for k in ("name", "namespace", "generation") if k in metadata}
    document = {
        "apiVersion": "camfleet.io/v1alpha1",
        "kind": "Camera",
        "metadata": slim,
        "spec": raw.get("spec"),
        "status": raw.get("status") or {},
    }
    try:
        camera = parse_object(document)
        assert isinstance(camera, Camera)
    except InvalidObjectError as error:
        problem = "; ".join(error.problems)[:500]
        conditions = (raw.get("status") or {}).get("conditions") or ()
        told = any(c.get("type") == "Ready" and c.get("message") == problem for c in conditions)
        return CameraEntry(**facts, camera=None, problem=problem, told=told)
    compact(camera)
    return CameraEntry(**facts, camera=camera)


def is_paused(metadata: Mapping[str, Any]) -> bool:
    """Whether an object's annotation forbids to move workers for the sake of health."""
    return (metadata.get("annotations") or {}).get(PAUSE_ANNOTATION) == "true"


def _plain(text: object) -> str:
    """Text from outside, short and printable."""
    return re.sub(r"[^\x20-\x7e]", "?", str(text)[:MAX_REQUEST])


def _key(metadata: Mapping[str, Any]) -> str:
    return f"{metadata['namespace']}.{metadata['name']}"


def _version(metadata: Mapping[str, Any]) -> int:
    return _number(metadata.get("resourceVersion", ""))


def _number(version: str) -> int:
    """A resource version as a number; 0 for one that is none."""
    return int(version) if version.isdigit() else 0
