"""Vectors without a gateway around them: a real store in a folder, faces made of numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from camfleet_gateway.clock import Clock
from camfleet_gateway.people.embeddings import to_bytes
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.store.service import Store
from camfleet_gateway.vectors.index import Target, Wanted
from camfleet_gateway.vectors.service import Vectors
from camfleet_gateway.vectors.sizes import SizeOf, not_known
from camfleet_protocol.messages import EventRecord

MODEL, OTHER = "mobilefacenet@b7120c095d60", "other@000000000000"
DIMENSIONS = 128


def face(number: int, dimensions: int = DIMENSIONS) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A direction of its own for each number."""
    values = np.random.default_rng(number).standard_normal(dimensions).astype(np.float32)
    return np.asarray(values / np.linalg.norm(values), np.float32)


class Server(Protocol):
    """Where a Milvus server is."""

    @property
    def url(self) -> str: ...
    @property
    def token_file(self) -> Path | None: ...


class Site:
    """One start of a gateway's store and vectors."""

    def __init__(
        self,
        folder: Path,
        server: Server | None = None,
        database: str | None = None,
        size_of: SizeOf = not_known,
    ) -> None:
        self.wall = 1000.0
        clock = Clock(wall=lambda: self.wall)
        self.store = Store(GatewaySettings(data_dir=folder, database_url=database), clock)
        self.folder = folder / "vectors"
        target = Target(self.folder)
        if server is not None:
            target = Target(self.folder, server.url, server.token_file)
        self.vectors = Vectors(self.store, target, clock=clock, size_of=size_of)

    async def see(self, id_: str, number: int, **fields: Any) -> None:
        dimensions = fields.pop("dimensions", DIMENSIONS)
        embedder = fields.pop("embedder", MODEL)
        basis = {"id": id_, "time": 100.0, "camera": "default.door", "type": "appearance"}
        await self.store.events.store(
            EventRecord.model_validate(basis | fields),
            embedding=to_bytes(face(number, dimensions)[None, :]),
            embedder=embedder,
        )

    async def find(self, number: int, limit: int = 1, model: str = MODEL, **wanted: Any) -> list[str]:
        hits = await self.vectors.search(model, [face(number)], Wanted(**wanted), limit)
        return [hit.event_id for hit in hits if hit.similarity > 0.9]

    async def delete(self, *ids: str) -> None:
        async with self.store.database.session() as session:
            await self.store.events.delete(session, ids)

    def on_disk(self, number: int, folder: Path | None = None) -> bool:
        """Whether the index's files hold a face; they are in its own folder, if not said."""
        wanted = np.float16(face(number)).astype(np.float32)
        wanted = np.asarray(wanted / np.float32(np.linalg.norm(wanted)), np.float32)
        needle = wanted[:8].tobytes()
        files = [path for path in (folder or self.folder).rglob("*") if path.is_file()]
        return any(needle in _content(path) for path in files)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # a server removes its files when it likes
        return b""


@asynccontextmanager
async def starting(
    folder: Path, server: Server | None = None, database: str | None = None
) -> AsyncIterator[Site]:
    """A site whose store is open."""
    site = Site(folder, server, database)
    await site.store.start(lambda: None)
    try:
        yield site
    finally:
        await site.vectors.stop()
        await site.store.stop()
