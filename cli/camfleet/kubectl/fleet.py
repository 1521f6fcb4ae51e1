"""Cameras as the API server has them, and which of them a person means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from camfleet.kubectl.cluster import Cluster, Json, collection
from camfleet.kubectl.errors import Missing, Problem, Refused
from camfleet.kubectl.target import Target
from camfleet.kubectl.text import parse_time
from camfleet_protocol.cluster import MOVE_ANNOTATION, PAUSE_ANNOTATION

_ID = re.compile(
    r"(?:(?P<namespace>[a-z0-9]([-a-z0-9]*[a-z0-9])?)[/.])?(?P<name>[a-z0-9]([-a-z0-9]*[a-z0-9])?)"
)
_SUGGESTIONS = 3


@dataclass(frozen=True, slots=True)
class CameraView:
    """A Camera object, read leniently: it may be of a newer version, or without a status."""

    raw: Json

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.raw["metadata"].get("namespace") or "default")

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.raw["metadata"]["name"])

    @property
    def id(self) -> str:
        """`NAMESPACE/NAME`, as people write it."""
        return f"{self.namespace}/{self.name}"

    @property
    def key(self) -> str:
        """`NAMESPACE.NAME`, as gateway and operator write it."""
        return f"{self.namespace}.{self.name}"

    @property
    def path(self) -> str:
        """Path of the object."""
        return f"{collection('cameras', self.namespace)}/{self.name}"

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its spec."""
        return _mapping(self.raw.get("spec"))

    @property
    def status(self) -> Mapping[str, Any]:
        """Its status."""
        return _mapping(self.raw.get("status"))

    @property
    def conditions(self) -> dict[str, Mapping[str, Any]]:
        """By type."""
        return {str(c.get("type")): c for c in self.status.get("conditions") or () if isinstance(c, dict)}

    @property
    def worker(self) -> Mapping[str, Any]:
        """Pod, node and attempt of the current worker."""
        return _mapping(self.status.get("worker"))

    @property
    def node(self) -> str:
        """Where the worker runs, or empty."""
        return str(self.worker.get("nodeName") or "")

    @property
    def last_move(self) -> Mapping[str, Any]:
        """`status.lastReassignment`."""
        return _mapping(self.status.get("lastReassignment"))

    @property
    def profile(self) -> str:
        """Name of its profile, or empty."""
        return str(_mapping(self.spec.get("profileRef")).get("name") or "")

    @property
    def annotations(self) -> Mapping[str, str]:
        """Its annotations."""
        return _mapping(self.raw["metadata"].get("annotations"))

    @property
    def suspended(self) -> bool:
        """Whether it is not meant to run."""
        return self.spec.get("suspend") is True

    @property
    def ready(self) -> bool:
        """Whether its status says so, of the camera as it is now."""
        found = self.conditions.get("Ready", {})
        return found.get("status") == "True"

    @property
    def requested(self) -> str:
        """A move that was asked for and is not done yet, or empty."""
        asked = self.annotations.get(MOVE_ANNOTATION, "")
        return "" if asked == self.last_move.get("request") else asked

    @property
    def paused(self) -> bool:
        """Whether it is paused itself."""
        return is_paused(self.raw)

    def moved_within(self, seconds: float, now: datetime) -> bool:
        """Whether the operator has moved it so recently."""
        at = parse_time(self.last_move.get("time"))
        return at is not None and (now - at).total_seconds() < seconds


def is_paused(raw: Mapping[str, Any]) -> bool:
    """Whether an object carries the pause annotation."""
    annotations = _mapping(_mapping(raw.get("metadata")).get("annotations"))
    return str(annotations.get(PAUSE_ANNOTATION, "")).lower() == "true"


