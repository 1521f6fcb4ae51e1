"""When the embedding model changes: the enrolled pictures are embedded anew, in the background."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy import select

from camfleet_gateway.auth import Principal
from camfleet_gateway.people.embeddings import to_bytes
from camfleet_gateway.people.enrolment import touch
from camfleet_gateway.people.face_process import FoundFace
from camfleet_gateway.people.judging import usable
from camfleet_gateway.people.kit import Kit
from camfleet_gateway.people.known import face_context
from camfleet_gateway.people.problems import RefusedError
from camfleet_gateway.people.views import ReembedView
from camfleet_gateway.store.errors import StoreError
from camfleet_gateway.store.tables import Face, Person

logger = logging.getLogger(__name__)


class Reembedding:
    """One pass at a time over all faces of other models."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._task: asyncio.Task[None] | None = None
        self._view = ReembedView(running=False, embedder="", total=0, done=0, failed=0)

    @property
    def view(self) -> ReembedView:
        """How far it is."""
        return self._view.model_copy()

    async def begin(self, principal: Principal) -> ReembedView:
        """Begin, unless it runs already.

        Raises:
            RefusedError: Faces cannot be analysed here.
        """
        ready = await self._kit.faces.embedder()
        if self._task is not None and not self._task.done():
            return self.view
        async with self._kit.database.session() as session:
            # Of a face that is not theirs no picture is kept but the event's.
            possible = Face.negative.is_(False) | Face.event_id.is_not(None)
            wanted = select(Face.id).where(Face.embedder != ready.embedder, possible)
            wanted = wanted.order_by(Face.person_id, Face.id)
            faces = list((await session.scalars(wanted)).all())
            self._kit.audit.add(session, principal, "people.reembed", "", {"faces": len(faces)})
        self._view = ReembedView(
            running=bool(faces), embedder=ready.embedder, total=len(faces), done=0, failed=0
        )
        if faces:
            self._task = asyncio.create_task(self._run(faces, ready.embedder), name="people-reembed")
        return self.view

    async def stop(self) -> None:
        """End a pass that runs; what it has done stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, faces: list[str], embedder: str) -> None:
        try:
            for face_id in faces:
                if await self._one(face_id, embedder):
                    self._view.done += 1
                else:
                    self._view.failed += 1
        except (RefusedError, StoreError) as error:
            logger.error("faces are not embedded anew any further: %s", error)
        finally:
            self._view.running = False

    async def _one(self, face_id: str, embedder: str) -> bool:
        async with self._kit.database.reading() as session:
            face = await session.get(Face, face_id)
        if face is None or face.embedder == embedder:
            return True
        picture = await asyncio.to_thread(self._kit.snapshots.read_face, face.person_id, face_id)
        if picture is None and face.negative and face.event_id is not None:
            picture = await self._kit.events.picture(face.event_id, "crop")
            if picture is None:
                return True
        if picture is None:
            return False
        try:
            analysis = await self._kit.faces.analyze(picture)
            if not analysis.faces:
                return False
            chosen = usable(_good_enough(max(analysis.faces, key=lambda found: found.area)))
        except RefusedError as error:
            if error.status == 503:
                raise
            return False
        async with self._kit.database.session() as session:
            person = await session.get(Person, face.person_id, with_for_update=True)
            current = await session.get(Face, face_id)
            if person is None or current is None:
                return True  # removed meanwhile
            current.embedding = self._kit.sealer.seal(to_bytes(chosen.embedding), face_context(face_id))
            current.embedder = embedder
            await touch(self._kit, session, person)
        await self._kit.gallery.refresh()
        return True


def _good_enough(face: FoundFace) -> FoundFace:
    """A picture that was accepted once is not refused now: its crop may have been made smaller."""
    return face.model_copy(update={"refused": ""})
