"""What happened: a ring of the newest events, told once to everybody who listens."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from camfleet_protocol.messages import CameraState, EventRecord

KEEP = 1000

Listener = Callable[[EventRecord], None]


class EventLog:
    """The newest `KEEP` events, in memory."""

    def __init__(self, keep: int = KEEP) -> None:
        self._events: deque[EventRecord] = deque(maxlen=keep)
        self._ids: set[str] = set()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` for every new event."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Stop calling `listener`."""
        self._listeners.remove(listener)

    def add(self, event: EventRecord) -> bool:
        """Store an event and tell it; false if it is known already (workers repeat until acknowledged)."""
        if event.id in self._ids:
            return False
        if len(self._events) == self._events.maxlen:
            self._ids.discard(self._events[0].id)
        self._events.append(event)
        self._ids.add(event.id)
        for listener in tuple(self._listeners):
            listener(event)
        return True

    def newest(self, limit: int, camera: str | None = None) -> list[EventRecord]:
        """The newest events, newest first."""
        found: list[EventRecord] = []
        for event in reversed(self._events):
            if len(found) >= limit:
                break
            if camera is None or event.camera == camera:
                found.append(event)
        return found


@dataclass(frozen=True, slots=True)
class Debounce:
    """Seconds for which a state must hold before it is told as an event."""

    offline: float = 5.0
    stale: float = 3.0
    back: float = 1.0


class Presence:
    """Turns the states of one camera into events, each told once and only when it lasts."""

    def __init__(self, now: float, debounce: Debounce) -> None:
        self._debounce = debounce
        self._state: CameraState | None = None
        self._since = now
        self._told: CameraState | None = None

    def observe(self, state: CameraState, now: float) -> str | None:
        """Take the state as it is now; returns the type of an event to tell, if any."""
        if state is not self._state:
            self._state, self._since = state, now
        held = now - self._since
        if state is CameraState.SUSPENDED:
            self._told = None
        elif state is CameraState.OFFLINE:
            if self._told is not CameraState.OFFLINE and held >= self._debounce.offline:
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
