"""What load balancing has to know of each camera, read off the store."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from camfleet_operator.cluster.relief_simulation import CameraLoad
from camfleet_operator.cluster.store import CameraEntry, Store
from camfleet_operator.cluster.verdicts import Health, Verdict
from camfleet_protocol.camera import CameraStatus

_RELIEF = "Relief"


def camera_loads(store: Store, health: Callable[[str], Health | None], wall: float) -> list[CameraLoad]:
    """Every camera with a pod; what it takes is for others to fill in.

    Args:
        store: Cameras and their pods.
        health: The latest verdict on a camera.
        wall: Now; Unix seconds.
    """
    found: list[CameraLoad] = []
    for key in store.keys():
        entry = store.camera(key)
        if entry is not None and (load := _camera_load(store, entry, health(key), wall)) is not None:
            found.append(load)
    return found


def _camera_load(store: Store, entry: CameraEntry, health: Health | None, wall: float) -> CameraLoad | None:
    alive = [pod for pod in store.pods_of(entry.uid) if pod.alive]
    if entry.camera is None or not alive:
        return None
    pod, status = max(alive, key=lambda pod: pod.attempt), entry.camera.status
    last = status.last_reassignment
    moved_at = last.time.timestamp() if last is not None and last.time is not None else -inf
    return CameraLoad(
        entry.key,
        pod.node,
        constraints=pod.constraints,
        healthy=health is not None and health.verdict is Verdict.HEALTHY,
        movable=not (
            entry.deleting
            or pod.deleting
            or entry.camera.spec.suspend
            or not _is_automatic(status)
            or store.paused_by(entry)
        ),
        age=max(0.0, wall - pod.created_at),
        since_move=max(0.0, wall - moved_at),
        from_node=last.from_node if last is not None else "",
        relieved=last is not None and last.reason == _RELIEF,
    )


def _is_automatic(status: CameraStatus) -> bool:
    """Whether the settings in force let the operator move the camera."""
    values = status.settings.values if status.settings is not None else {}
    return bool((values.get("health") or {}).get("reassignment", "Automatic") != "Never")
