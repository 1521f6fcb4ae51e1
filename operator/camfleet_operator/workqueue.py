"""Keys to be reconciled: each at most once in the queue, each by at most one handler at a time.

A key that is added while its handler runs is handled once more afterwards, so no change is lost and none is
handled twice at once. `add_after` keeps only the earliest time. A handler that raises has its key
back after a growing pause; the queue itself never stops for one key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

_FIRST_RETRY = 0.5
_MAX_RETRY = 60.0


class WorkQueue:
    """A deduplicating queue of keys. Lives on one event loop."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._active: set[str] = set()
        self._again: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}

    def add(self, key: str) -> None:
        """Have the key handled as soon as possible."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
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
                logger.exception("reconcile of %s failed, next try in %.1f s: %s", key, delay, error)
                self.add_after(key, delay)
            finally:
                self._active.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    def close(self) -> None:
        """Drop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
