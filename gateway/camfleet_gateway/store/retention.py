"""Deletes what is too old or too much, in small steps, and sweeps up files that belong to nothing.

An event lives for as many days as its camera's privacy settings said when it was stored, else the gateway's.
When these days become fewer, events of before follow. The oldest events with pictures go when all
pictures together have too many bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Select, case, delete, func, select, update

from camfleet_gateway.clock import Clock
from camfleet_gateway.store.database import Database
from camfleet_gateway.store.errors import StoreError
from camfleet_gateway.store.events import EventStore
from camfleet_gateway.store.rows import CLOCK_SET, DAY
from camfleet_gateway.store.snapshots import Snapshots, day_start, stem
from camfleet_gateway.store.tables import Alert, Face, Fact
from camfleet_gateway.store.writer import EVENTS

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
SWEEP_EVERY = 60
"""Rounds between two sweeps."""
ORPHAN_SECONDS = 3600.0
_STEP = 200
_PAUSE_SECONDS = 0.05
"""Between two steps, so that events get their turn."""
_COLUMNS = EVENTS.c
_BASE = case(
    (_COLUMNS.time < CLOCK_SET, _COLUMNS.stored),
    (_COLUMNS.time < _COLUMNS.stored, _COLUMNS.time),
    else_=_COLUMNS.stored,
)
"""`counted_from`"""
_USED_DAYS = "retention_days"
"""The days that gateways of this database were set to, of which events may still be: as a fact."""
_MAX_USED = 8

DaysOf = Callable[[], Mapping[str, float]]
"""Gives the days of each camera that has any of its own."""
Also = Callable[[float], Awaitable[None]]
"""Is called in every round with the time, to delete what belongs to it."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round has removed."""

    expired: int
    for_space: int
    files: int


