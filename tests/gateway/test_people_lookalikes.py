"""Erasing somebody finds events that show them without a name: a real database, faces made of numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_clients import eventually
from people_site import ADMIN, EMBEDDER, JPEG, Site, direction, near, site

from camfleet_gateway.people import erasure
from camfleet_gateway.people.embeddings import from_bytes, many_from_bytes, to_bytes
from camfleet_gateway.people.lookalikes import PAGE, Look
from camfleet_gateway.people.problems import RefusedError
from camfleet_gateway.people.views import ErasurePreview, EventPerson
from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.tables import AuditEntry, Delivery, Event
from camfleet_protocol.messages import EventRecord

BOB, ALICE = direction(1), direction(2)
NOBODY = np.empty((0, len(BOB)), np.float32)


@pytest.fixture(params=["sqlite", "postgresql"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """A folder for pictures, and a database of either kind."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").database()
    return {"folder": tmp_path, "database_url": url}


async def has_face(here: Site, event_id: str) -> bool:
    """Whether an event has vector and pictures; all of them or none."""
    view = await here.store.events.get(event_id)
    assert view is not None
    has = {bool(view.embedder), view.crop_url is not None, view.scene_url is not None}
    has.add(await here.store.events.picture(event_id, "crop") is not None)
    assert len(has) == 1, view
    return has.pop()


async def nobody_in(here: Site, *event_ids: str) -> bool:
    """Whether these events have no vector any more; their pictures go before."""
    views = await here.store.events.get_many(event_ids)
    return not any(view.embedder for view in views.values())


async def test_events_that_show_them_without_a_name_go_too(options: dict[str, Any]) -> None:
    async with site(**options) as here:
        gone, stays = await here.person("Bob", BOB), await here.person("Alice", ALICE)
        await here.event("linked", near(BOB, 0.8), person=gone)
        both = BOB * 0.6 + ALICE * 0.75
        alike = {"u1": near(BOB, 0.7, seed=1), "u2": near(BOB, 0.55, seed=2)}
        others = {
            "below": near(BOB, 0.45, seed=3),
            "stranger": direction(55),
            "alice": near(ALICE, 0.7),
            "contested": np.asarray(both / np.linalg.norm(both), np.float32),
            "not-bob": near(BOB, 0.8, seed=4),
            "other-model": near(BOB, 0.8, seed=5),
        }
        for event_id, row in {**alike, **others}.items():
            await here.event(event_id, row)
        await here.event("known", near(BOB, 0.6, seed=6), person=stays)
        refuted = EventPerson(not_person_id=gone.id)
        await here.people.from_events.say("not-bob", refuted, ADMIN, force=False)
        async with here.store.database.session() as session:
            for event_id in ("u1", "stranger"):
                body = {"webhook": "w", "body": "{}", "created": 1.0, "due": 1.0}
                session.add(Delivery(id=event_id, event_id=event_id, **body))
            event = await session.get(Event, "other-model")
            assert event is not None
            event.embedder = "other@ba9876543210"
        erasing = here.people.erasure
        preview = await erasing.preview(gone.id)
        assert preview == ErasurePreview(faces=2, events=1, pictures=3, lookalikes=2, lookalike_pictures=4)
        with pytest.raises(RefusedError):
            await erasing.preview("nobody")

        looks = await erasing._lookalikes.looks(gone.id)
        counts = await erasing.erase(gone.id, ADMIN)
        found = (counts.faces, counts.events, counts.lookalikes, counts.pictures, counts.vectors)
        assert found == (2, 1, 2, 7, 5)
        assert sorted(here.deleted) == ["linked", "u1", "u2"], "the index of vectors forgets them"
        for event_id in ("linked", *alike):
            assert not await has_face(here, event_id), event_id
        for event_id in (*others, "known"):
            assert await has_face(here, event_id), event_id
        async with here.store.database.reading() as session:
            entry = await session.get(AuditEntry, await last_entry(here, "person.erase"))
            assert entry is not None and entry.detail == counts.model_dump()
            assert await session.get(Delivery, "u1") is None
            assert await session.get(Delivery, "stranger") is not None
        # Its worker goes on telling of one; and one was on its way while all that happened.
        again = await here.event("u1", alike["u1"], revision=4)
        assert again.person is None and not await has_face(here, "u1")
        await here.event("late", near(BOB, 0.7, seed=7))

        erasing._again_seconds = 0.0
        await erasing._finish(gone.id, looks, since=0.0)
        assert not await has_face(here, "late")

        counts = await erasing.erase(stays.id, ADMIN, lookalikes=False)
        assert counts.lookalikes is None and counts.events == 1
        assert await has_face(here, "alice") and not await has_face(here, "known")


