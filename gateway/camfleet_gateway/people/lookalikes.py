"""Events that show somebody whom nobody had recognised in them: found by comparing their faces.

Every event with a face vector that tells of nobody is compared with the person's own faces of the same model.
Theirs is one that would be recognised as them: alike enough, and so much more than to anybody else who is
enrolled. It is read from the database, a page at a time, in short transactions; opening and comparing is done
in a thread. The index of vectors is not asked: it may be away, or behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.people.embeddings import Rows, many_from_bytes
from camfleet_gateway.people.kit import Kit
from camfleet_gateway.people.known import KnownPerson
from camfleet_gateway.people.problems import RefusedError
from camfleet_gateway.store.errors import WrongKeyError
from camfleet_gateway.store.tables import Face
from camfleet_gateway.store.writer import EVENTS

PAGE = 500
"""Events that are read at a time."""
THRESHOLD, MARGIN = 0.45, 0.05
"""Where no model has said its own."""
_AT_ONCE = 32
"""Faces that are compared with everybody's at a time: with thousands enrolled that takes megabytes each."""
_COLUMNS = EVENTS.c


@dataclass(frozen=True, slots=True)
class Look:
    """How somebody looks to one model, and who else might be meant.

    Attributes:
        own: Their faces, n x d.
        never: Faces that are surely not theirs.
        others: Everybody else's faces.
        threshold: From which similarity on two faces are of one person.
        margin: By how much they must be more alike to the person than to anybody else.
    """

    own: Rows
    never: Rows
    others: Rows
    threshold: float
    margin: float

    def shown_in(self, faces: Rows) -> NDArray[np.bool_]:
        """Which of these faces are theirs."""
        if not len(faces):
            return np.zeros(0, np.bool_)
        mine = (faces @ self.own.T).max(axis=1)
        found: NDArray[np.bool_] = mine >= self.threshold
        for start in range(0, len(faces), _AT_ONCE):
            some = np.arange(start, min(start + _AT_ONCE, len(faces)))
            some = some[found[some]]
            if len(some):
                rival = _nearest(faces[some], self.others) + self.margin
                found[some] = mine[some] >= np.maximum(rival, _nearest(faces[some], self.never) + 1e-6)
        return found


@dataclass(frozen=True, slots=True)
class Looks:
    """How somebody looks to each model that has seen them."""

    person_id: str
    by_model: Mapping[str, Look] = field(default_factory=dict)
    not_in: frozenset[str] = frozenset()
    """Events of which people have said that they are surely not in them."""


@dataclass(frozen=True, slots=True)
class Alike:
    """An event that shows them."""

    id: str
    pictures: int


@dataclass(frozen=True, slots=True)
class Marked:
    """Events that are to be made anonymous: how many, and what there is in them."""

    ids: tuple[str, ...] = ()
    pictures: int = 0


