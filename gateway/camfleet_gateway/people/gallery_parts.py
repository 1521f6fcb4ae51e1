"""From enrolled people to the messages that bring them, or what changed of them, to workers.

Whoever has no face that a worker can compare with is left out, with their name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from camfleet_gateway.people.embeddings import Rows, most_different, representatives, to_bytes
from camfleet_gateway.people.known import KnownPerson
from camfleet_protocol.gallery import (
    MAX_PEOPLE_PER_PART,
    GalleryPart,
    GalleryPerson,
    encode_part,
)

MANY_PEOPLE = 5_000
"""Beyond, each person takes fewer rows, so that a worker's gallery stays small and quick."""
_REMOVED_PER_PART = 1000
_META_BYTES = 128 * 1024
"""Of people in one part: names may be long, and a header's meta is bounded."""
_VECTOR_BYTES = 256 * 1024
"""Of one part: acknowledgements of pictures wait behind it on the worker's socket."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many rows a person gets."""

    faces: int
    negatives: int


FULL_SHARE = Share(faces=5, negatives=16)
SMALL_SHARE = Share(faces=2, negatives=4)


def share_for(people: int) -> Share:
    """The rows that each of so many people gets: the centroid of their faces and the most different ones."""
    return SMALL_SHARE if people > MANY_PEOPLE else FULL_SHARE


@dataclass(frozen=True, slots=True)
class Change:
    """What leads from `base` to `version`; base 0 is a whole gallery."""

    embedder: str
    dimensions: int
    base: int
    version: int
    people: Sequence[KnownPerson]
    removed: Sequence[str]
    share: Share


def build(change: Change) -> tuple[bytes, ...]:
    """The messages of a change, in order; at least one. Takes a while for many people: run it in a thread."""
    comparable = [known for known in change.people if len(_faces(known, change))]
    faceless = {known.id for known in change.people} - {known.id for known in comparable}
    gone = [*change.removed, *sorted(faceless)] if change.base else []
    groups = list(_groups(comparable, change)) or [([], b"")]
    removed = list(_slices(gone, _REMOVED_PER_PART))
    count = max(len(groups), len(removed), 1)
    messages = []
    for number in range(count):
        people, vectors = groups[number] if number < len(groups) else ([], b"")
        part = GalleryPart(
            embedder=change.embedder,
            dimensions=change.dimensions,
            base=change.base,
            part=number,
            parts=count,
            people=tuple(people),
            removed=tuple(removed[number]) if number < len(removed) else (),
        )
        messages.append(encode_part(change.version, part, vectors))
    return tuple(messages)


def _groups(of: Sequence[KnownPerson], change: Change) -> Iterator[tuple[list[GalleryPerson], bytes]]:
    people: list[GalleryPerson] = []
    vectors: list[bytes] = []
    size = meta = 0
    for known in of:
        person, rows = _person(known, change)
        more = len(person.model_dump_json(exclude_defaults=True).encode()) + 1
        full = (
            len(people) == MAX_PEOPLE_PER_PART
            or size + len(rows) > _VECTOR_BYTES
            or meta + more > _META_BYTES
        )
        if people and full:
            yield people, b"".join(vectors)
            people, vectors, size, meta = [], [], 0, 0
        people.append(person)
        vectors.append(rows)
        size += len(rows)
        meta += more
    if people:
        yield people, b"".join(vectors)


def _person(known: KnownPerson, change: Change) -> tuple[GalleryPerson, bytes]:
    faces = representatives(_faces(known, change), change.share.faces)
    negatives = _fitting(known.negatives.get(change.embedder), change.dimensions)
    if len(negatives) > change.share.negatives:
        negatives = negatives[most_different(negatives, change.share.negatives, negatives[0])]
    person = GalleryPerson(
        id=known.id,
        name=known.name,
        group=known.group,
        valid_from=known.valid_from,
        valid_until=known.valid_until,
        rows=len(faces),
        negatives=len(negatives),
    )
    return person, to_bytes(faces) + to_bytes(negatives)


def _faces(known: KnownPerson, change: Change) -> Rows:
    return _fitting(known.faces.get(change.embedder), change.dimensions)


def _fitting(rows: Rows | None, dimensions: int) -> Rows:
    if rows is None or rows.shape[1] != dimensions:
        return np.empty((0, dimensions), np.float32)
    return rows


def _slices(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
