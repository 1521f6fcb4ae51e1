"""Raises alerts: about appearances in the transaction that stores them, about lasting states every second.

Nothing that decides is kept in memory alone. An alert about an appearance has an id made of rule, camera and
event; whether a rule is cooling down stands in the database; so neither a repetition of an event nor another
start of the gateway raises it twice, and no crash loses it. An alert that lasts is on until `alert.ended`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.alerts.lasting import Lasting, Told
from camfleet_gateway.alerts.records import ALERT, alert_id, alert_record, ended_id, is_ours
from camfleet_gateway.alerts.rules import LASTING, Finding, cooldown_of, judge
from camfleet_gateway.channel import Channel
from camfleet_gateway.clock import Clock
from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.rows import Incoming
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.tables import Alert, Event
from camfleet_gateway.store.view import EventView
from camfleet_gateway.store.writer import Stored
from camfleet_protocol.appearance import APPEARANCE, Appearance
from camfleet_protocol.messages import EventRecord
from camfleet_protocol.vision import AlertSpec, AlertWhen

logger = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
_AT_ONCE = 200
_OPEN_DAYS = 30.0
_DAY = 86400.0


class AlertEngine:
    """The alerts of all cameras."""

    def __init__(
        self,
        store: Store,
        channels: Mapping[str, Channel],
        *,
        clock: Clock,
        known: Callable[[], bool] = lambda: True,
    ) -> None:
        """Listen to the store.

        Args:
            store: Where events come by.
            channels: All cameras, as they are at any time.
            clock: Monotonic for what lasts, Unix seconds for when it was.
            known: Whether all cameras are known by now.
        """
        self.raised: Counter[str] = Counter({when.value: 0 for when in AlertWhen})
        """Alerts since the start, by what raised them."""
        self._store = store
        self._channels = channels
        self._clock = clock
        self._lasting = Lasting(channels, clock, known)
        self._quiet: dict[tuple[str, str], float] = {}
        """Until when, in Unix seconds, a lasting rule is surely cooling down."""
        self._away = False
        store.events.consequences(self._judge)
        store.events.in_transaction(self._keep)
        store.events.on_stored(self._count)

    async def run(self) -> None:
        """Judge lasting states until cancelled."""
        await self._store.opened.wait()
        recalled = False
        while True:
            recalled = recalled or await self._recall()
            if recalled:
                await self.round()
            await asyncio.sleep(EVERY_SECONDS)

    # ── Appearances ────────────────────────────────────────────────────────────────────────────────

    async def _judge(self, session: AsyncSession, stored: Sequence[Stored]) -> Sequence[Incoming]:
        found: dict[str, tuple[AlertSpec, EventView, Finding]] = {}
        for each in stored:
            for rule, finding in self._findings(each.view):
                found[alert_id(rule, each.view.camera, each.view.id)] = (rule, each.view, finding)
        if not found:
            return ()
        query = select(Alert.id).where(Alert.id.in_(found))
        known = set((await session.scalars(query)).all())
        made: list[Incoming] = []
        now = self._clock.wall()
        for id_, (rule, view, finding) in found.items():
            # A worker's clock may be ahead; no alert is of the future, nor cools a rule down until then.
            since = min(finding.since, now)
            if id_ in known or await self._cooling(session, rule, view.camera, since, made):
                continue
            record = alert_record(
                rule,
                view.camera,
                id_=id_,
                time=min(finding.at, now),
                text=finding.text,
                data={"event_id": view.id, **finding.data},
            )
            made.append(self._incoming(record))
        return made

    def _findings(self, view: EventView) -> list[tuple[AlertSpec, Finding]]:
        channel = self._channels.get(view.camera)
        if view.type != APPEARANCE or channel is None:
            return []
        rules = [rule for rule in channel.facts.alerts if rule.when not in LASTING]
        if not rules:
            return []
        try:
            appearance = Appearance.model_validate(view.data)
        except ValidationError:
            return []  # a worker of another version: no rule can be sure of what it means
        found = ((rule, judge(rule, appearance)) for rule in rules)
        return [(rule, finding) for rule, finding in found if finding is not None]

    async def _cooling(
        self,
        session: AsyncSession,
        rule: AlertSpec,
        camera: str,
        moment: float,
        made: Sequence[Incoming] = (),
    ) -> bool:
        """Whether the rule has raised an alert too near to a moment, stored or about to be."""
        cooldown = cooldown_of(rule)
        times = [
            each.record.time
            for each in made
            if each.record.camera == camera and each.record.data["rule"] == rule.name
        ]
        if any(abs(moment - time) < cooldown for time in times):
            return True
        query = (
            select(Alert.id)
            .where(
                Alert.camera == camera,
                Alert.rule == rule.name,
                Alert.time > moment - cooldown,
                Alert.time < moment + cooldown,
            )
            .limit(1)
        )
        return (await session.scalar(query)) is not None

    async def _keep(self, session: AsyncSession, stored: Sequence[Stored]) -> None:
        """Write the row of each alert, in the transaction of its event."""
        for each in stored:
            view = each.view
            if each.first and is_ours(view) and await session.get(Alert, view.id) is None:
                session.add(
                    Alert(
                        id=view.id,
                        time=view.time,
                        camera=view.camera,
                        rule=str(view.data.get("rule", ""))[:63],
                        severity=view.severity,
                        message=view.message,
                        event_id=view.data.get("event_id"),
                        acknowledged_by="",
                    )
                )

    def _count(self, view: EventView, first: bool) -> None:
        if first and is_ours(view):
            self.raised[str(view.data.get("when", ""))] += 1
            logger.info("alert %s: rule %s of %s", view.id, view.data.get("rule"), view.camera)

    # ── What lasts ─────────────────────────────────────────────────────────────────────────────────

    async def round(self) -> None:
        """Look at all lasting rules once, and tell what has begun or ended."""
        turns = self._lasting.look()
        try:
            for start in range(0, len(turns), _AT_ONCE):
                results = await asyncio.gather(
                    *(self._tell(told) for told in turns[start : start + _AT_ONCE]), return_exceptions=True
                )
                for result in results:
                    if isinstance(result, BaseException):
                        raise result
        except UnavailableError as error:
            if not self._away:
                logger.warning("alerts cannot be kept now and are told later: %s", error)
            self._away = True
        else:
            self._away = False

    async def _tell(self, told: Told) -> None:
        if told.rule is None:
            await self.put(told.record)
            told.episode.over()
            return
        key = (told.camera, told.rule.name)
        if told.record.time < self._quiet.get(key, 0.0):
            return
        async with self._store.database.reading() as session:
            if await self._cooling(session, told.rule, told.camera, told.record.time):
                last = await session.scalar(
                    select(func.max(Alert.time)).where(
                        Alert.camera == told.camera, Alert.rule == told.rule.name
                    )
                )
                self._quiet[key] = (last or 0.0) + cooldown_of(told.rule)
                return
        self._quiet.pop(key, None)
        await self.put(told.record)
        told.episode.told(told.record.id)

    async def put(self, record: EventRecord) -> None:
        """Store an event of ours, for as long as its camera's events are kept.

        Raises:
            UnavailableError: Not now.
        """
        event = self._incoming(record)
        await self._store.events.store(record, site=event.site, retention_days=event.retention_days)

    async def _recall(self) -> bool:
        """Find the lasting alerts of an earlier process that have not ended; false if that failed."""
        latest = (
            select(Alert.camera, Alert.rule, func.max(Alert.time).label("time"))
            .where(Alert.time > self._clock.wall() - _OPEN_DAYS * _DAY)
            .group_by(Alert.camera, Alert.rule)
            .subquery()
        )
        query = (
            select(Event.id, Event.camera, Event.data)
            .join(Alert, Alert.id == Event.id)
            .join(
                latest,
                (latest.c.camera == Alert.camera)
                & (latest.c.rule == Alert.rule)
                & (latest.c.time == Alert.time),
            )
            .where(Event.type == ALERT)
        )
        try:
            async with self._store.database.reading() as session:
                rows = [
                    row for row in (await session.execute(query)).all() if row.data.get("when") in LASTING
                ]
                ended: set[str] = set()
                for start in range(0, len(rows), _AT_ONCE):
                    ids = [ended_id(row.id) for row in rows[start : start + _AT_ONCE]]
                    ended.update((await session.scalars(select(Event.id).where(Event.id.in_(ids)))).all())
        except UnavailableError as error:
            logger.debug("the alerts that are on cannot be read yet: %s", error)
            return False
        for row in rows:
            if ended_id(row.id) not in ended:
                data = row.data
                rule, when, zone = (str(data.get(name, "")) for name in ("rule", "when", "zone"))
                self._lasting.recall(row.camera, rule, when, zone=zone, alert=row.id)
        return True

    def _incoming(self, record: EventRecord) -> Incoming:
        channel = self._channels.get(record.camera)
        days = channel.facts.retention_days if channel is not None else None
        return Incoming(
            record=record,
            site=channel.facts.site if channel is not None else "",
            retention_days=self._store.events.retention_days if days is None else days,
        )
