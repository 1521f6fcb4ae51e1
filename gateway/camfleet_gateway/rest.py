"""The REST API of the viewer listener."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response

from camfleet_gateway.auth import ALL_PICTURES, TICKET_SECONDS, Role
from camfleet_gateway.bodies import read_camera, read_model
from camfleet_gateway.channel import Channel
from camfleet_gateway.debug import debug_view
from camfleet_gateway.directory import (
    CameraExistsError,
    CameraUnknownError,
    ConflictError,
    DirectoryError,
    ForbiddenError,
    InvalidError,
    NotAllowedError,
    NotAppliedError,
    StorageError,
)
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.identity import Problem
from camfleet_gateway.models import (
    CameraList,
    CameraView,
    ErrorView,
    SessionView,
    StreamStatus,
    TicketRequest,
    TicketView,
    camera_view,
    stream_status,
)
from camfleet_protocol import __version__
from camfleet_protocol.camera import Camera
from camfleet_protocol.local import Controls

_STATUS: dict[type[DirectoryError], int] = {
    CameraExistsError: 409,
    CameraUnknownError: 404,
    ConflictError: 409,
    ForbiddenError: 403,
    InvalidError: 422,
    NotAllowedError: 403,
    NotAppliedError: 504,
    StorageError: 503,
}
_REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorView, "description": "No valid token"},
    403: {
        "model": ErrorView,
        "description": "The role does not suffice, or the origin, this API or the cluster forbids it",
    },
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView, "description": "No such camera"}}
_INVALID: dict[int | str, dict[str, Any]] = {
    422: {"model": ErrorView, "description": "Every mistake by its path"}
}
_CHANGE: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorView, "description": "The name is taken, or the camera cannot be changed here"},
    503: {
        "model": ErrorView,
        "description": "The state folder cannot be used, or the Kubernetes API does not answer",
    },
    504: {"model": ErrorView, "description": "Stored, but not acted upon within three seconds"},
}


def _body(model: type[Camera] | type[Controls] | type[TicketRequest], note: str) -> dict[str, Any]:
    """Describe a body that we read ourselves, so that no error ever quotes it."""
    schema = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {
        "requestBody": {
            "required": True,
            "description": note,
            "content": {"application/json": {"schema": schema}},
        }
    }


def problem_of(error: DirectoryError) -> Problem:
    """The answer to a change that was not made."""
    return Problem(_STATUS.get(type(error), 409), error.code, str(error))


def add_rest(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes."""
    require = gateway.identity.require
    viewer, operator, admin = (Depends(require(role)) for role in Role)
    api = APIRouter(responses=_REFUSED)

    def channel_of(name: str) -> Channel:
        channel = gateway.hub.find(name)
        if channel is None:
            raise Problem(404, "unknown_camera", "there is no such camera")
        return channel

    def managed(name: str) -> Channel:
        channel = channel_of(name)
        if channel.camera is None:
            raise Problem(409, "read_only", "this camera's worker is run by hand; change its options instead")
        return channel

    def view(channel: Channel) -> CameraView:
        return camera_view(channel, gateway.clock.monotonic())

    @api.get("/api/session", tags=["session"])
    async def session(request: Request) -> SessionView:
        """Who the caller is, by the token of this request."""
        principal = require(Role.VIEWER)(request)
        return SessionView.model_validate(
            {
                "role": principal.role.label,
                "authentication": gateway.authenticator.enabled,
                "version": __version__,
            }
        )

    @api.get("/api/cameras", dependencies=[viewer], tags=["cameras"])
    async def list_cameras() -> CameraList:
        """All cameras with state and figures."""
        cameras = [view(channel) for _, channel in sorted(gateway.hub.channels.items())]
        return CameraList(cameras=cameras, total_cameras=len(cameras))

    @api.get("/api/cameras/{camera_id}", dependencies=[viewer], responses=_UNKNOWN, tags=["cameras"])
    async def get_camera(camera_id: str) -> CameraView:
        """One camera, by `namespace.name` or by its name where that is unambiguous."""
        return view(channel_of(camera_id))

    @api.post(
        "/api/cameras",
        dependencies=[admin],
        status_code=201,
        responses={**_CHANGE, **_INVALID},
        tags=["cameras"],
        openapi_extra=_body(Camera, 'A whole Camera object, or the short form {"name", "namespace", "spec"}'),
    )
    async def create_camera(request: Request) -> CameraView:
        """Add a camera; answers once it exists."""
        camera = await read_camera(request, gateway.directory.default_namespace)
        try:
            await gateway.directory.create(camera)
        except DirectoryError as error:
            raise problem_of(error) from None
        return view(channel_of(camera.id))

    @api.patch(
        "/api/cameras/{camera_id}",
        dependencies=[operator],
        responses={**_UNKNOWN, **_CHANGE, **_INVALID},
        tags=["cameras"],
        openapi_extra=_body(
            Controls, "The fields to change; null gives a field back to the camera's own spec"
        ),
    )
    async def change_camera(camera_id: str, request: Request) -> CameraView:
        """Change how a camera runs: pause, inference, live picture. The user's files stay untouched."""
        controls = await read_model(request, Controls)
        return await control(managed(camera_id), controls)

    async def control(channel: Channel, controls: Controls) -> CameraView:
        try:
            await gateway.directory.control(channel.id, controls)
        except DirectoryError as error:
            raise problem_of(error) from None
        return view(channel_of(channel.id))

    @api.delete(
        "/api/cameras/{camera_id}",
        dependencies=[admin],
        status_code=204,
        responses={**_UNKNOWN, **_CHANGE},
        tags=["cameras"],
    )
    async def delete_camera(camera_id: str) -> Response:
        """Remove a camera. One that comes from a file stays away until its file changes."""
        channel = managed(camera_id)
        try:
            await gateway.directory.delete(channel.id)
        except DirectoryError as error:
            raise problem_of(error) from None
        return Response(status_code=204)

    @api.post(
        "/cameras/{camera_id}/stream/start",
        dependencies=[operator],
        responses={**_UNKNOWN, **_CHANGE},
        tags=["stream"],
    )
    async def start_stream(camera_id: str) -> StreamStatus:
        """Let a paused camera run again."""
        channel = managed(camera_id)
        await control(channel, Controls(suspend=False))
        return stream_status(channel_of(channel.id), gateway.clock.monotonic())

    @api.post(
        "/cameras/{camera_id}/stream/stop",
        dependencies=[operator],
        responses={**_UNKNOWN, **_CHANGE},
        tags=["stream"],
    )
    async def stop_stream(camera_id: str) -> StreamStatus:
        """Pause a camera: its worker ends."""
        channel = managed(camera_id)
        await control(channel, Controls(suspend=True))
        return stream_status(channel_of(channel.id), gateway.clock.monotonic())

    @api.get("/cameras/{camera_id}/stream/status", dependencies=[viewer], responses=_UNKNOWN, tags=["stream"])
    async def get_stream_status(camera_id: str) -> StreamStatus:
        """Whether pictures come."""
        return stream_status(channel_of(camera_id), gateway.clock.monotonic())

    @api.post(
        "/api/tickets",
        dependencies=[viewer],
        responses={**_UNKNOWN, **_INVALID},
        tags=["pictures"],
        openapi_extra=_body(TicketRequest, "Which picture"),
    )
    async def issue_ticket(request: Request) -> TicketView:
        """A short permission for picture URLs, for `<img>`, which cannot send a token."""
        wanted = await read_model(request, TicketRequest)
        subject = channel_of(wanted.camera).id if wanted.camera is not None else ALL_PICTURES
        principal = gateway.identity.of_request(request)
        issuer = principal.digest if principal is not None else ""
        ticket = gateway.tickets.issue(subject, wanted.action, issuer)
        return TicketView(ticket=ticket, expires_in=TICKET_SECONDS)

    @api.get("/streaming/debug", dependencies=[operator], tags=["stream"])
    async def streaming_debug() -> dict[str, Any]:
        """Sessions, windows, slots: what one needs to see why a picture is late."""
        return debug_view(gateway)

    app.include_router(api)
