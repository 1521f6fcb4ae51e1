"""Garbage collection in small steps.

A full collection of CPython looks at every object: with 5,000 cameras that is a quarter of a second in which
no picture moves, and it comes when the fleet changes, when most is to be done. So what has proven to live is
set aside (`gc.freeze`) and no longer looked at; reference counts still free it. Only what forms cycles and
dies after it was set aside stays, until all is looked at once an hour.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

STEP_SECONDS = 0.1
YOUNG_COLLECTIONS = 2
"""Collections of the middle generation, each at most 7,700 objects, before its survivors are looked at."""
KEPT_OBJECTS = 10_000
"""Survivors that are looked at again with the next ones; more of them are set aside."""
FULL_SECONDS = 3600.0
_NEVER = 1_000_000_000


class Garbage:
    """Decides when the oldest generation is collected, in place of the interpreter."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._full_at = now() + FULL_SECONDS

    async def run(self) -> None:
        """Step until cancelled."""
        before = gc.get_threshold()
        gc.set_threshold(before[0], before[1], _NEVER)
        gc.collect()
        gc.freeze()
        try:
            while True:
                await asyncio.sleep(STEP_SECONDS)
                self.step()
        finally:
            gc.unfreeze()
            gc.set_threshold(*before)

    def step(self) -> None:
        """Look at the survivors, if there are enough of them."""
        if self._now() >= self._full_at:
            self._full_at = self._now() + FULL_SECONDS
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        elif gc.get_count()[2] >= YOUNG_COLLECTIONS:
            gc.collect()
            if len(gc.get_objects(generation=2)) > KEPT_OBJECTS:
                gc.freeze()