async def last_entry(here: Site, action: str) -> int:
    page = await here.store.audit.find(subject=None, before=None, limit=20)
    return next(entry.id for entry in page.entries if entry.action == action)


async def test_a_crash_in_the_middle_leaves_nothing_undone(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "BATCH", 2)
    names = [f"u{number}" for number in range(5)]
    async with site(**options) as here:
        gone = await here.person("Bob", BOB)
        for number, event_id in enumerate(names):
            await here.event(event_id, near(BOB, 0.7, seed=number))

        async def away(ids: Sequence[str]) -> None:
            if ids and len(here.deleted) > 2:
                raise UnavailableError("the index is away")

        here.store.events.on_delete(away)
        counts = await here.people.erasure.erase(gone.id, ADMIN)
        assert (counts.lookalikes, counts.pictures) == (5, 11)
        left = [event_id for event_id in names if await has_face(here, event_id)]
        assert len(left) == 3
        # Its worker, who knows of nothing, tells more of one of them.
        await here.event(left[0], near(BOB, 0.7), revision=3)
        assert await has_face(here, left[0])
    async with site(**options) as here:
        await eventually(lambda: nobody_in(here, *names), "all of them without face")
        assert sorted(here.deleted) == sorted(left)
        assert not list(options["folder"].rglob("*.jpg"))
        view = await here.store.events.get(left[0])
        assert view is not None and (view.person, view.identity) == (None, "unknown")


async def test_many_events_are_read_page_by_page(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        gone = await here.person("Bob", BOB)
        basis = {"time": 1.0, "camera": "default.door", "type": "appearance", "data": {"kind": "face"}}
        stored = [
            here.store.events.store(
                EventRecord.model_validate({"id": f"e{number:04}", **basis}),
                embedding=to_bytes(near(BOB, 0.7, seed=number) if number % 100 == 0 else direction(number)),
                embedder=EMBEDDER,
                crop=JPEG if number % 100 == 0 else b"",
            )
            for number in range(2, 2 * PAGE + 3)
        ]
        await asyncio.gather(*stored)
        preview = await here.people.erasure.preview(gone.id)
        assert (preview.lookalikes, preview.lookalike_pictures) == (10, 10)


def test_theirs_is_what_would_be_recognised_as_them() -> None:
    look = Look(own=np.stack([BOB]), never=NOBODY, others=np.stack([ALICE]), threshold=0.5, margin=0.05)
    table = [
        (near(BOB, 0.5001), True),
        (near(BOB, 0.49), False),
        (mixed(0.7, 0.6), True),
        (mixed(0.68, 0.66), False),
        (mixed(0.6, 0.7), False),
    ]
    faces = np.stack([row for row, _ in table] * 20)
    assert look.shown_in(faces).tolist() == [theirs for _, theirs in table] * 20
    seen = mixed(0.7, 0.1)
    refuted = Look(own=look.own, never=np.stack([seen]), others=NOBODY, threshold=0.5, margin=0.05)
    assert refuted.shown_in(np.stack([seen, near(BOB, 0.8, seed=9)])).tolist() == [False, True]
    assert look.shown_in(NOBODY).tolist() == []


def mixed(bob: float, alice: float) -> Any:
    """A face with about these similarities to Bob and Alice, who are hardly alike."""
    row = near(BOB, 1.0)
    other = ALICE - BOB * float(BOB @ ALICE)
    other = other / np.linalg.norm(other)
    along = (alice - bob * float(BOB @ ALICE)) / float(other @ ALICE)
    rest = direction(77)
    rest = rest - BOB * float(rest @ BOB) - other * float(rest @ other)
    rest = rest / np.linalg.norm(rest)
    row = BOB * bob + other * along + rest * np.sqrt(1 - bob**2 - along**2)
    return np.asarray(row, np.float32)


def test_many_vectors_are_read_like_one() -> None:
    good, other = to_bytes(direction(3)), to_bytes(direction(4))
    rows, which = many_from_bytes([good, b"", good[:-2], bytes(len(good)), other], len(BOB))
    assert which.tolist() == [True, False, False, False, True]
    assert np.allclose(rows, np.stack([from_bytes(good), from_bytes(other)]))
