"""Alerts over HTTP: listed, and acknowledged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import select, tuple_, update

from camfleet_gateway.auth import Role
from camfleet_gateway.event_filter import event_filter
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.identity import Problem
from camfleet_gateway.models import ErrorView
from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.query import MAX_LIMIT, Cursor
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.tables import Alert
from camfleet_gateway.store.view import EventView
from camfleet_gateway.stored_routes import REFUSED, Filter, Time
from camfleet_protocol.messages import EventRecord

logger = logging.getLogger(__name__)

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView, "description": "No such alert"}}


class AlertView(BaseModel):
    """A rule that fired."""

    id: Annotated[str, Field(description="The id of its event, too")]
    time: Annotated[float, Field(description="Unix seconds; when what it tells of was so")]
    camera: str
    rule: Annotated[str, Field(description="Name of the rule")]
    severity: str
    message: Annotated[str, Field(description="For people; names nobody")]
    event_id: Annotated[str | None, Field(description="The event that raised it, if it was one")]
    acknowledged: Annotated[float | None, Field(description="Unix seconds; null until somebody has seen it")]
    acknowledged_by: Annotated[str, Field(description="Name of the token")]
    data: Annotated[dict[str, Any], Field(description="`when`, `zone`, `label`, `person`, … of its event")]
    crop_url: Annotated[str | None, Field(description="Path of the picture of what raised it")]


class AlertList(BaseModel):
    """Alerts, newest first."""

    alerts: list[AlertView]
    next_cursor: Annotated[str | None, Field(description="Gets the next page; null at the end")]


def add_alerts(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes."""
    store = gateway.store
    require = gateway.identity.require
    api = APIRouter(tags=["alerts"], responses=REFUSED)

    @api.get("/api/alerts", dependencies=[Depends(require(Role.VIEWER))])
    async def list_alerts(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
        cursor: Annotated[str | None, Query(max_length=400)] = None,
        camera: Filter = None,
        rule: Filter = None,
        severity: Filter = None,
        since: Time = None,
        until: Time = None,
        acknowledged: bool | None = None,
    ) -> AlertList:
        """Alerts, newest first; `severity` takes several, separated by commas."""
        try:
            wanted = event_filter(request.query_params, gateway.hub)
            begin = Cursor.decode(cursor) if cursor else None
        except ValueError as error:
            raise Problem(422, "invalid", str(error), (str(error),)) from None
        query = select(Alert).order_by(Alert.time.desc(), Alert.id.desc()).limit(limit + 1)
        if wanted.camera is not None:
            query = query.where(Alert.camera == wanted.camera)
        if rule:
            query = query.where(Alert.rule == rule.replace("\0", ""))
        if wanted.severity is not None:
            query = query.where(Alert.severity.in_(wanted.severity.split(",")))
        if wanted.since is not None:
            query = query.where(Alert.time >= wanted.since)
        if wanted.until is not None:
            query = query.where(Alert.time < wanted.until)
        if acknowledged is not None:
            seen = Alert.acknowledged
            query = query.where(seen.is_not(None) if acknowledged else seen.is_(None))
        if begin is not None:
            query = query.where(tuple_(Alert.time, Alert.id) < tuple_(begin.time, begin.id))
        async with store.database.reading() as session:
            rows = (await session.scalars(query)).all()
        page = rows[:limit]
        more = Cursor(page[-1].time, page[-1].id).encode() if len(rows) > limit else None
        return AlertList(alerts=await _views(store, page), next_cursor=more)

    @api.post("/api/alerts/{alert_id}/acknowledge", responses=_UNKNOWN)
    async def acknowledge(
        alert_id: Annotated[str, Path(min_length=1, max_length=64)], request: Request
    ) -> AlertView:
        """Say that somebody has seen it; whoever says so first stands there."""
        principal = require(Role.OPERATOR)(request)
        alert_id = alert_id if alert_id.isprintable() else ""
        async with store.database.session() as session:
            changed = await session.execute(
                update(Alert)
                .where(Alert.id == alert_id, Alert.acknowledged.is_(None))
                .values(acknowledged=gateway.clock.wall(), acknowledged_by=principal.name)
                .returning(Alert.id)
            )
            is_new = changed.scalar() is not None
            if is_new:
                store.audit.add(session, principal, "alert.acknowledge", alert_id)
            alert = await session.get(Alert, alert_id)
        if alert is None:
            raise Problem(404, "unknown_alert", "there is no such alert")
        if is_new:
            await _tell(gateway, alert)
        return (await _views(store, [alert]))[0]

    app.include_router(api)


async def _views(store: Store, alerts: Sequence[Alert]) -> list[AlertView]:
    events: dict[str, EventView] = {}
    ids = [id_ for alert in alerts for id_ in (alert.id, alert.event_id) if id_]
    for start in range(0, len(ids), MAX_LIMIT):
        events |= await store.events.get_many(ids[start : start + MAX_LIMIT])
    views = []
    for alert in alerts:
        own, cause = events.get(alert.id), events.get(alert.event_id or "")
        views.append(
            AlertView(
                id=alert.id,
                time=alert.time,
                camera=alert.camera,
                rule=alert.rule,
                severity=alert.severity,
                message=alert.message,
                event_id=alert.event_id,
                acknowledged=alert.acknowledged,
                acknowledged_by=alert.acknowledged_by,
                data=own.data if own is not None else {},
                crop_url=cause.crop_url if cause is not None else None,
            )
        )
    return views


async def _tell(gateway: Gateway, alert: Alert) -> None:
    """Tell pages that are open: the alert's event gets another revision."""
    event = await gateway.store.events.get(alert.id)
    if event is None:
        return
    record = EventRecord(
        **event.model_dump(include=set(EventRecord.model_fields) - {"data", "revision"}),
        data={
            **event.data,
            "acknowledged": alert.acknowledged,
            "acknowledged_by": alert.acknowledged_by,
        },
        revision=event.revision + 1,
    )
    try:
        await gateway.alerts.put(record)
    except UnavailableError as error:
        logger.warning("an acknowledgement is stored and was not told: %s", error)
