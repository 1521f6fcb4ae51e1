"""Webhooks over HTTP: how they stand, what was given up. They are set up in a file, never here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, Field

from camfleet_gateway.auth import Role
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.identity import Problem
from camfleet_gateway.models import ErrorView
from camfleet_gateway.store.query import Cursor
from camfleet_gateway.stored_routes import REFUSED
from camfleet_gateway.webhooks.queue import Counts

MAX_DEAD = 500
_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": ErrorView, "description": "No such message among those given up"}
}
DeliveryId = Annotated[str, Path(min_length=1, max_length=64)]


class WebhookView(BaseModel):
    """A webhook of the file."""

    name: str
    host: Annotated[str, Field(description="Of its URL; the rest may be a secret and is shown to nobody")]
    signed: bool
    events: Annotated[tuple[str, ...], Field(description="Types of events, with wildcards")]
    cameras: tuple[str, ...]
    severities: Annotated[list[str] | None, Field(description="null: all")]
    updates: Annotated[bool, Field(description="Whether later revisions of an event are told, too")]
    waiting: Annotated[int, Field(description="Messages in the queue")]
    dead: Annotated[int, Field(description="Messages that were given up")]


class WebhookList(BaseModel):
    """All webhooks, by name."""

    webhooks: list[WebhookView]


class DeadView(BaseModel):
    """A message that was given up."""

    id: str
    webhook: str
    event_id: str
    created: Annotated[float, Field(description="Unix seconds")]
    given_up: Annotated[float, Field(description="Unix seconds")]
    attempts: int
    problem: Annotated[str, Field(description="What went wrong at last")]


class DeadList(BaseModel):
    """Messages that were given up, the last one first."""

    dead: list[DeadView]
    next_cursor: Annotated[str | None, Field(description="Gets the next page; null at the end")]


def add_webhooks(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes."""
    require = gateway.identity.require
    sender, store = gateway.webhooks, gateway.store
    api = APIRouter(tags=["webhooks"], responses=REFUSED)

    @api.get("/api/webhooks", dependencies=[Depends(require(Role.OPERATOR))])
    async def list_webhooks() -> WebhookList:
        """The webhooks of the file, and how many messages wait or were given up."""
        counts = await sender.queue.counts()
        views = []
        for name, webhook in sorted(sender.webhooks.current.items()):
            count = counts.get(name, Counts())
            views.append(
                WebhookView(
                    name=name,
                    host=webhook.host,
                    signed=bool(webhook.secret),
                    events=webhook.events,
                    cameras=webhook.cameras,
                    severities=None if webhook.severities is None else sorted(webhook.severities),
                    updates=webhook.updates,
                    waiting=count.waiting,
                    dead=count.dead,
                )
            )
        return WebhookList(webhooks=views)

    @api.get("/api/webhooks/dead", dependencies=[Depends(require(Role.OPERATOR))])
    async def list_dead(
        limit: Annotated[int, Query(ge=1, le=MAX_DEAD)] = 100,
        cursor: Annotated[str | None, Query(max_length=400)] = None,
    ) -> DeadList:
        """What was given up: not taken within a day or twenty attempts."""
        try:
            begin = Cursor.decode(cursor) if cursor else None
        except ValueError as error:
            raise Problem(422, "invalid", str(error), (str(error),)) from None
        before = (begin.time, begin.id) if begin is not None else None
        rows = await sender.queue.dead(before, limit + 1)
        page = rows[:limit]
        views = [
            DeadView(
                id=row.id,
                webhook=row.webhook,
                event_id=row.event_id,
                created=row.created,
                given_up=row.due,
                attempts=row.attempts,
                problem=row.problem,
            )
            for row in page
        ]
        more = Cursor(page[-1].due, page[-1].id).encode() if len(rows) > limit else None
        return DeadList(dead=views, next_cursor=more)

    @api.post("/api/webhooks/dead/{delivery_id}/retry", status_code=202, responses=_UNKNOWN)
    async def retry(delivery_id: DeliveryId, request: Request) -> Response:
        """Send a message that was given up as if it were new."""
        principal = require(Role.ADMIN)(request)
        async with store.database.session() as session:
            if not await sender.queue.revive(session, delivery_id, gateway.clock.wall()):
                raise Problem(404, "unknown_delivery", "no such message was given up")
            store.audit.add(session, principal, "webhook.retry", delivery_id[:128])
        sender.look()
        return Response(status_code=202)

    @api.delete("/api/webhooks/dead/{delivery_id}", status_code=204, responses=_UNKNOWN)
    async def forget(delivery_id: DeliveryId, request: Request) -> Response:
        """Delete a message that was given up."""
        principal = require(Role.ADMIN)(request)
        async with store.database.session() as session:
            if not await sender.queue.forget(session, delivery_id):
                raise Problem(404, "unknown_delivery", "no such message was given up")
            store.audit.add(session, principal, "webhook.forget", delivery_id[:128])
        return Response(status_code=204)

    app.include_router(api)
