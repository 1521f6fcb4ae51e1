"""All enrolled people and their faces in memory, kept up with the database by the gallery's version.

The database is the truth; this is what the gallery for workers and the comparison of faces are made from. A
counter rises in the transaction of every change, so whoever sees version v in it sees all changes up to v.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Table as SqlTable
from sqlalchemy import case, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.people.embeddings import Rows, from_bytes
from camfleet_gateway.people.face_index import FaceIndex
from camfleet_gateway.store.database import Database
from camfleet_gateway.store.errors import WrongKeyError
from camfleet_gateway.store.sealing import Sealer
from camfleet_gateway.store.tables import Counter, Face, Person, RemovedPerson

logger = logging.getLogger(__name__)

GALLERY = "gallery"
_CHUNK = 500
_COUNTERS: SqlTable = Counter.__table__  # type: ignore[assignment]
_MAX_VERSIONS = 10_000


def face_context(face_id: str) -> bytes:
    """What a face's embedding is sealed for: it opens in this row only."""
    return f"face:{face_id}".encode()


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """One person with their faces by embedding model."""

    id: str
    name: str
    group: str
    valid_from: float | None
    valid_until: float | None
    version: int
    faces: Mapping[str, Rows] = field(default_factory=dict)
    negatives: Mapping[str, Rows] = field(default_factory=dict)


async def bump(database: Database, session: AsyncSession, now: float) -> int:
    """Raise the gallery's version in this transaction; the row stays locked until it ends.

    It is Unix seconds or beyond, so that a database that was restored from a backup does not give the same
    numbers to other changes.
    """
    floor = int(now)
    first = database.insert(_COUNTERS).values(name=GALLERY, value=0)
    await session.execute(first.on_conflict_do_nothing(index_elements=["name"]))
    raised = case((Counter.value + 1 > floor, Counter.value + 1), else_=floor)
    result = await session.execute(
        update(Counter).where(Counter.name == GALLERY).values(value=raised).returning(Counter.value),
        execution_options={"synchronize_session": False},
    )
    return int(result.scalar_one())


