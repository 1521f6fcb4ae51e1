"""Events with vectors, read from the database as rows of the index."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select

from camfleet_gateway.people.embeddings import from_bytes
from camfleet_gateway.store.errors import WrongKeyError
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.writer import EVENTS
from camfleet_gateway.vectors.index import Row, key_of

logger = logging.getLogger(__name__)

LOWEST, HIGHEST = -1e300, 1e300
"""Times as Milvus takes them: it knows no infinity."""
_COLUMNS = EVENTS.c


@dataclass(frozen=True, slots=True)
class Page:
    """Rows, and the id of the last event that was looked at; empty at the end."""

    rows: tuple[Row, ...]
    last: str


class KeptVectors:
    """The vectors in the database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unreadable: set[str] = set()

    async def models(self) -> list[str]:
        """The models of which there are vectors."""
        query = select(_COLUMNS.embedder).where(_COLUMNS.embedding.is_not(None)).distinct()
        async with self._store.database.reading() as session:
            return sorted((await session.execute(query)).scalars())

    async def usual_size(self, embedder: str) -> int | None:
        """How many values most vectors of a model have; None if there are none."""
        length = func.length(_COLUMNS.embedding)
        query = (
            select(length, func.max(_COLUMNS.id))
            .where(*self._conditions(embedder))
            .group_by(length)
            .order_by(func.count().desc(), length.desc())
        )
        async with self._store.database.reading() as session:
            found = (await session.execute(query)).all()
        for _, id_ in found:
            if rows := await self.some(embedder, [id_]):
                return len(rows[0].vector)
        return None

    async def page(self, embedder: str, after: str, limit: int) -> Page:
        """Vectors of one model by event id, those after an id."""
        query = self._of(embedder).where(_COLUMNS.id > after).order_by(_COLUMNS.id).limit(limit)
        return await self._read(query)

    async def some(self, embedder: str, ids: Sequence[str]) -> tuple[Row, ...]:
        """Vectors of one model of certain events."""
        return (await self._read(self._of(embedder).where(_COLUMNS.id.in_(ids)))).rows

    async def end_of_window(self, embedder: str, begin: float, size: int) -> float:
        """The end of a window of time with about `size` vectors; infinite for the last one."""
        query = (
            select(_COLUMNS.time)
            .where(*self._conditions(embedder), _COLUMNS.time >= max(begin, LOWEST))
            .order_by(_COLUMNS.time)
            .offset(size)
            .limit(1)
        )
        async with self._store.database.reading() as session:
            end: float | None = (await session.execute(query)).scalar()
        return math.inf if end is None else max(end, math.nextafter(begin, math.inf))

    async def between(self, embedder: str, begin: float, end: float) -> dict[str, str]:
        """Ids of events with a vector of one model in a window of time, by the index's key."""
        query = select(_COLUMNS.id).where(
            *self._conditions(embedder), _COLUMNS.time >= begin, _COLUMNS.time < end
        )
        async with self._store.database.reading() as session:
            return {key_of(event_id): event_id for event_id in (await session.execute(query)).scalars()}

    async def ids(self, embedder: str) -> list[str]:
        """Ids of all events with a vector of one model."""
        async with self._store.database.reading() as session:
            query = select(_COLUMNS.id).where(*self._conditions(embedder))
            return list((await session.execute(query)).scalars())

    def _of(self, embedder: str) -> Select[Any]:
        columns = (_COLUMNS.id, _COLUMNS.camera, _COLUMNS.time, _COLUMNS.embedding)
        return select(*columns).where(*self._conditions(embedder))

    def _conditions(self, embedder: str) -> tuple[Any, ...]:
        return (_COLUMNS.embedder == embedder, _COLUMNS.embedding.is_not(None))

    async def _read(self, query: Select[Any]) -> Page:
        async with self._store.database.reading() as session:
            found = (await session.execute(query)).all()
        rows = await asyncio.to_thread(self._opened, found)
        return Page(rows, found[-1].id if found else "")

    def _opened(self, found: Sequence[Any]) -> tuple[Row, ...]:
        rows = []
        for event in found:
            try:
                vector = from_bytes(self._store.sealer.open(event.embedding, event.id.encode()))
            except (WrongKeyError, ValueError):
                if event.id not in self._unreadable:
                    self._unreadable.add(event.id)
                    logger.error("the vector of the event %s cannot be read with this key", event.id)
                continue
            rows.append(Row(event_id=event.id, camera=event.camera, time=event.time, vector=vector))
        return tuple(rows)
