"""The store when things break: PostgreSQL restarted, a full disk, a database that is not there yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from store_kit import JPEG, NOW, appearance, event, opened

from camfleet_gateway.events import EventLog, Told
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.store import service
from camfleet_gateway.store.errors import StoreError, UnavailableError
from camfleet_gateway.store.query import EventFilter
from camfleet_gateway.store.service import Store
from support.postgres import Postgres, postgres_server
from support.small_disk import small_disk

EVERYTHING = EventFilter()


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server that the test may break."""
    with postgres_server() as server:
        yield server


async def until_stored(store: Store, id_: str) -> int:
    """Be a worker: tell an event until it is acknowledged; returns how often that failed."""
    failures = 0
    while True:
        try:
            await store.events.store(appearance(id_), crop=JPEG)
        except UnavailableError:
            failures += 1
            await asyncio.sleep(0.05)
        else:
            return failures


async def test_a_postgresql_that_restarts_in_the_middle_loses_and_doubles_nothing(
    server: Postgres, tmp_path: Path
) -> None:
    async with opened(tmp_path, server.database()) as store:
        told: list[str] = []
        store.events.on_stored(lambda seen, first: told.append(seen.id) if first else None)
        under_way = asyncio.Event()

        async def worker(name: int) -> int:
            failures = 0
            for number in range(60):
                failures += await until_stored(store, f"{name}-{number}")
                if number == 5:
                    under_way.set()
            return failures

        workers = [asyncio.create_task(worker(name)) for name in range(8)]
        for kill in (False, True):
            await under_way.wait()
            await asyncio.to_thread(server.stop, kill=kill)
            with pytest.raises(UnavailableError):
                await store.events.find(EVERYTHING)
            await asyncio.to_thread(server.start)
        failures = sum(await asyncio.gather(*workers))
        assert failures > 0, "the restarts were noticed"
        expected = {f"{name}-{number}" for name in range(8) for number in range(60)}
        page = await store.events.find(EVERYTHING, limit=1000)
        assert [found.id for found in page.events] == sorted(expected, reverse=True)
        assert sorted(told) == sorted(expected), "each was told as new once"


