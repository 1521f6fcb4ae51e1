"""A picture on its way to many: one immutable buffer, and per receiver a slot that only holds the newest.

Nothing here allocates or switches tasks per receiver: `Subscription.offer` puts a reference into a slot and,
if the receiver may have a picture now, tells its sink, which writes at once if the connection takes it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from camfleet_gateway.transport import binary_message, text_message
from camfleet_protocol.detections import parse_meta
from camfleet_protocol.window import AckWindow
from camfleet_protocol.wire import Frame, WireError

if TYPE_CHECKING:
    from camfleet_gateway.channel import Channel

EARLY = 0.25
"""A picture may come this part of its interval early and still count as due: sources jitter."""


class ViewerKind(StrEnum):
    """The ways to watch, as in the label `kind` of the metrics."""

    V1 = "v1"
    LEGACY = "legacy"
    MJPEG = "mjpeg"
    SNAPSHOT = "snapshot"
    EVENTS = "events"


@dataclass(slots=True)
class Traffic:
    """What went out to one kind of viewer, since the start."""

    frames_sent: int = 0
    frames_skipped: int = 0
    bytes_sent: int = 0


class Picture:
    """One form of one picture of one camera."""

    __slots__ = ("_legacy", "_message", "annotated", "frame", "received_at", "seq")

    def __init__(self, frame: Frame, received_at: float) -> None:
        self.frame = frame
        self.seq = frame.seq
        self.annotated = frame.annotated
        self.received_at = received_at
        """Monotonic seconds."""
        self._message: bytes | None = None
        self._legacy: bytes | None = None

    @property
    def message(self) -> bytes:
        """The WebSocket message for `camera.v1` viewers, made once for all of them."""
        if self._message is None:
            self._message = binary_message(self.frame.buffer)
        return self._message

    def legacy_message(self, camera: str, fps: float) -> bytes:
        """The JSON message for viewers of `/ws/stream`, made once for all of them."""
        if self._legacy is None:
            document = {
                "type": "frame",
                "data": base64.b64encode(self.frame.payload).decode(),
                "metadata": {
                    "camera_id": camera,
                    "timestamp": self.frame.captured_ns / 1e9,
                    "fps": round(fps, 2),
                    "detections": self.detections(),
                },
            }
            self._legacy = text_message(json.dumps(document, separators=(",", ":")))
        return self._legacy

    def detections(self) -> list[dict[str, Any]]:
        """The detections of its meta; none if the meta is not readable."""
        try:
            meta = parse_meta(self.frame.meta)
        except WireError:
            return []
        return [detection.model_dump(mode="json", exclude_none=True) for detection in meta.detections]


class Sink(Protocol):
    """Who a subscription delivers to."""

    kind: ViewerKind

    def notify(self, subscription: Subscription) -> None:
        """The subscription has a picture in its slot that may be sent now."""

    def dropped(self, subscription: Subscription) -> None:
        """The camera is gone; the subscription has ended."""


class Subscription:
    """One receiver's interest in one form of one camera's pictures.

    With a window the receiver acknowledges, and is never more than so many of its own pictures behind.
    Without one (legacy, MJPEG) the sink takes the next picture when the kernel has taken the last.
    """

    __slots__ = (
        "annotated",
        "channel",
        "due",
        "interval",
        "max_fps",
        "queued",
        "sent",
        "sink",
        "skipped",
        "slot",
        "traffic",
        "window",
    )

    def __init__(
        self,
        channel: Channel,
        sink: Sink,
        traffic: Traffic,
        *,
        annotated: bool,
        window: int | None = None,
        max_fps: float | None = None,
    ) -> None:
        self.channel = channel
        self.sink = sink
        self.traffic = traffic
        self.annotated = annotated
        self.window = AckWindow(window) if window is not None else None
        self.max_fps = max_fps
        self.interval = 1.0 / max_fps if max_fps else 0.0
        self.due = 0.0
        self.slot: Picture | None = None
        self.queued = False
        """The sink has it in its line of those to be served."""
        self.sent = 0
        self.skipped = 0

    def offer(self, picture: Picture, now: float) -> None:
        """Take the newest picture; an older one that still waits is dropped."""
        due = not self.interval or now + self.interval * EARLY >= self.due
        if self.slot is not None and due:
            self.skipped += 1
            self.traffic.frames_skipped += 1
        self.slot = picture
        if due and not self.queued and (self.window is None or self.window.open):
            self.sink.notify(self)

    def ready(self, now: float) -> bool:
        """Whether a picture waits that may be sent now."""
        return (
            self.slot is not None
            and (self.window is None or self.window.open)
            and (not self.interval or now + self.interval * EARLY >= self.due)
        )

    def take(self, now: float) -> Picture | None:
        """Take the waiting picture for sending."""
        picture, self.slot = self.slot, None
        if picture is None:
            return None
        if self.interval:
            self.due = max(self.due, now - self.interval) + self.interval
        if self.window is not None:
            self.window.sent(picture.seq, now)
        self.sent += 1
        self.traffic.frames_sent += 1
        return picture

    def acked(self, seq: int, now: float) -> None:
        """Take the receiver's cumulative acknowledgement; may lead to the next picture at once."""
        if self.window is None:
            return
        self.window.acked(seq, now)
        if not self.queued and self.ready(now):
            self.sink.notify(self)

    def debug(self, now: float) -> dict[str, Any]:
        """What one needs to see why a picture is late."""
        oldest = self.window.oldest_sent_at if self.window is not None else None
        return {
            "camera": self.channel.id,
            "annotated": self.annotated,
            "max_fps": self.max_fps,
            "window": self.window.size if self.window is not None else None,
            "in_flight": len(self.window) if self.window is not None else None,
            "oldest_in_flight_ms": None if oldest is None else round((now - oldest) * 1000.0, 1),
            "slot_age_ms": None if self.slot is None else round((now - self.slot.received_at) * 1000.0, 1),
            "queued": self.queued,
            "sent": self.sent,
            "skipped": self.skipped,
        }

    def restart(self) -> None:
        """Forget what is under way: the numbering has begun anew, old numbers say nothing any more."""
        if self.window is not None:
            self.window.clear()