class LookAlikes:
    """Finds them."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._turn = asyncio.Lock()
        """One search at a time: each opens all vectors that there are."""

    async def looks(self, person_id: str) -> Looks:
        """How they look. To be asked while they are enrolled.

        Raises:
            UnavailableError: The database is away.
        """
        kit = self._kit
        await kit.gallery.refresh()
        person = kit.known.people.get(person_id)
        if person is None or not person.faces:
            return Looks(person_id)
        if kit.faces.ready is None:
            try:
                await kit.faces.embedder()  # it knows its threshold
            except RefusedError:
                pass
        others = [other for other in kit.known.people.values() if other.id != person_id]
        async with kit.database.reading() as session:
            said = select(Face.event_id).where(Face.person_id == person_id, Face.negative.is_(True))
            not_in = frozenset(event for event in (await session.scalars(said)).all() if event)
        return Looks(person_id, await asyncio.to_thread(self._by_model, person, others), not_in)

    def _by_model(self, person: KnownPerson, others: Sequence[KnownPerson]) -> dict[str, Look]:
        ready = self._kit.faces.ready
        found = {}
        for model, own in person.faces.items():
            known = ready is not None and ready.embedder == model
            found[model] = Look(
                own=own,
                never=_stacked([person.negatives.get(model)], own.shape[1]),
                others=_stacked((other.faces.get(model) for other in others), own.shape[1]),
                threshold=ready.threshold if ready is not None and known else THRESHOLD,
                margin=ready.margin if ready is not None and known else MARGIN,
            )
        return found

    async def find(self, looks: Looks, *, since: float | None = None) -> list[Alike]:
        """Events that show them and tell of nobody.

        Args:
            looks: How they look.
            since: Only events that were stored from then on, Unix seconds.

        Raises:
            UnavailableError: The database is away.
        """
        found: list[Alike] = []
        async with self._turn:
            for model, look in looks.by_model.items():
                after = ""
                while True:
                    rows = await self._page(model, after, since)
                    found += await asyncio.to_thread(self._among, rows, look, looks.not_in)
                    if len(rows) < PAGE:
                        break
                    after = rows[-1].id
        return found

    async def _page(self, model: str, after: str, since: float | None) -> Sequence[Any]:
        query = (
            select(_COLUMNS.id, _COLUMNS.embedding, _COLUMNS.crop, _COLUMNS.scene)
            # Read along the ids: by the index of people each page would look at all that tell of nobody.
            .where(_COLUMNS.id > after, func.coalesce(_COLUMNS.person_id, "") == "")
            .where(_COLUMNS.embedding.is_not(None), _COLUMNS.embedder == model)
            .order_by(_COLUMNS.id)
            .limit(PAGE)
        )
        if since is not None:
            query = query.where(_COLUMNS.stored >= since)
        async with self._kit.database.reading() as session:
            return (await session.execute(query)).all()

    def _among(self, rows: Sequence[Any], look: Look, not_in: frozenset[str]) -> list[Alike]:
        candidates, opened = [], []
        for row in rows:
            if row.id in not_in:
                continue
            try:
                opened.append(self._kit.sealer.open(row.embedding, row.id.encode()))
            except WrongKeyError:
                continue  # nobody can compare it
            candidates.append(row)
        faces, good = many_from_bytes(opened, look.own.shape[1])
        alike = np.flatnonzero(good)[look.shown_in(faces)]
        return [Alike(row.id, bool(row.crop) + bool(row.scene)) for row in (candidates[n] for n in alike)]

    async def mark(self, session: AsyncSession, person_id: str, found: Sequence[Alike]) -> Marked:
        """Write into events, in the transaction of `session`, that they are of this person.

        Those that tell of somebody by now, or have lost their vector, are left. What a worker still tells of
        one changes nothing about that; whoever stands in `removed_people` is swept out of it.
        """
        pictures = {event.id: event.pictures for event in found}
        ids = sorted(pictures)
        marked: list[str] = []
        for start in range(0, len(ids), PAGE):
            some = _COLUMNS.id.in_(ids[start : start + PAGE])
            statement = update(EVENTS).where(some, *_telling_of_nobody())
            result = await session.execute(
                statement.values(person_id=person_id, decided=True).returning(_COLUMNS.id)
            )
            marked += result.scalars()
        return Marked(tuple(marked), sum(pictures[event_id] for event_id in marked))


def _telling_of_nobody() -> tuple[ColumnElement[bool], ...]:
    return _COLUMNS.person_id.is_(None), _COLUMNS.embedding.is_not(None)


def _nearest(faces: Rows, others: Rows) -> NDArray[np.float32]:
    """How similar the most similar of the others is to each face; -2 where there are none."""
    if not len(others):
        return np.full(len(faces), -2.0, np.float32)
    return np.asarray((faces @ others.T).max(axis=1), np.float32)


def _stacked(parts: Iterable[Rows | None], dimensions: int) -> Rows:
    fitting = [rows for rows in parts if rows is not None and len(rows) and rows.shape[1] == dimensions]
    return np.concatenate(fitting) if fitting else np.empty((0, dimensions), np.float32)
