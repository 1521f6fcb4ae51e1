"""When another pod of a camera may be asked for, after those that were refused or taken away. Pure.

Losing what is remembered here costs nothing but a delay. All times are monotonic seconds: a clock that is set
must neither hold a worker back nor hurry one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REFUSED_SECONDS = 15.0
"""After the first refusal; twice as long after each further one."""
LONGEST_REFUSED_SECONDS = 300.0
STEADY_SECONDS = 600.0
"""A pod that stood for so long was not taken away."""


@dataclass(slots=True)
class PodStarts:
    """Of one camera.

    Attributes:
        restarts: How often a pod was started lately that no edit of the camera has asked for.
        refusal: Why the API server refused the last pod, if it did.
    """

    restarts: int = 0
    refusal: str = ""
    _refusals: int = 0
    _refused_at: float = 0.0
    _first_refused_at: float = 0.0
    _started_at: float | None = None
    _generation: int = 0
    """Of the camera when the last pod was started or refused."""

    def forgive_edited(self, generation: int) -> None:
        """An edit of the camera has another chance at once."""
        if generation != self._generation:
            self.restarts, self.refusal, self._refusals = 0, "", 0

    def forgive_moved(self) -> None:
        """How often a camera may move is decided before, not after it."""
        self.restarts = 0

    def started(self, generation: int, now: float) -> None:
        """A pod was made."""
        asked = generation != self._generation
        if asked or self.ago(now) > STEADY_SECONDS:
            self.restarts = 0
        self.restarts += not asked
        self.refusal, self._refusals = "", 0
        self._started_at, self._generation = now, generation

    def refused(self, generation: int, message: str, now: float) -> None:
        """The API server would not have the pod."""
        if not self._refusals:
            self._first_refused_at = now
        self._refusals += 1
        self.refusal, self._refused_at, self._generation = message, now, generation

    def ago(self, now: float) -> float:
        """Seconds since a pod was made; infinite if none was."""
        return now - self._started_at if self._started_at is not None else math.inf

    def refused_for(self, now: float) -> float:
        """Seconds since the first refusal in a row; 0 if the last pod was not refused."""
        return now - self._first_refused_at if self.refusal else 0.0

    def refused_wait(self, now: float) -> float:
        """Seconds to wait before another pod is worth the API server's time."""
        if not self.refusal:
            return 0.0
        pause = min(LONGEST_REFUSED_SECONDS, REFUSED_SECONDS * 2.0 ** min(self._refusals - 1, 16))
        return max(0.0, self._refused_at + pause - now)
