"""The gallery for workers: versions, changes, and ten thousand people."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from gateway_clients import eventually
from people_site import ADMIN, DIMENSIONS, EMBEDDER, Site, direction, face, near, site
from sqlalchemy import insert, select

from camfleet_gateway.people.embeddings import from_bytes, representatives, to_bytes
from camfleet_gateway.people.face_index import FaceIndex
from camfleet_gateway.people.gallery_parts import MANY_PEOPLE
from camfleet_gateway.people.known import bump, face_context
from camfleet_gateway.people.views import PersonPatch
from camfleet_gateway.store.tables import Face, Person
from camfleet_protocol.gallery import GalleryPerson, GalleryUpdate, decode_part
from camfleet_protocol.wire import parse_frame


def decoded(messages: tuple[bytes, ...]) -> list[GalleryUpdate]:
    updates = [decode_part(parse_frame(message)) for message in messages]
    assert [update.part.part for update in updates] == list(range(len(updates)))
    assert {update.part.parts for update in updates} == {len(updates)}
    assert len({(update.version, update.part.base) for update in updates}) == 1
    return updates


def people_of(updates: list[GalleryUpdate]) -> dict[str, GalleryPerson]:
    return {person.id: person for update in updates for person in update.part.people}


def rows_of(update: GalleryUpdate) -> np.ndarray:
    return np.frombuffer(update.vectors, "<f2").reshape(-1, update.part.dimensions).astype(np.float32)


async def test_an_empty_gallery_is_a_gallery(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        gallery = here.people.gallery
        assert gallery.version(EMBEDDER) == 1, "0 would mean that a worker has none"
        (update,) = decoded(await gallery.messages(EMBEDDER, 0))
        assert (update.version, update.part.base, update.part.people) == (1, 0, ())


async def test_changes_and_removals_lead_from_one_version_to_the_next(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        gallery, told = here.people.gallery, []
        gallery.on_change(lambda: told.append(gallery.version(EMBEDDER)))
        people = [await here.person(f"Person {n}", direction(n), near(direction(n), 0.7)) for n in range(6)]
        base = gallery.version(EMBEDDER)
        assert told == sorted(set(told)) and told[-1] == base
        whole = decoded(await gallery.messages(EMBEDDER, 0))
        assert people_of(whole).keys() == {person.id for person in people}
        rows = rows_of(whole[0])
        assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=2e-3)

        patch = PersonPatch(group="blocked", valid_until=4e9)
        await here.people.persons.change(people[0].id, patch, ADMIN)
        await here.people.erasure.erase(people[1].id, ADMIN)
        (change,) = decoded(await gallery.messages(EMBEDDER, base))
        assert change.part.base == base and change.version == gallery.version(EMBEDDER) > base
        assert change.part.removed == (people[1].id,)
        (changed,) = change.part.people
        assert (changed.id, changed.group, changed.valid_until) == (people[0].id, "blocked", 4e9)
        assert (changed.rows, changed.negatives) == (3, 0), "the middle of both faces, and both"

        await here.people.persons.change(people[0].id, PersonPatch(note="likes tea"), ADMIN)
        assert gallery.version(EMBEDDER) == change.version, "workers need not hear of that"
        (from_the_future,) = decoded(await gallery.messages(EMBEDDER, change.version + 5))
        assert from_the_future.part.base == 0, "the database was restored from a backup"
        assert len(from_the_future.part.people) == 5
        (never,) = decoded(await gallery.messages(EMBEDDER, 12345))
        assert never.part.base == 0, "a version that this database never had"


async def test_who_has_no_face_is_no_workers_business(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        gallery = here.people.gallery
        people = [await here.person(f"Person {n}", direction(n)) for n in range(5)]
        await here.person("Zebedee")
        messages = await gallery.messages(EMBEDDER, 0)
        assert people_of(decoded(messages)).keys() == {person.id for person in people}
        assert not any(b"Zebedee" in message for message in messages)
        base = gallery.version(EMBEDDER)
        async with here.store.database.reading() as session:
            (of_first,) = (await session.scalars(select(Face.id).where(Face.person_id == people[0].id))).all()
        await here.people.enrolment.remove(people[0].id, of_first, ADMIN)
        (change,) = decoded(await gallery.messages(EMBEDDER, base))
        assert (change.part.base, change.part.people, change.part.removed) == (base, (), (people[0].id,))


async def test_the_same_bytes_for_all_workers_and_none_of_another_model(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        person = await here.person("Ann", direction(1))
        await here.people.enrolment.add(person.id, face(direction(2), embedder="other@1"), ADMIN, force=True)
        gallery = here.people.gallery
        first, second = await gallery.messages(EMBEDDER, 0), await gallery.messages(EMBEDDER, 0)
        assert all(a is b for a, b in zip(first, second, strict=True))
        assert people_of(decoded(first))[person.id].rows == 1
        assert gallery.needs_reembedding(EMBEDDER) == 1
        other = face(direction(3), embedder="other@000000000000", negative=True, digest="3" * 64)
        await here.people.enrolment.add(person.id, other, ADMIN, force=True)
        assert gallery.needs_reembedding(EMBEDDER) == 1, "of a face that is not theirs no picture is kept"
        assert await gallery.messages("third@2", 0) == (), "no such model here: not served"


async def test_one_face_of_a_wrong_length_takes_the_gallery_from_nobody(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        short = direction(1)[: DIMENSIONS // 2] / np.linalg.norm(direction(1)[: DIMENSIONS // 2])
        for model in (EMBEDDER, "other@1"):
            for number, vector in enumerate((short, direction(2), direction(3))):
                person = await here.person(f"{model} {number}")
                await here.people.enrolment.add(person.id, face(vector, embedder=model), ADMIN, force=True)
            updates = decoded(await here.people.gallery.messages(model, 0))
            assert {update.part.dimensions for update in updates} == {DIMENSIONS}
            assert len(people_of(updates)) == 2


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_another_replica_hears_of_it(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Two gateways on one database; the second looks by itself."""
    url = None if kind == "sqlite" else request.getfixturevalue("postgres").database()
    async with (
        site(tmp_path, database_url=url) as here,
        site(tmp_path, database_url=url) as there,
    ):
        heard = asyncio.Event()
        there.people.gallery.on_change(heard.set)
        person = await here.person("Ann", direction(1))
        await asyncio.wait_for(heard.wait(), 15)
        await eventually(
            lambda: there.people.gallery.version(EMBEDDER) == here.people.gallery.version(EMBEDDER),
            "the version of the other one",
        )
        assert person.id in there.people.known.people
        found = there.people.known.index(EMBEDDER, DIMENSIONS).nearest(direction(1))
        assert found is not None and found.person_id == person.id


