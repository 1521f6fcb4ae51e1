"""One budget for all writes to the API server: a token bucket with priorities and a bound on open requests.

Pods go first, then statuses, then Events, whoever came earlier; within a priority the order is that of
arrival. The Lease does not pass here: nothing may make it late.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from enum import IntEnum
from itertools import count
from types import TracebackType

IN_FLIGHT = 32
_WHOLE = 1 - 1e-9
"""A token, less what adding up fractions may lose of it."""


class Priority(IntEnum):
    """Lower goes first."""

    CREATE = 0
    DELETE = 0
    STATUS = 1
    EVENT = 2


class Write:
    """A place in the budget: `async with budget.take(Priority.CREATE): …` holds it while the write runs."""

    __slots__ = ("_budget", "_priority")

    def __init__(self, budget: WriteBudget, priority: Priority) -> None:
        self._budget = budget
        self._priority = priority

    async def __aenter__(self) -> None:
        await self._budget.acquire(self._priority)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.release()


class WriteBudget:
    """Hands out turns. Lives on one event loop.

    Args:
        rate: Writes per second; 0 for as fast as `in_flight` allows.
        burst: How many may go at once after a quiet time.
        in_flight: How many may be open at the same time.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        in_flight: int = IN_FLIGHT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = float(max(1, burst))
        self._limit = in_flight
        self._clock = clock
        self._tokens = self._burst
        self._filled_at = clock()
        self._paused_until = float("-inf")
        self._open = 0
        self._order = count()
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._gone = 0
        """Entries of the queue whose waiter has been cancelled."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue) - self._gone

    @property
    def in_flight(self) -> int:
        """How many are open now."""
        return self._open

    @property
    def paused(self) -> float:
        """Seconds for which nothing will be written because the API server asked for it."""
        return max(0.0, self._paused_until - self._clock())

    def take(self, priority: Priority) -> Write:
        """A turn, as a context manager."""
        return Write(self, priority)

    async def acquire(self, priority: Priority) -> None:
        """Wait for a turn; `release` must follow once the write is done."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (int(priority), next(self._order), future))
        self._dispatch()
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._forget()
            else:  # the turn came together with the cancellation, and is not used
                self._tokens = min(self._burst, self._tokens + 1)
                self.release()
            raise

    def release(self) -> None:
        """The write is done."""
        self._open -= 1
        self._dispatch()

    def pause(self, seconds: float) -> None:
        """Let nobody write for so long; afterwards the bucket is empty, so that the rush does not return."""
        until = self._clock() + seconds
        if until > self._paused_until:
            self._paused_until = until
            self._tokens, self._filled_at = 0.0, until
            self._disarm()
            self._dispatch()

    def close(self) -> None:
        """Stop the timer. Whoever waits goes on waiting until cancelled."""
        self._disarm()

    def _forget(self) -> None:
        self._gone += 1
        if self._gone * 2 > len(self._queue):
            self._queue = [entry for entry in self._queue if not entry[2].done()]
            heapq.heapify(self._queue)
            self._gone = 0

    def _dispatch(self) -> None:
        while self._queue and self._open < self._limit:
            future = self._queue[0][2]
            if not future.done():
                if (delay := self._delay()) > 0:
                    self._arm(delay)
                    return
                self._tokens -= 1
                self._open += 1
                future.set_result(None)
            else:
                self._gone -= 1
            heapq.heappop(self._queue)

    def _delay(self) -> float:
        now = self._clock()
        if now < self._paused_until:
            return self._paused_until - now
        if self._rate <= 0:
            self._tokens = self._burst
            return 0.0
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return 0.0 if self._tokens >= _WHOLE else (1 - self._tokens) / self._rate

    def _arm(self, delay: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        self._dispatch()
