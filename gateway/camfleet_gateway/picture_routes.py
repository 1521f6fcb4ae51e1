"""Pictures over HTTP: `/cameras/{id}/stream/feed` and `/cameras/{id}/snapshot.jpg`."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request, Response

from camfleet_gateway.channel import Channel
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.hub import TooManyError
from camfleet_gateway.identity import Problem
from camfleet_gateway.mjpeg import MjpegResponse, MjpegViewer, next_picture
from camfleet_gateway.models import ErrorView
from camfleet_gateway.query import flag, rate
from camfleet_gateway.transport import ABORT_EXTENSION
from camfleet_protocol.messages import CameraState

_NO_PICTURE = (CameraState.OFFLINE, CameraState.SUSPENDED)


def add_pictures(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes."""
    api = APIRouter(
        tags=["pictures"],
        responses={
            401: {"model": ErrorView, "description": "Neither a valid token nor a ticket for this picture"},
            404: {"model": ErrorView, "description": "No such camera"},
            503: {"model": ErrorView, "description": "No picture now, or too many viewers"},
        },
    )

    def channel_of(name: str) -> Channel | None:
        return gateway.hub.find(name)

    @api.get(
        "/cameras/{camera_id}/stream/feed",
        response_class=Response,
        responses={
            200: {"content": {"multipart/x-mixed-replace": {}}, "description": "Endless JPEG pictures"}
        },
    )
    async def feed(
        camera_id: str, request: Request, annotated: str = "1", fps: str | None = None
    ) -> Response:
        """Live pictures as MJPEG; boxes are drawn in unless `annotated=0`. `ticket` stands in for a token."""
        channel = channel_of(camera_id)
        principal = gateway.identity.allow_picture(request, channel.id if channel else camera_id, "feed")
        if channel is None:
            raise Problem(404, "unknown_camera", "there is no such camera")
        try:
            max_fps = rate(fps)
        except ValueError as error:
            raise Problem(422, "invalid", str(error), (f"fps: {error}",)) from None
        viewer = MjpegViewer(
            channel,
            principal,
            hub=gateway.hub,
            clock=gateway.clock,
            annotated=flag(annotated, default=True),
            max_fps=max_fps,
            abort=request.scope["extensions"][ABORT_EXTENSION],
        )
        try:
            return MjpegResponse(viewer, hub=gateway.hub, roster=gateway.roster)
        except TooManyError as error:
            raise Problem(503, "too_many", str(error)) from None

    @api.get(
        "/cameras/{camera_id}/snapshot.jpg",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}, "description": "One JPEG picture"}},
    )
    async def snapshot(camera_id: str, request: Request, annotated: str = "1") -> Response:
        """The picture of now; boxes are drawn in unless `annotated=0`. `ticket` stands in for a token."""
        channel = channel_of(camera_id)
        gateway.identity.allow_picture(request, channel.id if channel else camera_id, "snapshot")
        if channel is None:
            raise Problem(404, "unknown_camera", "there is no such camera")
        view = channel.look(gateway.clock.monotonic())
        if view.state in _NO_PICTURE:
            raise Problem(503, "no_picture", f"the camera is {view.state.value}: {view.message}")
        try:
            picture = await next_picture(
                channel, hub=gateway.hub, clock=gateway.clock, annotated=flag(annotated, default=True)
            )
        except TooManyError as error:
            raise Problem(503, "too_many", str(error)) from None
        if picture is None:
            raise Problem(503, "no_picture", "no picture came within a few seconds")
        frame = picture.frame
        return Response(
            bytes(frame.payload),
            media_type="image/jpeg",
            headers={"X-Sequence": str(frame.seq), "X-Timestamp": f"{frame.captured_ns / 1e9:.6f}"},
        )

    app.include_router(api)
