"""What the REST API takes and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from camfleet_gateway.channel import Channel
from camfleet_gateway.store.view import EventView
from camfleet_protocol.camera import SourceType
from camfleet_protocol.messages import CameraState


class SessionView(BaseModel):
    """Who the caller is."""

    role: Annotated[Literal["viewer", "operator", "admin"], Field(description="What the caller may do")]
    authentication: Annotated[bool, Field(description="Whether tokens are in use at all")]
    version: str


class CameraView(BaseModel):
    """One camera."""

    camera_id: Annotated[str, Field(description="`namespace.name`")]
    name: str
    namespace: str
    id: Annotated[int, Field(description="The number in the header of its frames, on this gateway")]
    source: Annotated[str, Field(description="For people; never holds a credential")]
    source_type: SourceType | None
    connected: Annotated[bool, Field(description="Whether a worker is connected and its source is open")]
    state: CameraState
    reason: Annotated[str, Field(description="CamelCase, for programs; empty when all is well")]
    message: Annotated[str, Field(description="For people")]
    fps: Annotated[float, Field(description="Pictures captured per second")]
    stream_fps: Annotated[float, Field(description="Pictures published per second; 0 when nobody watches")]
    inference_fps: Annotated[float, Field(description="Inferences per second")]
    dropped_frames: Annotated[int, Field(description="Pictures the worker has dropped since its start")]
    uptime_seconds: Annotated[float, Field(description="Seconds since the worker started; 0 without one")]
    ai_enabled: Annotated[bool, Field(description="Whether inference is switched on")]
    viewers: int
    frame_age_ms: Annotated[float | None, Field(description="Milliseconds since the last new picture")]
    width: int
    height: int
    settings: Annotated[dict[str, Any], Field(description="`inference`, `stream` and `privacy` in force")]
    site: str
    suspended: bool
    managed: Annotated[
        bool, Field(description="Whether the directory knows it; false for a worker run by hand")
    ]


class CameraList(BaseModel):
    """All cameras, by id."""

    cameras: list[CameraView]
    total_cameras: int


class StreamStatus(BaseModel):
    """Whether a camera streams."""

    camera_id: str
    streaming: Annotated[bool, Field(description="Whether pictures come")]
    suspended: bool
    state: CameraState
    reason: str
    message: str
    fps: float
    stream_fps: float
    viewers: int


class TicketRequest(BaseModel):
    """For which picture a ticket is wanted."""

    camera: Annotated[
        str | None,
        Field(min_length=1, max_length=127, description="`namespace.name`, or the name; not with `pictures`"),
    ] = None
    action: Annotated[
        Literal["feed", "snapshot", "pictures"],
        Field(description="A camera's feed or snapshot, or `pictures`: all of events and people"),
    ]

    @model_validator(mode="after")
    def _of_a_camera(self) -> Self:
        if (self.camera is None) != (self.action == "pictures"):
            raise ValueError("feed and snapshot need a camera, pictures go without")
        return self


class TicketView(BaseModel):
    """A ticket, to be appended to the picture's URL as `?ticket=…`."""

    ticket: str
    expires_in: Annotated[int, Field(description="Seconds")]


class EventList(BaseModel):
    """Events, newest first."""

    events: list[EventView]
    next_cursor: Annotated[str | None, Field(description="Gets the next page; null at the end")]


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: Annotated[str, Field(description="snake_case, for programs")]
    message: Annotated[str, Field(description="For people")]
    problems: Annotated[list[str] | None, Field(description="With 422: one line per mistake")] = None


class ErrorView(BaseModel):
    """The answer to every request that failed."""

    error: ErrorDetail


def camera_view(channel: Channel, now: float) -> CameraView:
    """A camera as the API shows it."""
    info = channel.info(now)
    telemetry = channel.publisher.telemetry if channel.publisher else None
    stats = telemetry.stats if telemetry else None
    return CameraView(
        camera_id=channel.id,
        name=channel.facts.name,
        namespace=channel.facts.namespace,
        source=channel.facts.source,
        connected=telemetry is not None and telemetry.source_connected,
        dropped_frames=sum(stats.frames.dropped.values()) if stats else 0,
        uptime_seconds=stats.uptime_seconds if stats else 0.0,
        suspended=channel.facts.suspended,
        managed=channel.camera is not None,
        **info.model_dump(exclude={"camera"}),
    )


def stream_status(channel: Channel, now: float) -> StreamStatus:
    """Whether a camera streams."""
    info = channel.info(now)
    return StreamStatus(
        camera_id=channel.id,
        streaming=info.state is CameraState.LIVE,
        suspended=channel.facts.suspended,
        state=info.state,
        reason=info.reason,
        message=info.message,
        fps=info.fps,
        stream_fps=info.stream_fps,
        viewers=info.viewers,
    )
