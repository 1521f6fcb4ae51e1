"""A directory that holds only what the API adds: for a gateway started by hand, without a state folder.

No operator stands behind it, so nothing starts workers; those run by hand appear as ad-hoc cameras.
"""

from __future__ import annotations

from collections.abc import Callable

from camfleet_gateway.directory import CameraExistsError, CameraUnknownError, DirectoryBase
from camfleet_protocol.camera import Camera, CameraStatus
from camfleet_protocol.local import Controls, Overlay, apply_overlay


class MemoryDirectory(DirectoryBase):
    """Cameras in a dict."""

    async def start(self, failed: Callable[[], None]) -> None:
        """Nothing to read."""
        self._ready = True

    async def stop(self) -> None:
        """Nothing to stop."""

    async def create(self, camera: Camera) -> None:
        """Add a camera."""
        if camera.id in self._cameras:
            raise CameraExistsError(f"there is a camera {camera.id} already")
        self._apply(camera.id, camera.model_copy(update={"status": CameraStatus()}))

    async def control(self, camera_id: str, controls: Controls) -> None:
        """Change a camera in place."""
        camera = self._cameras.get(camera_id)
        if camera is None:
            raise CameraUnknownError(f"there is no camera {camera_id}")
        self._apply(camera_id, apply_overlay(camera, Overlay(controls=controls)))

    async def delete(self, camera_id: str) -> None:
        """Remove a camera."""
        if camera_id not in self._cameras:
            raise CameraUnknownError(f"there is no camera {camera_id}")
        self._apply(camera_id, None)