class KnownPeople:
    """The people as of `version`. Lives on the event loop; its values are replaced, never changed."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._lock = asyncio.Lock()
        self._indexes: dict[str, FaceIndex] = {}
        self._unreadable: set[str] = set()
        self._loaded = False
        self._versions: OrderedDict[int, None] = OrderedDict()
        """Those that were read here: others may be of this database as it was before it was restored."""
        self.version = 0
        self.people: dict[str, KnownPerson] = {}
        self.removed: dict[str, int] = {}
        """Version that removed each of those who were removed."""

    @property
    def loaded(self) -> bool:
        """Whether the database was read at all."""
        return self._loaded

    @property
    def unreadable(self) -> int:
        """Faces that the key does not open."""
        return len(self._unreadable)

    def faces_by_embedder(self) -> Tally[str]:
        """How many faces there are of each model, those that are not theirs left out."""
        count: Tally[str] = Tally()
        for person in self.people.values():
            for embedder, values in person.faces.items():
                count[embedder] += len(values)
        return count

    def index(self, embedder: str, dimensions: int) -> FaceIndex:
        """All faces of a model."""
        index = self._indexes.get(embedder)
        if index is None or index.dimensions != dimensions:
            faces = ((person.id, person.faces.get(embedder)) for person in self.people.values())
            fitting = ((i, rows) for i, rows in faces if rows is not None and rows.shape[1] == dimensions)
            index = self._indexes[embedder] = FaceIndex.of(fitting, dimensions)
        return index

    def changed_since(self, base: int) -> tuple[list[KnownPerson], list[str]] | None:
        """Who was changed and who removed after a version; None if that is not known."""
        if base <= 0 or base not in self._versions:
            return None
        changed = [person for person in self.people.values() if person.version > base]
        removed = [person_id for person_id, version in self.removed.items() if version > base]
        return changed, removed

    async def refresh(self) -> bool:
        """Read what has changed in the database; tells whether anything had."""
        async with self._lock:
            async with self._database.reading() as session:
                version = await session.scalar(select(Counter.value).where(Counter.name == GALLERY)) or 0
                if self._loaded and version == self.version:
                    return False
                whole = not self._loaded or version < self.version
                since = 0 if whole else self.version
                rows = await _people(session, since)
                faces = await _faces(session, None if whole else [row.id for row in rows])
                gone = select(RemovedPerson.id, RemovedPerson.version).where(RemovedPerson.version > since)
                removed = {row.id: row.version for row in await session.execute(gone)}
            people = await asyncio.to_thread(self._read, rows, faces)
            self._take(people, removed, whole=whole)
            self.version = version
            if whole:
                self._versions.clear()
            self._versions[version] = None
            while len(self._versions) > _MAX_VERSIONS:
                self._versions.popitem(last=False)
            self._loaded = True
            return True

    def _take(self, people: Sequence[KnownPerson], removed: Mapping[str, int], *, whole: bool) -> None:
        if whole:
            self.people, self.removed, self._indexes = {}, {}, {}
        for person in people:
            self.people[person.id] = person
            for embedder, index in self._indexes.items():
                _index_person(index, person, embedder)
        for person_id, version in removed.items():
            self.removed[person_id] = version
            if self.people.pop(person_id, None) is not None:
                for index in self._indexes.values():
                    index.put(person_id, np.empty((0, index.dimensions), np.float32))

    def _read(self, people: Iterable[Any], faces: Iterable[Any]) -> list[KnownPerson]:
        found: dict[str, tuple[dict[str, list[Rows]], dict[str, list[Rows]]]] = {}
        for face in faces:
            try:
                row = from_bytes(self._sealer.open(face.embedding, face_context(face.id)))
            except (WrongKeyError, ValueError):
                if face.id not in self._unreadable:
                    self._unreadable.add(face.id)
                    logger.error("the embedding of the face %s cannot be read with this key", face.id)
                continue
            both = found.setdefault(face.person_id, ({}, {}))
            both[1 if face.negative else 0].setdefault(face.embedder, []).append(row)
        return [
            KnownPerson(
                id=row.id,
                name=row.name,
                group=row.group,
                valid_from=row.valid_from,
                valid_until=row.valid_until,
                version=row.version,
                faces=_stacked(found.get(row.id, ({}, {}))[0]),
                negatives=_stacked(found.get(row.id, ({}, {}))[1]),
            )
            for row in people
        ]


def _index_person(index: FaceIndex, person: KnownPerson, embedder: str) -> None:
    rows = person.faces.get(embedder)
    fits = rows is not None and rows.shape[1] == index.dimensions
    index.put(person.id, rows if fits and rows is not None else np.empty((0, index.dimensions), np.float32))


def _stacked(rows: dict[str, list[Rows]]) -> dict[str, Rows]:
    stacked = {}
    for embedder, values in rows.items():
        length = len(values[0])
        stacked[embedder] = np.stack([value for value in values if len(value) == length])
    return stacked


async def _people(session: AsyncSession, since: int) -> Sequence[Any]:
    wanted = select(
        Person.id, Person.name, Person.group, Person.valid_from, Person.valid_until, Person.version
    )
    if since:
        wanted = wanted.where(Person.version > since)
    return (await session.execute(wanted.order_by(Person.id))).all()


async def _faces(session: AsyncSession, people: list[str] | None) -> Sequence[Any]:
    wanted = select(Face.id, Face.person_id, Face.negative, Face.embedder, Face.embedding).order_by(
        Face.created, Face.id
    )
    if people is None:
        return (await session.execute(wanted)).all()
    found: list[Any] = []
    for start in range(0, len(people), _CHUNK):
        chunk = wanted.where(Face.person_id.in_(people[start : start + _CHUNK]))
        found.extend((await session.execute(chunk)).all())
    return found
