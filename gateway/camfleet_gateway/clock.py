"""Time, injected: monotonic seconds for durations, Unix seconds for what people and Prometheus read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks of the gateway."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
