"""The enrolled people that faces are compared with, in memory, whole or by its changes.

A person has one centre, the mean of their faces, and the faces themselves. All centres are compared at once;
the faces, kept as bytes, only of the people whose centres are nearest. So neither time nor memory grows much
with the pictures that people are enrolled with. Where the centres are too many for the processor's caches,
those that cannot be the nearest are told by a copy in bytes (`Shortlist`). bench/README.md has the figures.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camfleet_protocol.gallery import GalleryPart, GalleryPerson, GalleryUpdate
from camfleet_worker.recognition.shortlist import Shortlist

MAX_PEOPLE = 100_000
_CANDIDATES = 32
"""People whose faces are looked at one by one, nearest centres first."""
_PIECE_BYTES = 96 * 1024
_NEVER = -2.0
_TINY = 1e-6

Vectors = NDArray[np.float32]
Halves = NDArray[np.float16]
_Bytes = NDArray[np.int8]
_Indexes = NDArray[np.intp]
_Times = NDArray[np.float64]


class GalleryRefusedError(ValueError):
    """An update that cannot be taken; `reason` is CamelCase: `WrongEmbedder`, `WrongBase`, …."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Candidate:
    """An enrolled person, and how alike a face is to the most similar one of theirs, -1 to 1."""

    id: str
    name: str
    group: str
    similarity: float


@dataclass(frozen=True, slots=True)
class MatchResult:
    """The two people most alike; `version` is that of the gallery, 0 if there is none yet."""

    best: Candidate | None
    runner_up: Candidate | None
    version: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """A person of an update: what is told of them, their faces, and faces that are not theirs."""

    person: GalleryPerson
    faces: Halves
    negatives: Halves


