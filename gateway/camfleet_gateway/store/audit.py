"""Who did what to people and their data.

An entry is written in the transaction of what it tells of: there is never the one without the other. It
holds ids and figures, no name of a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.auth import Principal
from camfleet_gateway.clock import Clock
from camfleet_gateway.store.database import Database
from camfleet_gateway.store.tables import AuditEntry


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries, newest first; `next_before` continues them, if there are more."""

    entries: tuple[AuditEntry, ...]
    next_before: int | None


class Audit:
    """The log in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add(
        self,
        session: AsyncSession,
        principal: Principal,
        action: str,
        subject: str = "",
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Write an entry, in the transaction of `session`.

        Args:
            session: What it tells of is done in the same one.
            principal: Who did it.
            action: Such as `person.erase`.
            subject: Id of the person, face or event.
            detail: Figures and ids; no names.
        """
        session.add(
            AuditEntry(
                time=self._clock.wall(),
                actor=principal.name,
                role=principal.role.label,
                action=action,
                subject=subject[:128],
                detail=detail or {},
            )
        )

    async def find(self, *, subject: str | None = None, before: int | None = None, limit: int) -> AuditPage:
        """Entries, newest first, below the number `before`, of one subject or of all.

        Raises:
            UnavailableError: The database is away.
        """
        query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit + 1)
        if subject is not None:
            query = query.where(AuditEntry.subject == subject)
        if before is not None:
            query = query.where(AuditEntry.id < before)
        async with self._database.reading() as session:
            found = (await session.scalars(query)).all()
        page = tuple(found[:limit])
        return AuditPage(page, page[-1].id if len(found) > limit else None)
