"""Alerts in the database: raised once, over repeated events and restarts, told as events, acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from camfleet_gateway.alerts.engine import AlertEngine
from camfleet_gateway.alerts.lasting import GRACE_SECONDS
from camfleet_gateway.channel import Channel
from camfleet_gateway.clock import Clock
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.tables import Alert
from camfleet_gateway.store.view import EventView
from camfleet_gateway.telemetry import Telemetry
from camfleet_protocol.camera import Camera
from camfleet_protocol.messages import EventRecord, Present, SourceState, SourceStats, Stats, WorkerHello
from support.gateway_process import test_pattern

DOOR = "default.door"
START = 1_800_000_000.0


class Time:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Worker:
    """As much of a worker as a channel needs."""

    hello = WorkerHello(camera=DOOR)

    def __init__(self, clock: Clock) -> None:
        self.telemetry = Telemetry(clock)
        self.frames = 0

    def tell(self, people: int = 0) -> None:
        self.frames += 1
        self.telemetry.update(
            Stats(
                source=SourceStats(state=SourceState.CONNECTED),
                frames={"captured": self.frames},
                last_frame_ns=self.frames,
                present=(Present(label="person", count=people),) if people else (),
            )
        )

    def demand(self, demand: object) -> None:
        pass

    def configure(self, configure: object) -> None:
        pass


class Site:
    """One start of a gateway's store and alerts, of one camera."""

    def __init__(self, folder: Path, camera: Camera, time: Time, url: str | None) -> None:
        self.time = time
        self.clock = Clock(monotonic=time, wall=time)
        self.store = Store(GatewaySettings(data_dir=folder, database_url=url), self.clock)
        self.channel = Channel(DOOR, 1, clock=self.clock, linger_seconds=0)
        self.channel.set_camera(camera)
        self.channels = {DOOR: self.channel}
        self.known = True
        self.engine = AlertEngine(self.store, self.channels, clock=self.clock, known=lambda: self.known)
        self.told: list[tuple[EventView, bool]] = []
        self.store.events.on_stored(lambda view, first: self.told.append((view, first)))

    def connect(self) -> Worker:
        worker = Worker(self.clock)
        self.channel.connect(worker)  # type: ignore[arg-type]
        return worker

    async def see(self, id_: str, *, revision: int = 0, **data: Any) -> None:
        """A worker tells of an appearance."""
        now = self.time.now
        basis = {"kind": "face", "label": "face", "track": 1, "started": now, "seen": now}
        record = EventRecord(
            id=id_, time=now, camera=DOOR, type="appearance", data=basis | data, revision=revision, order=1
        )
        await self.store.events.store(record)

    async def rounds(self, seconds: int, each: Callable[[], None] = lambda: None) -> None:
        for _ in range(seconds):
            self.time.now += 1
            each()
            await self.engine.round()

    async def alerts(self) -> list[Alert]:
        async with self.store.database.reading() as session:
            return list((await session.scalars(select(Alert).order_by(Alert.time))).all())

    def events(self, kind: str) -> list[str]:
        return [view.id for view, first in self.told if view.type == kind and first]


Start = Callable[..., Any]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=["sqlite", "postgresql"])
def start(request: pytest.FixtureRequest, tmp_path: Path, time: Time) -> Start:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").database()

    @asynccontextmanager
    async def starting(*rules: dict[str, Any]) -> AsyncIterator[Site]:
        site = Site(tmp_path / "data", test_pattern("door", alerts=list(rules)), time, url)
        await site.store.start(lambda: None)
        assert await site.engine._recall()
        try:
            yield site
        finally:
            await site.store.stop()

    return starting


STRANGER = {"name": "stranger", "when": "UnknownPerson", "cooldownSeconds": 60}
BLOCKED = {"name": "blocked", "when": "BlockedPerson", "severity": "critical", "cooldownSeconds": 0}
OFFLINE = {"name": "dark", "when": "CameraOffline", "forSeconds": 30, "cooldownSeconds": 600}
CROWD = {"name": "crowd", "when": "CountAbove", "above": 2, "forSeconds": 5, "cooldownSeconds": 0}


