"""What people say of events, and how somebody is erased: a real database and files, faces made of numbers."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people_site import ADMIN, DIMENSIONS, EMBEDDER, JPEG, Site, direction, face, near, site
from sqlalchemy import select

from camfleet_gateway.people.exporting import export
from camfleet_gateway.people.problems import RefusedError
from camfleet_gateway.people.views import EventPerson, PersonPatch
from camfleet_gateway.store.tables import Alert, Delivery, Event, Table
from camfleet_protocol.gallery import decode_part
from camfleet_protocol.messages import EventRecord
from camfleet_protocol.wire import parse_frame
from camfleet_worker.recognition.gallery import GalleryStore

BOB, ALICE = direction(1), direction(2)
Options = dict[str, Any]


@pytest.fixture(params=["sqlite", "postgresql"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Options:
    """A folder for pictures, and a database of either kind."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").database()
    return {"folder": tmp_path, "database_url": url}


async def rows_of(here: Site, *, without: tuple[str, ...] = ()) -> dict[str, list[dict[str, Any]]]:
    """The whole database, as text would show it."""
    found: dict[str, list[dict[str, Any]]] = {}
    async with here.store.database.reading() as session:
        for table in Table.metadata.sorted_tables:
            if table.name not in without:
                found[table.name] = [dict(row) for row in (await session.execute(select(table))).mappings()]
    return found


def text_of(rows: object) -> str:
    return json.dumps(rows, default=str)


