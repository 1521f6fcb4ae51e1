"""Time, injected: monotonic seconds for durations, Unix seconds for what people and Prometheus read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

LONGEST_STEP_SECONDS = 0.5
"""The hub looks at the clock every quarter of a second: a longer step means that we did not run."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks of the gateway."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class RunningTime:
    """Monotonic seconds in which this process ran, as far as somebody looks often enough.

    After a pause (a stopped process, a machine that slept) what has come meanwhile is still unread, and every
    deadline of others seems missed. So a pause does not count: nobody is judged on it.
    """

    def __init__(self, source: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._seen = self._now = source()

    def __call__(self) -> float:
        """The time now; never goes back."""
        seen = self._source()
        self._now += min(seen - self._seen, LONGEST_STEP_SECONDS)
        self._seen = seen
        return self._now
