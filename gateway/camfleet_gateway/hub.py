"""All cameras of this gateway, and what every viewer is told about them.

The hub follows the directory, keeps one `Channel` per camera, and from one task (`run`) notices what only
time shows: workers gone silent, pictures gone stale, figures to be told once a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from camfleet_gateway.channel import Channel
from camfleet_gateway.clock import Clock
from camfleet_gateway.directory import Directory
from camfleet_gateway.events import Debounce, EventLog, Presence, Told, presence_event
from camfleet_gateway.pictures import Subscription, Traffic, ViewerKind
from camfleet_gateway.transport import text_message
from camfleet_protocol.camera import Camera
from camfleet_protocol.messages import CameraInfo, EventNotice, StatusUpdate

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25
FIGURES_EVERY = 4
"""Ticks between two tellings of figures."""
MAX_RETIRED_NUMBERS = 1000
"""Removed cameras whose number is kept for their return. No number is ever given to another camera."""


class TooManyError(Exception):
    """A limit on viewers is reached; the text says which."""


class Listener(Protocol):
    """A `camera.v1` viewer, as the hub sees it."""

    def tell(self, message: bytes) -> None:
        """Send a control message."""

    def tell_figures(self, message: bytes) -> None:
        """Send a control message that may be left out when the viewer is slow: the next one replaces it."""

    def watched(self) -> tuple[str, ...]:
        """Ids of the cameras whose figures it wants."""


class Hub:
    """Cameras, viewers and the line between them. Lives on the event loop."""

    def __init__(
        self,
        directory: Directory,
        *,
        clock: Clock,
        events: EventLog,
        linger_seconds: float,
        max_viewers_per_camera: int,
        refused: Counter[str],
        debounce: Debounce | None = None,
    ) -> None:
        self.channels: dict[str, Channel] = {}
        self.traffic = {kind: Traffic() for kind in ViewerKind}
        self.refused = refused
        self._directory = directory
        self._clock = clock
        self._events = events
        self._linger_seconds = linger_seconds
        self._max_viewers_per_camera = max_viewers_per_camera
        self._debounce = debounce or Debounce()
        self._names: dict[str, set[str]] = {}
        self._next_number = 1
        self._retired: dict[str, int] = {}
        self._presence: dict[str, Presence] = {}
        self._listeners: dict[Listener, None] = {}
        self._on_tick: list[Callable[[float], None]] = []
        directory.watch(self._directory_changed)
        events.listen(self._event_happened)

    # ── Cameras ────────────────────────────────────────────────────────────────────────────────────

    def find(self, name: str) -> Channel | None:
        """A camera by `namespace.name`, or by plain name where only one namespace has it."""
        channel = self.channels.get(name)
        if channel is not None:
            return channel
        ids = self._names.get(name, set())
        if len(ids) > 1 and (default := f"{self._directory.default_namespace}.{name}") in ids:
            return self.channels[default]
        return self.channels[next(iter(ids))] if len(ids) == 1 else None

    def first(self) -> Channel | None:
        """The first camera by id, one with a worker if there is any."""
        ordered = sorted(self.channels.values(), key=lambda c: (c.publisher is None, c.id))
        return ordered[0] if ordered else None

    def channel_for_worker(self, camera_id: str) -> Channel:
        """The channel of a camera, made if a worker run by hand brings a new one."""
        return self.channels.get(camera_id) or self._add(camera_id)

    def kept_for(self, camera_id: str) -> tuple[str, float | None]:
        """Site of a camera, and for how many days its events are kept if it says so."""
        channel = self.channels.get(camera_id)
        return ("", None) if channel is None else (channel.facts.site, channel.facts.retention_days)

    def worker_left(self, channel: Channel) -> None:
        """A camera has lost its worker: an ad-hoc one is gone with it."""
        if channel.camera is None:
            self._remove(channel)
        else:
            self.refresh(channel)

    def _directory_changed(self, camera_id: str, camera: Camera | None) -> None:
        channel = self.channels.get(camera_id)
        if camera is not None:
            channel = channel or self._add(camera_id)
            before = channel.facts
            channel.set_camera(camera)
            self.refresh(channel, force=channel.facts != before)
        elif channel is not None:
            self._remove(channel)

    def _add(self, camera_id: str) -> Channel:
        number = self._retired.pop(camera_id, None)
        if number is None:
            number = self._next_number
            self._next_number += 1
        channel = Channel(camera_id, number, clock=self._clock, linger_seconds=self._linger_seconds)
        self.channels[camera_id] = channel
        self._names.setdefault(camera_id.rpartition(".")[2], set()).add(camera_id)
        self._presence[camera_id] = Presence(self._clock.monotonic(), self._debounce)
        return channel

    def _remove(self, channel: Channel) -> None:
        publisher = channel.publisher
        if publisher is not None:
            channel.disconnect(publisher)
            publisher.leave(1008, "the camera was deleted", retry=False)
        channel.close(lambda subscription: subscription.sink.dropped(subscription))
        del self.channels[channel.id]
        del self._presence[channel.id]
        self._retired[channel.id] = channel.number
        if len(self._retired) > MAX_RETIRED_NUMBERS:
            del self._retired[next(iter(self._retired))]
        name = channel.id.rpartition(".")[2]
        self._names[name].discard(channel.id)
        if not self._names[name]:
            del self._names[name]
        self._tell_all(StatusUpdate(removed=(channel.id,)))

    # ── Viewers ────────────────────────────────────────────────────────────────────────────────────

    def subscribe(self, subscription: Subscription) -> None:
        """Begin to deliver.

        Raises:
            TooManyError: The camera has as many viewers as it may.
        """
        channel = subscription.channel
        if len(channel.subscriptions()) >= self._max_viewers_per_camera:
            self.refused["too_many_viewers_of_camera"] += 1
            raise TooManyError(f"{channel.id} is watched by {self._max_viewers_per_camera} viewers already")
        channel.subscribe(subscription)

    def join(self, listener: Listener) -> None:
        """Tell a viewer what happens from now on."""
        self._listeners[listener] = None

    def leave(self, listener: Listener) -> None:
        """Stop telling."""
        self._listeners.pop(listener, None)

    @property
    def listeners(self) -> Iterable[Listener]:
        """All `camera.v1` viewers."""
        return tuple(self._listeners)

    def infos(self) -> tuple[CameraInfo, ...]:
        """All cameras as viewers see them, by id."""
        now = self._clock.monotonic()
        return tuple(channel.info(now) for _, channel in sorted(self.channels.items()))

    # ── Time ───────────────────────────────────────────────────────────────────────────────────────

    def on_tick(self, callback: Callable[[float], None]) -> None:
        """Call `callback` with the monotonic time at every tick."""
        self._on_tick.append(callback)

    async def run(self) -> None:
        """Tick until cancelled."""
        count = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            count += 1
            now = self._clock.monotonic()
            for callback in self._on_tick:
                callback(now)
            for index, channel in enumerate(list(self.channels.values())):
                self.refresh(channel)
                if index % 500 == 499:
                    await asyncio.sleep(0)
            if count % FIGURES_EVERY == 0:
                self.tell_figures()

    def refresh(self, channel: Channel, *, force: bool = False) -> None:
        """Look at a camera; tell all viewers if its state has changed, and make events of lasting states."""
        if self.channels.get(channel.id) is not channel:
            return
        now = self._clock.monotonic()
        view = channel.look(now)
        before, channel.view = channel.view, view
        if force or before is None or (view.state, view.reason) != (before.state, before.reason):
            self._tell_all(StatusUpdate(cameras=(channel.info(now),)))
        kind = self._presence[channel.id].observe(view.state, now)
        if kind is not None:
            self._events.add(
                presence_event(
                    kind, channel.id, time=self._clock.wall(), reason=view.reason, message=view.message
                )
            )

    def tell_figures(self) -> None:
        """Tell every viewer the figures of the cameras it watches; each text is made once."""
        now = self._clock.monotonic()
        infos: dict[str, str] = {}
        messages: dict[tuple[str, ...], bytes] = {}
        for listener in self._listeners:
            watched = listener.watched()
            if not watched:
                continue
            message = messages.get(watched)
            if message is None:
                parts = []
                for camera_id in watched:
                    if camera_id not in infos and (channel := self.channels.get(camera_id)) is not None:
                        infos[camera_id] = channel.info(now).encode()
                    if camera_id in infos:
                        parts.append(infos[camera_id])
                message = text_message('{"op":"status","cameras":[' + ",".join(parts) + "]}")
                messages[watched] = message
            listener.tell_figures(message)

    def _tell_all(self, update: StatusUpdate) -> None:
        if self._listeners:
            message = text_message(update.encode())
            for listener in self.listeners:
                listener.tell(message)

    def _event_happened(self, told: Told) -> None:
        if self._listeners:
            message = text_message(EventNotice(event=told.event).encode())
            for listener in self.listeners:
                listener.tell(message)
