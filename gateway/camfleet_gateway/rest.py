"""The REST API of the viewer listener."""

from __future__ import annotations

from fastapi import Depends, FastAPI

from camfleet_gateway.auth import Role
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.models import CameraList, camera_view


def add_rest(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes."""
    viewer = Depends(gateway.identity.require(Role.VIEWER))

    @app.get("/api/cameras", dependencies=[viewer], response_model=CameraList)
    async def list_cameras() -> CameraList:
        """All cameras with their state."""
        now = gateway.clock.monotonic()
        cameras = [camera_view(channel, now) for _, channel in sorted(gateway.hub.channels.items())]
        return CameraList(cameras=cameras, total_cameras=len(cameras))
