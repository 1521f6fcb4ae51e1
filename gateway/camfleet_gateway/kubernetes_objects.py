"""Cameras between the Kubernetes API's JSON and our model: what is kept of one, and what is sent of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from camfleet_protocol.camera import API_VERSION, Camera, CameraStatus

_KEPT = ("name", "namespace", "uid", "generation")
OUR_ANNOTATIONS = "camfleet.io/"
ADDED_ANNOTATION = f"{OUR_ANNOTATIONS}added-by"
"""Set on cameras that were added through this API: they vouch for no other camera."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def essence(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a Camera that matters here: without managed fields, versions and others' annotations."""
    metadata = document["metadata"]
    kept = {key: metadata[key] for key in _KEPT if key in metadata}
    annotations = metadata.get("annotations") or {}
    if ours := {key: annotations[key] for key in annotations if key.startswith(OUR_ANNOTATIONS)}:
        kept["annotations"] = ours
    found = {"apiVersion": API_VERSION, "kind": "Camera", "metadata": kept, "spec": document.get("spec")}
    if status := document.get("status"):
        found["status"] = status
    return found


def digest(found: Mapping[str, Any]) -> int:
    """Equal for equal essences; within this process."""
    return hash(json.dumps(found, separators=(",", ":")))


def read_camera(found: Mapping[str, Any], before: Camera | None) -> Camera:
    """Make a Camera of an essence.

    One whose spec a newer version has written keeps the spec that we knew, with its new status: its worker
    goes on, and its successor is let in.

    Raises:
        ValidationError: It is none for this version, and `before` is of no help.
    """
    try:
        return Camera.model_validate(found)
    except ValidationError:
        if before is None or uid_of(before) != found["metadata"].get("uid"):
            raise
        return before.model_copy(update={"status": CameraStatus.model_validate(found.get("status") or {})})


def uid_of(camera: Camera) -> str:
    """The UID that the API server gave it; empty outside a cluster."""
    return str((camera.metadata.model_extra or {}).get("uid", ""))


def new_object(camera: Camera) -> dict[str, Any]:
    """The document to create a camera with: its own labels and annotations, our mark, no status."""
    annotations = {
        key: value
        for key, value in camera.metadata.annotations.items()
        if not key.startswith(OUR_ANNOTATIONS) and key != _LAST_APPLIED
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {
            "name": camera.metadata.name,
            "namespace": camera.metadata.namespace,
            "labels": camera.metadata.labels,
            "annotations": {**annotations, ADDED_ANNOTATION: "camfleet-gateway"},
        },
        "spec": camera.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
