"""Events in the database, with their pictures: stored once, found, told to whoever listens, deleted.

Storing is idempotent: an event that comes again with the same or a lower revision changes nothing. Listeners
are called after the commit, in the order in which events came; what must happen with an event or not at all
goes into its transaction (`in_transaction`).

What people correct counts besides the revisions of the event's maker, so that neither hides the other; what
is told is the sum.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.clock import Clock
from camfleet_gateway.store.batches import Batches, StoreResult
from camfleet_gateway.store.database import Database
from camfleet_gateway.store.query import Cursor, EventFilter, events_query
from camfleet_gateway.store.rows import Incoming, anonymous
from camfleet_gateway.store.sealing import Sealer
from camfleet_gateway.store.snapshots import Picture, Snapshots
from camfleet_gateway.store.tables import Alert, Delivery
from camfleet_gateway.store.view import EventView, view_of
from camfleet_gateway.store.writer import EVENTS, Consequences, EventWriter, InTransaction, as_stored
from camfleet_protocol.messages import EventRecord

logger = logging.getLogger(__name__)

Listener = Callable[[EventView, bool], None]
"""Gets an event that was stored, and whether it is new."""
ToldListener = Callable[[EventView, bool, EventView | None], None]
"""Likewise, and the event as it was before, where people or an erasure have changed it."""
VectorListener = Callable[[EventView, bytes], None]
"""Gets an event that was stored with a new vector, and the vector: little-endian float16."""
DeletionHook = Callable[[Sequence[str]], Awaitable[None]]
"""Gets the ids of events that are about to be deleted; raises if that must wait."""
_ERASE_BATCH = 500


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, newest first; `next_cursor` continues them, if there are more."""

    events: tuple[EventView, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Erased:
    """What erasing a person took out of events. `pictures` are to be removed after the commit."""

    ids: tuple[str, ...]
    vectors: int
    pictures: tuple[tuple[str, float], ...]
    """Id and time of each event that had any."""


class EventStore:
    """All events of this gateway's database."""

    def __init__(
        self,
        database: Database,
        *,
        sealer: Sealer,
        snapshots: Snapshots,
        clock: Clock,
        retention_days: float,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._snapshots = snapshots
        self.retention_days = retention_days
        self._writer = EventWriter(database, sealer=sealer, snapshots=snapshots, clock=clock)
        self._batches = Batches(self._write)
        self._listeners: list[Listener] = []
        self._told_listeners: list[ToldListener] = []
        self._vector_listeners: list[VectorListener] = []
        self._deletion_hooks: list[DeletionHook] = []

    # ── Who is told ────────────────────────────────────────────────────────────────────────────────

    def on_stored(self, listener: Listener) -> None:
        """Have `listener` called after the commit for every event that is new or has changed."""
        self._listeners.append(listener)

    def on_told(self, listener: ToldListener) -> None:
        """Likewise, for who wants to know what an event was before people changed it."""
        self._told_listeners.append(listener)

    def on_vector(self, listener: VectorListener) -> None:
        """Have `listener` called after the commit for every vector that came with an event."""
        self._vector_listeners.append(listener)

    def in_transaction(self, hook: InTransaction) -> None:
        """Have `hook` called in the transaction that stores events; what it writes is committed with them."""
        self._writer.in_transaction.append(hook)

    def consequences(self, hook: Consequences) -> None:
        """Have `hook` called in the transaction that stores events; the events it gives are stored in it."""
        self._writer.consequences.append(hook)

    def on_delete(self, hook: DeletionHook) -> None:
        """Have `hook` called before events are deleted; if it raises, they are not."""
        self._deletion_hooks.append(hook)

    # ── Storing ────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin to write; the database is open."""
        self._batches.start()

    async def stop(self) -> None:
        """Write what waits, take nothing more."""
        await self._batches.stop()

    async def store(
        self,
        record: EventRecord,
        *,
        crop: bytes = b"",
        scene: bytes = b"",
        embedding: bytes = b"",
        embedder: str = "",
        site: str = "",
        retention_days: float | None = None,
    ) -> StoreResult:
        """Store an event; returns after the commit.

        Args:
            record: The event; a higher revision of its id replaces it, a lower one is ignored.
            crop: JPEG, the best picture; empty keeps the one there is.
            scene: JPEG, the whole picture; likewise.
            embedding: Little-endian float16 of length 1; likewise.
            embedder: The model that made it.
            site: Site of the camera.
            retention_days: How long it is kept, counted from its time; None: as the gateway's settings say.

        Raises:
            UnavailableError: It was not stored, or nobody knows; it must come again.
        """
        return await self._batches.put(
            Incoming(
                record=record,
                crop=crop,
                scene=scene,
                embedding=embedding,
                embedder=embedder,
                site=site,
                retention_days=self.retention_days if retention_days is None else retention_days,
            )
        )

    def tell(self, view: EventView, *, first: bool = False, before: EventView | None = None) -> None:
        """Tell the listeners of `on_stored` and `on_told` of an event, after a commit that changed it."""
        for listener in tuple(self._listeners):
            _call(listener, view, first)
        for told_listener in tuple(self._told_listeners):
            _call(told_listener, view, first, before)

    async def corrected(self, session: AsyncSession, event_id: str) -> EventView:
        """Count a correction of an event, in the transaction of `session` that has made it.

        The hooks of `in_transaction` write what follows from it, such as messages to webhooks. Once that is
        committed, it is to be told (`tell`).
        """
        await session.flush()
        this = EVENTS.c.id == event_id
        await session.execute(update(EVENTS).where(this).values(corrections=EVENTS.c.corrections + 1))
        row = (await session.execute(select(EVENTS).where(this))).mappings().one()
        each = as_stored(row, first=False)
        for hook in self._writer.in_transaction:
            await hook(session, (each,))
        return each.view

    async def _write(self, events: Sequence[Incoming]) -> Sequence[StoreResult]:
        results, stored = await self._writer.write(events)
        for each in stored:
            self.tell(each.view, first=each.first)
            if each.embedding:
                for vector_listener in tuple(self._vector_listeners):
                    _call(vector_listener, each.view, each.embedding)
        return results

    # ── Finding ────────────────────────────────────────────────────────────────────────────────────

    async def find(self, wanted: EventFilter, cursor: Cursor | None = None, limit: int = 100) -> EventPage:
        """A page of events, newest first.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._database.reading() as session:
            rows = (await session.execute(events_query(wanted, cursor, limit + 1))).mappings().all()
        page = tuple(view_of(row) for row in rows[:limit])
        more = len(rows) > limit
        return EventPage(page, Cursor(page[-1].time, page[-1].id).encode() if more else None)

    async def get(self, event_id: str) -> EventView | None:
        """One event; None if there is none with this id.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._database.reading() as session:
            row = (await session.execute(select(EVENTS).where(EVENTS.c.id == event_id))).mappings().first()
        return None if row is None else view_of(row)

    async def get_many(self, ids: Sequence[str]) -> dict[str, EventView]:
        """Events by id; those that are not there are left out.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._database.reading() as session:
            rows = (await session.execute(select(EVENTS).where(EVENTS.c.id.in_(ids)))).mappings().all()
        return {row["id"]: view_of(row) for row in rows}

    async def vector(self, event_id: str) -> tuple[str, bytes] | None:
        """Model and vector of an event's face, opened; None if it has none.

        Raises:
            UnavailableError: The database is away.
            WrongKeyError: It was sealed with another key.
        """
        query = select(EVENTS.c.embedder, EVENTS.c.embedding).where(EVENTS.c.id == event_id)
        async with self._database.reading() as session:
            row = (await session.execute(query)).first()
        if row is None or row.embedding is None:
            return None
        return row.embedder, self._sealer.open(row.embedding, event_id.encode())

    async def vectors(
        self, *, embedder: str, after: str = "", limit: int = 1000
    ) -> list[tuple[EventView, bytes]]:
        """Events with a vector of one model and the vectors, by id, those after an id: to rebuild an index.

        Raises:
            UnavailableError: The database is away.
            WrongKeyError: One was sealed with another key.
        """
        columns = EVENTS.c
        query = (
            select(EVENTS)
            .where(columns.id > after, columns.embedding.is_not(None), columns.embedder == embedder)
            .order_by(columns.id)
            .limit(limit)
        )
        async with self._database.reading() as session:
            rows = (await session.execute(query)).mappings().all()

        def opened() -> list[tuple[EventView, bytes]]:
            sealer = self._sealer
            return [(view_of(row), sealer.open(row["embedding"], row["id"].encode())) for row in rows]

        return await asyncio.to_thread(opened)

    async def picture(self, event_id: str, picture: Picture) -> bytes | None:
        """A picture of an event; None if there is none.

        Raises:
            UnavailableError: The database is away.
        """
        query = select(EVENTS.c.time).where(EVENTS.c.id == event_id)
        async with self._database.reading() as session:
            time = (await session.execute(query)).scalar()
        if time is None:
            return None
        return await asyncio.to_thread(self._snapshots.read_event, event_id, time, picture)

    # ── Deleting ───────────────────────────────────────────────────────────────────────────────────

    async def delete(self, session: AsyncSession, ids: Sequence[str]) -> int:
        """Delete events with all that belongs to them, in `session`; returns how many.

        Those are pictures, vectors, messages to webhooks, and what the list of alerts has of them.

        Pictures and index entries go first: should the transaction fail, the events are there without them
        and can be deleted again.
        """
        query = select(EVENTS.c.id, EVENTS.c.time).where(EVENTS.c.id.in_(ids)).with_for_update()
        found = (await session.execute(query)).all()
        if not found:
            return 0
        await session.execute(delete(Delivery).where(Delivery.event_id.in_([row.id for row in found])))
        await session.execute(delete(Alert).where(Alert.id.in_([row.id for row in found])))
        await self.before_deletion([row.id for row in found])
        await asyncio.to_thread(self.remove_pictures, [(row.id, row.time) for row in found])
        await session.execute(delete(EVENTS).where(EVENTS.c.id.in_([row.id for row in found])))
        return len(found)

    async def before_deletion(self, ids: Sequence[str]) -> None:
        """Call the hooks of `on_delete`."""
        for hook in self._deletion_hooks:
            await hook(ids)

    def remove_pictures(self, events: Sequence[tuple[str, float]]) -> int:
        """Remove pictures of events, given by id and time; blocks. Returns how many there were."""
        return sum(self._snapshots.remove_event(event_id, time) for event_id, time in events)

    async def erase_person(self, session: AsyncSession, person_id: str, *, most: int | None = None) -> Erased:
        """Take a person out of events, in the transaction of `session`: what happened stays.

        Afterwards, once committed, the pictures are to be removed (`remove_pictures`), and the vectors of
        these events from the index. Events that still arrive are made anonymous if the person stands in
        `removed_people`.

        Args:
            session: The transaction.
            person_id: Who.
            most: Of so many events at most; None for all.
        """
        ids: list[str] = []
        pictures: list[tuple[str, float]] = []
        vectors = 0
        theirs = select(EVENTS).where(EVENTS.c.person_id == person_id).with_for_update()
        while size := _ERASE_BATCH if most is None else min(_ERASE_BATCH, most - len(ids)):
            rows = (await session.execute(theirs.limit(size))).mappings().all()
            if not rows:
                break
            for found in rows:
                row: dict[str, Any] = anonymous(dict(found))
                row["corrections"] += 1
                ids.append(row["id"])
                vectors += found["embedding"] is not None
                if found["picture_bytes"]:
                    pictures.append((row["id"], row["time"]))
                await session.execute(update(EVENTS).where(EVENTS.c.id == row["id"]).values(row))
        return Erased(tuple(ids), vectors, tuple(pictures))


def _call(listener: Callable[..., None], *arguments: object) -> None:
    """Call a listener; its mistakes are not the event's."""
    try:
        listener(*arguments)
    except Exception:
        logger.exception("a listener has failed on an event")
