"""Somebody is erased: nothing of theirs stays but that an id was removed, and who did it.

One transaction takes out the person, their faces, faces of others that show them, their alerts' words,
messages to webhooks that name them, and makes their events anonymous: what happened stays, without
name, pictures and vector. Pictures and index entries go before the commit; should it fail, erasing again
finds the rest.

Events that show them without telling of them (`lookalikes`) may be many. The same transaction only writes
into them whose they are; then they are made anonymous like the others, in small transactions. Where a crash
ends that, the next start goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import String, case, cast, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.auth import Principal
from camfleet_gateway.people.embeddings import from_bytes
from camfleet_gateway.people.enrolment import touch
from camfleet_gateway.people.kit import Kit
from camfleet_gateway.people.known import bump, face_context
from camfleet_gateway.people.lookalikes import THRESHOLD, LookAlikes, Looks
from camfleet_gateway.people.problems import unknown_person
from camfleet_gateway.people.views import ErasedCounts, ErasurePreview
from camfleet_gateway.store.errors import StoreError, WrongKeyError
from camfleet_gateway.store.events import Erased
from camfleet_gateway.store.tables import Alert, Delivery, Event, Face, Person, RemovedPerson
from camfleet_gateway.store.view import PersonView
from camfleet_gateway.store.writer import EVENTS
from camfleet_protocol.appearance import Identity

logger = logging.getLogger(__name__)

EraseHook = Callable[[AsyncSession, str], Awaitable[None]]
"""Gets the transaction and the id of who is erased; raises if that must wait."""
AGAIN_SECONDS = 10.0
"""An event may be on its way into another replica's transaction while somebody is erased."""
BATCH = 200
"""Events that are made anonymous in one transaction after the first."""
NOBODY = Looks("")
_UNDER_WAY_SECONDS = 60.0
"""No transaction that stores an event takes as long."""
_LONGEST_PAUSE = 600.0
_CHUNK = 500
_ALERT_WORDS = "somebody who was erased"


