"""What the database knows of people, for the API to show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.people.problems import RefusedError, unknown_person
from camfleet_gateway.people.views import FaceView, PersonView, QualityView
from camfleet_gateway.store.tables import Face, Person
from camfleet_protocol.signing import decode_base64url, encode_base64url

_ESCAPE = "\\"


@dataclass(frozen=True, slots=True)
class Seen:
    """Who looks, and when."""

    now: float
    embedder: str
    """Model in use; empty while none is known."""
    private: bool
    """Whether notes and external ids are shown."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the people that were asked for."""

    people: list[PersonView]
    next_cursor: str | None
    total: int
    groups: dict[str, int]


async def find_people(
    session: AsyncSession, *, query: str, group: str, limit: int, cursor: str | None, seen: Seen
) -> Page:
    """People by name.

    Raises:
        RefusedError: The cursor is none of ours, or no text that a database takes.
    """
    if "\0" in query + group:
        raise RefusedError("invalid", "query and group must be text")
    matching: list[ColumnElement[bool]] = []
    if query:
        folded = _pattern(query.lower())
        # SQLite folds ASCII only: other letters are looked for as people write them.
        written = {_pattern(text) for text in (query, query.lower(), query.title(), query.upper())}
        matching.append(
            or_(
                func.lower(Person.name).like(folded, escape=_ESCAPE),
                func.lower(Person.external_id).like(folded, escape=_ESCAPE),
                *(Person.name.like(pattern, escape=_ESCAPE) for pattern in sorted(written)),
            )
        )
    if group:
        matching.append(Person.group == group)
    name = func.lower(Person.name)
    wanted = select(Person, name).where(*matching)
    if cursor is not None:
        after, after_id = _read_cursor(cursor)
        wanted = wanted.where(or_(name > after, and_(name == after, Person.id > after_id)))
    rows = (await session.execute(wanted.order_by(name, Person.id).limit(limit + 1))).all()
    more = len(rows) > limit
    rows = rows[:limit]
    total = await session.scalar(select(func.count()).select_from(Person).where(*matching))
    in_groups = await session.execute(select(Person.group, func.count()).group_by(Person.group))
    views = await person_views(session, [row[0] for row in rows], seen)
    following = _cursor(rows[-1][1], rows[-1][0].id) if more else None
    return Page(views, following, int(total or 0), {name: int(count) for name, count in in_groups})


async def person_views(session: AsyncSession, people: Sequence[Person], seen: Seen) -> list[PersonView]:
    """People as the API shows them, in the same order."""
    ids = [person.id for person in people]
    counts: dict[str, dict[bool, int]] = {}
    stale: dict[str, int] = {}
    thumbnails: dict[str, str] = {}
    if ids:
        grouped = select(Face.person_id, Face.negative, Face.embedder, func.count()).where(
            Face.person_id.in_(ids)
        )
        for person_id, negative, embedder, count in await session.execute(
            grouped.group_by(Face.person_id, Face.negative, Face.embedder)
        ):
            of_person = counts.setdefault(person_id, {})
            of_person[negative] = of_person.get(negative, 0) + count
            if seen.embedder and embedder != seen.embedder and not negative:
                stale[person_id] = stale.get(person_id, 0) + count
        firsts = (
            select(Face.person_id, Face.id)
            .where(Face.person_id.in_(ids), Face.negative.is_(False))
            .order_by(Face.created.desc(), Face.id.desc())
        )
        thumbnails = {row[0]: row[1] for row in await session.execute(firsts)}  # the first one wins
    return [
        PersonView(
            id=person.id,
            name=person.name,
            group=person.group,
            valid_from=person.valid_from,
            valid_until=person.valid_until,
            valid=(person.valid_from or 0.0) <= seen.now
            and (person.valid_until is None or seen.now <= person.valid_until),
            faces=counts.get(person.id, {}).get(False, 0),
            negatives=counts.get(person.id, {}).get(True, 0),
            needs_reembedding=stale.get(person.id, 0),
            thumbnail_url=face_url(person.id, thumbnails[person.id]) if person.id in thumbnails else None,
            created=person.created,
            updated=person.updated,
            note=person.note if seen.private else None,
            external_id=person.external_id if seen.private else None,
        )
        for person in people
    ]


async def person_view(session: AsyncSession, person_id: str, seen: Seen) -> PersonView:
    """One person.

    Raises:
        RefusedError: There is nobody of that id.
    """
    person = await session.get(Person, person_id)
    if person is None:
        raise unknown_person()
    return (await person_views(session, [person], seen))[0]


async def faces_of(session: AsyncSession, person_id: str) -> Sequence[Face]:
    """A person's faces, negatives among them, first enrolled first.

    Raises:
        RefusedError: There is nobody of that id.
    """
    if await session.get(Person, person_id) is None:
        raise unknown_person()
    wanted = select(Face).where(Face.person_id == person_id).order_by(Face.created, Face.id)
    return (await session.scalars(wanted)).all()


def face_view(face: Face, embedder: str, quality: QualityView | None = None) -> FaceView:
    """A face as the API shows it."""
    return FaceView.model_validate(
        {
            "id": face.id,
            "negative": face.negative,
            "source": face.source,
            "event_id": face.event_id,
            "quality": quality or QualityView(score=face.quality),
            "embedder": face.embedder,
            "needs_reembedding": bool(embedder) and face.embedder != embedder and not face.negative,
            "created": face.created,
            "url": None if face.negative else face_url(face.person_id, face.id),
        }
    )


def face_url(person_id: str, face_id: str) -> str:
    """Where a face's picture is."""
    return f"/api/people/{person_id}/faces/{face_id}.jpg"


def _pattern(text: str) -> str:
    """What finds a text anywhere in another one."""
    for special in (_ESCAPE, "%", "_"):
        text = text.replace(special, _ESCAPE + special)
    return f"%{text}%"


def _cursor(name: str, person_id: str) -> str:
    return encode_base64url(json.dumps([name, person_id]).encode())


def _read_cursor(cursor: str) -> tuple[str, str]:
    try:
        read: Any = json.loads(decode_base64url(cursor))
        name, person_id = read
        (name + person_id).encode()  # half a character is nothing that a database takes
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise RefusedError("invalid", "the cursor is none of ours") from None
    if not isinstance(name, str) or not isinstance(person_id, str) or "\0" in name + person_id:
        raise RefusedError("invalid", "the cursor is none of ours")
    return name, person_id
