"""People without a gateway around them: a real store in a folder, faces made of numbers."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camfleet_gateway.auth import Principal, Role
from camfleet_gateway.clock import Clock
from camfleet_gateway.people.embeddings import to_bytes
from camfleet_gateway.people.enrolment import NewFace
from camfleet_gateway.people.face_process import Ready
from camfleet_gateway.people.service import People
from camfleet_gateway.people.views import PersonIn
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.tables import Person
from camfleet_gateway.store.view import EventView
from camfleet_protocol.messages import EventRecord

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
        self.deleted: list[str] = []
        """Events whose vectors an index was told to forget."""
        store.events.on_delete(self._forget)

    async def _forget(self, ids: Sequence[str]) -> None:
        self.deleted.extend(ids)

    async def event(self, event_id: str, row: Row | None = None, **fields: Any) -> EventView:
        """An appearance of a face, as a worker tells it; `person` is whom it takes it for."""
        person: Person | None = fields.pop("person", None)
        data = {"kind": "face", "label": "face", "track": 1, "identity": "unknown", "quality": 0.8}
        if person is not None:
            told = {"id": person.id, "name": person.name, "group": person.group, "similarity": 0.7}
            data |= {"identity": "known", "person": told}
        record = {
            "id": event_id,
            "time": 1_700_000_000.0,
            "camera": "default.door",
            "type": "appearance",
            "message": f"{person.name} appeared" if person is not None else "somebody unknown appeared",
            "data": data,
            **fields,
        }
        await self.store.events.store(
            EventRecord.model_validate(record),
            crop=JPEG + event_id.encode() if row is not None else b"",
            scene=JPEG if row is not None else b"",
            embedding=to_bytes(row) if row is not None else b"",
            embedder=EMBEDDER if row is not None else "",
        )
        view = await self.store.events.get(event_id)
        assert view is not None
        return view

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
async def site(
    folder: Path, *, faces: bool = False, model_dir: Path | None = None, **settings: Any
) -> AsyncIterator[Site]:
    """Open it; with `faces` pictures are analysed, else `EMBEDDER` is the model that there would be."""

    def failed() -> None:
        raise AssertionError("a task has ended")

    clock = Clock()
    # The events of these tests are of long ago: none is to be too old.
    store = Store(GatewaySettings(data_dir=folder, retention_days=3650, **settings), clock)
    model = "mobilefacenet" if faces else EMBEDDER.partition("@")[0]
    people = People(store, wall=clock.wall, model_dir=model_dir, embedder=model)
    await store.start(failed)
    try:
        await people.start(failed)
        here = Site(store, people)
        if not faces:
            here.use(EMBEDDER)
        yield here
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
