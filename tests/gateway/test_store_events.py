"""Events in both databases: one row each, the highest revision, pages, listeners, deletion, erasure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from store_kit import ANNA, JPEG, NOW, OTHER_JPEG, VECTOR, appearance, event, files, opened

from camfleet_gateway.auth import Principal, Role
from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.query import Cursor, EventFilter
from camfleet_gateway.store.rows import Incoming, row_of
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.tables import RemovedPerson

EVERYTHING = EventFilter()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else request.getfixturevalue("postgres").database()


@pytest.fixture
async def store(url: str | None, tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path, url) as store:
        yield store


async def ids(store: Store, **wanted: object) -> list[str]:
    page = await store.events.find(EventFilter(**wanted))  # type: ignore[arg-type]
    return [found.id for found in page.events]


async def rows(store: Store) -> int:
    async with store.database.reading() as session:
        return (await session.execute(text("SELECT count(*) FROM events"))).scalar_one()


async def test_an_event_is_one_row_and_its_highest_revision_wins(store: Store) -> None:
    told: list[tuple[str, int, bool]] = []
    store.events.on_stored(lambda seen, first: told.append((seen.id, seen.revision, first)))
    results = [
        await store.events.store(appearance("a", revision=revision, data={"pictures": revision}))
        for revision in (1, 1, 0, 3, 2, 3)
    ]
    assert [(result.stored, result.first) for result in results] == [
        (True, True), (False, False), (False, False), (True, False), (False, False), (False, False),
    ]  # fmt: skip
    assert told == [("a", 1, True), ("a", 3, False)]
    found = await store.events.get("a")
    assert found is not None
    assert (found.revision, found.data["pictures"], found.zones, found.kind) == (3, 3, ("hall",), "face")
    assert await rows(store) == 1


async def test_twenty_writers_of_one_event_make_one_row_and_one_of_them_is_first(
    url: str | None, tmp_path: Path
) -> None:
    async with opened(tmp_path, url) as one, opened(tmp_path, url) as other:
        told: list[bool] = []
        for store in (one, other):
            store.events.on_stored(lambda _, first: told.append(first))
        ids = [f"e{number}" for number in range(5)]
        writers = [
            store.events.store(appearance(id_, revision=revision))
            for store in (one, other)
            for revision in (0, 1)
            for id_ in random.sample(ids, 5)
        ]
        results = await asyncio.gather(*writers)
        assert len(results) == 20
        assert sum(result.first for result in results) == told.count(True) == 5
        page = await one.events.find(EVERYTHING)
        assert sorted((found.id, found.revision) for found in page.events) == [(id_, 1) for id_ in ids]


async def test_nobody_takes_over_another_cameras_event(store: Store) -> None:
    await store.events.store(event("a", camera="default.door"))
    result = await store.events.store(event("a", camera="default.hall", revision=9))
    assert not result.stored and "another camera" in result.refused
    found = await store.events.get("a")
    assert found is not None and (found.camera, found.revision) == ("default.door", 0)


async def test_two_cameras_with_one_id_at_the_same_moment_are_not_mixed_up(store: Store) -> None:
    await store.events.store(event("b", camera="default.hall"))
    told = [
        ("a", "default.door", 0, JPEG),
        ("a", "default.hall", 3, b""),
        ("a", "default.door", 1, b""),
        ("b", "default.door", 1, JPEG),
        ("b", "default.hall", 2, b""),
    ]
    results = await asyncio.gather(
        *(
            store.events.store(event(id_, camera=camera, revision=revision), crop=crop)
            for id_, camera, revision, crop in told
        )
    )
    refused = ["another camera" in result.refused for result in results]
    assert refused == [False, True, False, True, False]
    assert [result.stored for result in results] == [True, False, False, False, True]
    found = await store.events.get_many(["a", "b"])
    assert (found["a"].camera, found["a"].revision) == ("default.door", 1)
    assert (found["b"].camera, found["b"].revision, found["b"].crop_url) == ("default.hall", 2, None)
    assert await store.events.picture("a", "crop") == JPEG


async def test_pictures_and_vector_stay_until_they_are_told_anew(store: Store) -> None:
    vectors: list[bytes] = []
    store.events.on_vector(lambda _, vector: vectors.append(vector))
    await store.events.store(appearance("a"), crop=JPEG, scene=OTHER_JPEG, embedding=VECTOR, embedder="m@1")
    await store.events.store(appearance("a", revision=1), crop=OTHER_JPEG)
    found = await store.events.get("a")
    assert found is not None
    assert (found.crop_url, found.scene_url) == ("/api/events/a/crop.jpg", "/api/events/a/scene.jpg")
    assert await store.events.picture("a", "crop") == OTHER_JPEG
    assert await store.events.picture("a", "scene") == OTHER_JPEG
    assert await store.events.vector("a") == ("m@1", VECTOR)
    assert vectors == [VECTOR]
    async with store.database.reading() as session:
        row = (await session.execute(text("SELECT picture_bytes, embedding FROM events"))).one()
    assert row.picture_bytes == 2 * len(OTHER_JPEG)
    assert VECTOR not in bytes(row.embedding), "vectors are sealed"
    assert [(view.id, vector) for view, vector in await store.events.vectors(embedder="m@1")] == [
        ("a", VECTOR)
    ]
    assert await store.events.vectors(embedder="m@2") == []
    await store.events.store(appearance("b"), crop=b"GIF89a")
    assert await store.events.picture("b", "crop") is None, "only JPEG is kept"


async def test_what_databases_dislike_is_stored_all_the_same(store: Store, tmp_path: Path) -> None:
    strange = event(
        "../../../etc/\U0001f600 \x01'\"",
        time=1e300,
        order=1 << 63,
        message="NUL \0 and ' and \U0001f600",
        data={"x": float("nan"), "y": [float("inf"), "\0"], "ended": True, "zones": "no list", "person": 7},
    )
    result = await store.events.store(strange, crop=JPEG)
    assert result.first
    found = await store.events.get(strange.id)
    assert found is not None
    assert found.data == {"x": None, "y": [None, ""], "ended": True, "zones": "no list", "person": 7}
    assert found.message == "NUL  and ' and \U0001f600"
    assert await store.events.picture(strange.id, "crop") == JPEG
    [path] = files(tmp_path)
    assert path.parent == tmp_path / "pictures/9999/12/31"
    assert await ids(store) == [strange.id]


@pytest.mark.parametrize("ended", [True, "1", None, 10**400, float("nan")])
def test_what_is_no_time_ends_nothing(ended: object) -> None:
    assert row_of(Incoming(event("a", data={"ended": ended})), now=NOW)["ended"] is None


async def test_pages_hold_every_event_once_newest_first_while_more_come(store: Store) -> None:
    times = [NOW + number // 4 for number in range(50)]  # several of the same time
    await asyncio.gather(*(store.events.store(event(f"e{n:02}", time=time)) for n, time in enumerate(times)))
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.events.find(EVERYTHING, cursor, 7)
        seen += [found.id for found in page.events]
        await store.events.store(event(f"new{len(seen)}", time=NOW + 100))
        if page.next_cursor is None:
            break
        cursor = Cursor.decode(page.next_cursor)
    assert seen == [f"e{n:02}" for n in sorted(range(50), key=lambda n: (-times[n], -n))]


@pytest.mark.parametrize(
    "text", ["", "x", "WzFd", "WyJhIiwiYiJd", "W05hTiwiYSJd", "WzEuMCwiXHVkODAwIl0", "é", "A" * 500]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no cursor"):
        Cursor.decode(text)


async def test_filters_find_and_pass_the_same_events(store: Store) -> None:
    everything = [
        appearance("anna", person=ANNA),
        appearance("stranger", time=NOW + 1, data={"zones": [{"name": "hall_%", "seconds": 1}]}),
        appearance("car", time=NOW + 2, data={"kind": "object", "label": "car", "identity": "none"}),
        event("moved", time=NOW + 3, camera="default.hall"),
        event(
            "alert", time=NOW + 4, type="alert", severity="critical", data={"zone": "yard", "person": ANNA}
        ),
    ]
    for record in everything:
        await store.events.store(record)
    views = await store.events.get_many([record.id for record in everything])
    table: list[tuple[dict[str, object], list[str]]] = [
        ({}, ["alert", "moved", "car", "stranger", "anna"]),
        ({"camera": "default.hall"}, ["moved"]),
        ({"type": "motion,alert"}, ["alert", "moved"]),
        ({"kind": "face"}, ["stranger", "anna"]),
        ({"label": "car"}, ["car"]),
        ({"person": ANNA["id"]}, ["alert", "anna"]),
        ({"identity": "unknown"}, ["stranger"]),
        ({"zone": "hall"}, ["car", "anna"]),
        ({"zone": "hall_%"}, ["stranger"]),
        ({"zone": "all"}, []),
        ({"severity": "warning,critical"}, ["alert"]),
        ({"since": NOW + 1, "until": NOW + 3}, ["car", "stranger"]),
        ({"type": "appearance", "zone": "hall", "person": ANNA["id"]}, ["anna"]),
        ({"camera": "' OR 1=1 --"}, []),
    ]
    for wanted, expected in table:
        assert await ids(store, **wanted) == expected, wanted
        wants = EventFilter(**wanted)  # type: ignore[arg-type]
        assert {id_ for id_, view in views.items() if wants.passes(view)} == set(expected), wanted


async def test_a_hook_that_fails_in_the_transaction_takes_the_event_with_it(store: Store) -> None:
    told: list[str] = []
    store.events.on_stored(lambda seen, _: told.append(seen.id))
    failing = [True]

    async def hook(session: object, stored: object) -> None:
        if failing:
            raise UnavailableError("not now")

    store.events.in_transaction(hook)
    with pytest.raises(UnavailableError):
        await store.events.store(event("a"))
    assert (await rows(store), told) == (0, [])
    failing.clear()
    assert (await store.events.store(event("a"))).first
    assert told == ["a"]


async def test_a_commit_whose_answer_got_lost_is_told_when_the_event_comes_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.ext.asyncio import AsyncSession

    told: list[tuple[str, bool]] = []
    store.events.on_stored(lambda seen, first: told.append((seen.id, first)))
    commit = AsyncSession.commit

    async def loses_the_answer(session: AsyncSession) -> None:
        await commit(session)
        raise TimeoutError

    monkeypatch.setattr(AsyncSession, "commit", loses_the_answer)
    with pytest.raises(UnavailableError):
        await store.events.store(event("a"))
    monkeypatch.undo()
    assert (await rows(store), told) == (1, [])
    results = [await store.events.store(event("a")) for _ in range(2)]
    assert [result.first for result in results] == [True, False]
    assert told == [("a", True)]


async def test_who_is_erased_is_taken_out_of_events_and_later_ones_say_nothing_of_them(
    store: Store, tmp_path: Path
) -> None:
    await store.events.store(
        appearance("a", person=ANNA), crop=JPEG, scene=JPEG, embedding=VECTOR, embedder="m@1"
    )
    await store.events.store(
        event("alert", type="alert", data={"person": ANNA}, message="Anna Muster in zone")
    )
    await store.events.store(appearance("other"), crop=JPEG)
    async with store.database.session() as session:
        erased = await store.events.erase_person(session, ANNA["id"])
        session.add(RemovedPerson(id=ANNA["id"], version=1, removed=NOW))
    assert (sorted(erased.ids), erased.vectors, erased.pictures) == (["a", "alert"], 1, (("a", NOW),))
    assert store.events.remove_pictures(erased.pictures) == 2
    # The worker has not heard of it yet.
    await store.events.store(
        appearance("a", person=ANNA, revision=1), crop=JPEG, embedding=VECTOR, embedder="m"
    )
    await store.events.store(appearance("b", person=ANNA), crop=JPEG, embedding=VECTOR, embedder="m")
    # And now it has: it tells of the same face as of somebody unknown.
    for id_ in ("a", "b"):
        late = appearance(id_, revision=2, message="somebody unknown was here", data={"ended": NOW + 9})
        await store.events.store(late, crop=JPEG, scene=JPEG, embedding=VECTOR, embedder="m")
    for id_ in ("a", "b"):
        found = await store.events.get(id_)
        assert found is not None
        assert (found.person, found.identity, found.crop_url, found.message) == (
            None, "unknown", None, "somebody is at the door",
        )  # fmt: skip
        corrected = 1 if id_ == "a" else 0
        assert (found.revision, found.ended, found.scene_url) == (2 + corrected, NOW + 9, None)
        assert await store.events.vector(id_) is None
    assert len(files(tmp_path)) == 1, "that of the other"
    async with store.database.reading() as session:
        for row in (await session.execute(text("SELECT * FROM events"))).mappings():
            assert "Anna" not in str(dict(row)) and ANNA["id"] not in str(dict(row))
    await store.database.checkpoint()
    if store.database.sqlite:
        for path in files(tmp_path, "camfleet.db*"):
            assert b"Anna" not in path.read_bytes(), "what was deleted is overwritten"


async def test_what_somebody_has_decided_outlives_later_revisions(store: Store) -> None:
    await store.events.store(appearance("a"))
    async with store.database.session() as session:
        await session.execute(
            text("UPDATE events SET decided = true, person_id = 'p-bob', identity = 'known'")
        )
    await store.events.store(appearance("a", person=ANNA, revision=1, data={"pictures": 5}))
    found = await store.events.get("a")
    assert found is not None and found.person is not None
    assert (found.person.id, found.identity, found.data["pictures"]) == ("p-bob", "known", 5)


async def test_deleting_takes_pictures_and_vectors_along_or_does_not_happen(
    store: Store, tmp_path: Path
) -> None:
    await store.events.store(appearance("a"), crop=JPEG)
    await store.events.store(appearance("b"), crop=JPEG)
    asked: list[list[str]] = []
    index_is_away = [True]

    async def hook(gone: object) -> None:
        asked.append(list(gone))  # type: ignore[call-overload]
        if index_is_away:
            raise UnavailableError("the index is away")

    store.events.on_delete(hook)
    principal = Principal("alice", Role.ADMIN)

    async def delete() -> None:
        async with store.database.session() as session:
            assert await store.events.delete(session, ["a", "nothing"]) == 1
            store.audit.add(session, principal, "event.delete", "a")

    with pytest.raises(UnavailableError):
        await delete()
    assert await ids(store) == ["b", "a"]
    assert (await store.audit.find(limit=10)).entries == ()
    index_is_away.clear()
    await delete()
    assert asked == [["a"], ["a"]]
    assert await ids(store) == ["b"]
    assert len(files(tmp_path)) == 1
    [entry] = (await store.audit.find(limit=10)).entries
    assert (entry.actor, entry.role, entry.action, entry.subject) == ("alice", "admin", "event.delete", "a")


async def test_the_audit_log_is_read_in_pages(store: Store) -> None:
    async with store.database.session() as session:
        for number in range(5):
            store.audit.add(session, Principal("bob", Role.OPERATOR), "person.create", f"p{number % 2}")
    page = await store.audit.find(limit=3)
    rest = await store.audit.find(limit=3, before=page.next_before)
    assert [entry.subject for entry in (*page.entries, *rest.entries)] == ["p0", "p1", "p0", "p1", "p0"]
    assert rest.next_before is None
    assert len((await store.audit.find(limit=9, subject="p1")).entries) == 2
