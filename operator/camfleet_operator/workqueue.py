"""Keys to be reconciled: each at most once in the queue, each by at most one handler at a time.

A key that is added while its handler runs is handled once more afterwards, so no change is lost and none is
handled twice at once. `add_after` keeps only the earliest time. A handler that raises has its key
back after a growing pause; the queue itself never stops for one key.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

_FIRST_RETRY = 0.5
_MAX_RETRY = 60.0


class WorkQueue:
    """A deduplicating queue of keys. Lives on one event loop.

    Args:
        expected: Exceptions that are part of life, such as an API server that does not answer: logged
            without a traceback.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        expected: tuple[type[Exception], ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._expected = expected
        self._clock = clock
        self._progress = clock()
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._active: set[str] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}

    @property
    def depth(self) -> int:
        """How many keys wait to be handled now."""
        return len(self._queued)

    @property
    def active(self) -> int:
        """How many keys are being handled."""
        return len(self._active)

    @property
    def stuck_for(self) -> float:
        """Seconds for which keys have waited and none was finished; 0 if none waits."""
        return self._clock() - self._progress if self._queued else 0.0

    def add(self, key: str) -> None:
        """Have the key handled as soon as possible."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            if not self._queued:
                self._progress = self._clock()
            self._queued.add(key)
            self._idle.clear()
            self._ready.put_nowait(key)

    def add_after(self, key: str, delay: float) -> None:
        """Have the key handled in `delay` seconds, unless it is handled earlier anyway."""
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        if timer := self._timers.get(key):
            if timer.when() <= due:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(due, self.add, key)

    async def run(self, handle: Callable[[str], Awaitable[None]], *, concurrency: int = 8) -> None:
        """Handle keys until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(concurrency):
                group.create_task(self._worker(handle), name=f"workqueue-{number}")

    async def _worker(self, handle: Callable[[str], Awaitable[None]]) -> None:
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._active.add(key)
            try:
                await handle(key)
                self._failures.pop(key, None)
            except Exception as error:  # one key's failure must not end the queue for all
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                delay = min(_MAX_RETRY, _FIRST_RETRY * 2 ** min(failures - 1, 16))
                expected = isinstance(error, self._expected)
                logger.log(
                    logging.WARNING if expected else logging.ERROR,
                    "reconcile of %s failed, next try in %.1f s: %s",
                    key,
                    delay,
                    error,
                    exc_info=None if expected else error,
                )
                self.add_after(key, delay)
            finally:
                self._active.discard(key)
                self._progress = self._clock()
                if not self._active and not self._queued:
                    self._idle.set()
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def idle(self) -> None:
        """Wait until no key waits or is being handled; timers may still be running."""
        await self._idle.wait()

    def close(self) -> None:
        """Drop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
