"""Many events, few commits: what comes while a commit is under way goes into the next one together."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.rows import Incoming

logger = logging.getLogger(__name__)

MAX_BATCH = 200
MAX_WAITING = 5000
STOP_SECONDS = 3.0
MAX_WAITING_BYTES = 128 * 1024 * 1024
_OF_THE_EVENT = (
    DBAPIError,  # the database lets through only what is of the data
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What would happen every time: the event must not stay in front of all others of its camera."""


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What became of an event that was given to the store.

    Attributes:
        stored: Whether the row is new or has changed; false for a repetition or a lower revision.
        first: Whether the row is new.
        refused: Why it can never be stored; empty otherwise. It need not come again.
    """

    stored: bool = False
    first: bool = False
    refused: str = ""


Waiting = tuple[Incoming, asyncio.Future[StoreResult]]


class Batches:
    """A bounded queue in front of one writer."""

    def __init__(self, write: Callable[[Sequence[Incoming]], Awaitable[Sequence[StoreResult]]]) -> None:
        """Prepare.

        Args:
            write: Stores events in one transaction, with a result for each; raises if none was stored.
        """
        self._write = write
        self._waiting: deque[Waiting] = deque()
        self._under_way: list[Waiting] = []
        self._bytes = 0
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="event-writer")

    async def stop(self) -> None:
        """Take nothing more and write what waits, unless the database is stuck."""
        self._closed = True
        self._some.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=STOP_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _, future in (*self._under_way, *self._waiting):
            if not future.done():
                future.set_exception(UnavailableError("the event store was closed"))

    async def put(self, event: Incoming) -> StoreResult:
        """Store an event; returns after the commit.

        Raises:
            UnavailableError: It was not stored, or nobody knows; it must come again.
        """
        if self._closed or self._task is None or self._task.done():
            raise UnavailableError("the event store is not open")
        if len(self._waiting) >= MAX_WAITING or self._bytes + event.size > MAX_WAITING_BYTES:
            raise UnavailableError("too many events wait to be stored")
        future: asyncio.Future[StoreResult] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, future))
        self._bytes += event.size
        self._some.set()
        return await future

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            if not self._waiting:
                if self._closed:
                    return
                self._some.clear()
                continue
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            self._bytes -= sum(event.size for event, _ in batch)
            self._under_way = batch
            await self._settle(batch)
            self._under_way = []

    async def _settle(self, batch: list[Waiting]) -> None:
        try:
            results = await self._write([event for event, _ in batch])
        except UnavailableError as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(UnavailableError(str(error)))
        except Exception as error:
            # One event that the database refuses, or a mistake of ours: it must not take others with it.
            if len(batch) > 1:
                for each in batch:
                    await self._settle([each])
                return
            event, future = batch[0]
            if not isinstance(error, _OF_THE_EVENT):
                logger.error("the event %s is not stored now", event.record.id, exc_info=error)
                if not future.done():
                    future.set_exception(UnavailableError(f"it is not stored now: {type(error).__name__}"))
                return
            logger.error("the event %s can never be stored", event.record.id, exc_info=error)
            if not future.done():
                future.set_result(StoreResult(refused=f"it cannot be stored: {type(error).__name__}"))
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