async def test_an_alert_is_raised_once_for_each_appearance_also_after_a_restart(
    start: Start, time: Time
) -> None:
    async with start(BLOCKED) as site:
        await site.see("e1")
        ada = {"id": "p1", "name": "Ada", "group": "blocked", "similarity": 0.9}
        for revision in (1, 2):
            time.now += 5
            await site.see("e1", revision=revision, identity="known", person=ada)
        await site.see("e1", revision=2, identity="known", person=ada)
        [alert] = await site.alerts()
        assert (alert.rule, alert.severity, alert.event_id) == ("blocked", "critical", "e1")
        assert alert.time == START + 5 and "Ada" not in alert.message
        event = await site.store.events.get(alert.id)
        assert event is not None and event.type == "alert" and event.person is not None
        assert event.person.name == "Ada" and event.data["when"] == "BlockedPerson"
        assert site.events("alert") == [alert.id]
        assert site.engine.raised["BlockedPerson"] == 1
    async with start(BLOCKED) as site:
        await site.see("e1", revision=3, identity="known", person=ada, ended=time.now)
        assert len(await site.alerts()) == 1
        await site.see("e2", identity="known", person=ada)
        assert len(await site.alerts()) == 2


async def test_a_rule_cools_down_also_over_a_restart(start: Start, time: Time) -> None:
    async with start(STRANGER) as site:
        await site.see("e1", identity="unknown")
        time.now += 30
        await site.see("e2", identity="unknown")
        assert [alert.event_id for alert in await site.alerts()] == ["e1"]
    async with start(STRANGER) as site:
        time.now += 20
        await site.see("e3", identity="unknown")
        time.now += 15
        await site.see("e2", revision=1, identity="unknown", started=START + 30, ended=time.now)
        await site.see("e3", revision=1, identity="unknown", started=START + 50)
        assert [alert.event_id for alert in await site.alerts()] == ["e1", "e3"]


async def test_what_comes_late_from_before_is_told(start: Start, time: Time) -> None:
    async with start(STRANGER) as site:
        await site.see("new", identity="unknown")
        old = time.now - 3600
        await site.see("old", identity="unknown", started=old, seen=old, ended=old)
        assert {alert.event_id for alert in await site.alerts()} == {"new", "old"}


async def test_several_of_one_batch_raise_one_alert(start: Start) -> None:
    async with start(STRANGER) as site:
        await asyncio.gather(*(site.see(f"e{n}", identity="unknown") for n in range(20)))
        assert len(await site.alerts()) == 1


async def test_rules_that_do_not_apply_and_data_that_is_none_raise_nothing(start: Start) -> None:
    async with start(STRANGER, BLOCKED) as site:
        await site.see("e1", identity="unsure")
        await site.see("e2", identity="whoever")
        await site.see("e3", person="Ada", zones=7)
        forged = EventRecord(id="al-1", time=1, camera=DOOR, type="alert", order=7, data={"rule": "blocked"})
        await site.store.events.store(forged)
        assert await site.alerts() == []


async def test_a_camera_without_pictures_raises_one_alert_until_they_come_again(
    start: Start, time: Time
) -> None:
    async with start(OFFLINE) as site:
        await site.rounds(int(GRACE_SECONDS) + 29)
        assert await site.alerts() == []
        await site.rounds(300)
        [alert] = await site.alerts()
        assert alert.message == "dark: no pictures (NoWorker) for 30 s"
        assert site.events("alert.ended") == []
    async with start(OFFLINE) as site:  # the same outage goes on
        await site.rounds(700)
        assert len(await site.alerts()) == 1
        worker = site.connect()
        await site.rounds(10, worker.tell)
        assert len(site.events("alert.ended")) == 1
    async with start(OFFLINE) as site:  # a new one
        worker = site.connect()
        await site.rounds(30, worker.tell)
        await site.rounds(40)  # it says nothing any more
        assert len(await site.alerts()) == 2


