"""Between a viewer and the gateway: what is watched and taken in; what there is and what happens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from camfleet_protocol.messages.common import (
    CameraId,
    CameraInfo,
    EventRecord,
    GoAway,
    Message,
    NumericId,
    Seq,
)

MAX_VIEWER_CONTROL_BYTES = 64 * 1024
MAX_SUBSCRIPTIONS = 256

# ── Viewer → gateway ────────────────────────────────────────────────────────────────────────────────


class Subscribe(Message):
    """Watch cameras. A second subscribe for the same camera replaces the first one's options."""

    op: Literal["subscribe"] = "subscribe"
    cameras: Annotated[tuple[CameraId, ...], Field(min_length=1, max_length=MAX_SUBSCRIPTIONS)]
    window: Annotated[int, Field(ge=1, le=8)] = 2
    max_fps: Annotated[float | None, Field(gt=0, le=120, allow_inf_nan=False)] = None
    annotated: bool = False


class Unsubscribe(Message):
    """Stop watching cameras."""

    op: Literal["unsubscribe"] = "unsubscribe"
    cameras: Annotated[tuple[CameraId, ...], Field(min_length=1, max_length=MAX_SUBSCRIPTIONS)]


class Ack(Message):
    """All pictures of this camera up to `seq` have been taken in."""

    op: Literal["ack"] = "ack"
    id: NumericId
    seq: Seq


class Ping(Message):
    """Answered by a `pong` with the same `t`."""

    op: Literal["ping"] = "ping"
    t: Annotated[float, Field(allow_inf_nan=False)] = 0.0


ViewerToGateway = Subscribe | Unsubscribe | Ack | Ping


# ── Gateway → viewer ────────────────────────────────────────────────────────────────────────────────


class Hello(Message):
    """First message to a viewer: who the gateway is and which cameras there are."""

    op: Literal["hello"] = "hello"
    version: int
    session: str
    server: str
    role: str
    cameras: tuple[CameraInfo, ...] = ()


class StatusUpdate(Message):
    """Cameras that changed state (all of them), or whose figures moved (subscribed ones, once a second)."""

    op: Literal["status"] = "status"
    cameras: tuple[CameraInfo, ...] = ()
    removed: tuple[CameraId, ...] = ()


class EventNotice(Message):
    """An event, told once."""

    op: Literal["event"] = "event"
    event: EventRecord


class Pong(Message):
    """Answer to a `ping`."""

    op: Literal["pong"] = "pong"
    t: float
    time: float
    """Unix seconds of the gateway."""


class ProtocolProblem(Message):
    """A message of the viewer that the gateway did not act on."""

    op: Literal["error"] = "error"
    code: str
    message: str


GatewayToViewer = Hello | StatusUpdate | EventNotice | Pong | GoAway | ProtocolProblem
