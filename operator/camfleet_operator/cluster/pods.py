"""What the operator remembers of a pod: the few facts that decisions depend on, read from its JSON once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from camfleet_operator.cluster.balance.eligibility import UNBOUND, Constraints, read_constraints
from camfleet_operator.cluster.podspec import (
    CONTAINER,
    FINGERPRINT_ANNOTATION,
    PLACEMENT_ANNOTATION,
    Variant,
)
from camfleet_operator.plan import RunPhase, WorkerRun
from camfleet_protocol.cluster import ATTEMPT_LABEL

_IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable"}
)
_CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
CRASH_LOOP = "CrashLoopBackOff"
_MAX_MESSAGE = 400


@dataclass(frozen=True, slots=True)
class PodSeen:
    """One worker pod. Times are Unix seconds; two pods that look the same are equal.

    Attributes:
        owner_uid: UID of the Camera that controls it; empty if none does.
        scheduled: What the scheduler has said: True, False (with `scheduling_message`), or None if nothing
            yet.
        unschedulable_since: Since when the scheduler says that there is no place.
        waiting: Reason for which the container does not run (`ImagePullBackOff`, …); empty if it does or
            nothing is known.
        ended: Whether it has failed or succeeded for good.
        gone_by: When it should be gone, if it is being deleted: the end of its grace time.
        image: Image of its container; empty if that is not known.
        edited: Whether its image was changed after it was made.
        placement: Where it should rather run and why, as we said when it was made.
        constraints: What it demands of its node.
    """

    namespace: str
    name: str
    uid: str
    owner_uid: str
    attempt: int
    fingerprint: str
    image: str
    created_at: float
    edited: bool = False
    placement: str = ""
    deleting: bool = False
    gone_by: float = 0.0
    node: str = ""
    scheduled: bool | None = None
    scheduling_message: str = ""
    unschedulable_since: float = 0.0
    running: bool = False
    waiting: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    ended: bool = False
    ended_at: float | None = None
    ended_reason: str = ""
    constraints: Constraints = UNBOUND

    @property
    def alive(self) -> bool:
        """Whether it runs or may run again."""
        return not self.ended

    @property
    def image_trouble(self) -> bool:
        """Whether its image cannot be had."""
        return self.waiting in _IMAGE_REASONS

    @property
    def config_trouble(self) -> bool:
        """Whether the kubelet cannot make a container of it."""
        return self.waiting in _CONFIG_REASONS

    def as_run(self) -> WorkerRun:
        """The pod as the planner sees a worker."""
        phase = RunPhase.RUNNING
        if self.ended:
            phase = RunPhase.ENDED
        elif self.deleting:
            phase = RunPhase.STOPPING
        return WorkerRun(
            uid=self.uid,
            attempt=self.attempt,
            fingerprint=self.fingerprint,
            phase=phase,
            started_at=self.created_at,
            ended_at=self.ended_at,
            exit_code=self.exit_code,
            reason=self.ended_reason,
        )

    def variant(self, fingerprints: Mapping[Variant, str]) -> Variant | None:
        """Which of a shape's variants it is; None if it is of another shape."""
        for variant, fingerprint in fingerprints.items():
            if fingerprint == self.fingerprint:
                return variant
        return None


def read_pod(raw: Mapping[str, Any]) -> PodSeen:
    """Read the facts off a pod's JSON."""
    metadata, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    scheduling = conditions.get("PodScheduled", {})
    scheduled = {"True": True, "False": False}.get(scheduling.get("status", ""))
    unschedulable = scheduled is False and scheduling.get("reason") == "Unschedulable"
    state, last = _container_states(status)
    waiting = state.get("waiting") or {}
    terminated = state.get("terminated") or last.get("terminated") or {}
    phase = status.get("phase", "")
    ended = phase in ("Failed", "Succeeded")
    containers: Sequence[Mapping[str, Any]] = spec.get("containers") or ()
    container = next((c for c in containers if c.get("name") == CONTAINER), {})
    ended_at = _ended_at(metadata, conditions, terminated) if ended else None
    return PodSeen(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=_owner(metadata),
        attempt=_attempt(metadata),
        fingerprint=(metadata.get("annotations") or {}).get(FINGERPRINT_ANNOTATION, ""),
        image=container.get("image", ""),
        placement=(metadata.get("annotations") or {}).get(PLACEMENT_ANNOTATION, "")[:_MAX_MESSAGE],
        created_at=_seconds(metadata.get("creationTimestamp")) or 0.0,
        deleting=bool(metadata.get("deletionTimestamp")),
        gone_by=_seconds(metadata.get("deletionTimestamp")) or 0.0,
        node=spec.get("nodeName") or "",
        scheduled=True if spec.get("nodeName") else scheduled,
        scheduling_message=(scheduling.get("message") or "")[:_MAX_MESSAGE] if scheduled is False else "",
        unschedulable_since=(_seconds(scheduling.get("lastTransitionTime")) or 0.0) if unschedulable else 0.0,
        running=phase == "Running" and "running" in state and not metadata.get("deletionTimestamp"),
        waiting=waiting.get("reason", ""),
        waiting_message=(waiting.get("message") or "")[:_MAX_MESSAGE],
        exit_code=terminated.get("exitCode"),
        ended=ended,
        ended_at=ended_at,
        ended_reason=(status.get("reason") or "")[:64] if ended else "",
        constraints=read_constraints(spec, CONTAINER),
    )


def _ended_at(
    metadata: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]], terminated: Mapping[str, Any]
) -> float | None:
    """When a pod ended. One that the kubelet refused or evicted has no container that could say so."""
    if (finished := _seconds(terminated.get("finishedAt"))) is not None:
        return finished
    changes = (_seconds(condition.get("lastTransitionTime")) for condition in conditions.values())
    known = [change for change in changes if change is not None]
    return max(known, default=_seconds(metadata.get("creationTimestamp")))


def _container_states(status: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == CONTAINER:
            return container.get("state") or {}, container.get("lastState") or {}
    return {}, {}


def _owner(metadata: Mapping[str, Any]) -> str:
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller") and reference.get("kind") == "Camera":
            return str(reference.get("uid", ""))
    return ""


def _attempt(metadata: Mapping[str, Any]) -> int:
    label = (metadata.get("labels") or {}).get(ATTEMPT_LABEL, "")
    return int(label) if re.fullmatch(r"[0-9]{1,9}", label) else 0


def _seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None