async def test_a_lasting_rule_waits_for_its_cooldown_and_its_schedule(start: Start, time: Time) -> None:
    quick = OFFLINE | {"forSeconds": 0, "cooldownSeconds": 100}
    async with start(quick) as site:
        worker = site.connect()
        await site.rounds(5, worker.tell)
        for _ in range(2):
            await site.rounds(10)
            await site.rounds(10, worker.tell)
        assert len(await site.alerts()) == 1
        await site.rounds(120)
        times = [alert.time for alert in await site.alerts()]
        assert len(times) == 2 and times[1] - times[0] >= 100
    later = {"start": "09:00", "end": "09:01"}  # START is 08:00 UTC
    async with start(quick | {"name": "later", "schedule": later}) as site:
        await site.rounds(60)
        assert len(await site.alerts()) == 2
        time.now = START + 3600
        await site.rounds(3)
        assert len(await site.alerts()) == 3


async def test_what_is_told_of_ends_with_its_rule_and_with_its_camera(start: Start) -> None:
    quick = OFFLINE | {"forSeconds": 0, "cooldownSeconds": 0}
    async with start(quick) as site:
        await site.rounds(30)
        site.channel.set_camera(test_pattern("door"))
        await site.rounds(3)
        site.channel.set_camera(test_pattern("door", alerts=[quick]))  # only for a moment
        await site.rounds(10)
        assert (len(await site.alerts()), site.events("alert.ended")) == (1, [])
        site.channel.set_camera(test_pattern("door"))
        await site.rounds(20)
        assert len(site.events("alert.ended")) == 1
        site.channel.set_camera(test_pattern("door", alerts=[quick]))
        await site.rounds(10)
        assert len(await site.alerts()) == 2
    async with start(quick) as site:  # the camera was deleted while there was no gateway
        del site.channels[DOOR]
        site.known = False
        await site.rounds(20)
        assert site.events("alert.ended") == [], "nobody knows yet which cameras there are"
        site.known = True
        await site.rounds(20)
        assert len(site.events("alert.ended")) == 1


async def test_a_clock_that_is_ahead_makes_no_alerts_of_the_future(start: Start, time: Time) -> None:
    async with start(STRANGER) as site:
        ahead = time.now + 1e8
        for name in ("e1", "e2"):
            await site.see(name, identity="unknown", started=ahead, seen=ahead)
        assert [alert.time for alert in await site.alerts()] == [START]
        time.now += 61
        await site.see("e3", identity="unknown", started=ahead, seen=ahead)
        assert [alert.event_id for alert in await site.alerts()] == ["e1", "e3"]


async def test_an_alert_goes_with_its_event(start: Start) -> None:
    async with start(STRANGER) as site:
        await site.see("e1", identity="unknown")
        [alert] = await site.alerts()
        async with site.store.database.session() as session:
            await site.store.events.delete(session, [alert.id])
        assert await site.alerts() == []


async def test_too_many_for_long_enough(start: Start) -> None:
    async with start(CROWD) as site:
        worker = site.connect()
        await site.rounds(10, lambda: worker.tell(people=2))
        await site.rounds(3, lambda: worker.tell(people=3))
        await site.rounds(2, lambda: worker.tell(people=2))
        assert await site.alerts() == []
        await site.rounds(20, lambda: worker.tell(people=7))
        [alert] = await site.alerts()
        event = await site.store.events.get(alert.id)
        assert event is not None and event.data["count"] == 7 and event.data["above"] == 2
        await site.rounds(10, worker.tell)
        assert len(site.events("alert.ended")) == 1


async def test_a_lasting_alert_is_told_later_if_the_store_is_away(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from camfleet_gateway.store.errors import UnavailableError

    async with start(OFFLINE) as site:
        store: Callable[..., Awaitable[Any]] = site.store.events.store

        async def away(*_: Any, **__: Any) -> None:
            raise UnavailableError("the disk is full")

        monkeypatch.setattr(site.store.events, "store", away)
        await site.rounds(int(GRACE_SECONDS) + 60)
        assert caplog.text.count("the disk is full") == 1
        monkeypatch.setattr(site.store.events, "store", store)
        await site.rounds(2)
        assert len(await site.alerts()) == 1
