"""Control messages of `camera.v1`: JSON text with an `op`.

Four directions, each with its own closed set of operations. A receiver ignores unknown fields and does not
act on an unknown `op`: neighbouring versions talk to each other. Parsing is total: any text gives a message
or raises a `ControlError`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from camfleet_protocol.camera import SourceType
from camfleet_protocol.detections import MAX_DETECTIONS

MAX_VIEWER_CONTROL_BYTES = 64 * 1024
MAX_WORKER_CONTROL_BYTES = 256 * 1024
MAX_SUBSCRIPTIONS = 256
MAX_PICTURE_CHARACTERS = 112 * 1024
"""Of base64: 84 KiB of JPEG."""
MAX_EMBEDDING_CHARACTERS = 4096
"""Of base64: 1,536 values of two bytes."""

CameraId = Annotated[str, Field(min_length=1, max_length=127, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
NumericId = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
Seq = Annotated[int, Field(ge=0, le=0xFFFFFFFFFFFFFFFF)]
Count = Annotated[int, Field(ge=0, le=1 << 63)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
MetricLabel = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-z0-9_]+$")]


class Message(BaseModel):
    """Base of all control messages."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    def encode(self) -> str:
        """The message as JSON text."""
        return self.model_dump_json(exclude_none=True)


# ── Shared parts ────────────────────────────────────────────────────────────────────────────────────


class CameraState(StrEnum):
    """What a viewer should think of a camera's picture."""

    LIVE = "live"
    """Pictures come."""
    STALE = "stale"
    """A worker is there, but its source has brought no picture for a while."""
    CONNECTING = "connecting"
    """A worker is there and has not had a first picture yet."""
    OFFLINE = "offline"
    """No worker is connected."""
    SUSPENDED = "suspended"
    """The user has paused the camera."""


class CameraInfo(Message):
    """State of one camera, as viewers see it."""

    camera: CameraId
    id: NumericId
    """The number in the header of its frames, for this gateway."""
    state: CameraState
    reason: str = ""
    """CamelCase, stable, fit for programs: `SourceRefused`, `AuthFailed`, `NoWorker`, …"""
    message: str = ""
    """For people; redacted."""
    source_type: SourceType | None = None
    fps: Seconds = 0.0
    """Pictures captured per second."""
    stream_fps: Seconds = 0.0
    """Pictures published per second; 0 when nobody watches."""
    inference_fps: Seconds = 0.0
    viewers: Count = 0
    frame_age_ms: Annotated[float | None, Field(ge=0)] = None
    """Milliseconds since the worker last had a picture."""
    width: Count = 0
    height: Count = 0
    ai_enabled: bool = False
    settings: dict[str, Any] = Field(default_factory=dict)
    """`{"inference": {…}, "stream": {…}, "privacy": {…}}` in force, camelCase as in the Camera."""
    site: str = ""


class EventRecord(Message):
    """Something that happened, as told to people."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    time: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """Unix seconds."""
    camera: CameraId
    type: Annotated[str, Field(min_length=1, max_length=48, pattern=r"^[a-z][a-z0-9_.]*$")]
    """`appearance`, `source.connected`, `source.lost`, `detection.started`, `camera.offline`, `alert`, …"""
    severity: Literal["info", "warning", "critical"] = "info"
    message: Annotated[str, Field(max_length=512)] = ""
    data: dict[str, Any] = Field(default_factory=dict)
    """What the type has more to say; of an `appearance` it is an `Appearance`."""
    revision: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """An event that goes on is told again under its id with a higher revision; it replaces the lower ones."""
    order: Count = 0
    """Rises by one per event of a camera, over restarts of its worker; 0 if the gateway made the event."""


class GoAway(Message):
    """The sender will close; reconnect after `retry_ms`, or never if it is None."""

    op: Literal["goaway"] = "goaway"
    reason: Annotated[str, Field(max_length=256)]
    retry_ms: Annotated[int | None, Field(ge=0)] = None


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


ViewerMessage = Annotated[Subscribe | Unsubscribe | Ack | Ping, Field(discriminator="op")]


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


GatewayToViewer = Annotated[
    Hello | StatusUpdate | EventNotice | Pong | GoAway | ProtocolProblem, Field(discriminator="op")
]


# ── Worker → gateway ────────────────────────────────────────────────────────────────────────────────


class WorkerHello(Message):
    """First message of a worker: which camera it serves and as which attempt."""

    op: Literal["hello"] = "hello"
    camera: CameraId
    attempt: Count = 0
    pod: Annotated[str, Field(max_length=253)] = ""
    worker_version: Annotated[str, Field(max_length=64)] = ""
    source_type: SourceType | None = None
    source: Annotated[str, Field(max_length=2048)] = ""
    """Redacted, for people."""
    settings_hash: Annotated[str, Field(max_length=64)] = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    """`Settings.values()` at its start; what is shown of a camera that only its worker knows."""


class SourceState(StrEnum):
    """Where the capture of a worker stands."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    BACKOFF = "backoff"
    AUTH_STOP = "auth_stop"
    ENDED = "ended"
    """A file that is not looped has come to its end."""


