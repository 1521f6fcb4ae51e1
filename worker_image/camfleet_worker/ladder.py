"""How long to wait before the next try to reach something. Pure, with injected randomness."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

SOURCE_STEPS = (1.0,) * 5 + (5.0,) * 5 + (10.0,)
_JITTER = 0.2


class Ladder:
    """Delays that climb and stay on the last step; ±20 % jitter, so that cameras do not come in step."""

    def __init__(
        self, steps: Sequence[float] = SOURCE_STEPS, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._steps = tuple(steps)
        self._uniform = uniform
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures since the last reset."""
        return self._failures

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        step = self._steps[min(self._failures, len(self._steps) - 1)]
        self._failures += 1
        return step * self._uniform(1 - _JITTER, 1 + _JITTER)

    def reset(self) -> None:
        """Begin at the bottom again."""
        self._failures = 0


GATEWAY_STEPS = (0.1, 0.2, 0.4, 0.8, 1.6)
GATEWAY_LAST_STEP = 5.0
GATEWAY_JITTER = 0.4
"""More than for sources: all workers of a gateway lose it at the same moment."""
GATEWAY_PATIENCE = 300.0
"""Seconds of outage with short steps, so that a gateway that returns has pictures within 3 s."""


def gateway_delay(failures: int, outage_seconds: float, uniform: Callable[[float, float], float]) -> float:
    """Seconds to wait before dialling the gateway again, after so many failures in a row."""
    if failures >= len(GATEWAY_STEPS) and outage_seconds > GATEWAY_PATIENCE:
        step = GATEWAY_LAST_STEP
    else:
        step = GATEWAY_STEPS[min(failures, len(GATEWAY_STEPS) - 1)]
    return step * uniform(1 - GATEWAY_JITTER, 1 + GATEWAY_JITTER)