class Retention:
    """Runs until cancelled."""

    def __init__(
        self,
        database: Database,
        events: EventStore,
        snapshots: Snapshots,
        *,
        clock: Clock,
        days: float,
        picture_bytes: int,
        days_of: DaysOf = dict,
    ) -> None:
        self._database = database
        self._events = events
        self._snapshots = snapshots
        self._clock = clock
        self._days = days
        self._picture_bytes = picture_bytes
        self._days_of = days_of
        self.may_sweep = True
        """Whether the files are of this database."""
        self._applied: dict[str, float] = {}
        self._also: list[Also] = []
        self._rounds = 0

    def also(self, step: Also) -> None:
        """Have `step` called in every round."""
        self._also.append(step)

    async def run(self) -> None:
        """A round a minute."""
        while True:
            try:
                done = await self.round()
                if any((done.expired, done.for_space, done.files)):
                    logger.info(
                        "retention: %d events were too old, %d made room, %d files belonged to nothing",
                        done.expired,
                        done.for_space,
                        done.files,
                    )
            except (StoreError, OSError) as error:
                logger.warning("retention: nothing can be deleted now: %s", error)
            await asyncio.sleep(EVERY_SECONDS)

    async def round(self) -> Round:
        """Delete what is due.

        Raises:
            StoreError: The database is away, or a hook has failed.
            OSError: A file cannot be removed.
        """
        now = self._clock.wall()
        await self._shorten()
        if self._rounds == 1:  # by now the settings of all cameras are known
            await self._shorten_others()
        expired = await self._delete_all(
            select(_COLUMNS.id).where(_COLUMNS.expires <= now).order_by(_COLUMNS.expires).limit(_STEP)
        )
        for_space = await self._make_room()
        async with self._database.session() as session:
            await session.execute(delete(Alert).where(Alert.time <= now - self._days * DAY))
        for step in self._also:
            await step(now)
        files = await self.sweep() if self._rounds % SWEEP_EVERY == 0 else 0
        self._rounds += 1
        return Round(expired, for_space, files)

    async def _shorten(self) -> None:
        """Have events follow the settings of their camera, where these keep less than before."""
        days_of = dict(self._days_of())
        for camera, days in days_of.items():
            if self._applied.get(camera) == days:
                continue
            latest = _BASE + days * DAY
            async with self._database.session() as session:
                await session.execute(
                    update(EVENTS)
                    .where(_COLUMNS.camera == camera, _COLUMNS.expires > latest)
                    .values(expires=latest)
                )
            await asyncio.sleep(0)
        self._applied = days_of

    async def _shorten_others(self) -> None:
        """Have events that were kept for as long as this gateway's settings said follow these."""
        cameras = list(self._days_of())
        async with self._database.session() as session:
            fact = await session.get(Fact, _USED_DAYS)
            used = {float(days) for days in fact.value.split()} if fact is not None else set()
            for days in used:
                if days > self._days:
                    kept = _COLUMNS.expires - _BASE - days * DAY
                    await session.execute(
                        update(EVENTS)
                        .where(func.abs(kept) < 1.0, _COLUMNS.camera.not_in(cameras))
                        .values(expires=_BASE + self._days * DAY)
                    )
            now_used = sorted({days for days in used if days < self._days} | {self._days})[-_MAX_USED:]
            value = " ".join(f"{days:g}" for days in now_used)
            if fact is None:
                session.add(Fact(name=_USED_DAYS, value=value))
            else:
                fact.value = value

    async def _make_room(self) -> int:
        async with self._database.reading() as session:
            total = (await session.execute(select(func.sum(_COLUMNS.picture_bytes)))).scalar() or 0
        removed = 0
        while total > self._picture_bytes:
            oldest = (
                select(_COLUMNS.id, _COLUMNS.picture_bytes)
                .where(_COLUMNS.picture_bytes > 0)
                .order_by(_COLUMNS.time, _COLUMNS.id)
                .limit(_STEP)
            )
            async with self._database.reading() as session:
                rows = (await session.execute(oldest)).all()
            ids = []
            for row in rows:
                if total <= self._picture_bytes:
                    break
                ids.append(row.id)
                total -= row.picture_bytes
            if not ids:
                break
            removed += await self._delete(ids)
            await asyncio.sleep(_PAUSE_SECONDS)
        return removed

    async def _delete_all(self, due: Select[tuple[str]]) -> int:
        removed = 0
        while True:
            async with self._database.reading() as session:
                ids: list[str] = [row.id for row in (await session.execute(due)).all()]
            if ids:
                removed += await self._delete(ids)
            if len(ids) < _STEP:
                return removed
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _delete(self, ids: list[str]) -> int:
        async with self._database.session() as session:
            return await self._events.delete(session, ids)

    async def sweep(self) -> int:
        """Remove files that belong to no event and no face; returns how many there were."""
        if not self.may_sweep:
            return 0
        removed = 0
        for day in await asyncio.to_thread(lambda: list(self._snapshots.days())):
            removed += await self._sweep_day(day)
        for folder in await asyncio.to_thread(self._snapshots.person_folders):
            removed += await self._sweep_person(folder)
        return removed

    async def _sweep_day(self, day: str) -> int:
        begin = day_start(day)
        known = set()
        if begin is not None:
            query = select(_COLUMNS.id).where(
                _COLUMNS.time >= begin, _COLUMNS.time < begin + DAY, _COLUMNS.picture_bytes > 0
            )
            async with self._database.reading() as session:
                known = {stem(event_id) for event_id in (await session.execute(query)).scalars()}
        return await asyncio.to_thread(self._snapshots.sweep_day, day, known, older_than=ORPHAN_SECONDS)

    async def _sweep_person(self, folder: str) -> int:
        # A folder's name is the person's id, unless that is none of ours.
        async with self._database.reading() as session:
            ids = (await session.execute(select(Face.id).where(Face.person_id == folder))).scalars()
            known = {stem(face_id) for face_id in ids}
        return await asyncio.to_thread(self._snapshots.sweep_person, folder, known, older_than=ORPHAN_SECONDS)
