"""The people that workers compare faces with, brought to each worker that has not got the current ones.

Level-triggered: a worker's statistics say which model it runs and which version it has; whoever has another
one than the current is due, after every change and at every look. Nobody is told anything that could get
lost. A transfer writes one message after the other, each when the one before has gone to the kernel, so that
acknowledgements of pictures wait for one message at most and nothing piles up here; the bytes are the same
objects for all workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from camfleet_gateway.clock import Clock
from camfleet_gateway.transport import Link, binary_prefix
from camfleet_protocol.messages import Stats
from camfleet_protocol.wire import parse_frame

logger = logging.getLogger(__name__)

TRANSFERS = 8
"""At once."""
STALL_SECONDS = 5.0
"""Whoever takes longer for one message makes room for others, and is served again."""
CONFIRM_SECONDS = 5.0
"""After which a worker that was sent a version and does not say that it has it is served again."""
SETTLE_SECONDS = 0.05
"""Changes that come close together are one transfer."""


class GallerySource(Protocol):
    """Where the messages come from."""

    def version(self, embedder: str) -> int:
        """The current version for workers of this model; 0 if it is not known now."""

    async def messages(self, embedder: str, version: int) -> Sequence[bytes]:
        """What brings a worker from `version` to the current one, of `camfleet_protocol.gallery`.

        None if this model is not served. Messages of more than a few hundred kilobytes delay what else a
        worker is told.
        """

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a version has changed."""


class GalleryReceiver:
    """What one worker has, and what it was sent."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self.embedder = ""
        self.version = 0
        """As it says."""
        self.refused = False
        """Nothing is there for its model."""
        self.queued = False
        self.due_at = 0.0
        """Loop time at which what it is queued for has settled."""
        self.sent: int | None = None
        """The version that it was sent, until it says so itself, or for `CONFIRM_SECONDS`."""
        self.writing = 0
        """Bytes of the message that is on its way."""
        self._sent_at = 0.0
        self._link = link
        self._clock = clock
        self._room = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether it can still be sent anything."""
        return self._link.alive

    @property
    def has(self) -> int:
        """The version that it has, or will have when it has taken all that was sent."""
        if self.sent is not None and self._clock.monotonic() - self._sent_at < CONFIRM_SECONDS:
            return self.sent
        return self.version

    def heard(self, stats: Stats) -> None:
        """It has said what it has."""
        if stats.embedder != self.embedder:
            self.sent, self.refused = None, False
        if stats.gallery_version == self.sent:
            self.sent = None
        self.embedder, self.version = stats.embedder, stats.gallery_version

    def delivered(self, version: int) -> None:
        """It was sent all that leads to `version`."""
        self.sent, self._sent_at = version, self._clock.monotonic()

    def writable(self) -> None:
        """All that was written has gone to the kernel."""
        self._room.set()

    async def write(self, message: bytes) -> None:
        """Write one message and wait until it has gone to the kernel, or the link is closed.

        Raises:
            TimeoutError: It stalls.
        """
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self._drained()
                self.writing = len(message)
                self._link.write(binary_prefix(message))
                self._link.write(message)
                await self._drained()
        finally:
            self.writing = 0

    async def _drained(self) -> None:
        await asyncio.sleep(0)  # others have their turn, too
        while self._link.alive and self._link.paused:
            self._room.clear()
            await self._room.wait()


class GalleryPush:
    """Brings all workers up to date. Lives on the event loop."""

    def __init__(self) -> None:
        self.bytes_sent = 0
        self.transfers = 0
        """Completed."""
        self._source: GallerySource | None = None
        self._receivers: dict[GalleryReceiver, None] = {}
        self._due: asyncio.Queue[GalleryReceiver] = asyncio.Queue()
        self._failed = False

    def connect(self, source: GallerySource) -> None:
        """Take the people from here; once, before workers come."""
        self._source = source
        source.on_change(self._changed)

    @property
    def receivers(self) -> Iterable[GalleryReceiver]:
        """The workers that recognise faces."""
        return (receiver for receiver in self._receivers if receiver.embedder)

    def outdated(self) -> int:
        """How many workers recognise faces by other people than the current ones."""
        source = self._source
        if source is None:
            return 0
        return sum(
            source.version(receiver.embedder) not in (0, receiver.version) for receiver in self.receivers
        )

    def heard(self, receiver: GalleryReceiver, stats: Stats) -> None:
        """A worker has told its statistics."""
        self._receivers[receiver] = None
        receiver.heard(stats)
        if stats.embedder:
            self._look(receiver)

    def gone(self, receiver: GalleryReceiver) -> None:
        """A worker has left."""
        self._receivers.pop(receiver, None)
        receiver.writable()  # whoever waits for room sees that the link is closed

    async def run(self) -> None:
        """Transfer what is due, several at once, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(TRANSFERS):
                group.create_task(self._serve(), name=f"gallery-push-{number}")

    def _changed(self) -> None:
        for receiver in self._receivers:
            receiver.refused = False
            if receiver.embedder:
                self._look(receiver)

    def _look(self, receiver: GalleryReceiver) -> None:
        if self._source is None or receiver.queued or receiver.refused:
            return
        current = self._source.version(receiver.embedder)
        if current not in (0, receiver.has):
            receiver.queued = True
            receiver.due_at = asyncio.get_running_loop().time() + SETTLE_SECONDS
            self._due.put_nowait(receiver)

    async def _serve(self) -> None:
        while True:
            receiver = await self._due.get()
            await asyncio.sleep(receiver.due_at - asyncio.get_running_loop().time())
            done = False
            try:
                done = await self._transfer(receiver)
            finally:
                receiver.queued = False
            if done:
                self._look(receiver)  # there may have been another change meanwhile

    async def _transfer(self, receiver: GalleryReceiver) -> bool:
        """Bring one up to date; if that fails, its next statistics are the reason to try again."""
        source, embedder = self._source, receiver.embedder
        if source is None or not embedder or not receiver.alive:
            return False
        try:
            messages = await source.messages(embedder, receiver.has)
            if not messages:
                logger.warning("no people for workers of the model %s: the gateway has another one", embedder)
                receiver.refused = True
                return False
            version = parse_frame(messages[-1]).seq
            for message in messages:
                await receiver.write(message)
                self.bytes_sent += len(message)
                if not receiver.alive or receiver.embedder != embedder:
                    return False
        except TimeoutError:
            return False
        except (ValueError, OSError) as error:
            if not self._failed:
                logger.error("people cannot be brought to workers: %s", error)
            self._failed = True
            return False
        self._failed = False
        self.transfers += 1
        receiver.delivered(version)
        return True