async def test_a_database_that_comes_later_is_waited_for(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_AGAIN_SECONDS", 0.1)
    url = server.database()
    server.stop()
    async with opened(tmp_path, url) as store:
        with pytest.raises(UnavailableError):
            await store.events.store(event("a"))
        with pytest.raises(UnavailableError):
            await store.events.find(EVERYTHING)
        log = EventLog()
        store.events.on_stored(log.happened)
        told: list[str] = []
        everything = asyncio.Event()

        def heard(seen: Told) -> None:
            told.append(seen.event.id)
            if len(told) == 250:
                everything.set()

        log.listen(heard)
        task = asyncio.create_task(log.run(store.events))
        for number in range(250):
            log.add(event(f"own{number:03}", time=NOW + number))
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(60):
            await everything.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert told == [f"own{number:03}" for number in range(250)]
        page = await store.events.find(EVERYTHING, limit=1000)
        assert len(page.events) == 250


async def test_own_events_for_which_there_is_no_room_are_counted() -> None:
    from camfleet_gateway import events

    log = EventLog()
    for number in range(events.MAX_PENDING + 3):
        log.add(event(f"e{number}"))
    assert (len(log.pending), log.lost, log.pending[0].id) == (events.MAX_PENDING, 3, "e3")


async def test_a_full_disk_refuses_what_it_cannot_keep_and_takes_it_later(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 3072) as disk:
        async with opened(disk.path) as store:
            await store.events.store(event("before", time=NOW - 1))
            disk.fill()
            stored, refused = [], ""
            for number in range(400):  # SQLite has some room left in its log
                try:
                    await store.events.store(event(f"e{number:03}", data={"long": "x" * 4000}))
                except UnavailableError as error:
                    refused = str(error)
                    break
                stored.append(f"e{number:03}")
            assert "full" in refused
            with pytest.raises(UnavailableError, match=r"No space left|full"):
                await store.events.store(appearance("picture"), crop=JPEG * 100)
            page = await store.events.find(EVERYTHING, limit=1000)
            assert [found.id for found in page.events] == [*reversed(stored), "before"], (
                "acknowledged is kept"
            )
            disk.clear()
            await store.events.store(appearance("picture"), crop=JPEG * 100)
            assert await store.events.picture("picture", "crop") == JPEG * 100
        async with opened(disk.path) as store:
            assert len((await store.events.find(EVERYTHING, limit=1000)).events) == len(stored) + 2


async def test_one_event_that_fails_takes_no_others_with_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:

        async def hook(_: object, stored: object) -> None:
            if any(each.view.id == "bad" for each in stored):  # type: ignore[attr-defined]
                raise ValueError("a mistake")

        store.events.in_transaction(hook)
        ids = ["a", "bad", "b", "c"]
        results = await asyncio.gather(*(store.events.store(event(id_)) for id_ in ids))
        assert [result.refused for result in results] == ["", "it cannot be stored: ValueError", "", ""]
        assert {found.id for found in (await store.events.find(EVERYTHING)).events} == {"a", "b", "c"}


async def test_a_table_that_is_away_for_a_moment_costs_no_event(postgres: Postgres, tmp_path: Path) -> None:
    """As while a backup is restored, or rights are changed: SQLSTATE 42P01, 42501."""
    async with opened(tmp_path, postgres.database()) as store:

        async def rename(before: str, after: str) -> None:
            async with store.database.session() as session:
                await session.execute(text(f"ALTER TABLE {before} RENAME TO {after}"))

        await rename("events", "elsewhere")
        with pytest.raises(UnavailableError, match="events"):
            await store.events.store(event("a"))
        with pytest.raises(UnavailableError):
            await store.events.find(EVERYTHING)
        await rename("elsewhere", "events")
        assert (await store.events.store(event("a"))).first
        async with store.database.session() as session:
            await session.execute(text("ALTER TABLE events ADD CHECK (id <> 'bad')"))
        result = await store.events.store(event("bad"))
        assert "IntegrityError" in result.refused, "a broken constraint is the event's own"


async def test_what_is_not_of_an_event_makes_it_wait(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        failing = [True]

        async def hook(_: object, __: object) -> None:
            if failing:
                raise RuntimeError("no thread can be started")

        store.events.in_transaction(hook)
        with pytest.raises(UnavailableError, match="RuntimeError"):
            await store.events.store(event("a"))
        failing.clear()
        assert (await store.events.store(event("a"))).first


async def test_too_many_that_wait_are_refused_not_kept_in_memory(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        big = b"\xff\xd8\xff" + bytes(1024 * 1024)

        async def put(number: int) -> bool:
            try:
                await store.events.store(event(f"e{number}"), crop=big)
            except UnavailableError as error:
                return "too many" not in str(error)
            return True

        results = await asyncio.gather(*(put(number) for number in range(140)))
        assert 100 < sum(results) < 140


async def test_a_data_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="data folder cannot be used"):
        async with opened(tmp_path / "file"):
            pass


async def test_without_a_data_folder_everything_ends_with_the_gateway() -> None:
    from camfleet_gateway.clock import Clock

    store = Store(GatewaySettings(), Clock())
    assert not store.folder.exists()
    await store.start(lambda: None)
    await store.events.store(appearance("a"), crop=JPEG)
    assert list(store.folder.rglob("*.crop.jpg"))
    await store.stop()
    assert not store.folder.exists()


async def test_what_is_cancelled_in_a_transaction_leaves_it_in_good_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway that stops cancels its tasks wherever they are; nothing of that is an error in its log."""

    async def write(store: Store) -> None:
        async with store.database.session() as session:
            await session.execute(text("UPDATE facts SET value = value"))

    async with opened(tmp_path) as store:
        for number in range(300):
            task = asyncio.create_task(write(store))
            await asyncio.wait({task}, timeout=number * 20e-6)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        last = asyncio.create_task(write(store))
        await asyncio.sleep(0.001)
        last.cancel()
        await asyncio.gather(last, return_exceptions=True)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
