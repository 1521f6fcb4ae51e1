"""What happens on this gateway: its own events on their way into the store, and who is told of all events.

Everything that is told was stored before. The gateway's own events wait in memory while the store is away.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol

from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.view import EventView
from camfleet_gateway.transport import text_message
from camfleet_protocol.messages import CameraState, EventRecord

logger = logging.getLogger(__name__)

MAX_PENDING = 10_000
_AT_ONCE = 100
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0


class Told:
    """An event that was stored, as it is told: `first` if it is new, else a later revision.

    `before` is the event as it was, where people or an erasure have changed it.
    """

    def __init__(self, event: EventView, first: bool, before: EventView | None = None) -> None:
        self.event = event
        self.first = first
        self.before = before

    @cached_property
    def message(self) -> bytes:
        """What `/ws/events` sends, made once for all."""
        first = "true" if self.first else "false"
        return text_message(f'{{"type":"event","event":{self.event.encode()},"first":{first}}}')


Listener = Callable[[Told], None]
KeptFor = Callable[[str], tuple[str, float | None]]
"""Gives the site of a camera, and for how many days its events are kept if it says so."""


class Keeper(Protocol):
    """The event store, for who has no pictures."""

    async def store(self, record: EventRecord, *, site: str, retention_days: float | None) -> object:
        """Store an event.

        Raises:
            UnavailableError: Not now.
        """


def _unsaid(_: str) -> tuple[str, float | None]:
    return "", None


class EventLog:
    """Takes the gateway's own events, tells all that are stored. Lives on the event loop."""

    def __init__(self, kept_for: KeptFor = _unsaid) -> None:
        self.pending: deque[EventRecord] = deque()
        """Own events that are not stored yet, oldest first."""
        self.lost = 0
        """Own events for which there was no room while the store was away."""
        self._kept_for = kept_for
        self._listeners: list[Listener] = []
        self._some = asyncio.Event()

    def listen(self, listener: Listener) -> None:
        """Call `listener` for every event that is stored, and every later revision."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Stop calling `listener`."""
        self._listeners.remove(listener)

    def happened(self, event: EventView, first: bool, before: EventView | None = None) -> None:
        """An event was stored, or people have changed it: tell it."""
        if self._listeners:
            told = Told(event, first, before)
            for listener in tuple(self._listeners):
                listener(told)

    def add(self, event: EventRecord) -> None:
        """Take an event of the gateway's own; it is told once it is stored."""
        if len(self.pending) >= MAX_PENDING:
            self.pending.popleft()
            self.lost += 1
        self.pending.append(event)
        self._some.set()

    async def run(self, keeper: Keeper) -> None:
        """Store the gateway's own events, until cancelled."""
        pause = FIRST_PAUSE
        while True:
            await self._some.wait()
            self._some.clear()
            while self.pending:
                problem = await self._store_some(keeper)
                if problem is None:
                    pause = FIRST_PAUSE
                    continue
                if pause == FIRST_PAUSE:
                    logger.warning("the gateway's own events wait, they cannot be stored now: %s", problem)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            if self.lost:
                logger.error(
                    "%d events of the gateway's own were lost: the store was away too long", self.lost
                )
                self.lost = 0

    async def _store_some(self, keeper: Keeper) -> UnavailableError | None:
        """Store the oldest ones together; they stay first in line until they are stored."""
        events = list(islice(self.pending, _AT_ONCE))
        results = await asyncio.gather(*(self._store(keeper, event) for event in events))
        stored = {event.id for event, problem in zip(events, results, strict=True) if problem is None}
        self.pending = deque(event for event in self.pending if event.id not in stored)
        return next((problem for problem in results if problem is not None), None)

    async def _store(self, keeper: Keeper, event: EventRecord) -> UnavailableError | None:
        site, days = self._kept_for(event.camera)
        try:
            await keeper.store(event, site=site, retention_days=days)
        except UnavailableError as error:
            return error
        return None


@dataclass(frozen=True, slots=True)
class Debounce:
    """Seconds for which a state must hold before it is told as an event."""

    offline: float = 5.0
    arrival: float = 15.0
    """Instead of `offline`, before a worker was seen at all: after a start of the gateway, workers that have
    tried for long dial every seven seconds only."""
    stale: float = 3.0
    back: float = 1.0


class Presence:
    """Turns the states of one camera into events, each told once and only when it lasts."""

    def __init__(self, now: float, debounce: Debounce) -> None:
        self._debounce = debounce
        self._state: CameraState | None = None
        self._since = now
        self._told: CameraState | None = None
        self._arrived = False

    def observe(self, state: CameraState, now: float) -> str | None:
        """Take the state as it is now; returns the type of an event to tell, if any."""
        if state is not self._state:
            self._state, self._since = state, now
        held = now - self._since
        self._arrived |= state not in (CameraState.OFFLINE, CameraState.SUSPENDED)
        patience = self._debounce.offline if self._arrived else self._debounce.arrival
        if state is CameraState.SUSPENDED:
            self._told = None
        elif state is CameraState.OFFLINE:
            if self._told is not CameraState.OFFLINE and held >= patience:
                self._told = CameraState.OFFLINE
                return "camera.offline"
        elif state is CameraState.STALE:
            if self._told is None and held >= self._debounce.stale:
                self._told = CameraState.STALE
                return "camera.stale"
        elif state is CameraState.LIVE and self._told is not None and held >= self._debounce.back:
            told, self._told = self._told, None
            return "camera.online" if told is CameraState.OFFLINE else "camera.recovered"
        return None


_WORDS = {
    "camera.offline": ("warning", "no worker is connected"),
    "camera.online": ("info", "live again"),
    "camera.stale": ("warning", "no new pictures"),
    "camera.recovered": ("info", "pictures come again"),
}


def presence_event(kind: str, camera: str, *, time: float, reason: str, message: str) -> EventRecord:
    """Make the record of an event that `Presence` asked for."""
    severity, words = _WORDS[kind]
    return EventRecord.model_validate(
        {
            "id": f"gw-{uuid.uuid4().hex}",
            "time": time,
            "camera": camera,
            "type": kind,
            "severity": severity,
            "message": (message or words)[:512],
            "data": {"reason": reason} if reason else {},
        }
    )