class Erasure:
    """Erases people."""

    def __init__(self, kit: Kit, *, again_seconds: float = AGAIN_SECONDS) -> None:
        self._kit = kit
        self._lookalikes = LookAlikes(kit)
        self._again_seconds = again_seconds
        self._hooks: list[EraseHook] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def on_erase(self, hook: EraseHook) -> None:
        """Have `hook` called in the transaction of each erasure."""
        self._hooks.append(hook)

    async def preview(self, person_id: str) -> ErasurePreview:
        """What erasing somebody would remove, as it is now.

        Raises:
            RefusedError: There is nobody of that id.
            UnavailableError: The database is away.
        """
        columns = EVENTS.c
        pictures = func.sum(case((columns.crop, 1), else_=0) + case((columns.scene, 1), else_=0))
        async with self._kit.database.reading() as session:
            if await session.get(Person, person_id) is None:
                raise unknown_person()
            negatives = (
                await session.scalars(select(Face.negative).where(Face.person_id == person_id))
            ).all()
            linked = select(func.count(), pictures).where(columns.person_id == person_id)
            events, of_events = (await session.execute(linked)).one()
        alike = await self._lookalikes.find(await self._lookalikes.looks(person_id))
        return ErasurePreview(
            faces=len(negatives),
            events=events,
            pictures=negatives.count(False) + int(of_events or 0),
            lookalikes=len(alike),
            lookalike_pictures=sum(event.pictures for event in alike),
        )

    async def erase(self, person_id: str, principal: Principal, *, lookalikes: bool = True) -> ErasedCounts:
        """Erase somebody.

        Args:
            person_id: Who.
            principal: Who wants it.
            lookalikes: Also erase events that show them without telling of them.

        Raises:
            RefusedError: There is nobody of that id.
            UnavailableError: Not now: the database or the index of vectors is away. Erase again.
        """
        kit = self._kit
        began = kit.wall()
        looks = await self._lookalikes.looks(person_id) if lookalikes else Looks(person_id)
        alike = await self._lookalikes.find(looks)
        async with kit.database.session() as session:
            person = await session.get(Person, person_id, with_for_update=True)
            if person is None:
                raise unknown_person()
            faces = list((await session.scalars(select(Face).where(Face.person_id == person_id))).all())
            await session.execute(delete(Face).where(Face.person_id == person_id))
            await session.execute(delete(Person).where(Person.id == person_id))
            now = kit.wall()
            version = await bump(kit.database, session, now)
            session.add(RemovedPerson(id=person_id, version=version, removed=now))
            erased = await self._from_events(session, person_id, name=person.name)
            await self._mentions(session, person_id)
            marked = await self._lookalikes.mark(session, person_id, alike)
            others = await self._of_others(session, person_id, faces, [*erased.ids, *marked.ids])
            for hook in self._hooks:
                await hook(session, person_id)
            await kit.events.before_deletion(erased.ids)
            pictures = await asyncio.to_thread(self._files, person_id, erased, others)
            counts = ErasedCounts(
                faces=len(faces) + len(others),
                events=len(erased.ids),
                lookalikes=len(marked.ids) if lookalikes else None,
                pictures=pictures + marked.pictures,
                vectors=len(faces) + len(others) + erased.vectors + len(marked.ids),
            )
            kit.audit.add(session, principal, "person.erase", person_id, counts.model_dump())
        await asyncio.to_thread(kit.snapshots.remove_person, person_id)  # what came meanwhile
        try:
            await kit.gallery.refresh()
            await self._tell(erased.ids, person_id)
            if marked.ids:
                await self._sweep(person_id)
            await kit.database.checkpoint()
        except StoreError as error:
            logger.warning("somebody was erased, and the rest of it must wait: %s", error)
        self._soon(self._finish(person_id, looks, began - _UNDER_WAY_SECONDS))
        return counts

    async def _from_events(
        self, session: AsyncSession, person_id: str, *, name: str = "", most: int | None = None
    ) -> Erased:
        erased = await self._kit.events.erase_person(session, person_id, most=most)
        for start in range(0, len(erased.ids), _CHUNK):
            ids = erased.ids[start : start + _CHUNK]
            told = update(Alert).where(or_(Alert.id.in_(ids), Alert.event_id.in_(ids)))
            if name:
                told = told.where(Alert.message.contains(name, autoescape=True))
            await session.execute(told.values(message=_ALERT_WORDS))
            await session.execute(delete(Delivery).where(Delivery.event_id.in_(ids)))
        return erased

    async def _mentions(self, session: AsyncSession, person_id: str) -> None:
        """Take out of everything else what names them by their id."""
        mentions = select(Event).where(cast(Event.data, String).contains(person_id, autoescape=True))
        for event in (await session.scalars(mentions.with_for_update())).all():
            event.data = {"erased": True} if person_id in json.dumps(event.data) else event.data
            event.message = ""
        await session.execute(delete(Delivery).where(Delivery.body.contains(person_id, autoescape=True)))

    async def _of_others(
        self, session: AsyncSession, person_id: str, faces: Sequence[Face], events: Sequence[str]
    ) -> list[Face]:
        """What others have of these events, and what they have as not theirs that is like this person."""
        elsewhere = select(Face).where(Face.person_id != person_id)
        negatives = (await session.scalars(elsewhere.where(Face.negative.is_(True)))).all()
        own = [face for face in faces if not face.negative]
        alike = await asyncio.to_thread(self._alike, own, negatives) if own else set()
        found = {face.id: face for face in negatives if face.id in alike}
        for start in range(0, len(events), _CHUNK):
            of_events = elsewhere.where(Face.event_id.in_(events[start : start + _CHUNK]))
            found |= {face.id: face for face in (await session.scalars(of_events)).all()}
        for face in found.values():
            other = await session.get(Person, face.person_id, with_for_update=True)
            await session.delete(face)
            if other is not None:
                await touch(self._kit, session, other)
        return list(found.values())

    def _alike(self, own: Sequence[Face], others: Sequence[Face]) -> set[str]:
        """Which of the others are as much like one of their own as two pictures of one person are."""
        ready = self._kit.faces.ready
        threshold = ready.threshold if ready is not None else THRESHOLD
        theirs = [(face, row) for face in own if (row := self._row(face)) is not None]
        found = set()
        for face in others:
            row = self._row(face)
            for mine, mine_row in theirs:
                same_model = mine.embedder == face.embedder and row is not None and len(row) == len(mine_row)
                if same_model and row is not None and float(row @ mine_row) >= threshold:
                    found.add(face.id)
        return found

    def _row(self, face: Face) -> NDArray[np.float32] | None:
        try:
            return from_bytes(self._kit.sealer.open(face.embedding, face_context(face.id)))
        except (WrongKeyError, ValueError):
            return None

    def _files(self, person_id: str, erased: Erased, others: Sequence[Face]) -> int:
        snapshots = self._kit.snapshots
        count = sum(snapshots.remove_face(face.person_id, face.id) for face in others)
        return count + snapshots.remove_person(person_id) + self._kit.events.remove_pictures(erased.pictures)

    async def _tell(self, events: Sequence[str], person_id: str = "") -> None:
        """Let pages that show these events show them without the person that they told of."""
        was = {"person": PersonView(id=person_id), "identity": Identity.KNOWN.value}
        for view in (await self._kit.events.get_many(events[:_CHUNK])).values():
            self._kit.events.tell(view, before=view.model_copy(update=was) if person_id else None)

    # ── What comes late ────────────────────────────────────────────────────────────────────────────

    def sweep_soon(self) -> None:
        """Have what an erasure has left undone, as its gateway was killed, finished in the background."""
        self._soon(self._finish())

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="people-erase-again")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, person_id: str = "", looks: Looks = NOBODY, since: float = 0.0) -> None:
        """Erase what came of somebody while they were erased, and go on until nothing is left undone.

        Args:
            person_id: Who; empty for all who were ever erased.
            looks: How they look: their faces are in no database any more.
            since: What was stored from then on may not have been compared.
        """
        pause = self._again_seconds if person_id else 0.0
        while True:
            await asyncio.sleep(pause)
            try:
                if looks.by_model:
                    alike = await self._lookalikes.find(looks, since=since)
                    if alike:
                        async with self._kit.database.session() as session:
                            await self._lookalikes.mark(session, person_id, alike)
                await self.sweep([person_id] if person_id else None)
                return
            except StoreError as error:
                pause = min(max(2 * pause, self._again_seconds), _LONGEST_PAUSE)
                logger.warning("what is left of somebody erased is looked for again later: %s", error)

    async def sweep(self, people: Sequence[str] | None = None) -> int:
        """Make events anonymous that tell of somebody who was erased; returns how many.

        Those are such as came in meanwhile, and those that were marked.

        Args:
            people: Ids; None for all who were ever erased.

        Raises:
            UnavailableError: Database or index are away; what is left is found again.
        """
        async with self._kit.database.reading() as session:
            late = select(Event.person_id).distinct().join(RemovedPerson, RemovedPerson.id == Event.person_id)
            if people is not None:
                late = late.where(Event.person_id.in_(people))
            found = [person_id for person_id in (await session.scalars(late)).all() if person_id]
        count = 0
        for person_id in found:
            count += await self._sweep(person_id)
            async with self._kit.database.session() as session:
                await self._mentions(session, person_id)
        if found:
            await self._kit.database.checkpoint()
        return count

    async def _sweep(self, person_id: str) -> int:
        """A few events at a time, each time in a transaction of its own, so that others get their turn."""
        count = 0
        while True:
            async with self._kit.database.session() as session:
                erased = await self._from_events(session, person_id, most=BATCH)
                if erased.ids:
                    for hook in self._hooks:
                        await hook(session, person_id)
                    await self._kit.events.before_deletion(erased.ids)
                    await asyncio.to_thread(self._kit.events.remove_pictures, erased.pictures)
            if count < _CHUNK:  # who looks at more of them loads them anew
                await self._tell(erased.ids)
            count += len(erased.ids)
            if len(erased.ids) < BATCH:
                return count

    async def stop(self) -> None:
        """End what waits."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