class SourceStats(Message):
    """The capture of a worker; totals since its start."""

    state: SourceState
    reason: Annotated[str, Field(max_length=64)] = ""
    message: Annotated[str, Field(max_length=512)] = ""
    width: Count = 0
    height: Count = 0
    fps: Seconds = 0.0
    codec: Annotated[str, Field(max_length=32)] = ""
    frozen: bool = False
    """Pictures come and are all the same, bit for bit, also after the source was opened anew."""
    reconnects: Count = 0
    errors: Annotated[dict[MetricLabel, Count], Field(max_length=16)] = Field(default_factory=dict)


class FrameCounts(Message):
    """Totals since the worker's start. `encoded` counts each form of a picture."""

    captured: Count = 0
    inferred: Count = 0
    encoded: Count = 0
    published: Count = 0
    dropped: Annotated[dict[MetricLabel, Count], Field(max_length=16)] = Field(default_factory=dict)


class Present(Message):
    """How many things of a class are in view, and in one of the zones."""

    label: Annotated[str, Field(min_length=1, max_length=32)]
    zone: Annotated[str, Field(max_length=63)] = ""
    """Empty: the whole picture."""
    count: Annotated[int, Field(ge=0, le=MAX_DETECTIONS)]


class Stats(Message):
    """Sent every second. Silence for 5 s counts as a lost worker."""

    op: Literal["stats"] = "stats"
    source: SourceStats
    frames: FrameCounts
    last_frame_ns: Count = 0
    """Unix ns of the newest captured picture; 0 before the first."""
    last_inference_ns: Count = 0
    inference_seconds_sum: Seconds = 0.0
    inference_seconds_count: Count = 0
    detections: Annotated[dict[MetricLabel, Count], Field(max_length=16)] = Field(default_factory=dict)
    """Total by kind."""
    inference_reason: Annotated[str, Field(max_length=64)] = ""
    """Why there is no inference though it is switched on (`ModelMissing`, …); empty when all is well."""
    inference_message: Annotated[str, Field(max_length=512)] = ""
    settings_hash: Annotated[str, Field(max_length=64)] = ""
    events_dropped: Count = 0
    """Events that the worker's full outbox has lost."""
    events_pending: Count = 0
    """Events in the outbox that the gateway has not acknowledged."""
    outbox_problem: Annotated[str, Field(max_length=256)] = ""
    """Why events cannot be kept now (a full disk, say); empty when all is well."""
    embedder: Annotated[str, Field(max_length=128)] = ""
    """The embedding model that runs; empty while faces are not recognised."""
    gallery_version: Count = 0
    """Version of the people that faces are compared with; 0 before the first gallery of this model."""
    present: Annotated[tuple[Present, ...], Field(max_length=128)] = ()
    """What is in view now."""
    cpu_seconds: Seconds = 0.0
    resident_bytes: Count = 0
    gpu_bytes: Count = 0
    uptime_seconds: Seconds = 0.0


class WorkerEvent(Message):
    """An event from the worker's outbox; repeated until it is acknowledged."""

    op: Literal["event"] = "event"
    event: EventRecord
    crop: Annotated[str, Field(max_length=MAX_PICTURE_CHARACTERS)] = ""
    """Base64 of a JPEG: the best picture of what appeared."""
    scene: Annotated[str, Field(max_length=MAX_PICTURE_CHARACTERS)] = ""
    """Base64 of a JPEG: the whole picture that the crop is from."""
    embedding: Annotated[str, Field(max_length=MAX_EMBEDDING_CHARACTERS)] = ""
    """Base64 of little-endian float16, of length 1: the face."""
    embedder: Annotated[str, Field(max_length=128)] = ""
    """Name and version of the model that made the embedding, such as mobilefacenet@b7120c095d60."""


WorkerMessage = Annotated[WorkerHello | Stats | WorkerEvent, Field(discriminator="op")]


# ── Gateway → worker ────────────────────────────────────────────────────────────────────────────────


