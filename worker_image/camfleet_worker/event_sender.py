"""Events on their way from the outbox to the gateway: a few at a time, again until they are acknowledged."""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Awaitable, Callable

from camfleet_protocol.messages import EventAck, WorkerEvent
from camfleet_worker.outbox import Outbox, Pending

RETRY_SECONDS = 10.0
"""After which an event that is not acknowledged is sent again."""
IN_FLIGHT = 8


class EventSender:
    """Empties an outbox. Lives on the event loop."""

    def __init__(self, outbox: Outbox, *, clock: Callable[[], float]) -> None:
        self._outbox = outbox
        self._clock = clock
        self._waiting = asyncio.Event()
        self._flying: dict[tuple[str, int], float] = {}
        """Id and revision of what is under way, and when it was sent, oldest first."""

    def wake(self) -> None:
        """There is an event in the outbox."""
        self._waiting.set()

    async def acknowledged(self, ack: EventAck) -> None:
        """The gateway has stored one, up to a revision."""
        await asyncio.to_thread(self._outbox.ack, ack.id, ack.revision)
        for event_id, revision in list(self._flying):
            if event_id == ack.id and revision <= ack.revision:
                del self._flying[event_id, revision]
        self._waiting.set()

    async def run(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send over one connection until it fails; whatever was under way on an earlier one is sent again."""
        flying = self._flying
        flying.clear()
        while True:
            self._waiting.clear()
            now = self._clock()
            for key, sent_at in list(flying.items()):
                if now - sent_at >= RETRY_SECONDS:
                    del flying[key]
            room = IN_FLIGHT - len(flying)
            if room > 0:
                for item in await asyncio.to_thread(self._outbox.pending, room, frozenset(flying)):
                    flying[item.key] = self._clock()
                    await send(_message(item))
            oldest = next(iter(flying.values()), self._clock())
            try:
                async with asyncio.timeout(max(0.0, oldest + RETRY_SECONDS - self._clock())):
                    await self._waiting.wait()
            except TimeoutError:
                continue


def _message(item: Pending) -> str:
    return WorkerEvent(
        event=item.event,
        crop=_base64(item.crop),
        scene=_base64(item.scene),
        embedding=_base64(item.embedding),
        embedder=item.embedder,
    ).encode()


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
