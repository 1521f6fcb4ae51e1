"""One camera in the gateway: its worker on one side, its viewers on the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from camfleet_gateway.clock import Clock
from camfleet_gateway.pictures import Picture, Subscription, ViewerKind
from camfleet_gateway.status import Facts, View, facts_by_hand, facts_of, view_of
from camfleet_gateway.telemetry import Telemetry
from camfleet_protocol.camera import Camera
from camfleet_protocol.messages import CameraInfo, Configure, Demand, WorkerHello

NO_DEMAND = Demand()


class Publisher(Protocol):
    """A connected worker, as its channel sees it."""

    hello: WorkerHello
    telemetry: Telemetry

    def demand(self, demand: Demand) -> None:
        """Say what somebody watches."""

    def configure(self, configure: Configure) -> None:
        """Say which settings are in force."""

    def command(self, name: str) -> None:
        """Have something done once."""

    def leave(self, code: int, reason: str, *, retry: bool) -> None:
        """Say goodbye and close."""


class Channel:
    """Fan-out and demand of one camera. Lives on the event loop."""

    def __init__(self, camera_id: str, number: int, *, clock: Clock, linger_seconds: float) -> None:
        self.id = camera_id
        self.number = number
        self.camera: Camera | None = None
        self.publisher: Publisher | None = None
        self.facts: Facts = facts_by_hand(camera_id, None)
        self.view: View | None = None
        """As last told to viewers."""
        self._clock = clock
        self._linger_seconds = linger_seconds
        self._plain: list[Subscription] = []
        self._annotated: list[Subscription] = []
        self._latest: dict[bool, Picture] = {}
        self._last_seq: dict[bool, int] = {}
        self._numbering_checked = False
        self._demand = NO_DEMAND
        self._linger: asyncio.TimerHandle | None = None

    # ── Directory side ─────────────────────────────────────────────────────────────────────────────

    def set_camera(self, camera: Camera | None) -> None:
        """Take a new object from the directory and relay its settings if they differ."""
        before = self.facts.settings_hash
        self.camera = camera
        if camera is not None:
            self.facts = facts_of(camera)
        else:
            self.facts = facts_by_hand(self.id, self.publisher.hello if self.publisher else None)
        if self.facts.settings_hash != before:
            self._configure()

    # ── Worker side ────────────────────────────────────────────────────────────────────────────────

    def connect(self, publisher: Publisher) -> Publisher | None:
        """Make `publisher` the camera's worker; returns the one it replaces."""
        before, self.publisher = self.publisher, publisher
        if self.camera is None:
            self.facts = facts_by_hand(self.id, publisher.hello)
        self._numbering_checked = False
        self._configure()
        publisher.demand(self._demand)
        return before

    def disconnect(self, publisher: Publisher) -> bool:
        """Forget a worker that has gone; false if another one has taken its place already."""
        if self.publisher is not publisher:
            return False
        self.publisher = None
        return True

    def publish(self, picture: Picture) -> bool:
        """Offer a picture to all who want its form; false if it is not newer than the last one."""
        annotated = picture.annotated
        if not self._numbering_checked:
            self._check_numbering(picture.seq)
        elif picture.seq <= self._last_seq.get(annotated, -1):
            return False
        self._last_seq[annotated] = picture.seq
        now = picture.received_at
        subscriptions = self._annotated if annotated else self._plain
        if subscriptions or self._linger is not None:
            self._latest[annotated] = picture
        for subscription in subscriptions:
            subscription.offer(picture, now)
        return True

    def _check_numbering(self, seq: int) -> None:
        """At a new worker's first picture: if its numbers are lower, old acknowledgements mean nothing."""
        self._numbering_checked = True
        if seq <= max(self._last_seq.values(), default=-1):
            for subscription in self.subscriptions():
                subscription.restart()
        self._last_seq.clear()

    def _configure(self) -> None:
        status = self.camera.status.settings if self.camera is not None else None
        if self.publisher is not None and status is not None and status.hash:
            self.publisher.configure(Configure(hash=status.hash, settings=status.values))

    # ── Viewer side ────────────────────────────────────────────────────────────────────────────────

    def subscriptions(self) -> list[Subscription]:
        """All receivers, of both forms."""
        return self._plain + self._annotated

    @property
    def viewers(self) -> int:
        """How many watch, single pictures not counted."""
        return sum(1 for s in self.subscriptions() if s.sink.kind is not ViewerKind.SNAPSHOT)

    def subscribe(self, subscription: Subscription) -> None:
        """Add a receiver; a picture that has only just come is its first one."""
        (self._annotated if subscription.annotated else self._plain).append(subscription)
        self._update_demand()
        latest = self.latest(subscription.annotated, within=1.0)
        if latest is not None:
            subscription.offer(latest, self._clock.monotonic())

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a receiver."""
        receivers = self._annotated if subscription.annotated else self._plain
        if subscription in receivers:
            receivers.remove(subscription)
            self._update_demand()

    def replace(self, before: Subscription, after: Subscription) -> None:
        """Exchange a receiver for one with other options, without asking the worker for less in between."""
        receivers = self._annotated if before.annotated else self._plain
        if before in receivers:
            receivers.remove(before)
        self.subscribe(after)

    def latest(self, annotated: bool, *, within: float) -> Picture | None:
        """The newest picture of this form if it came at most `within` seconds ago."""
        picture = self._latest.get(annotated)
        if picture is None or self._clock.monotonic() - picture.received_at > within:
            return None
        return picture

    @property
    def lingering(self) -> bool:
        """Whether nobody watches any more and the worker has not been told yet."""
        return self._linger is not None

    @property
    def demand(self) -> Demand:
        """What the worker was last asked for."""
        return self._demand

    def _update_demand(self) -> None:
        subscriptions = self.subscriptions()
        if not subscriptions:
            if self._demand != NO_DEMAND and self._linger is None:
                loop = asyncio.get_running_loop()
                self._linger = loop.call_later(self._linger_seconds, self._end_demand)
            return
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        rates = [s.max_fps for s in subscriptions]
        self._set_demand(
            Demand(
                plain=bool(self._plain),
                annotated=bool(self._annotated),
                max_fps=None if None in rates else max(rate for rate in rates if rate is not None),
            )
        )
        for annotated, wanted in ((False, self._plain), (True, self._annotated)):
            if not wanted:
                self._latest.pop(annotated, None)

    def _end_demand(self) -> None:
        self._linger = None
        self._latest.clear()
        self._set_demand(NO_DEMAND)

    def _set_demand(self, demand: Demand) -> None:
        if demand != self._demand:
            self._demand = demand
            if self.publisher is not None:
                self.publisher.demand(demand)

    def close(self, told: Callable[[Subscription], None]) -> None:
        """The camera is gone: end all subscriptions, telling each sink through `told`."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        subscriptions = self.subscriptions()
        self._plain.clear()
        self._annotated.clear()
        self._latest.clear()
        for subscription in subscriptions:
            told(subscription)

    # ── What others see ────────────────────────────────────────────────────────────────────────────

    def look(self, now: float) -> View:
        """The camera's state now."""
        return view_of(self.facts, self.publisher.telemetry if self.publisher else None, now)

    def info(self, now: float) -> CameraInfo:
        """The camera as viewers see it."""
        view = self.look(now)
        telemetry = self.publisher.telemetry if self.publisher else None
        stats = telemetry.stats if telemetry else None
        age = telemetry.age(now) if telemetry else None
        return CameraInfo(
            camera=self.id,
            id=self.number,
            state=view.state,
            reason=view.reason,
            message=view.message,
            source_type=self.facts.source_type,
            fps=stats.source.fps if stats else 0.0,
            stream_fps=telemetry.stream_fps if telemetry else 0.0,
            inference_fps=telemetry.inference_fps if telemetry else 0.0,
            viewers=self.viewers,
            frame_age_ms=None if age is None else round(age * 1000.0, 1),
            width=stats.source.width if stats else 0,
            height=stats.source.height if stats else 0,
            ai_enabled=self.facts.ai_enabled,
            settings=self.facts.settings,
            site=self.facts.site,
        )
