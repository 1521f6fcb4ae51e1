"""Vectors of events in a real Milvus server: it goes and comes back, compacts, and refuses a wrong token."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from gateway_clients import eventually
from vectors_site import DIMENSIONS, Site, face, starting

from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.vectors.index import Index, IndexUnavailableError, Row, Target, Wanted
from camfleet_gateway.vectors.names import prefix
from support.milvus_server import MilvusServer

pytestmark = pytest.mark.timeout(300)
PATIENCE = 120.0
FIRST = 9000
"""Of the faces that no other test puts on this server's disk."""


class Nowhere:
    """A server that is not there."""

    url = "http://127.0.0.1:9"
    token_file = None


@pytest.mark.timeout(420)
async def test_who_was_erased_is_gone_from_its_files(tmp_path: Path, milvus: MilvusServer) -> None:
    async with starting(tmp_path, milvus) as site:
        for number in range(4):
            await site.see(f"e{number}", FIRST + number)
        await site.vectors.step()
        assert await site.vectors.rebuild() == 4  # written to segments, those of a new collection
        assert len(await _collections(site)) == 1
        await eventually(lambda: site.on_disk(FIRST + 1, milvus.data), "it in a segment")
        async with site.store.database.session() as session:
            await site.vectors.erased(session, "p1")
            await site.store.events.delete(session, ["e1"])
        await site.see("e4", FIRST + 4)  # in no segment yet
        site.wall += 31
        await site.vectors.step()
        await site.delete("e2")  # while it compacts: this is for the next time

        async def asked() -> bool:
            await site.vectors.step()
            return site.vectors._mark.due() > site.wall

        await eventually(asked, "the compaction", PATIENCE)
        assert site.vectors._mark.due() < math.inf
        # What the server found too fresh, it compacts by itself a minute later.
        old = "its old files removed"
        await eventually(lambda: not site.on_disk(FIRST + 1, milvus.data), old, 2 * PATIENCE)
        assert site.on_disk(FIRST + 3, milvus.data) and site.on_disk(FIRST + 4, milvus.data)
        assert [await site.find(FIRST + number) for number in range(5)] == [["e0"], [], [], ["e3"], ["e4"]]
        await site.delete("e0", "e3", "e4")
        site.vectors._compare = True
        await site.vectors.step()
        assert await _collections(site) == []


async def test_what_differs_from_the_database_is_mended(
    tmp_path: Path, milvus: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camfleet_gateway.vectors.service._WINDOW", 8)
    async with starting(tmp_path, milvus) as site:
        for number in range(20):
            await site.see(f"e{number}", number, time=float(number // 8))
        await site.vectors.step()
        await site.see("late", 50)
    async with starting(tmp_path, milvus) as site:
        # While nobody looked, two events went away and one came.
        site.store.events._deletion_hooks.clear()
        await site.delete("e4", "e9")
        assert await site.find(4) == ["e4"] and await site.find(50) == []
        await site.vectors.step()
        assert await site.find(4) == [] and await site.find(50) == ["late"]
        assert await site.vectors.count() == 19


async def test_hnsw_finds_what_is_there(tmp_path: Path, milvus: MilvusServer) -> None:
    """Enough rows for the server to build its index, and as many results as there can be."""
    index = Index(Target(tmp_path, milvus.url, milvus.token_file))
    name = "camfleet_hnsw"
    rows = [
        Row(f"e{number}", f"default.c{number % 4}", float(number), face(number)) for number in range(2000)
    ]

    def use() -> list[Any]:
        assert index.make(name, DIMENSIONS) == DIMENSIONS
        index.put(name, rows)
        index.flush(name)
        found = [index.search(name, [rows[n].vector], Wanted("default.c1"), 1) for n in (1, 501)]
        many = index.search(name, [rows[0].vector], Wanted(since=500.0), 1000)
        index.delete(name, [row.event_id for row in rows[::2]])
        return [
            *found,
            many,
            index.count(name),
            index.search(name, [face(2)], Wanted(), 1),
        ]

    try:
        first, second, many, count, gone = await asyncio.to_thread(use)
        assert first[0].event_id == "e1" and second[0].event_id == "e501"
        assert len(many) == 1000 and all(int(hit.event_id[1:]) >= 500 for hit in many)
        assert count == 1000 and gone[0].similarity < 0.9
        index.drop(name)
    finally:
        index.close()


async def test_a_wrong_token_is_told_as_that(tmp_path: Path, milvus: MilvusServer) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("root:not-it\n")
    for token_file in (wrong, None):
        index = Index(Target(tmp_path, milvus.url, token_file))
        with pytest.raises(IndexUnavailableError, match="refuses the token") as told:
            await asyncio.to_thread(index.open)
        assert "not-it" not in str(told.value)


async def test_a_server_that_is_away_keeps_events_waiting_that_are_to_be_deleted(tmp_path: Path) -> None:
    async with starting(tmp_path, Nowhere()) as site:
        await site.see("e1", 1)
        with pytest.raises(IndexUnavailableError):
            await site.vectors.step()
        assert site.vectors.pending == 1
        with pytest.raises(UnavailableError):
            await site.find(1)
        with pytest.raises(UnavailableError):
            await site.delete("e1")
        assert await site.store.events.get("e1") is not None


async def test_a_server_that_is_killed_and_comes_back_has_lost_nothing(
    tmp_path: Path, milvus: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camfleet_gateway.vectors.service._AGAIN_SECONDS", (0.05, 0.5))
    async with starting(tmp_path, milvus) as site:
        running = asyncio.create_task(site.vectors.run())
        try:
            for number in range(20):
                await site.see(f"e{number}", number, time=float(number))
            await eventually(lambda: not site.vectors.pending, "all in the index", PATIENCE)
            assert await site.find(1) == ["e1"] and "HNSW" in site.vectors.index.kind
            milvus.kill()
            await site.see("late", 50)
            await eventually(lambda: site.vectors.problem, "it to be missed", PATIENCE)
            with pytest.raises(UnavailableError):
                await site.find(1)
            with pytest.raises(UnavailableError):
                await site.delete("e1")
            assert await site.store.events.get("e1") is not None
            milvus.start()
            await eventually(lambda: not site.vectors.problem, "it to be back", PATIENCE)
            await eventually(lambda: not site.vectors.pending, "what came meanwhile", PATIENCE)
            assert await site.vectors.count() == 21
            assert await site.find(50) == ["late"] and await site.find(19) == ["e19"]
            await site.delete("e1")
            assert await site.find(1) == [] and await site.vectors.count() == 20
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _collections(site: Site) -> list[str]:
    return await site.vectors._run(site.vectors.index.collections, prefix(site.store.sealer.key_id))
