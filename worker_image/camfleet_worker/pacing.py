"""Which pictures of a source to take for a lower rate. Pure."""

from __future__ import annotations


class Pacer:
    """Takes pictures at up to `fps`, evenly, from a source with a rate of its own.

    A picture that comes up to half a source interval early is taken: else a source as fast as the wanted rate
    would lose pictures to jitter.
    """

    def __init__(self) -> None:
        self._due: float | None = None
        self._last: float | None = None
        self._interval = 0.0

    def due(self, now: float, fps: float) -> bool:
        """Whether to take the picture that came at `now` (monotonic seconds); call for every picture once."""
        if self._last is not None:
            step = now - self._last
            self._interval = step if self._interval == 0 else 0.8 * self._interval + 0.2 * step
        self._last = now
        period = 1 / fps
        if self._due is not None and self._due - now > period:
            self._due = now + period  # the rate was raised
        return self._due is None or now + min(self._interval, period) / 2 >= self._due

    def taken(self, now: float, fps: float) -> None:
        """The picture was taken."""
        period = 1 / fps
        due = now if self._due is None else self._due
        # On the grid as long as the source keeps up; from here when it does not.
        self._due = due + period if now - due < period else now + period

    def reset(self) -> None:
        """Take the next picture whenever it comes."""
        self._due = self._last = None
        self._interval = 0.0
