"""People come and change; how they go is in `erasure`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.auth import Principal
from camfleet_gateway.people.enrolment import touch
from camfleet_gateway.people.kit import Kit, new_id
from camfleet_gateway.people.known import bump
from camfleet_gateway.people.problems import RefusedError, unknown_person
from camfleet_gateway.people.views import PersonIn, PersonPatch, check_validity
from camfleet_gateway.store.tables import Person

_FOR_WORKERS = {"name", "group", "valid_from", "valid_until"}


class Persons:
    """Writes people's rows."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def create(self, given: PersonIn, principal: Principal) -> Person:
        """Enrol somebody, without a picture so far.

        Raises:
            RefusedError: Somebody has that external id.
        """
        try:
            async with self._kit.database.session() as session:
                person = await self.add(session, given, principal)
        except IntegrityError:
            raise external_id_taken() from None
        await self._kit.gallery.refresh()
        return person

    async def add(
        self, session: AsyncSession, given: PersonIn, principal: Principal, *, person_id: str = ""
    ) -> Person:
        """Add a person in a transaction, with the audit row.

        Raises:
            RefusedError: Somebody has that external id.
        """
        if given.external_id is not None:
            await _check_external_id(session, given.external_id)
        now = self._kit.wall()
        person = Person(
            id=person_id or new_id(),
            **given.model_dump(),
            created=now,
            updated=now,
            version=await bump(self._kit.database, session, now),
        )
        session.add(person)
        await session.flush()
        self._kit.audit.add(session, principal, "person.create", person.id, {"group": person.group})
        return person

    async def change(self, person_id: str, patch: PersonPatch, principal: Principal) -> None:
        """Change fields of a person.

        Raises:
            RefusedError: There is nobody of that id, or the fields contradict each other.
        """
        try:
            given = patch.changes()
        except ValueError as error:
            raise RefusedError("invalid", str(error)) from None
        try:
            async with self._kit.database.session() as session:
                person = await session.get(Person, person_id, with_for_update=True)
                if person is None:
                    raise unknown_person()
                await self.apply(session, person, given, principal)
        except IntegrityError:
            raise external_id_taken() from None
        await self._kit.gallery.refresh()

    async def apply(
        self, session: AsyncSession, person: Person, given: dict[str, Any], principal: Principal
    ) -> bool:
        """Change fields in a transaction, with the audit row; tells whether anything differs.

        Raises:
            RefusedError: The dates are in the wrong order, or somebody has that external id.
        """
        changed = {name: value for name, value in given.items() if getattr(person, name) != value}
        if not changed:
            return False
        if (external_id := changed.get("external_id")) is not None:
            await _check_external_id(session, external_id)
        for name, value in changed.items():
            setattr(person, name, value)
        try:
            check_validity(person.valid_from, person.valid_until)
        except ValueError as error:
            raise RefusedError("invalid", str(error)) from None
        if changed.keys() & _FOR_WORKERS:
            await touch(self._kit, session, person)
        else:
            person.updated = self._kit.wall()
        self._kit.audit.add(session, principal, "person.change", person.id, {"fields": sorted(changed)})
        return True


async def _check_external_id(session: AsyncSession, external_id: str) -> None:
    if (await session.scalars(select(Person.id).where(Person.external_id == external_id))).first():
        raise external_id_taken()


def external_id_taken() -> RefusedError:
    """Somebody else has it."""
    return RefusedError("ExternalIdTaken", "somebody else has this external id", status=409)
