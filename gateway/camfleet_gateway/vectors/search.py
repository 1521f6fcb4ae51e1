"""Where was this face seen, and whose is it: vectors looked for in the index, joined with the database.

The index only proposes: an event that is no longer there, or whose face was taken out of it, is left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camfleet_gateway.people.embeddings import Rows, from_bytes, representatives
from camfleet_gateway.people.service import People
from camfleet_gateway.store.errors import WrongKeyError
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.view import EventView
from camfleet_gateway.vectors.index import MAX_FOUND, Wanted
from camfleet_gateway.vectors.service import Vectors

MAX_LIMIT = 200
DEFAULT_MINIMUM = 0.3
MAX_PEOPLE = 5
_MOST_VECTORS = 8
"""Of one person; more faces are stood for by these."""


@dataclass(frozen=True, slots=True)
class FoundPerson:
    """Somebody enrolled who the face is like."""

    id: str
    name: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found, most similar first."""

    events: tuple[tuple[EventView, float], ...]
    people: tuple[FoundPerson, ...]
    seconds: float
    """Spent in the index and the database."""


Faces = Mapping[str, Rows]
"""Vectors by the model that made them, each n x d."""


class FaceSearch:
    """Searches by vectors, events and people."""

    def __init__(self, store: Store, people: People, vectors: Vectors) -> None:
        self._store = store
        self._people = people
        self._vectors = vectors

    async def of_event(self, event_id: str) -> Faces | None:
        """The face of an event; None if there is no such event or it has no face.

        Raises:
            UnavailableError: The database is away.
        """
        try:
            found = await self._store.events.vector(event_id)
        except WrongKeyError:
            return None
        if found is None:
            return None
        try:
            return {found[0]: from_bytes(found[1])[None, :]}
        except ValueError:
            return None

    async def of_person(self, person_id: str) -> Faces | None:
        """The faces of a person; None if there is nobody of that id."""
        await self._people.known.refresh()
        person = self._people.known.people.get(person_id)
        if person is None:
            return None
        return {model: representatives(rows, _MOST_VECTORS) for model, rows in person.faces.items()}

    async def search(
        self, faces: Faces, wanted: Wanted, *, limit: int, minimum: float, without: str = ""
    ) -> Found:
        """Find events and people.

        Args:
            faces: What is looked for; any of them will do.
            wanted: Where and when the events must have been.
            limit: How many events at most.
            minimum: Least similarity.
            without: Id of an event that is left out.

        Raises:
            UnavailableError: Index or database are away.
        """
        begin = time.perf_counter()
        best: dict[str, float] = {}
        for model, rows in faces.items():
            # A few more than asked for: some may be gone.
            most = min(limit + 50, MAX_FOUND)
            for hit in await self._vectors.search(model, list(rows), wanted, most):
                best[hit.event_id] = max(hit.similarity, best.get(hit.event_id, -2.0))
        good = [(id_, value) for id_, value in best.items() if value >= minimum and id_ != without]
        good.sort(key=lambda item: -item[1])
        good = good[:MAX_FOUND]
        kept = await self._store.events.get_many([id_ for id_, _ in good]) if good else {}
        events = [(kept[id_], value) for id_, value in good if id_ in kept and kept[id_].embedder in faces]
        people = await self._alike(faces, minimum)
        return Found(tuple(events[:limit]), people, time.perf_counter() - begin)

    async def _alike(self, faces: Faces, minimum: float) -> tuple[FoundPerson, ...]:
        await self._people.known.refresh()
        best: dict[str, float] = {}
        for model, rows in faces.items():
            index = self._people.known.index(model, rows.shape[1])
            for row in rows:
                for person, value in (await asyncio.to_thread(index.similarities, _single(row))).items():
                    best[person] = max(value, best.get(person, -2.0))
        ordered = sorted(best.items(), key=lambda item: -item[1])[:MAX_PEOPLE]
        known = self._people.known.people
        return tuple(
            FoundPerson(id_, known[id_].name, min(1.0, value))
            for id_, value in ordered
            if value >= minimum and id_ in known
        )


def _single(row: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(row, dtype=np.float32)
