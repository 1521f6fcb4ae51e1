"""What a worker's statistics say, in the gateway's own time.

The worker's clock is never compared with ours: a picture counts as new when the time that the worker gives it
changes from one message to the next, at the time that message arrived. The first message of a session says
nothing about that: the worker may have had that picture long before, and a gateway that has just started must
not call it new. Rates come from totals and our own monotonic clock.
"""

from __future__ import annotations

from camfleet_gateway.clock import Clock
from camfleet_protocol.messages import SourceState, Stats

_SMOOTHING = 0.5
_MIN_SPAN = 0.2
"""Seconds; rates over shorter spans are noise."""


class Telemetry:
    """The statistics of one worker session."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.connected_at = clock.monotonic()
        self.stats: Stats | None = None
        self.heard_at = self.connected_at
        """Monotonic; when the last statistics came, or the session began."""
        self.picture_at: float | None = None
        """Monotonic; when we last learned of a new picture."""
        self.picture_time = 0.0
        """The same as Unix seconds; 0 before the first."""
        self.inference_time = 0.0
        self.expected_fps = 0.0
        """The source's rate while it last brought pictures."""
        self.stream_fps = 0.0
        self.inference_fps = 0.0

    def picture(self, now: float) -> None:
        """A picture has arrived here."""
        self.picture_at = now
        self.picture_time = self._clock.wall()

    def update(self, stats: Stats) -> None:
        """Statistics have arrived."""
        now = self._clock.monotonic()
        wall = self._clock.wall()
        before = self.stats
        if before is not None and stats.last_frame_ns not in (0, before.last_frame_ns):
            self.picture_at = now
            self.picture_time = wall
            if stats.source.fps > 0:
                self.expected_fps = stats.source.fps
        if before is not None and stats.last_inference_ns not in (0, before.last_inference_ns):
            self.inference_time = wall
        if before is not None and (span := now - self.heard_at) >= _MIN_SPAN:
            self.stream_fps = _rate(self.stream_fps, stats.frames.published - before.frames.published, span)
            self.inference_fps = _rate(
                self.inference_fps, stats.frames.inferred - before.frames.inferred, span
            )
        self.stats = stats
        self.heard_at = now

    def age(self, now: float) -> float | None:
        """Seconds since the last new picture, or None before the first."""
        return None if self.picture_at is None else max(0.0, now - self.picture_at)

    @property
    def source_connected(self) -> bool:
        """Whether the worker says that its source is open."""
        return self.stats is not None and self.stats.source.state is SourceState.CONNECTED


def _rate(before: float, count: int, span: float) -> float:
    rate = max(0, count) / span
    if rate == 0 or before == 0:
        return round(rate, 2)
    return round(before + (rate - before) * _SMOOTHING, 2)
