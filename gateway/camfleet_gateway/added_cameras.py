"""What a camera may say that is added through the viewer API of a cluster.

Whoever may add cameras there holds a token of the gateway, not rights in the cluster. So such a camera must
not run an image of its choice, choose where and with what it runs, open files or devices, or have a stored
password sent to an address of its choice. All of that takes `kubectl`, where RBAC decides, or a profile.
"""

from __future__ import annotations

from collections.abc import Iterable

from camfleet_gateway.kubernetes_objects import ADDED_ANNOTATION
from camfleet_protocol.camera import Camera

RESERVED = ("image", "resources", "placement", "gpu")
_SOURCES = ("rtsp", "http", "testPattern")


def problem_with(camera: Camera, known: Iterable[Camera]) -> str | None:
    """Why a camera may not be added through the API, in words; None if it may.

    Args:
        camera: The new one.
        known: All cameras there are. One that was not added through the API itself vouches for the
            addresses (scheme, host and port) to which it has its Secret sent.
    """
    spec = camera.spec
    if reserved := [name for name in RESERVED if getattr(spec, name) is not None]:
        return (
            f"spec.{reserved[0]} cannot be set through this API; take a CameraProfile that sets it "
            "(profileRef), or kubectl"
        )
    kind = spec.source.type.value
    if kind not in _SOURCES:
        return f"a camera with the source {kind} cannot be added through this API; use kubectl"
    secret = spec.source.credentials_secret
    if secret is None:
        return None
    allowed: set[str] = set()
    for other in known:
        if (
            other.metadata.namespace == camera.metadata.namespace
            and other.spec.source.credentials_secret == secret
            and ADDED_ANNOTATION not in other.metadata.annotations
        ):
            allowed |= other.spec.source.credential_targets
    if refused := sorted(spec.source.credential_targets - allowed):
        return (
            f"the Secret {secret} may not be sent to {refused[0]}: no Camera of the namespace "
            f"{camera.metadata.namespace} that was made with kubectl uses it for that scheme, host and port"
        )
    return None