class Gallery:
    """People and their faces; never changed once it is made.

    Attributes:
        embedder: Model of the vectors, NAME@hash.
        version: Rises with each change.
    """

    def __init__(self, embedder: str, dimensions: int) -> None:
        self.embedder = embedder
        self.version = 0
        self.dimensions = dimensions
        self._ids: list[str] = []
        self._names: list[str] = []
        self._groups: list[str] = []
        self._group: _Indexes = np.zeros(0, np.intp)
        """Of each person, by its place in `_groups`."""
        self._from: _Times = np.zeros(0)
        self._until: _Times = np.zeros(0)
        self._centres: Vectors = np.zeros((0, dimensions), np.float32)
        self._rows: _Bytes = np.zeros((0, dimensions), np.int8)
        self._scales: Vectors = np.zeros(0, np.float32)
        """What a row's bytes are multiplied by; a similarity is off by less than 0.001."""
        self._first: _Indexes = np.zeros(1, np.intp)
        """Person n has the rows from `_first[n]` to `_first[n + 1]`; none if the centre is the only face."""
        self._faces: _Indexes = np.zeros(0, np.intp)
        """So many of them are faces, the rest are negatives."""
        self._comparable: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._shortlist: Shortlist | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, person: object) -> bool:
        return person in self._ids

    def __iter__(self) -> Iterator[str]:
        """Ids of the people."""
        return iter(self._ids)

    @property
    def bytes(self) -> int:
        """Memory of the vectors."""
        vectors = self._centres.nbytes + self._rows.nbytes + self._scales.nbytes
        return vectors + (self._shortlist.nbytes if self._shortlist is not None else 0)

    def match(
        self,
        embeddings: Vectors,
        *,
        now: float,
        groups: Collection[str] | None = None,
        weights: Sequence[float] | None = None,
    ) -> MatchResult:
        """Find the two people who are most like a face.

        Args:
            embeddings: k x dimensions, rows of length 1: pictures of one face.
            now: Unix seconds, for people who are enrolled for a time only.
            groups: Only people of these groups; None for all.
            weights: What each picture counts; None if all count the same.

        Returns:
            The best and the next person, by the weighted mean over the pictures of the similarity to the
            nearest of the person's faces. A person is left out if a face that is not theirs (a negative) is
            as near as their own. It is looked for among the `_CANDIDATES` people whose centres are nearest:
            of thousands, whoever is enrolled with pictures that are hardly alike may not be among them.
        """
        if not self._ids or not len(embeddings):
            return MatchResult(None, None, self.version)
        shares = np.ones(len(embeddings), np.float32) if weights is None else np.asarray(weights, np.float32)
        shares = shares / max(float(shares.sum()), _TINY)
        nearest = self._nearest(shares @ embeddings, self._eligible(now, groups))
        if len(self._rows):
            nearest = [(self._score(n, centre, embeddings, shares), n) for centre, n in nearest]
        ranked = sorted(nearest, reverse=True)
        found = [self._candidate(index, score) for score, index in ranked[:2] if score > _NEVER]
        return MatchResult(found[0] if found else None, found[1] if len(found) > 1 else None, self.version)

    def changed(
        self, version: int, entries: Mapping[str, _Entry], removed: Collection[str], *, whole: bool
    ) -> Gallery:
        """Another gallery: this one without those who are removed or replaced, and with the new entries."""
        gone = set(removed) | entries.keys()
        kept = [] if whole else [n for n, person in enumerate(self._ids) if person not in gone]
        result = Gallery(self.embedder, self.dimensions)
        result.version = version
        new = list(entries.values())
        total = len(kept) + len(new)
        result._ids = [self._ids[n] for n in kept] + [entry.person.id for entry in new]
        result._names = [self._names[n] for n in kept] + [entry.person.name for entry in new]
        groups = [self._groups[self._group[n]] for n in kept] + [entry.person.group for entry in new]
        places: dict[str, int] = {}
        codes = [places.setdefault(group, len(places)) for group in groups]
        result._groups, result._group = list(places), np.asarray(codes, np.intp)
        begin = [-math.inf if e.person.valid_from is None else e.person.valid_from for e in new]
        end = [math.inf if e.person.valid_until is None else e.person.valid_until for e in new]
        result._from = np.concatenate((self._from[kept], np.asarray(begin, np.float64)))
        result._until = np.concatenate((self._until[kept], np.asarray(end, np.float64)))
        result._centres = np.empty((total, self.dimensions), np.float32)
        result._centres[: len(kept)] = self._centres[kept]
        for n, entry in enumerate(new, len(kept)):
            result._centres[n] = _centre(entry.faces)
        stored = [(entry, _stored(entry)) for entry in new]
        counts = [int(self._first[n + 1] - self._first[n]) for n in kept]
        counts += [len(entry.faces) + len(entry.negatives) if own else 0 for entry, own in stored]
        result._first = np.concatenate(([0], np.cumsum(counts))).astype(np.intp)
        added = [_packed(part) for e, own in stored if own for part in (e.faces, e.negatives)]
        spans = [slice(self._first[n], self._first[n + 1]) for n in kept]
        if spans or added:
            result._rows = np.concatenate([self._rows[s] for s in spans] + [rows for rows, _ in added])
            result._scales = np.concatenate([self._scales[s] for s in spans] + [scale for _, scale in added])
        faces = [len(entry.faces) if own else 0 for entry, own in stored]
        result._faces = np.concatenate((self._faces[kept], np.asarray(faces, np.intp)))
        result._comparable = np.concatenate(
            (self._comparable[kept], np.asarray([len(entry.faces) > 0 for entry in new], np.bool_))
        )
        result._shortlist = Shortlist.of(result._centres)
        return result

    def _nearest(self, query: Vectors, eligible: NDArray[np.bool_]) -> list[tuple[float, int]]:
        """How near the nearest centres are, and whose they are."""
        some = self._shortlist.around(query, _CANDIDATES, eligible) if self._shortlist is not None else None
        if some is not None:
            # In pieces for which the heap has room: pages of a large one would be cleared each time.
            piece = max(1, _PIECE_BYTES // query.nbytes)
            pieces = (some[start : start + piece] for start in range(0, len(some), piece))
            scores: Vectors = np.concatenate(
                [np.zeros(0, np.float32), *(self._centres[p] @ query for p in pieces)]
            )
            nearest = _largest(scores, _CANDIDATES)
            return list(zip(scores[nearest].tolist(), some[nearest].tolist(), strict=True))
        scores = self._centres @ query
        scores[~eligible] = _NEVER
        nearest = _largest(scores, _CANDIDATES)
        return list(zip(scores[nearest].tolist(), nearest.tolist(), strict=True))

    def _eligible(self, now: float, groups: Collection[str] | None) -> NDArray[np.bool_]:
        eligible = self._comparable & (self._from <= now) & (now < self._until)
        if groups is not None:
            eligible &= np.asarray([group in groups for group in self._groups], np.bool_)[self._group]
        return eligible

    def _score(self, index: int, centre: float, embeddings: Vectors, shares: Vectors) -> float:
        """Similarity of one person, by each of their faces; `_NEVER` if they are out of the question."""
        first, last = int(self._first[index]), int(self._first[index + 1])
        if centre <= _NEVER or first == last:
            return centre
        own = first + int(self._faces[index])
        alike = self._rows[first:last].astype(np.float32) @ embeddings.T
        alike *= self._scales[first:last, np.newaxis]
        score = float(alike[: own - first].max(axis=0) @ shares)
        if own < last and float(alike[own - first :].max(axis=0) @ shares) >= score:
            return _NEVER
        return score

    def _candidate(self, index: int, score: float) -> Candidate:
        similarity = min(1.0, max(-1.0, score))
        group = self._groups[self._group[index]]
        return Candidate(self._ids[index], self._names[index], group, similarity)


class GalleryStore:
    """The gallery in force; updates come from any thread and take effect with their last part."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Gallery | None = None
        self._pending: dict[str, _Entry] = {}
        self._removed: set[str] = set()
        self._expected: tuple[int, int, int, int] | None = None
        """Version, base, next part, and how many parts of the update that is coming in."""

    @property
    def current(self) -> Gallery | None:
        """The gallery in force; None before an embedder runs."""
        return self._current

    def use(self, embedder: str, dimensions: int) -> None:
        """Compare vectors of this model from now on; a gallery of another one is forgotten."""
        with self._lock:
            if self._current is None or self._current.embedder != embedder:
                self._current = Gallery(embedder, dimensions)
                self._forget()

    def clear(self) -> None:
        """Faces are not compared any more: forget everybody."""
        with self._lock:
            self._current = None
            self._forget()

    def version(self, embedder: str) -> int:
        """Version of the gallery of this model; 0 if there is none."""
        current = self._current
        return current.version if current is not None and current.embedder == embedder else 0

    def apply(self, update: GalleryUpdate) -> None:
        """Take a part of an update.

        Raises:
            GalleryRefusedError: It is of another model, changes another version than the one in force, or its
                parts do not come in order. The gallery in force stays as it is.
        """
        with self._lock:
            try:
                self._apply(update)
            except GalleryRefusedError:
                self._forget()
                raise

    def _apply(self, update: GalleryUpdate) -> None:
        current, part = self._current, update.part
        if current is None or part.embedder != current.embedder:
            raise GalleryRefusedError(
                "WrongEmbedder", f"the gallery is of {part.embedder}, which does not run"
            )
        if part.dimensions != current.dimensions:
            raise GalleryRefusedError(
                "WrongEmbedder", f"vectors of {current.embedder} have not {part.dimensions} numbers"
            )
        if part.base not in (0, current.version):
            raise GalleryRefusedError(
                "WrongBase", f"the update changes version {part.base}, in force is {current.version}"
            )
        if part.part == 0:
            self._forget()
            self._expected = (update.version, part.base, 0, part.parts)
        if self._expected != (update.version, part.base, part.part, part.parts):
            raise GalleryRefusedError("OutOfOrder", f"part {part.part} of {part.parts} comes out of order")
        for person_id in part.removed:
            self._removed.add(person_id)
            self._pending.pop(person_id, None)
        for entry in _entries(part, update.vectors):
            self._pending[entry.person.id] = entry
        whole, complete = part.base == 0, part.part + 1 == part.parts
        count = len(self._pending)
        if complete and not whole and count + len(current) > MAX_PEOPLE:
            count = len((set(current) - self._removed) | self._pending.keys())
        if count > MAX_PEOPLE:
            raise GalleryRefusedError("TooManyPeople", f"at most {MAX_PEOPLE} people can be compared with")
        self._expected = (update.version, part.base, part.part + 1, part.parts)
        if complete:
            self._current = current.changed(update.version, self._pending, self._removed, whole=whole)
            self._forget()

    def _forget(self) -> None:
        self._pending, self._removed, self._expected = {}, set(), None


def _entries(part: GalleryPart, vectors: bytes) -> list[_Entry]:
    table = np.frombuffer(vectors, "<f2").reshape(-1, part.dimensions)
    entries, at = [], 0
    for person in part.people:
        middle, end = at + person.rows, at + person.rows + person.negatives
        entries.append(_Entry(person, table[at:middle], table[middle:end]))
        at = end
    if at != len(table) or not np.isfinite(table).all():
        raise GalleryRefusedError("BadVectors", "the vectors are not those that the part tells of")
    return entries


def _stored(entry: _Entry) -> bool:
    """Whether the faces themselves are kept: not if the centre says it all."""
    return len(entry.faces) > 0 and len(entry.faces) + len(entry.negatives) > 1


def _packed(faces: Halves) -> tuple[_Bytes, Vectors]:
    """Rows as bytes, and what they are to be multiplied by."""
    rows = faces.astype(np.float32)
    scales = np.maximum(np.abs(rows).max(axis=1), _TINY) / 127 if len(rows) else np.zeros(0, np.float32)
    return np.rint(rows / scales[:, np.newaxis]).astype(np.int8), scales.astype(np.float32)


def _centre(faces: Halves) -> Vectors:
    if not len(faces):
        return np.zeros(faces.shape[1], np.float32)
    mean: Vectors = faces.astype(np.float32).mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), _TINY)


def _largest(scores: Vectors, count: int) -> _Indexes:
    if len(scores) <= count:
        return np.arange(len(scores))
    return np.argpartition(scores, -count)[-count:]