def find_cameras(cluster: Cluster, target: Target, names: Sequence[str]) -> list[CameraView]:
    """The cameras of these names, in this order; all that are meant if none is named.

    Raises:
        Problem: One is not there, or a name could mean several.
    """
    if not names:
        return [CameraView(raw) for raw in cluster.cameras(scope(cluster, target))]
    return [_find(cluster, target, name) for name in dict.fromkeys(names)]


def scope(cluster: Cluster, target: Target) -> str | None:
    """The namespace that is meant; None for all."""
    return None if target.all_namespaces else cluster.namespace


def scope_text(cluster: Cluster, target: Target) -> str:
    """`in namespace north`, `in all namespaces`."""
    named = scope(cluster, target)
    return f"in namespace {named}" if named else "in all namespaces"


def find_profile(cluster: Cluster, namespace: str, name: str) -> Json:
    """A CameraProfile.

    Raises:
        Problem: It is not there.
    """
    path = collection("cameraprofiles", namespace)
    try:
        return cluster.get(f"{path}/{name}")
    except Missing:
        others = [str(item["metadata"]["name"]) for item in cluster.items(path, names_only=True)]
        raise Problem(
            f"there is no profile {namespace}/{name}", _suggestion(name, others, namespace)
        ) from None


def _find(cluster: Cluster, target: Target, given: str) -> CameraView:
    match = _ID.fullmatch(given)
    if match is None:
        raise Problem(f"{given!r} is no name of a camera", "NAME or NAMESPACE/NAME")
    namespace, name = match["namespace"], match["name"]
    if namespace is None and target.all_namespaces:
        namespace = _only_namespace(cluster, name)
    namespace = namespace or cluster.namespace
    path = collection("cameras", namespace)
    try:
        return CameraView(cluster.get(f"{path}/{name}"))
    except Missing:
        hint = _hint(cluster, path, namespace, name)
        raise Problem(f"there is no camera {namespace}/{name}", hint) from None


def _only_namespace(cluster: Cluster, name: str) -> str:
    listed = cluster.items(collection("cameras", None), names_only=True)
    ids = [(str(i["metadata"]["namespace"]), str(i["metadata"]["name"])) for i in listed]
    found = sorted(namespace for namespace, other in ids if other == name)
    if len(found) > 1:
        choice = ", ".join(f"{namespace}/{name}" for namespace in found[:8])
        raise Problem(f"{name} could be any of {len(found)} cameras", f"say which: {choice}")
    if not found:
        close = difflib.get_close_matches(name, sorted({other for _, other in ids}), _SUGGESTIONS)
        named = [f"{ns}/{other}" for word in close for ns, other in ids if other == word][:_SUGGESTIONS]
        hint = f"did you mean {' or '.join(named)}?" if named else ""
        raise Problem(f"there is no camera {name} in any namespace", hint)
    return found[0]


def _hint(cluster: Cluster, path: str, namespace: str, name: str) -> str:
    """Names that are close; raises if the kind itself is missing, which is then the better message."""
    here = [str(item["metadata"]["name"]) for item in cluster.items(path, names_only=True)]
    if close := difflib.get_close_matches(name, here, _SUGGESTIONS):
        return f"did you mean {' or '.join(close)}?"
    try:
        everywhere = cluster.items(
            collection("cameras", None), {"fieldSelector": f"metadata.name={name}"}, names_only=True
        )
    except Refused:
        everywhere = []
    if everywhere:
        others = sorted(f"{i['metadata']['namespace']}/{i['metadata']['name']}" for i in everywhere)
        return f"there is {' and '.join(others[:_SUGGESTIONS])}"
    return _suggestion(name, here, namespace)


def _suggestion(name: str, others: Iterable[str], namespace: str) -> str:
    known = sorted(others)
    if close := difflib.get_close_matches(name, known, _SUGGESTIONS):
        return f"did you mean {' or '.join(close)}?"
    return (
        f"there are {', '.join(known[:8])}{' …' if len(known) > 8 else ''}"
        if known
        else f"there is none in {namespace}"
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
