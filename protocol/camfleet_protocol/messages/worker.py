"""Between a worker and the gateway: figures and events; acknowledgements, demand and settings."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from camfleet_protocol.camera import SourceType
from camfleet_protocol.detections import MAX_DETECTIONS
from camfleet_protocol.messages.common import (
    CameraId,
    Count,
    EventRecord,
    GoAway,
    Message,
    NumericId,
    Seconds,
    Seq,
)

MAX_WORKER_CONTROL_BYTES = 256 * 1024
MAX_PICTURE_CHARACTERS = 112 * 1024
"""Of base64: 84 KiB of JPEG."""
MAX_EMBEDDING_CHARACTERS = 4096
"""Of base64: 1,536 values of two bytes."""

MetricLabel = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-z0-9_]+$")]

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


WorkerToGateway = WorkerHello | Stats | WorkerEvent


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


GatewayToWorker = Accepted | FrameAck | EventAck | Demand | Configure | Command | GoAway
