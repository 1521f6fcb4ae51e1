"""People without a gateway around them: a real store in a folder, faces made of numbers."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camfleet_gateway.auth import Principal, Role
from camfleet_gateway.clock import Clock
from camfleet_gateway.people.enrolment import NewFace
from camfleet_gateway.people.face_process import Ready
from camfleet_gateway.people.service import People
from camfleet_gateway.people.views import PersonIn
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.tables import Person

ADMIN = Principal("the-admin", Role.ADMIN)
EMBEDDER = "numbers@0123456789ab"
DIMENSIONS = 128
JPEG = b"\xff\xd8\xff\xe0picture"
Row = NDArray[np.float32]


def direction(seed: int) -> Row:
    """A vector of length 1; different seeds are hardly alike."""
    values = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    return np.asarray(values / np.linalg.norm(values), np.float32)


def near(row: Row, similarity: float, seed: int = 0) -> Row:
    """A vector of length 1 with this cosine to `row`."""
    other = direction(90_000 + seed)
    other = other - row * float(other @ row)
    other = other / np.linalg.norm(other)
    return np.asarray(row * similarity + other * np.sqrt(1 - similarity**2), np.float32)


def face(row: Row, **fields: Any) -> NewFace:
    """A face as the faces process would have found it."""
    given: dict[str, Any] = {"embedder": EMBEDDER, "crop": JPEG, "digest": "", "quality": 0.9, **fields}
    return NewFace(embedding=row, **given)


class Site:
    """A store and the people in it. No faces process runs: `embedder` is what one would have said."""

    def __init__(self, store: Store, people: People) -> None:
        self.store = store
        self.people = people
        self.use(EMBEDDER)

    def use(self, embedder: str) -> None:
        """Another model is in use from now on."""
        self.people.faces._ready = Ready(embedder=embedder, dimensions=DIMENSIONS, threshold=0.5)

    async def person(self, name: str, *rows: Row, force: bool = True, **fields: Any) -> Person:
        """Enrol somebody with these faces."""
        person = await self.people.persons.create(PersonIn(name=name, **fields), ADMIN)
        for row in rows:
            await self.people.enrolment.add(person.id, face(row), ADMIN, force=force)
        return person


@asynccontextmanager
async def site(folder: Path, **settings: Any) -> AsyncIterator[Site]:
    """Open it."""

    def failed() -> None:
        raise AssertionError("a task has ended")

    clock = Clock()
    store = Store(GatewaySettings(data_dir=folder, **settings), clock)
    people = People(store, wall=clock.wall, model_dir=None, embedder="numbers")
    await store.start(failed)
    try:
        await people.start(failed)
        yield Site(store, people)
    finally:
        await people.stop()
        await store.stop()


def zipped(files: dict[str, bytes]) -> bytes:
    """An archive of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def base64_row(row: Row) -> str:
    """A vector as the faces process and exports write it."""
    return base64.b64encode(row.astype("<f2").tobytes()).decode()
