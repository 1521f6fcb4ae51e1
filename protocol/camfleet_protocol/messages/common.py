"""What messages of several directions share: their base, ids and numbers, cameras, events, farewells."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from camfleet_protocol.camera import SourceType

CameraId = Annotated[str, Field(min_length=1, max_length=127, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
NumericId = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
Seq = Annotated[int, Field(ge=0, le=0xFFFFFFFFFFFFFFFF)]
Count = Annotated[int, Field(ge=0, le=1 << 63)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Message(BaseModel):
    """Base of all control messages."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    def encode(self) -> str:
        """The message as JSON text."""
        return self.model_dump_json(exclude_none=True)


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
