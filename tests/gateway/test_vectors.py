"""Vectors of events in milvus-lite, some of it in a Milvus server, too: found, deleted, mended, made anew."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_clients import eventually
from vectors_site import DIMENSIONS, MODEL, OTHER, Site, face, starting

from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.vectors.index import Hit, IndexUnavailableError, Wanted, key_of
from camfleet_gateway.vectors.names import Name, model_hash, prefix
from camfleet_gateway.vectors.purge import PurgeMark


def damage(folder: Path) -> int:
    """Spoil the files of the index; returns how many."""
    files = [path for path in folder.rglob("vectors/milvus/**/*") if path.suffix in (".parquet", ".json")]
    for path in files:
        path.write_bytes(path.read_bytes()[:-20] + bytes(20))
    return len(files)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """With milvus-lite."""
    async with starting(tmp_path) as found:
        yield found


@pytest.fixture(params=["lite", "server"])
async def either(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """With each Milvus in turn."""
    server = request.getfixturevalue("milvus") if request.param == "server" else None
    async with starting(tmp_path, server) as found:
        yield found


async def test_faces_are_found_by_likeness_camera_and_time(either: Site) -> None:
    site = either
    await site.see("e1", 1)
    await site.see("e2", 2, time=200.0, camera="default.hall")
    await site.see("e'3\"]", 1, time=300.0, camera="default.hall")
    assert site.vectors.pending == 3
    await site.vectors.step()
    assert site.vectors.pending == 0
    assert sorted(await site.find(1, 2)) == ["e'3\"]", "e1"]
    assert await site.find(2) == ["e2"]
    assert await site.find(7) == []
    assert await site.find(1, 2, camera="default.hall") == ["e'3\"]"]
    assert await site.find(1, 2, since=100.0, until=300.0) == ["e1"]
    assert await site.find(1, 2, since=300.0) == ["e'3\"]"]
    assert await site.find(1, 2, until=100.0) == []
    assert await site.vectors.count() == 3
    [hit] = await site.vectors.search(MODEL, [face(1), face(1)], Wanted(until=101.0), 1)
    assert isinstance(hit, Hit) and hit.similarity == pytest.approx(1.0, abs=1e-3)


async def test_a_better_picture_replaces_the_vector_and_other_models_are_apart(either: Site) -> None:
    site = either
    await site.see("e1", 1)
    await site.see("e2", 3, embedder=OTHER)
    await site.vectors.step()
    await site.see("e1", 2, revision=1)
    await site.vectors.step()
    assert (await site.find(1), await site.find(2)) == ([], ["e1"])
    assert await site.find(3) == [] and await site.find(3, model=OTHER) == ["e2"]
    assert await site.find(3, model="unheard@111111111111") == []


async def test_a_vector_of_another_length_stays_out_and_stops_nothing(site: Site) -> None:
    await site.see("e1", 1)
    await site.vectors.step()
    await site.see("bad", 2, dimensions=64)
    await site.see("e3", 3)
    await site.vectors.step()
    assert site.vectors.pending == 0
    assert await site.find(3) == ["e3"]


async def test_who_comes_first_does_not_decide_how_long_a_vector_is(tmp_path: Path) -> None:
    async with starting(tmp_path) as site:
        await site.see("bad", 1, dimensions=64)
        await site.vectors.step()
        for number in range(2, 5):
            await site.see(f"e{number}", number)
        await site.vectors.step()
        assert await site.find(3) == ["e3"] and await site.vectors.count() == 3

    async def known(_: str) -> int:
        return DIMENSIONS

    site = Site(tmp_path / "other", size_of=known)
    await site.store.start(lambda: None)
    try:
        await site.see("bad", 1, dimensions=64)
        await site.vectors.step()
        await site.see("e2", 2)
        await site.vectors.step()
        assert await site.find(2) == ["e2"]
        assert await site.vectors.search(MODEL, [face(1, 64)], Wanted(), 5) == []
    finally:
        await site.vectors.stop()
        await site.store.stop()


@pytest.mark.parametrize("lost", ["collection", "files"])
async def test_what_a_search_finds_broken_is_mended(site: Site, lost: str) -> None:
    await site.see("e1", 1)
    await site.vectors.step()
    if lost == "collection":
        name = site.vectors._current[model_hash(MODEL)].text(prefix(site.store.sealer.key_id))
        await site.vectors._run(site.vectors.index.drop, name)
    else:
        (site.folder / "milvus").rename(site.folder / "gone")  # at once: it may be writing
    running = asyncio.create_task(site.vectors.run())
    found: list[str] = []
    try:
        async with asyncio.timeout(30):
            while not found:
                try:
                    found = await site.find(1)
                except UnavailableError:
                    await asyncio.sleep(0.05)
        assert found == ["e1"] and (site.folder / "milvus").exists()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_is_deleted_is_found_no_more_and_soon_gone_from_the_disk(site: Site) -> None:
    for number in range(1, 4):
        await site.see(f"e{number}", number)
    await site.vectors.step()
    await site.delete("e1", "none")
    assert await site.find(1) == []
    assert site.on_disk(1)
    await site.vectors.step()
    assert site.on_disk(1)
    site.wall += 25 * 3600
    await site.vectors.step()
    assert not site.on_disk(1) and site.on_disk(2)
    assert (await site.find(2), await site.vectors.count()) == (["e2"], 2)
    async with site.store.database.session() as session:
        await site.vectors.erased(session, "p1")
        await site.store.events.delete(session, ["e2"])
    site.wall += 31
    await site.vectors.step()
    assert not site.on_disk(2) and site.on_disk(3)
    await site.delete("e3")
    site.wall += 25 * 3600
    await site.vectors.step()
    assert not site.on_disk(3) and await site.vectors.count() == 0


async def test_who_is_erased_while_a_purge_is_due_gets_one_of_their_own(site: Site) -> None:
    await site.see("e1", 1)
    await site.see("e2", 2)
    await site.vectors.step()
    await site.delete("e1")
    site.wall += 25 * 3600
    async with site.store.database.session() as session:
        await site.vectors.erased(session, "p1")
        await site.vectors.step()  # before the events are deleted
        assert not site.on_disk(1) and site.on_disk(2)
        await site.store.events.delete(session, ["e2"])
    site.wall += 31
    await site.vectors.step()
    assert not site.on_disk(2) and site.vectors._mark.due() == math.inf


async def test_what_waits_is_not_put_in_once_it_is_deleted(site: Site) -> None:
    await site.see("e0", 0)
    await site.vectors.step()
    await site.see("e1", 1)
    await site.delete("e1")
    await site.vectors.step()
    assert await site.find(1) == [] and await site.vectors.count() == 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_the_index_is_mended_after_a_crash(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    database = None if kind == "sqlite" else request.getfixturevalue("postgres").database()
    async with starting(tmp_path, None, database) as site:
        for number in range(10):
            await site.see(f"e{number}", number, time=float(number // 3))
        await site.vectors.step()
        await site.see("late", 50)  # stored, and the process ends before it is in the index
    async with starting(tmp_path, None, database) as site:
        # While nobody looked, two events went away and one came.
        site.store.events._deletion_hooks.clear()
        await site.delete("e4", "e9")
        site.vectors._pending.clear()
        assert await site.find(4) == ["e4"] and await site.find(50) == []
        await site.vectors.step()
        assert await site.find(4) == [] and await site.find(50) == ["late"]
        assert await site.find(5) == ["e5"] and await site.vectors.count() == 9


async def test_many_of_the_same_time_and_a_lost_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camfleet_gateway.vectors.service._WINDOW", 4)
    monkeypatch.setattr("camfleet_gateway.vectors.service._PAGE", 3)
    async with starting(tmp_path) as site:
        await asyncio.gather(*(site.see(f"e{n}", n, time=float(n // 8)) for n in range(20)))
        await site.vectors.step()
        assert await site.vectors.count() == 20
    shutil.rmtree(tmp_path / "vectors")
    async with starting(tmp_path) as site:
        await site.vectors.step()
        assert await site.vectors.count() == 20
        site.vectors._compare = True
        await site.vectors.step()
        assert await site.vectors.count() == 20
        assert await site.find(13) == ["e13"]


async def test_a_new_collection_that_was_not_finished_is_dropped(site: Site) -> None:
    await site.see("e1", 1)
    await site.vectors.step()
    name = Name(model_hash(MODEL), 2).text(prefix(site.store.sealer.key_id))
    await site.vectors._run(site.vectors.index.make, name, DIMENSIONS)
    site.vectors._current = {}
    assert await site.find(1) == ["e1"]
    assert await site.vectors._run(site.vectors.index.collections, name) == []


async def test_an_index_whose_files_are_damaged_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("camfleet_gateway.vectors.service._AGAIN_SECONDS", (0.01, 0.02))
    async with starting(tmp_path) as site:
        for number in range(5):
            await site.see(f"e{number}", number)
        await site.vectors.rebuild()
    assert damage(tmp_path)
    async with starting(tmp_path) as site:
        running = asyncio.create_task(site.vectors.run())
        try:
            await eventually(lambda: "is made anew" in caplog.text, "it to be thrown away")
            await eventually(lambda: not site.vectors.problem, "it to be well again")
            assert await site.find(3) == ["e3"] and await site.vectors.count() == 5
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_nothing_is_started_where_no_face_is_known(site: Site) -> None:
    await site.vectors.step()
    assert await site.find(1) == []
    await site.delete("e1")
    async with site.store.database.session() as session:
        await site.vectors.erased(session, "p1")
    assert not site.folder.exists()


async def test_two_processes_do_not_share_an_index(tmp_path: Path) -> None:
    async with starting(tmp_path) as first:
        await first.see("e1", 1)
        await first.vectors.step()
        second = Site(tmp_path)
        with pytest.raises(IndexUnavailableError, match="another process"):
            await second.vectors._run(second.vectors.index.open)
        assert await first.find(1) == ["e1"]
        await second.vectors.stop()
        await second.store.database.close()


def test_a_filter_holds_nothing_but_what_it_means() -> None:
    assert Wanted().expression() == ""
    assert Wanted("default.door", 1.5, 2.0).expression() == (
        'camera == "default.door" and time >= 1.5 and time < 2.0'
    )
    assert Wanted(camera='x" or time > 0 or camera == "').expression() == 'camera == "xortime0orcamera"'


def test_names_and_keys() -> None:
    name = Name(model_hash(MODEL), 12)
    assert Name.parse(name.text("camfleet_ab_"), "camfleet_ab_") == name
    for text in ("camfleet_cd_" + model_hash(MODEL) + "_1", "camfleet_ab_short_1", "camfleet_ab_", "x"):
        assert Name.parse(text, "camfleet_ab_") is None
    assert len(key_of("\ud800'")) == 40 and model_hash(MODEL) != model_hash(OTHER)


def test_the_mark_keeps_the_earliest_time(tmp_path: Path) -> None:
    mark = PurgeMark(tmp_path / "vectors" / "purge")
    assert mark.due() == math.inf
    mark.ask(50.0)
    mark.ask(60.0)
    assert PurgeMark(tmp_path / "vectors" / "purge").due() == 50.0
    mark.ask(40.0)
    assert mark.due() == 40.0
    mark.begin()
    mark.ask(70.0)
    assert mark.due() == 40.0
    mark.done()
    assert mark.due() == 70.0, "what was deleted during a purge waits for the next one"
    mark.begin()
    (tmp_path / "vectors" / "purge").write_text("half a")
    assert mark.due() == 0.0
    mark.done()
    assert mark.due() == math.inf