async def test_a_lost_database_gives_no_number_twice(tmp_path: Path) -> None:
    """Versions follow the clock: a database that begins anew, or goes back, passes all that workers have."""
    versions = []
    for folder in ("one", "two"):
        async with site(tmp_path / folder) as here:
            await here.person("Ann", direction(1))
            versions.append(here.people.gallery.version(EMBEDDER))
    assert min(versions) > time.time() - 600 and versions[1] != 1


def test_rows_that_stand_for_all() -> None:
    base = direction(1)
    rows = np.stack([near(base, s, n) for n, s in enumerate((0.99, 0.98, 0.97, 0.5, 0.6, 0.95))])
    chosen = representatives(rows, 3)
    assert len(chosen) == 3
    assert np.allclose(chosen[0], rows.mean(0) / np.linalg.norm(rows.mean(0)), atol=1e-5)
    assert np.array_equal(chosen[1], rows[3]), "the least alike says most"
    assert np.array_equal(chosen[2], rows[4])
    assert len(representatives(rows[:1], 5)) == 1
    opposite = np.stack([base, -base])
    assert np.isfinite(representatives(opposite, 5)).all()


def test_the_index_replaces_and_forgets() -> None:
    rows = {f"p{n}": np.stack([direction(n), near(direction(n), 0.8)]) for n in range(200)}
    index = FaceIndex.of(list(rows.items())[:100], DIMENSIONS)
    for person, faces in list(rows.items())[50:]:
        index.put(person, faces)
    found = index.nearest(direction(7))
    assert found is not None and found.person_id == "p7" and found.similarity > 0.999
    without = index.nearest(direction(7), without=["p7"])
    assert without is not None and without.similarity < 0.6
    index.put("p7", direction(500)[None, :])
    again = index.nearest(direction(7))
    assert again is not None and again.similarity < 0.6
    index.put("p7", np.empty((0, DIMENSIONS), np.float32))
    assert len(index) == 398 and index.nearest(direction(500), only="p7") is None


@pytest.mark.timeout(120)
async def test_ten_thousand_people(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await many(here, 10_000, faces=3)
        started = time.perf_counter()
        await here.people.gallery.refresh()
        loaded = time.perf_counter()
        messages = await here.people.gallery.messages(EMBEDDER, 0)
        built = time.perf_counter()
        updates = decoded(messages)
        people = people_of(updates)
        assert len(people) == 10_000 > MANY_PEOPLE
        assert {person.rows for person in people.values()} == {2}
        assert max(map(len, messages)) < 600 * 1024, "acknowledgements of pictures wait behind each of them"
        vectors = sum(len(update.vectors) for update in updates)
        assert vectors * 2 < 50 * 1024 * 1024, "as float32 in the worker"
        base = here.people.gallery.version(EMBEDDER)
        await here.person("One more", direction(1))
        begun = time.perf_counter()
        (change,) = decoded(await here.people.gallery.messages(EMBEDDER, base))
        told = time.perf_counter()
        assert len(change.part.people) == 1
        print(
            f"10,000 people with 3 faces: read {loaded - started:.2f} s, {len(messages)} messages of "
            f"{sum(map(len, messages)) / 1e6:.1f} MB built in {built - loaded:.2f} s, change of one in "
            f"{(told - begun) * 1e3:.1f} ms ({len(messages[0])} B a message at most)"
        )


async def many(here: Site, count: int, *, faces: int) -> None:
    """Enrol people as quickly as a database takes rows."""
    now = time.time()
    generator = np.random.default_rng(1)
    async with here.store.database.session() as session:
        version = await bump(here.store.database, session, now)
        await session.execute(
            insert(Person),
            [
                {"id": f"p{n}", "name": f"Person {n}", "created": now, "updated": now, "version": version}
                for n in range(count)
            ],
        )
        rows = []
        for n in range(count):
            base = generator.standard_normal(DIMENSIONS)
            for each in range(faces):
                row = base + 0.3 * generator.standard_normal(DIMENSIONS)
                sealed = here.store.sealer.seal(
                    to_bytes((row / np.linalg.norm(row)).astype(np.float32)), face_context(f"f{n}-{each}")
                )
                rows.append(
                    {
                        "id": f"f{n}-{each}",
                        "person_id": f"p{n}",
                        "embedder": EMBEDDER,
                        "embedding": sealed,
                        "created": now + each,
                    }
                )
        await session.execute(insert(Face), rows)


def test_embeddings_are_checked() -> None:
    row = direction(3)
    assert np.allclose(from_bytes(to_bytes(row)), row, atol=1e-3)
    for bad in (b"", b"\0", b"\0" * 256, b"\xff" * 256, b"\0" * 4000):
        with pytest.raises(ValueError, match="not an embedding"):
            from_bytes(bad)