def pictures(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")]


def database_files(folder: Path) -> list[bytes]:
    """SQLite's file and its log, as they lie on the disk."""
    return [path.read_bytes() for path in folder.glob("camfleet.db*")]


async def audited(here: Site, action: str) -> list[dict[str, Any]]:
    rows = (await rows_of(here))["audit"]
    return [row for row in rows if row["action"] == action]


async def worker_of(here: Site, store: GalleryStore | None = None) -> GalleryStore:
    """A worker's gallery, brought up to date as its socket would."""
    if store is None:
        store = GalleryStore()
        store.use(EMBEDDER, DIMENSIONS)
    for message in await here.people.gallery.messages(EMBEDDER, store.version(EMBEDDER)):
        store.apply(decode_part(parse_frame(message)))
    return store


def best(store: GalleryStore, row: Any) -> tuple[str, float]:
    assert store.current is not None
    found = store.current.match(np.asarray(row)[None, :], now=time.time()).best
    return (found.name, found.similarity) if found is not None else ("", -1.0)


async def test_this_is_somebody_new(options: Options) -> None:
    async with site(**options) as here:
        await here.event("e1", BOB)
        told: list[Any] = []
        here.store.events.on_stored(
            lambda view, first: told.append((view.id, view.person, view.revision, first))
        )
        said = await here.people.from_events.say(
            "e1", EventPerson(name="Bob", group="visitor"), ADMIN, force=False
        )
        assert said.event.person is not None and said.event.person.name == "Bob"
        assert (said.event.identity, "Bob" in said.event.message, said.reason) == ("known", True, "")
        assert told == [("e1", said.event.person, 1, False)], "live viewers hear of it"
        (row,) = (await rows_of(here))["faces"]
        assert (row["source"], row["event_id"], row["negative"]) == ("event", "e1", False)
        assert here.store.snapshots.read_face(said.person_id, row["id"]) == JPEG + b"e1"
        worker = await worker_of(here)
        assert best(worker, near(BOB, 0.8))[0] == "Bob"

        # Its worker tells more of the same appearance: what was said stays.
        record = {"id": "e1", "time": 1.0, "camera": "default.door", "type": "appearance", "revision": 7}
        data = {"kind": "face", "label": "face", "identity": "unknown", "ended": 1_700_000_009.0}
        await here.store.events.store(EventRecord.model_validate({**record, "data": data}))
        view = await here.store.events.get("e1")
        assert view is not None and view.person == said.event.person and view.ended == 1_700_000_009.0
        (entry,) = await audited(here, "event.identify")
        assert entry["subject"] == "e1" and "Bob" not in text_of(entry)

        again = await here.people.from_events.say(
            "e1", EventPerson(person_id=said.person_id), ADMIN, force=False
        )
        assert again.face is None and again.reason == "Duplicate"
        assert [each[2] for each in told] == [1, 8], "what was said already is no correction"


async def test_this_is_somebody_else(options: Options) -> None:
    """Taken for Bob, said to be Alice: she is enrolled with it, and to Bob it is a face that is not his."""
    async with site(**options) as here:
        bob = await here.person("Bob", BOB)
        alice = await here.person("Alice", ALICE)
        seen = near(BOB, 0.6)
        await here.event("e1", seen, person=bob)
        worker = await worker_of(here)
        assert best(worker, seen)[0] == "Bob"
        said = await here.people.from_events.say("e1", EventPerson(person_id=alice.id), ADMIN, force=False)
        assert said.event.person is not None and said.event.person.id == alice.id
        assert "Alice" in said.event.message and "Bob" not in text_of(said.event.data)
        worker = await worker_of(here, worker)
        assert best(worker, seen)[0] == "Alice"
        negatives = [row for row in (await rows_of(here))["faces"] if row["negative"]]
        assert [row["person_id"] for row in negatives] == [bob.id]

        # A third one, who looks like Bob and was taken for nobody: the first answer is a question.
        await here.event("e2", near(BOB, 0.7, seed=5))
        with pytest.raises(RefusedError, match="Bob") as refused:
            await here.people.from_events.say("e2", EventPerson(person_id=alice.id), ADMIN, force=False)
        assert refused.value.code == "LooksLikeSomebodyElse"
        forced = await here.people.from_events.say("e2", EventPerson(person_id=alice.id), ADMIN, force=True)
        assert forced.face is not None


async def test_what_was_said_by_mistake_leaves_nothing_with_the_wrong_person(options: Options) -> None:
    async with site(**options) as here:
        bob = await here.person("Bob", BOB)
        alice = await here.person("Alice", ALICE)
        seen = near(BOB, 0.6)
        await here.event("e1", seen)
        for person in (alice, bob):
            await here.people.from_events.say("e1", EventPerson(person_id=person.id), ADMIN, force=True)

        async def of_event() -> list[tuple[str, bool]]:
            faces = (await rows_of(here))["faces"]
            found = [(row["person_id"], bool(row["negative"])) for row in faces if row["event_id"] == "e1"]
            return sorted(found, key=lambda face: face[1])

        assert await of_event() == [(bob.id, False), (alice.id, True)]
        assert len([path for path in pictures(options["folder"]) if alice.id in path]) == 1, "her own"
        assert best(await worker_of(here), seen)[0] == "Bob"

        # As a backup of an older gateway may bring it: hers is a face of an event of his.
        old = face(seen, source="event", event_id="e1", digest="2" * 64)
        await here.people.enrolment.add(alice.id, old, ADMIN, force=True)
        counts = await here.people.erasure.erase(bob.id, ADMIN)
        assert counts.faces == 4 and await of_event() == []
        assert len(pictures(options["folder"])) == 1, "her own"


async def test_several_who_say_it_at_once_make_one_person(options: Options) -> None:
    """Two people of one face would leave nobody to be recognised."""
    async with site(**options) as here:
        await here.event("e1", BOB)
        says = (
            here.people.from_events.say("e1", EventPerson(name="Bob"), ADMIN, force=False) for _ in range(3)
        )
        answers = await asyncio.gather(*says, return_exceptions=True)
        refused = [answer.code for answer in answers if isinstance(answer, RefusedError)]
        assert refused == ["AlreadySaid"] * 2
        rows = await rows_of(here)
        assert len(rows["people"]) == len(rows["faces"]) == 1


async def test_a_short_name_is_replaced_only_where_it_stands(options: Options) -> None:
    async with site(**options) as here:
        al = await here.person("al")
        carl = await here.person(r"Carl \1")
        await here.event("e1", BOB, person=al, message="al appeared in the hall")
        said = await here.people.from_events.say("e1", EventPerson(person_id=carl.id), ADMIN, force=True)
        assert said.event.message == r"Carl \1 appeared in the hall"


async def test_not_this_person(options: Options) -> None:
    async with site(**options) as here:
        bob = await here.person("Bob", BOB)
        seen = near(BOB, 0.6)
        await here.event("e1", seen, person=bob)
        said = await here.people.from_events.say("e1", EventPerson(not_person_id=bob.id), ADMIN, force=False)
        assert said.event.person is None and said.event.identity == "unknown"
        assert "Bob" not in text_of(said.event.model_dump())
        worker = await worker_of(here)
        assert best(worker, seen)[0] == "", "as near to a face that is not his"
        assert best(worker, BOB)[0] == "Bob"
        # And back: what was said before is taken back.
        await here.people.from_events.say("e1", EventPerson(person_id=bob.id), ADMIN, force=False)
        faces = (await rows_of(here))["faces"]
        assert sorted(row["negative"] for row in faces) == [False, False]
        for wanted, code in (
            (("e9", EventPerson(person_id=bob.id)), "unknown_event"),
            (("e1", EventPerson(person_id="nobody")), "unknown_person"),
        ):
            with pytest.raises(RefusedError) as refused:
                await here.people.from_events.say(*wanted, ADMIN, force=False)
            assert refused.value.code == code
        await here.event("e3")
        with pytest.raises(RefusedError) as refused:
            await here.people.from_events.say("e3", EventPerson(person_id=bob.id), ADMIN, force=False)
        assert refused.value.code == "NoFace"


async def test_erased_everywhere(options: Options, tmp_path: Path) -> None:
    """Nothing of theirs in database, vectors, files, workers' galleries, exports; the audit row remains."""
    name = "Zebedee O'Neill"
    async with site(**options) as here:
        gone = await here.person(name, BOB, near(BOB, 0.8), external_id="badge-4711", note="drives a zebra")
        stays = await here.person("Alice", ALICE)
        await here.event("e1", near(BOB, 0.7), person=gone)
        await here.event("e2", near(BOB, 0.72, seed=2), person=gone, revision=3)
        alert = {"rule": "door", "when": "BlockedPerson", "event_id": "e1"}
        await here.event(
            "al-1",
            type="alert",
            person=gone,
            message=f"door: {name}",
            data=alert | {"person": {"id": gone.id, "name": name}},
        )
        await here.event("e3", near(ALICE, 0.7), person=stays)
        # Somebody said of one of these faces that it is not Alice: it is kept as a negative of hers.
        await here.people.enrolment.add(
            stays.id, face(near(BOB, 0.7), negative=True, event_id="e1", source="event"), ADMIN, force=True
        )
        unseen = face(near(BOB, 0.75, seed=9), negative=True, digest="0" * 64)
        await here.people.enrolment.add(stays.id, unseen, ADMIN, force=True)
        other = face(direction(77), negative=True, digest="1" * 64)
        await here.people.enrolment.add(stays.id, other, ADMIN, force=True)
        async with here.store.database.session() as session:
            session.add(
                Alert(
                    id="al-1",
                    time=1.0,
                    camera="default.door",
                    rule="door",
                    severity="warning",
                    message=f"door: {name}",
                    event_id="e1",
                )
            )
            for number, body in enumerate(
                (f'{{"id": "e1", "name": "{name}"}}', f'{{"person": "{gone.id}"}}')
            ):
                session.add(
                    Delivery(
                        id=f"d{number}",
                        webhook="w",
                        event_id=f"e{number + 1}",
                        body=body,
                        created=1.0,
                        due=1.0,
                    )
                )
        worker = await worker_of(here)
        assert best(worker, BOB)[0] == name
        assert gone.id in text_of(await rows_of(here)) and len(pictures(tmp_path)) == 9

        told: dict[str, Any] = {}
        here.store.events.on_stored(lambda view, first: told.update({view.id: (view.person, first)}))
        counts = await here.people.erasure.erase(gone.id, ADMIN)
        nobody = dict.fromkeys(("e1", "e2", "al-1"), (None, False))
        assert told == nobody, "pages that are open show it, too"
        assert (counts.faces, counts.events, counts.pictures, counts.vectors) == (4, 3, 6, 6), counts
        rows = await rows_of(here, without=("audit", "removed_people"))
        for trace in (name, "Zebedee", gone.id, "badge-4711", "zebra"):
            assert trace not in text_of(rows), trace
        assert rows["deliveries"] == []
        kept = [row["digest"][:1] for row in rows["faces"] if row["negative"]]
        assert kept == ["1"], "also a face of theirs that nobody had named"
        events = {row["id"]: row for row in rows["events"]}
        for event_id in ("e1", "e2"):
            event = events[event_id]
            assert event["embedding"] is None and not event["crop"] and event["person_id"] is None
        assert events["e3"]["person_id"] == stays.id and events["e3"]["embedding"] is not None
        assert sorted(here.deleted) == ["al-1", "e1", "e2"], "the index of vectors forgets them"
        left = pictures(tmp_path)
        traces = (gone.id, "/e1.", "/e2.")
        assert len(left) == 3 and not any(trace in path for path in left for trace in traces)
        for content in database_files(tmp_path):
            assert name.encode() not in content and b"badge-4711" not in content

        worker = await worker_of(here, worker)
        assert worker.current is not None and gone.id not in worker.current and best(worker, BOB)[0] != name
        assert best(worker, ALICE)[0] == "Alice"
        made = await export(here.people.kit, ADMIN)
        content = made.path.read_bytes()
        assert gone.id.encode() not in content and stays.id.encode() in content
        (entry,) = await audited(here, "person.erase")
        assert entry["subject"] == gone.id and name not in text_of(await rows_of(here))
        assert entry["detail"] == counts.model_dump() and entry["actor"] == ADMIN.name

        # A worker that has not heard of it yet tells of them once more.
        late = await here.event("e4", near(BOB, 0.7), person=gone)
        assert late.person is None and name not in text_of(await rows_of(here))
        with pytest.raises(RefusedError):
            await here.people.erasure.erase(gone.id, ADMIN)


async def test_what_was_said_of_somebody_erased_brings_nothing_of_them_back(options: Options) -> None:
    """By hand the event was given to them; its worker, who knows nothing of that, tells more of it."""
    async with site(**options) as here:
        gone = await here.person("Bob", BOB)
        await here.event("e1", near(BOB, 0.8))
        await here.people.from_events.say("e1", EventPerson(person_id=gone.id), ADMIN, force=True)
        await here.people.erasure.erase(gone.id, ADMIN)
        vectors: list[bytes] = []
        here.store.events.on_vector(lambda _, vector: vectors.append(vector))
        late = await here.event("e1", near(BOB, 0.8), revision=5)
        assert (late.revision, late.person, late.crop_url, late.embedder) == (5 + 2, None, None, "")
        assert not pictures(options["folder"]) and vectors == []


async def test_what_was_being_stored_is_found_afterwards(options: Options, tmp_path: Path) -> None:
    """On PostgreSQL an event may be in another transaction while somebody is erased."""
    async with site(**options) as here:
        gone = await here.person("Bob", BOB)
        await here.people.erasure.erase(gone.id, ADMIN)
        await here.event("e1", near(BOB, 0.7))
        async with here.store.database.session() as session:
            event = await session.get(Event, "e1")
            assert event is not None
            event.person_id, event.data = gone.id, {"person": {"id": gone.id, "name": "Bob"}}
        assert await here.people.erasure.sweep() == 1
        view = await here.store.events.get("e1")
        assert view is not None and view.person is None and view.crop_url is None
        assert not pictures(tmp_path) and here.deleted == ["e1"]


async def test_embedded_anew_where_no_model_is(options: Options) -> None:
    """Without weights it says so, and nothing has changed."""
    async with site(**options) as here:
        await here.person("Bob", BOB)
        here.people.faces._ready = None
        with pytest.raises(RefusedError) as refused:
            await here.people.reembedding.begin(ADMIN)
        assert (refused.value.code, refused.value.status) == ("ModelMissing", 503)
        assert [row["embedder"] for row in (await rows_of(here))["faces"]] == [EMBEDDER]


async def test_a_backup_comes_back_whole(options: Options, tmp_path: Path) -> None:
    """What an export holds is restored as it was, also where some of it is there already."""
    async with site(tmp_path / "source") as source:
        for number in range(60):
            person = await source.person(
                f"Person {number}", direction(number), external_id=f"no-{number}", valid_from=float(number)
            )
        away = face(direction(900), negative=True, source="event", event_id="e1")
        await source.people.enrolment.add(person.id, away, ADMIN, force=True)
        made = await export(source.people.kit, ADMIN)
        wanted = await rows_of(source)
    async with site(**options) as here:
        report = await here.people.importer.run(made.path, ADMIN, group="", force=False)
        assert (report.created, report.faces_added, report.refused) == (60, 61, 0)
        sealed = {"embedding", "version"}
        for table in ("people", "faces"):
            assert plain((await rows_of(here))[table], sealed) == plain(wanted[table], sealed)
        found = here.people.known.index(EMBEDDER, DIMENSIONS).nearest(direction(7))
        assert found is not None and found.similarity > 0.999
        await here.people.erasure.erase(found.person_id, ADMIN)
        await here.people.persons.change(person.id, PersonPatch(note="changed", external_id=None), ADMIN)
        await here.person("Newcomer", external_id="no-59")
        again = await here.people.importer.run(made.path, ADMIN, group="", force=False)
        assert (again.unchanged, again.refused, again.faces_added) == (58, 2, 0)
        assert {row.code for row in again.rows if row.code} == {"Erased", "ExternalIdTaken"}


async def test_a_backup_brings_back_nothing_that_shows_somebody_erased_since(options: Options) -> None:
    async with site(**options) as here:
        gone, stays = await here.person("Bob", BOB), await here.person("Alice", ALICE)
        negative = face(near(BOB, 0.8), negative=True, digest="1" * 64)
        await here.people.enrolment.add(stays.id, negative, ADMIN, force=True)
        made = await export(here.people.kit, ADMIN)
        await here.people.erasure.erase(gone.id, ADMIN)
        kept = face(direction(7), negative=True, digest="2" * 64)
        await here.people.enrolment.add(stays.id, kept, ADMIN, force=True)
        report = await here.people.importer.run(made.path, ADMIN, group="", force=False)
        assert (report.created, report.faces_added) == (0, 0)
        digests = {row["digest"][:1] for row in (await rows_of(here))["faces"] if row["negative"]}
        assert digests == {"2"}


def plain(rows: list[dict[str, Any]], without: set[str]) -> list[dict[str, Any]]:
    """Rows by id, without what differs by nature."""
    kept = [{name: value for name, value in row.items() if name not in without} for row in rows]
    return sorted(kept, key=lambda row: str(row["id"]))
