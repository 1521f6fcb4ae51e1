"""Names that operator, gateway and worker pods agree on in a cluster."""

from __future__ import annotations

import hashlib

GROUP = "camfleet.io"
VERSION = "v1alpha1"
CAMERAS = "cameras"
PROFILES = "cameraprofiles"

CAMERA_LABEL = "camfleet.io/camera"
ATTEMPT_LABEL = "camfleet.io/attempt"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY = "camfleet-operator"
WORKER_COMPONENT = "worker"
WORKER_SELECTOR = f"{COMPONENT_LABEL}={WORKER_COMPONENT},{MANAGED_BY_LABEL}={MANAGED_BY}"

TOKEN_AUDIENCE = "camfleet-gateway"
"""Audience of the ServiceAccount token that a worker pod presents to the gateway."""

OPERATOR_FIELD_MANAGER = "camfleet-operator"
GATEWAY_FIELD_MANAGER = "camfleet-gateway"
"""The gateway's start/stop and settings controls are fields of a manager of their own."""

PAUSE_ANNOTATION = "camfleet.io/pause-reassignment"
"""`true` on a Camera, a CameraProfile (all its cameras) or the operator's Lease (all cameras): the operator
moves no worker for the sake of health."""
MOVE_ANNOTATION = "camfleet.io/move"
"""On a Camera: each new value asks once for a worker on another node."""

_READABLE = 40
_HASH = 10


def pod_name(camera: str, camera_uid: str, attempt: int) -> str:
    """Name of the pod of an attempt: readable, a DNS label, and the same whoever computes it.

    The camera's UID is in the hash, so a camera that was deleted and made again never meets its old pods.
    """
    digest = hashlib.sha256(f"{camera_uid}/{attempt}".encode()).hexdigest()[:_HASH]
    return f"{camera[:_READABLE].rstrip('-')}-{digest}"
