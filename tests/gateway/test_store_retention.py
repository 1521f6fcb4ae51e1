"""Retention: by age, by the camera's own days, by bytes; files that belong to nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import select, text
from store_kit import JPEG, NOW, StandingClock, appearance, event, files, opened

from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.query import EventFilter
from camfleet_gateway.store.retention import DAY, Retention, Round
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.snapshots import Snapshots, stem
from camfleet_gateway.store.tables import Delivery

MIB = 1024 * 1024


async def ids(store: Store) -> set[str]:
    return {found.id for found in (await store.events.find(EventFilter(), limit=1000)).events}


async def test_events_go_when_their_cameras_days_are_over(tmp_path: Path) -> None:
    clock = StandingClock()
    async with opened(tmp_path, clock=clock.clock(), retention_days=30) as store:
        await store.events.store(appearance("short"), crop=JPEG, retention_days=1)
        await store.events.store(appearance("usual"), crop=JPEG)
        await store.events.store(event("ahead", time=NOW + 900 * DAY), retention_days=1)  # a wrong clock
        gone: list[str] = []

        async def hook(deleted: object) -> None:
            gone.extend(deleted)  # type: ignore[call-overload]

        store.events.on_delete(hook)
        assert await store.retention.round() == Round(0, 0, 0)
        clock.now += DAY
        assert (await store.retention.round()).expired == 2
        assert sorted(gone) == ["ahead", "short"]
        assert await ids(store) == {"usual"}
        assert [path.name for path in files(tmp_path)] == ["usual.crop.jpg"]
        clock.now += 29 * DAY
        await store.retention.round()
        assert (await ids(store), files(tmp_path)) == (set(), [])


async def test_a_later_revision_is_not_kept_for_longer_than_its_event(tmp_path: Path) -> None:
    clock = StandingClock()
    async with opened(tmp_path, clock=clock.clock()) as store:
        await store.events.store(appearance("a"), retention_days=1)
        clock.now += 0.9 * DAY
        await store.events.store(appearance("a", revision=1), retention_days=1)
        clock.now += 0.1 * DAY
        assert (await store.retention.round()).expired == 1


async def test_old_events_follow_when_their_camera_keeps_less(tmp_path: Path) -> None:
    clock = StandingClock()
    async with opened(tmp_path, clock=clock.clock()) as store:
        days: dict[str, float] = {}
        retention = Retention(
            store.database, store.events, store.snapshots,
            clock=clock.clock(), days=30, picture_bytes=MIB, days_of=lambda: days,
        )  # fmt: skip
        await store.events.store(event("door"))
        await store.events.store(event("hall", camera="default.hall"))
        clock.now += 3 * DAY
        assert (await retention.round()).expired == 0
        days["default.door"] = 2
        assert (await retention.round()).expired == 1
        assert await ids(store) == {"hall"}


async def test_old_events_follow_when_the_gateway_keeps_less(tmp_path: Path) -> None:
    clock = StandingClock()

    async def rounds(days: float, own: dict[str, float]) -> set[str]:
        async with opened(tmp_path, clock=clock.clock(), retention_days=days) as store:
            retention = Retention(
                store.database, store.events, store.snapshots,
                clock=clock.clock(), days=days, picture_bytes=MIB, days_of=lambda: own,
            )  # fmt: skip
            if clock.now == NOW:
                await store.events.store(event("door"))
                await store.events.store(event("hall", camera="default.hall"), retention_days=30)
                await store.events.store(event("gone", camera="default.gone"), retention_days=90)
            for _ in range(3):
                await retention.round()
            return await ids(store)

    own = {"default.hall": 30.0}
    assert await rounds(30, own) == {"door", "hall", "gone"}
    clock.now += 8 * DAY
    assert await rounds(7, own) == {"hall", "gone"}, "also of a camera that is not there now"


async def test_a_clock_that_was_never_set_loses_nothing(tmp_path: Path) -> None:
    clock = StandingClock()
    async with opened(tmp_path, clock=clock.clock()) as store:
        await store.events.store(event("a", time=86_400.0), retention_days=2)
        clock.now += DAY
        await store.events.store(event("a", time=86_400.0, revision=1), retention_days=2)
        clock.now += DAY
        assert (await store.retention.round()).expired == 0
        clock.now += DAY
        assert (await store.retention.round()).expired == 1


async def test_messages_to_webhooks_go_with_their_event(tmp_path: Path) -> None:
    clock = StandingClock()
    async with opened(tmp_path, clock=clock.clock()) as store:
        for id_, days in (("short", 1), ("usual", 30)):
            await store.events.store(appearance(id_), retention_days=days)
            message = {"webhook": "w", "event_id": id_, "body": "{}", "created": NOW, "due": NOW}
            async with store.database.session() as session:
                session.add(Delivery(id=f"d-{id_}", dead=True, **message))
        clock.now += DAY
        await store.retention.round()
        async with store.database.reading() as session:
            assert (await session.scalars(select(Delivery.id))).all() == ["d-usual"]


async def test_the_oldest_pictures_make_room(tmp_path: Path) -> None:
    async with opened(tmp_path, retention_bytes=MIB) as store:
        picture = JPEG[:4] + bytes(100_000)
        for number in range(15):
            await store.events.store(event(f"e{number:02}", time=NOW + number), crop=picture)
        await store.events.store(event("plain", time=NOW - 1))
        done = await store.retention.round()
        assert done.for_space == 5
        assert await ids(store) == {"plain", *(f"e{number:02}" for number in range(5, 15))}
        assert sum(path.stat().st_size for path in files(tmp_path)) <= MIB
        assert (await store.retention.round()).for_space == 0


async def test_what_cannot_leave_the_index_stays_and_goes_later(tmp_path: Path) -> None:
    clock = StandingClock()
    async with opened(tmp_path, clock=clock.clock()) as store:
        await store.events.store(event("a"))
        clock.now += 31 * DAY
        away = [True]

        async def hook(_: object) -> None:
            if away:
                raise UnavailableError("the index is away")

        store.events.on_delete(hook)
        with pytest.raises(UnavailableError):
            await store.retention.round()
        assert await ids(store) == {"a"}
        away.clear()
        assert (await store.retention.round()).expired == 1


async def test_old_files_that_belong_to_nothing_are_swept(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        strange = "an/id of ours"
        await store.events.store(appearance("kept"), crop=JPEG, scene=JPEG)
        await store.events.store(appearance(strange), crop=JPEG)
        async with store.database.session() as session:
            for statement in (
                "INSERT INTO people (id, name, person_group, note, created, updated, version) "
                "VALUES ('p1', 'Anna', 'staff', '', 0, 0, 1)",
                "INSERT INTO faces (id, person_id, negative, source, digest, quality, embedder, embedding, "
                "created) VALUES ('f1', 'p1', false, 'upload', '', 1, 'm', 'x', 0)",
            ):
                await session.execute(text(statement))
        snapshots = Snapshots(tmp_path)
        for face in ("f1", "f2"):
            snapshots.write_face("p1", face, JPEG)
        snapshots.write_face("p2", "f3", JPEG)
        snapshots.write_event("orphan", NOW, crop=JPEG)
        snapshots.write_event("other-day", NOW - 400 * DAY, crop=JPEG)
        unfinished = tmp_path / "pictures/2027/01/15/.kept.crop.jpg.x1y2"
        unfinished.write_bytes(b"half")
        snapshots.write_event("young", NOW, crop=JPEG)
        for path in files(tmp_path, "*"):
            if "young" not in path.name:
                os.utime(path, (NOW - 1e8, NOW - 1e8))
        await store.retention.sweep()  # the store's own round may have been there before
        assert sorted(path.name for path in files(tmp_path, "*.jpg*")) == sorted(
            ["kept.crop.jpg", "kept.scene.jpg", f"{stem(strange)}.crop.jpg", "young.crop.jpg", "f1.jpg"]
        )
        assert not (tmp_path / "people" / "p2").exists()
        assert len(list((tmp_path / "pictures").glob("*/*/*"))) == 1, "empty folders are gone"


async def test_pictures_of_another_database_are_not_swept(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.events.store(appearance("a"), crop=JPEG)
    [path] = files(tmp_path)
    os.utime(path, (NOW - 1e8, NOW - 1e8))
    for database in files(tmp_path, "camfleet.db*"):
        database.rename(tmp_path / f"moved-{database.name}")
    async with opened(tmp_path) as store:
        assert await store.retention.sweep() == 0
    assert files(tmp_path) == [path]
    for moved in files(tmp_path, "moved-*"):
        moved.rename(tmp_path / moved.name.removeprefix("moved-"))
    async with opened(tmp_path) as store:
        path.rename(path.with_name("orphan.crop.jpg"))
        assert await store.retention.sweep() == 1
