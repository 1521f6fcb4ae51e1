"""One transaction that stores a batch of events: exactly one row for each id, the highest revision in it.

Rows that exist are locked and merged here; new ones are inserted unless another replica was quicker, whose
row is then merged with. So nobody can be told twice that an event is new. A commit whose answer got lost
is remembered: should the event come again, it is told as if it were stored only now.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import RowMapping, bindparam, select, update
from sqlalchemy import Table as SqlTable
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.clock import Clock
from camfleet_gateway.store.batches import StoreResult
from camfleet_gateway.store.database import Database
from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.rows import Incoming, anonymous, is_erased, merged, revised, row_of
from camfleet_gateway.store.sealing import Sealer
from camfleet_gateway.store.snapshots import Snapshots, is_jpeg
from camfleet_gateway.store.tables import Event, RemovedPerson
from camfleet_gateway.store.view import EventView, view_of

Row = dict[str, Any]
MAX_UNCERTAIN = 10_000
EVENTS: SqlTable = Event.__table__  # type: ignore[assignment]
_COLUMNS = [column.name for column in EVENTS.columns]


@dataclass(frozen=True, slots=True)
class Stored:
    """A row that is new or has changed.

    Attributes:
        view: As it is told.
        first: Whether it is new.
        revision: As its maker counts.
        embedding: The vector that came with it.
    """

    view: EventView
    first: bool
    revision: int
    embedding: bytes = b""


def as_stored(row: RowMapping | dict[str, Any], *, first: bool, embedding: bytes = b"") -> Stored:
    """A row that was written, by the names of its columns."""
    return Stored(view_of(row), first, row["revision"], embedding)


@dataclass(slots=True)
class Change:
    """A row as it is to be.

    Attributes:
        row: By the names of the columns.
        event: What brought it.
        first: Whether it is new.
        nobody: Whether it tells, or once told, of somebody who was erased.
    """

    row: Row
    event: Incoming
    first: bool
    nobody: bool = False


InTransaction = Callable[[AsyncSession, Sequence[Stored]], Awaitable[None]]
Consequences = Callable[[AsyncSession, Sequence[Stored]], Awaitable[Sequence[Incoming]]]
"""Gives further events, such as alerts, that are stored with those that they follow from."""


class EventWriter:
    """Stores batches. Not to be called twice at once."""

    def __init__(self, database: Database, *, sealer: Sealer, snapshots: Snapshots, clock: Clock) -> None:
        self._database = database
        self._sealer = sealer
        self._snapshots = snapshots
        self._clock = clock
        self._uncertain: OrderedDict[tuple[str, int], bool] = OrderedDict()
        """By id and revision, whether it was the first: commits of which we do not know."""
        self.consequences: list[Consequences] = []
        self.in_transaction: list[InTransaction] = []

    async def write(self, events: Sequence[Incoming]) -> tuple[list[StoreResult], list[Stored]]:
        """Store events in one transaction.

        Returns:
            A result for each, and what is to be told.

        Raises:
            UnavailableError: The database is away or a disk is full; it is as if they had never come.
        """
        stored: list[Stored] = []
        refused: dict[tuple[str, str], str] = {}
        done = False
        try:
            async with self._database.session() as session:
                for candidates in _rounds(events):
                    some, why = await self._store(session, candidates)
                    stored += some
                    refused |= {(id_, candidates[id_].record.camera): reason for id_, reason in why.items()}
                for follow in self.consequences:
                    further = {event.record.id: event for event in await follow(session, tuple(stored))}
                    stored += (await self._store(session, further))[0] if further else []
                for hook in self.in_transaction:
                    await hook(session, stored)
                done = True
        except UnavailableError:
            if done:
                self._remember(stored)
            raise
        changed = {(each.view.id, each.view.camera): each for each in stored}
        for each in stored:
            self._uncertain.pop((each.view.id, each.revision), None)
        results = []
        for event in events:
            key = event.record.id, event.record.camera
            each_or_none = changed.pop(key, None)
            if reason := refused.get(key):
                results.append(StoreResult(refused=reason))
            elif each_or_none is not None:
                results.append(StoreResult(stored=True, first=each_or_none.first))
            else:
                results.append(StoreResult())
        return results, stored

    async def _store(
        self, session: AsyncSession, candidates: dict[str, Incoming]
    ) -> tuple[list[Stored], dict[str, str]]:
        now = self._clock.wall()
        incoming = {id_: row_of(event, now=now) for id_, event in candidates.items()}
        erased = await _erased(session, incoming.values())
        old = await _existing(session, list(incoming))
        refused: dict[str, str] = {}
        uncertain: list[str] = []
        changed: dict[str, Change] = {}
        for id_, row in incoming.items():
            before = old.get(id_)
            if before is None:
                changed[id_] = Change(row, candidates[id_], first=True)
            elif before["camera"] != row["camera"]:
                refused[id_] = "another camera's event has this id"
            elif before["revision"] < row["revision"]:
                changed[id_] = Change(revised(before, row), candidates[id_], first=False)
            elif (id_, before["revision"]) in self._uncertain:
                uncertain.append(id_)
        for change in changed.values():
            if change.row["person_id"] in erased:
                change.row = anonymous(change.row)
            # The face may go on being told of, as one that nobody knows any longer.
            change.nobody = is_erased(change.row)
        await asyncio.to_thread(self._fill, list(changed.values()))
        # In the order of ids, so that two replicas never wait for each other.
        late = await self._insert(
            session, [changed[id_].row for id_ in sorted(changed) if changed[id_].first]
        )
        again: list[Stored] = []
        if late:  # another replica was quicker with these
            for id_ in late:
                del changed[id_]
            again, also_refused = await self._store(session, {id_: candidates[id_] for id_ in late})
            refused.update(also_refused)
        await _update(session, [change.row for change in changed.values() if not change.first])
        told = [
            as_stored(
                change.row, first=change.first, embedding=b"" if change.nobody else change.event.embedding
            )
            for change in changed.values()
        ]
        told += [as_stored(old[id_], first=self._uncertain[id_, old[id_]["revision"]]) for id_ in uncertain]
        return told + again, refused

    def _fill(self, changes: list[Change]) -> None:
        """Write the pictures, seal the vectors; in a thread."""
        sealer = self._sealer
        for change in changes:
            row, event = change.row, change.event
            try:
                if change.nobody:
                    self._snapshots.remove_event(row["id"], row["time"])
                    continue
                crop = event.crop if is_jpeg(event.crop) else b""
                scene = event.scene if is_jpeg(event.scene) else b""
                if crop or scene:
                    row["picture_bytes"] = self._snapshots.write_event(
                        row["id"], row["time"], crop=crop, scene=scene
                    )
            except OSError as error:
                raise UnavailableError(f"pictures cannot be written: {error.strerror}") from error
            row["crop"] = row["crop"] or bool(crop)
            row["scene"] = row["scene"] or bool(scene)
            if event.embedding:
                row["embedding"] = sealer.seal(event.embedding, row["id"].encode())
                row["embedder"] = event.embedder[:128]

    async def _insert(self, session: AsyncSession, rows: list[Row]) -> list[str]:
        """Insert rows; returns the ids that were there by now."""
        if not rows:
            return []
        statement = self._database.insert(EVENTS).on_conflict_do_nothing(index_elements=["id"])
        inserted = set((await session.execute(statement.returning(EVENTS.c.id), rows)).scalars())
        return [row["id"] for row in rows if row["id"] not in inserted]

    def _remember(self, stored: Sequence[Stored]) -> None:
        for each in stored:
            self._uncertain[each.view.id, each.revision] = each.first
        while len(self._uncertain) > MAX_UNCERTAIN:
            self._uncertain.popitem(last=False)


def _rounds(events: Sequence[Incoming]) -> list[dict[str, Incoming]]:
    """Events by id, what is told several times merged; of two cameras that use one id the second waits."""
    grouped: dict[tuple[str, str], list[Incoming]] = {}
    for event in events:
        grouped.setdefault((event.record.id, event.record.camera), []).append(event)
    rounds: list[dict[str, Incoming]] = []
    turns: Counter[str] = Counter()
    for (id_, _), several in grouped.items():
        if turns[id_] == len(rounds):
            rounds.append({})
        rounds[turns[id_]][id_] = merged(several)
        turns[id_] += 1
    return rounds


async def _existing(session: AsyncSession, ids: list[str]) -> dict[str, Row]:
    query = select(EVENTS).where(EVENTS.c.id.in_(ids)).order_by(EVENTS.c.id).with_for_update()
    return {row["id"]: dict(row) for row in (await session.execute(query)).mappings()}


async def _erased(session: AsyncSession, rows: Any) -> set[str]:
    """Who of the people in these rows was erased: their worker had not heard of it yet."""
    ids = {row["person_id"] for row in rows if row["person_id"]}
    if not ids:
        return set()
    query = select(RemovedPerson.id).where(RemovedPerson.id.in_(ids))
    return set((await session.scalars(query)).all())


async def _update(session: AsyncSession, rows: list[Row]) -> None:
    if not rows:
        return
    names = [name for name in _COLUMNS if name != "id"]
    statement = (
        update(EVENTS)
        .where(EVENTS.c.id == bindparam("of_id"))
        .values({name: bindparam(f"to_{name}") for name in names})
    )
    values = [{"of_id": row["id"], **{f"to_{name}": row[name] for name in names}} for row in rows]
    await (await session.connection()).execute(statement, values)
