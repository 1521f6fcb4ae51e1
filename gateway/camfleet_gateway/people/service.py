"""People, put together: what `Gateway` holds and the routes talk to."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from camfleet_gateway.people.enrolment import Enrolment
from camfleet_gateway.people.erasure import Erasure
from camfleet_gateway.people.faces_client import FacesClient
from camfleet_gateway.people.from_events import FromEvents
from camfleet_gateway.people.gallery_source import GallerySource
from camfleet_gateway.people.importing import Importer
from camfleet_gateway.people.kit import Kit
from camfleet_gateway.people.known import KnownPeople
from camfleet_gateway.people.persons import Persons
from camfleet_gateway.people.problems import RefusedError
from camfleet_gateway.people.reembedding import Reembedding
from camfleet_gateway.people.uploads import Uploads
from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.service import Store
from camfleet_gateway.tasks import start_task

logger = logging.getLogger(__name__)

_DIMENSIONS = {"mobilefacenet": 128}
"""So that workers with the usual model know everybody for unknown, also where the gateway has no weights."""
_SIZES = {"mobilefacenet@b7120c095d60": 128}
"""Of the usual model's very file."""


class People:
    """Everything about enrolled people."""

    def __init__(
        self, store: Store, *, wall: Callable[[], float], model_dir: Path | None, embedder: str
    ) -> None:
        """Put it together.

        Args:
            store: Where it is kept; opened by its owner.
            wall: Unix seconds.
            model_dir: Folder with weights; None if there is none.
            embedder: Name of the embedding model.
        """
        database, sealer = store.database, store.sealer
        scratch = store.folder / "scratch"
        self.known = KnownPeople(database, sealer)
        self.gallery = GallerySource(self.known, size_of=self.size_of, dimensions_of=self._dimensions_of)
        self.faces = FacesClient(model_dir, embedder)
        self._embedder = embedder
        self._opened = store.opened
        self.kit = Kit(
            database=database,
            sealer=sealer,
            snapshots=store.snapshots,
            audit=store.audit,
            events=store.events,
            faces=self.faces,
            known=self.known,
            gallery=self.gallery,
            wall=wall,
            scratch=scratch,
        )
        self.uploads = Uploads(scratch)
        self.enrolment = Enrolment(self.kit)
        self.persons = Persons(self.kit)
        self.importer = Importer(self.kit, self.persons, self.enrolment)
        self.reembedding = Reembedding(self.kit)
        self.erasure = Erasure(self.kit)
        self.erasure.on_erase(self.importer.erased)
        self.from_events = FromEvents(self.kit, self.persons, self.enrolment)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, failed: Callable[[], None]) -> None:
        """Read who is enrolled, and follow the changes of other replicas.

        A database that is away is no reason not to start: what is there is read once it comes.
        """
        await asyncio.to_thread(shutil.rmtree, self.kit.scratch, ignore_errors=True)
        await self.faces.look()
        if self._opened.is_set():
            await self._catch_up()
        self._tasks = [start_task(self._run(), name="people", failed=failed)]

    async def _run(self) -> None:
        if not self._opened.is_set():
            await self._opened.wait()
            await self._catch_up()
        await self.gallery.run()

    async def _catch_up(self) -> None:
        try:
            await self.gallery.refresh()
            self.erasure.sweep_soon()
        except UnavailableError as error:
            logger.warning("the people are not known yet: %s", error)

    async def stop(self) -> None:
        """End what runs."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.importer.stop()
        await self.reembedding.stop()
        await self.erasure.stop()
        await self.faces.stop()

    async def size_of(self, embedder: str) -> int | None:
        """How many values a model's vectors have, as far as that is known without starting anything."""
        ready = self.faces.ready
        if ready is not None and ready.embedder == embedder:
            return ready.dimensions
        return _SIZES.get(embedder)  # not by its name alone: anybody's model may be called that

    async def _dimensions_of(self, embedder: str) -> int | None:
        """How many values the vectors of a worker's model have, where nobody has a face of it yet."""
        ready = self.faces.ready
        if ready is None and embedder.partition("@")[0] == self._embedder:
            if self._embedder in _DIMENSIONS:
                return _DIMENSIONS[self._embedder]
            try:
                ready = await self.faces.embedder()
            except RefusedError:
                return None
        if ready is not None and ready.embedder == embedder:
            return ready.dimensions
        return None