class Accepted(Message):
    """The worker's hello was accepted; `id` goes into the header of its frames."""

    op: Literal["hello"] = "hello"
    version: int
    session: str
    id: NumericId


class FrameAck(Message):
    """All pictures up to `seq` have been taken in."""

    op: Literal["ack"] = "ack"
    seq: Seq


class EventAck(Message):
    """The event is stored; the worker may forget it up to this revision."""

    op: Literal["event_ack"] = "event_ack"
    id: Annotated[str, Field(min_length=1, max_length=64)]
    revision: Annotated[int, Field(ge=0)] = 0


class Demand(Message):
    """Which forms of the picture somebody watches, and the highest rate anybody asked for."""

    op: Literal["demand"] = "demand"
    plain: bool = False
    annotated: bool = False
    max_fps: Annotated[float | None, Field(gt=0, le=120, allow_inf_nan=False)] = None


class Configure(Message):
    """The settings in force (`camfleet_protocol.settings.Settings.values()`)."""

    op: Literal["configure"] = "configure"
    hash: str
    settings: dict[str, Any]


class Command(Message):
    """Do something once: `reopen` closes and opens the source."""

    op: Literal["command"] = "command"
    name: Annotated[str, Field(min_length=1, max_length=32)]


GatewayToWorker = Annotated[
    Accepted | FrameAck | EventAck | Demand | Configure | Command | GoAway, Field(discriminator="op")
]


# ── Parsing ─────────────────────────────────────────────────────────────────────────────────────────


class ControlFault(StrEnum):
    """Why a text is not a control message."""

    TOO_LARGE = "too_large"
    UNKNOWN_OP = "unknown_op"
    INVALID = "invalid"


class ControlError(ValueError):
    """A text that is not a control message of its direction; `fault` says why."""

    def __init__(self, fault: ControlFault, detail: str) -> None:
        super().__init__(f"{fault.value}: {detail}")
        self.fault = fault


_viewer: TypeAdapter[Subscribe | Unsubscribe | Ack | Ping] = TypeAdapter(ViewerMessage)
_to_viewer: TypeAdapter[Hello | StatusUpdate | EventNotice | Pong | GoAway | ProtocolProblem] = TypeAdapter(
    GatewayToViewer
)
_worker: TypeAdapter[WorkerHello | Stats | WorkerEvent] = TypeAdapter(WorkerMessage)
_to_worker: TypeAdapter[Accepted | FrameAck | EventAck | Demand | Configure | Command | GoAway] = TypeAdapter(
    GatewayToWorker
)

T = TypeVar("T")


def _parse(adapter: TypeAdapter[T], text: str, limit: int) -> T:
    if len(text) > limit:
        raise ControlError(ControlFault.TOO_LARGE, f"{len(text)} characters, at most {limit}")
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        fault = ControlFault.UNKNOWN_OP if first["type"] == "union_tag_invalid" else ControlFault.INVALID
        where = ".".join(str(part) for part in first["loc"])
        detail = (
            "no such op in this direction" if fault is ControlFault.UNKNOWN_OP else f"{where}: {first['msg']}"
        )
        raise ControlError(fault, detail) from None
    except UnicodeEncodeError:
        raise ControlError(ControlFault.INVALID, "the text has lone surrogates") from None


def parse_viewer_message(text: str) -> Subscribe | Unsubscribe | Ack | Ping:
    """Parse what a viewer sent.

    Raises:
        ControlError: The text is no such message.
    """
    return _parse(_viewer, text, MAX_VIEWER_CONTROL_BYTES)


def parse_gateway_to_viewer(
    text: str,
) -> Hello | StatusUpdate | EventNotice | Pong | GoAway | ProtocolProblem:
    """Parse what a gateway sent to a viewer.

    Raises:
        ControlError: The text is no such message.
    """
    return _parse(_to_viewer, text, 64 * MAX_VIEWER_CONTROL_BYTES)


def parse_worker_message(text: str) -> WorkerHello | Stats | WorkerEvent:
    """Parse what a worker sent.

    Raises:
        ControlError: The text is no such message.
    """
    return _parse(_worker, text, MAX_WORKER_CONTROL_BYTES)


def parse_gateway_to_worker(
    text: str,
) -> Accepted | FrameAck | EventAck | Demand | Configure | Command | GoAway:
    """Parse what a gateway sent to a worker.

    Raises:
        ControlError: The text is no such message.
    """
    return _parse(_to_worker, text, MAX_WORKER_CONTROL_BYTES)
