"""Who a face is most like, among all enrolled faces of one embedding model."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camfleet_gateway.people.embeddings import Rows


class Likeness(NamedTuple):
    """One of the enrolled people and how similar the best of their faces is."""

    person_id: str
    similarity: float


class FaceIndex:
    """A matrix that people's rows come and go in; freed rows are used again."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._rows: NDArray[np.float32] = np.zeros((64, dimensions), np.float32)
        self._used = 0
        self._free: list[int] = []
        self._slots: dict[str, list[int]] = {}
        self._owners: list[str] = []

    @classmethod
    def of(cls, people: Iterable[tuple[str, Rows]], dimensions: int) -> FaceIndex:
        """An index of many at once."""
        index = cls(dimensions)
        parts = [(person_id, rows) for person_id, rows in people if len(rows)]
        if parts:
            index._rows = np.concatenate([rows for _, rows in parts]).astype(np.float32)
        for person_id, rows in parts:
            first, index._used = index._used, index._used + len(rows)
            index._slots[person_id] = list(range(first, index._used))
            index._owners.extend([person_id] * len(rows))
        return index

    def __len__(self) -> int:
        return self._used - len(self._free)

    def put(self, person_id: str, rows: Rows) -> None:
        """Replace the rows of a person; none removes them."""
        for slot in self._slots.pop(person_id, ()):
            self._rows[slot] = 0.0
            self._owners[slot] = ""
            self._free.append(slot)
        if not len(rows):
            return
        slots = [self._slot() for _ in range(len(rows))]
        self._rows[slots] = rows
        for slot in slots:
            self._owners[slot] = person_id
        self._slots[person_id] = slots

    def _slot(self) -> int:
        if self._free:
            return self._free.pop()
        if self._used == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        self._owners.append("")
        self._used += 1
        return self._used - 1

    def similarities(self, embedding: NDArray[np.float32]) -> dict[str, float]:
        """For each person, how similar the best of their faces is; may run in a thread."""
        people = list(self._slots.items())  # first: the rows of all of these are there by now
        values = self._rows[: self._used] @ embedding
        return {person: float(values[slots].max()) for person, slots in people}

    def nearest(
        self, embedding: NDArray[np.float32], *, without: Collection[str] = (), only: str | None = None
    ) -> Likeness | None:
        """Who the face is most like.

        Args:
            embedding: d values, of length 1.
            without: People that are left out.
            only: The one person that counts.
        """
        if only is not None:
            slots = self._slots.get(only)
            if not slots:
                return None
            return Likeness(only, float((self._rows[slots] @ embedding).max()))
        if not self._used:
            return None
        values = self._rows[: self._used] @ embedding
        values[[slot for slot in self._free]] = -2.0
        for person in without:
            values[self._slots.get(person, [])] = -2.0
        best = int(np.argmax(values))
        return Likeness(self._owners[best], float(values[best])) if values[best] > -2.0 else None
