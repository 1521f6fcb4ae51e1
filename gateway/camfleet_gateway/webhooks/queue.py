"""The messages that wait, in the table `deliveries`.

A message is written in the transaction of its event. Whoever sends it takes it first, by putting off when it
is due: should the sender die, it is due again after the lease, and with several gateways only one sends it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.store.database import Database
from camfleet_gateway.store.tables import Delivery

LEASE_SECONDS = 40.0
"""Longer than an attempt can take."""
MAX_WAITING = 50_000
"""Of one webhook; what comes then is dropped, and counted."""
KEEP_DEAD = 10_000
"""Of one webhook; the newest ones."""
KEEP_DEAD_SECONDS = 30 * 86400.0
_DIGITS = 40

_DELIVERIES = Delivery.metadata.tables[Delivery.__tablename__]


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was taken to be sent."""

    id: str
    webhook: str
    event_id: str
    body: str
    created: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages of a webhook wait, and how many were given up."""

    waiting: int = 0
    dead: int = 0


def delivery_id(webhook: str, event_id: str, revision: int) -> str:
    """The id of the message about an event: the same however often it is made."""
    text = f"{webhook}\0{event_id}\0{revision}"
    return "d-" + hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


class Queue:
    """Messages in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, session: AsyncSession, rows: Sequence[dict[str, object]]) -> None:
        """Write messages in the transaction of `session`; those that are there already stay."""
        statement = self._database.insert(_DELIVERIES).on_conflict_do_nothing(index_elements=["id"])
        await session.execute(statement, list(rows))

    async def take(self, webhook: str, now: float, limit: int) -> list[Message]:
        """Messages that are due, the oldest first, now leased to the caller.

        Raises:
            UnavailableError: The database is away.
        """
        due = (
            select(Delivery.id)
            .where(Delivery.webhook == webhook, Delivery.dead.is_(False), Delivery.due <= now)
            .order_by(Delivery.due)
            .limit(limit)
        )
        async with self._database.reading() as session:
            ids = (await session.scalars(due)).all()
        if not ids:
            return []
        async with self._database.session() as session:
            taken = await session.execute(
                update(Delivery)
                .where(Delivery.id.in_(ids), Delivery.dead.is_(False), Delivery.due <= now)
                .values(due=now + LEASE_SECONDS)
                .returning(
                    Delivery.id,
                    Delivery.webhook,
                    Delivery.event_id,
                    Delivery.body,
                    Delivery.created,
                    Delivery.attempts,
                ),
                execution_options={"synchronize_session": False},
            )
            messages = [Message(*row) for row in taken.all()]
        return sorted(messages, key=lambda message: message.created)

    async def release(self, ids: Sequence[str], now: float) -> None:
        """Have messages that were taken be due at once."""
        if ids:
            async with self._database.session() as session:
                await session.execute(
                    update(Delivery).where(Delivery.id.in_(ids), Delivery.dead.is_(False)).values(due=now)
                )

    async def next_due(self, webhook: str) -> float | None:
        """When the next message is due; None if none waits."""
        query = select(func.min(Delivery.due)).where(Delivery.webhook == webhook, Delivery.dead.is_(False))
        async with self._database.reading() as session:
            return await session.scalar(query)

    async def done(self, id_: str) -> None:
        """A message was taken."""
        async with self._database.session() as session:
            await session.execute(delete(Delivery).where(Delivery.id == id_))

    async def failed(self, id_: str, *, attempts: int, due: float, problem: str, dead: bool) -> None:
        """A message was not taken; it is tried again when it is `due`, unless it is `dead`."""
        async with self._database.session() as session:
            await session.execute(
                update(Delivery)
                .where(Delivery.id == id_)
                .values(attempts=attempts, due=due, problem=problem[:256], dead=dead)
            )

    async def dead(self, before: tuple[float, str] | None, limit: int) -> list[Delivery]:
        """Messages that were given up, newest first, those before a time and id."""
        query = (
            select(Delivery)
            .where(Delivery.dead.is_(True))
            .order_by(Delivery.due.desc(), Delivery.id.desc())
            .limit(limit)
        )
        if before is not None:
            time, id_ = before
            query = query.where((Delivery.due < time) | ((Delivery.due == time) & (Delivery.id < id_)))
        async with self._database.reading() as session:
            return list((await session.scalars(query)).all())

    async def revive(self, session: AsyncSession, id_: str, now: float) -> bool:
        """Let a message that was given up be sent as if it were new; false if there is none."""
        done = await session.execute(
            update(Delivery)
            .where(Delivery.id == _plain(id_), Delivery.dead.is_(True))
            .values(dead=False, attempts=0, created=now, due=now, problem="")
            .returning(Delivery.id)
        )
        return done.scalar() is not None

    async def forget(self, session: AsyncSession, id_: str) -> bool:
        """Delete a message that was given up; false if there is none."""
        done = await session.execute(
            delete(Delivery).where(Delivery.id == _plain(id_), Delivery.dead.is_(True)).returning(Delivery.id)
        )
        return done.scalar() is not None

    async def counts(self) -> dict[str, Counts]:
        """By webhook."""
        query = select(Delivery.webhook, Delivery.dead, func.count()).group_by(
            Delivery.webhook, Delivery.dead
        )
        found: dict[str, Counts] = {}
        async with self._database.reading() as session:
            for webhook, dead, count in (await session.execute(query)).all():
                old = found.get(webhook, Counts())
                found[webhook] = Counts(old.waiting, count) if dead else Counts(count, old.dead)
        return found

    async def sweep(self, now: float, known: Sequence[str]) -> None:
        """Give up what no webhook is there for any more, and drop the oldest of what was given up."""
        gone = Delivery.dead.is_(False) & Delivery.webhook.not_in(known)
        async with self._database.session() as session:
            await session.execute(
                update(Delivery)
                .where(gone, Delivery.created < now - 3600)
                .values(dead=True, due=now, problem="there is no such webhook any more")
            )
            await session.execute(
                delete(Delivery).where(Delivery.dead.is_(True), Delivery.due < now - KEEP_DEAD_SECONDS)
            )
            names = await session.scalars(select(Delivery.webhook).where(Delivery.dead.is_(True)).distinct())
            for name in names.all():
                of_name = (Delivery.dead.is_(True), Delivery.webhook == name)
                last = await session.scalar(
                    select(Delivery.due)
                    .where(*of_name)
                    .order_by(Delivery.due.desc())
                    .offset(KEEP_DEAD)
                    .limit(1)
                )
                if last is not None:
                    await session.execute(delete(Delivery).where(*of_name, Delivery.due <= last))


def _plain(id_: str) -> str:
    """An id as it may stand in a statement: PostgreSQL takes no NUL."""
    return id_ if id_.isprintable() else ""
