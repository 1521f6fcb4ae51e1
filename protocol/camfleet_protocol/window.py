"""The acknowledgement window, the same on both legs (worker → gateway and gateway → viewer).

A sender has at most `size` unacknowledged pictures under way; while the window is full the newest picture
waits in a slot and older ones are dropped. So what a receiver sees is never older than `size` of its own
pictures, however much the kernel, a proxy or a tunnel would buffer.
"""

from __future__ import annotations

import math
from collections import deque

MIN_WINDOW = 2
MAX_WINDOW = 8


def window_size(fps: float, round_trip_seconds: float) -> int:
    """Pictures that must be under way to keep a link of this round trip busy at `fps`.

    `max(2, ⌈fps · RTT⌉ + 1)`, at most 8. The round trip is that of the idle link: a slow receiver's own
    time must not widen its window.
    """
    needed = math.ceil(max(0.0, fps) * max(0.0, round_trip_seconds)) + 1
    return min(MAX_WINDOW, max(MIN_WINDOW, needed))


class AckWindow:
    """Which pictures are under way on one leg. Not thread-safe: it lives on the event loop."""

    __slots__ = ("_in_flight", "size")

    def __init__(self, size: int = MIN_WINDOW) -> None:
        self.size = min(MAX_WINDOW, max(1, size))
        self._in_flight: deque[tuple[int, float]] = deque()

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def open(self) -> bool:
        """Whether one more picture may be sent now."""
        return len(self._in_flight) < self.size

    @property
    def oldest_sent_at(self) -> float | None:
        """When the oldest unacknowledged picture was sent, on the caller's clock."""
        return self._in_flight[0][1] if self._in_flight else None

    def sent(self, seq: int, now: float) -> None:
        """Count a picture as under way; the two forms of one picture count once."""
        if not self._in_flight or self._in_flight[-1][0] != seq:
            self._in_flight.append((seq, now))

    def acked(self, seq: int, now: float) -> float | None:
        """Take a cumulative acknowledgement.

        Returns:
            Seconds since the newest picture it covers was sent, or None if it covers none.
        """
        sent_at: float | None = None
        while self._in_flight and self._in_flight[0][0] <= seq:
            sent_at = self._in_flight.popleft()[1]
        return None if sent_at is None else now - sent_at

    def clear(self) -> None:
        """Forget what is under way, as after a reconnect."""
        self._in_flight.clear()
