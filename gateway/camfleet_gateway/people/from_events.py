"""What people say of the face of an event: "this is…" and "not this person".

It enrols the event's face, or keeps it as one that is surely not theirs, and the event says from then on what
was said, whatever its worker still tells of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.auth import Principal
from camfleet_gateway.people.embeddings import from_bytes
from camfleet_gateway.people.enrolment import Enrolment, NewFace, digest_of, touch
from camfleet_gateway.people.kit import Kit
from camfleet_gateway.people.persons import Persons
from camfleet_gateway.people.problems import RefusedError, unknown_person
from camfleet_gateway.people.views import EventPerson, PersonIn
from camfleet_gateway.store.errors import WrongKeyError
from camfleet_gateway.store.rows import renamed
from camfleet_gateway.store.tables import Event, Face, Person
from camfleet_gateway.store.view import EventView
from camfleet_protocol.appearance import Identity

_NOT_NEEDED = ("Duplicate", "TooManyFaces")
"""The face is not enrolled, and what was said of the event holds all the same."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of it."""

    event: EventView
    person_id: str
    face: Face | None
    """The new face; None if it was not needed."""
    reason: str = ""
    """Why it was not."""


class FromEvents:
    """Takes what people say of events."""

    def __init__(self, kit: Kit, persons: Persons, enrolment: Enrolment) -> None:
        self._kit = kit
        self._persons = persons
        self._enrolment = enrolment

    async def say(self, event_id: str, said: EventPerson, principal: Principal, *, force: bool) -> Said:
        """Take it.

        Raises:
            RefusedError: No such event or person, no face in it, or it looks like somebody else.
        """
        view = await self._kit.events.get(event_id)
        if view is None:
            raise RefusedError("unknown_event", "there is no such event", status=404)
        face = await self._face(view)
        if said.not_person_id is not None:
            return await self._not(view, face, said.not_person_id, principal)
        return await self._is(view, face, said, principal, force=force)

    async def _is(
        self, view: EventView, face: NewFace, said: EventPerson, principal: Principal, *, force: bool
    ) -> Said:
        wrong = view.person.id if view.person is not None and view.person.id != said.person_id else None
        reason = ""
        if not force:
            try:
                await self._enrolment.check(said.person_id or "", face, unlike=[wrong] if wrong else [])
            except RefusedError as error:
                if error.code not in _NOT_NEEDED:
                    raise
                reason = error.code
        async with self._kit.database.session() as session:
            if said.person_id is None:
                given = PersonIn(name=said.name or "", **({"group": said.group} if said.group else {}))
                person = await self._persons.add(session, given, principal)
            else:
                person = await _person(session, said.person_id)
            await self._undecided(session, view, also=wrong)
            await self._forget(session, person, view.id, negative=True)
            row = None
            if not reason:
                row, reason = await self._put(session, person.id, face, principal)
            await self._forget_others(session, person, view.id)
            if wrong is not None and await session.get(Person, wrong) is not None:
                await self._put(session, wrong, replace(face, negative=True), principal)
            told = {"id": person.id, "name": person.name, "group": person.group, "similarity": 1.0}
            corrected = await self._relabel(session, view.id, told)
            self._kit.audit.add(session, principal, "event.identify", view.id, {"person": person.id})
        return await self._said(view, person.id, row, reason, corrected=corrected)

    async def _not(self, view: EventView, face: NewFace, person_id: str, principal: Principal) -> Said:
        async with self._kit.database.session() as session:
            person = await _person(session, person_id)
            await self._forget(session, person, view.id, negative=False)
            row, reason = await self._put(session, person_id, replace(face, negative=True), principal)
            taken_for_them = view.person is not None and view.person.id == person_id
            corrected = await self._relabel(session, view.id, None) if taken_for_them else False
            self._kit.audit.add(session, principal, "event.refute", view.id, {"person": person_id})
        return await self._said(view, person_id, row, reason, corrected=corrected)

    async def _said(
        self, before: EventView, person_id: str, row: Face | None, reason: str, *, corrected: bool
    ) -> Said:
        await self._kit.gallery.refresh()
        view = await self._kit.events.get(before.id)
        if view is None:
            raise RefusedError("unknown_event", "the event has been deleted meanwhile", status=404)
        if corrected:
            self._kit.events.tell(view, before=before)
        return Said(view, person_id, row, reason)

    async def _put(
        self, session: AsyncSession, person_id: str, face: NewFace, principal: Principal
    ) -> tuple[Face | None, str]:
        row = self._enrolment.row(person_id, face)
        try:
            await self._enrolment.store(session, row, principal)
        except RefusedError as error:
            if error.code not in _NOT_NEEDED:
                raise
            return None, error.code
        await self._enrolment.put_crop(row, face)
        return row, ""

    async def _forget(self, session: AsyncSession, person: Person, event_id: str, *, negative: bool) -> None:
        """Take back what was said of this event and person before, if it was the contrary."""
        contrary = select(Face).where(
            Face.person_id == person.id, Face.event_id == event_id, Face.negative == negative
        )
        await self._take_back(session, (await session.scalars(contrary)).all())

    async def _forget_others(self, session: AsyncSession, person: Person, event_id: str) -> None:
        """Nobody else has this event's face as theirs, whoever it was given to before."""
        others = select(Face).where(
            Face.person_id != person.id, Face.event_id == event_id, Face.negative.is_(False)
        )
        await self._take_back(session, (await session.scalars(others)).all())

    async def _take_back(self, session: AsyncSession, faces: Sequence[Face]) -> None:
        for face in faces:
            owner = await session.get(Person, face.person_id, with_for_update=True)
            await session.delete(face)
            if owner is not None:
                await touch(self._kit, session, owner)
        await session.flush()
        await self._enrolment.drop_crops(faces)

    async def _undecided(self, session: AsyncSession, view: EventView, *, also: str | None) -> None:
        """See that nobody else has said meanwhile who it is: two clicks must not make two people of one.

        Raises:
            RefusedError: Somebody has.
        """
        if also is not None:  # before the event, as erasure takes its locks
            await session.get(Person, also, with_for_update=True)
        event = await session.get(Event, view.id, with_for_update=True)
        before = view.person.id if view.person is not None else None
        if event is not None and event.decided and event.person_id != before:
            raise RefusedError(
                "AlreadySaid", "somebody has said meanwhile who this is; look at the event again", status=409
            )

    async def _relabel(self, session: AsyncSession, event_id: str, person: dict[str, Any] | None) -> bool:
        """Write who it is into the event; tells whether it said anything else before."""
        event = await session.get(Event, event_id, with_for_update=True)
        if event is None:
            raise RefusedError("unknown_event", "the event has been deleted meanwhile", status=404)
        data = {name: value for name, value in event.data.items() if name != "person"}
        identity = Identity.KNOWN if person is not None else Identity.UNKNOWN
        before = event.data.get("person")
        if event.decided and before == person and event.identity == identity.value:
            return False
        name = before.get("name") if isinstance(before, dict) else ""
        if person is not None:
            data["person"] = person
        event.data = {**data, "identity": identity.value}
        event.identity = identity.value
        event.person_id = person["id"] if person is not None else None
        event.message = _message(event.message, str(name or ""), person)
        event.decided = True
        await self._kit.events.corrected(session, event_id)
        return True

    async def _face(self, view: EventView) -> NewFace:
        """The face of an event, embedded by the model in use where that is possible.

        Raises:
            RefusedError: It shows none.
        """
        crop = await self._kit.events.picture(view.id, "crop") or b""
        try:
            found = await self._kit.events.vector(view.id)
        except WrongKeyError:
            found = None
        current = self._kit.embedder
        if found is not None and (not current or found[0] == current or not crop):
            try:
                embedding = from_bytes(found[1])
            except ValueError:
                pass
            else:
                quality = view.data.get("quality")
                return NewFace(
                    embedding=embedding,
                    embedder=found[0],
                    crop=crop,
                    digest=await asyncio.to_thread(digest_of, crop or found[1]),
                    quality=float(quality) if isinstance(quality, int | float) and 0 <= quality <= 1 else 0.0,
                    source="event",
                    event_id=view.id,
                )
        if not crop:
            raise RefusedError("NoFace", "this event shows no face that could be enrolled")
        return replace(await self._enrolment.analyse(crop, source="event"), event_id=view.id)


async def _person(session: AsyncSession, person_id: str) -> Person:
    person = await session.get(Person, person_id, with_for_update=True)
    if person is None:
        raise unknown_person()
    return person


def _message(before: str, old_name: str, person: dict[str, Any] | None) -> str:
    """The event's words, with whom it is said to be."""
    name = str(person["name"]) if person is not None else "somebody unknown"
    if old_name and (after := str(renamed(before, old_name, name))) != before:
        return after[:512]
    return f"{name} (identified by hand)"[:512] if person is not None else "somebody unknown"
