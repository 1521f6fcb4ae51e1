"""Events over HTTP: lists, single ones, their pictures, and the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, Field

from camfleet_gateway.auth import ALL_PICTURES, Role
from camfleet_gateway.event_filter import event_filter
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.identity import Problem
from camfleet_gateway.models import ErrorView, EventList
from camfleet_gateway.store.query import MAX_LIMIT, Cursor
from camfleet_gateway.store.snapshots import Picture
from camfleet_gateway.store.view import EventView
from camfleet_gateway.stored_routes import REFUSED, Filter, Time

PICTURE_SECONDS = 300
"""How long a browser may show a picture again without asking."""
_MAX_ENTRIES = 1000

EventId = Annotated[str, Path(min_length=1, max_length=64)]
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView, "description": "No such event"}}
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}, "description": "One JPEG picture"},
    401: {"model": ErrorView, "description": "Neither a valid token nor a ticket for stored pictures"},
    404: {"model": ErrorView, "description": "No such event, or it has no such picture"},
}


class AuditView(BaseModel):
    """Who did what."""

    id: int
    time: Annotated[float, Field(description="Unix seconds")]
    actor: Annotated[str, Field(description="Name of the token")]
    role: str
    action: Annotated[str, Field(description="Such as `person.erase`")]
    subject: Annotated[str, Field(description="Id of the person, face or event")]
    detail: dict[str, Any]


class AuditList(BaseModel):
    """Entries, newest first."""

    entries: list[AuditView]
    next_cursor: Annotated[str | None, Field(description="Gets the next page; null at the end")]


def add_events(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes."""
    store = gateway.store
    require = gateway.identity.require
    api = APIRouter(tags=["events"], responses=REFUSED)

    async def found(event_id: str) -> EventView:
        event = await store.events.get(event_id) if event_id.isprintable() else None
        if event is None:
            raise Problem(404, "unknown_event", "there is no such event")
        return event

    @api.get("/api/events", dependencies=[Depends(require(Role.VIEWER))])
    async def list_events(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
        cursor: Annotated[str | None, Query(max_length=400)] = None,
        camera: Filter = None,
        type: Filter = None,
        kind: Filter = None,
        label: Filter = None,
        person: Filter = None,
        identity: Filter = None,
        zone: Filter = None,
        severity: Filter = None,
        since: Time = None,
        until: Time = None,
    ) -> EventList:
        """Events, newest first; `type` and `severity` take several, separated by commas."""
        try:
            wanted = event_filter(request.query_params, gateway.hub)
            begin = Cursor.decode(cursor) if cursor else None
        except ValueError as error:
            raise Problem(422, "invalid", str(error), (str(error),)) from None
        page = await store.events.find(wanted, begin, limit)
        return EventList(events=list(page.events), next_cursor=page.next_cursor)

    @api.get("/api/events/{event_id}", dependencies=[Depends(require(Role.VIEWER))], responses=_UNKNOWN)
    async def get_event(event_id: EventId) -> EventView:
        """One event."""
        return await found(event_id)

    async def picture(request: Request, event_id: str, which: Picture) -> Response:
        gateway.identity.allow_picture(request, ALL_PICTURES, "pictures")
        content = await store.events.picture(event_id, which) if event_id.isprintable() else None
        if content is None:
            raise Problem(404, "no_picture", "there is no such picture")
        headers = {"Cache-Control": f"private, max-age={PICTURE_SECONDS}"}
        return Response(content, media_type="image/jpeg", headers=headers)

    @api.get("/api/events/{event_id}/crop.jpg", response_class=Response, responses=_JPEG)
    async def crop(event_id: EventId, request: Request) -> Response:
        """The best picture of what appeared. `ticket` (of the action `pictures`) stands in for a token."""
        return await picture(request, event_id, "crop")

    @api.get("/api/events/{event_id}/scene.jpg", response_class=Response, responses=_JPEG)
    async def scene(event_id: EventId, request: Request) -> Response:
        """The whole picture that the crop is from. `ticket` stands in for a token."""
        return await picture(request, event_id, "scene")

    @api.delete("/api/events/{event_id}", status_code=204, responses=_UNKNOWN)
    async def delete_event(event_id: EventId, request: Request) -> Response:
        """Delete an event with its pictures and its vector."""
        principal = require(Role.ADMIN)(request)
        event = await found(event_id)
        async with store.database.session() as session:
            if not await store.events.delete(session, [event.id]):
                raise Problem(404, "unknown_event", "there is no such event")
            store.audit.add(session, principal, "event.delete", event.id, {"type": event.type})
        return Response(status_code=204)

    @api.get("/api/audit", dependencies=[Depends(require(Role.ADMIN))], tags=["people"])
    async def list_audit(
        limit: Annotated[int, Query(ge=1, le=_MAX_ENTRIES)] = 100,
        cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,9}$")] = None,
        subject: Annotated[str | None, Query(max_length=128)] = None,
    ) -> AuditList:
        """Who did what to people and their data, newest first."""
        if subject is not None and not subject.isprintable():
            raise Problem(422, "invalid", "subject must be printable", ("subject must be printable",))
        before = int(cursor) if cursor else None
        page = await store.audit.find(subject=subject, before=before, limit=limit)
        entries = [AuditView.model_validate(entry, from_attributes=True) for entry in page.entries]
        following = page.next_before
        return AuditList(entries=entries, next_cursor=None if following is None else str(following))

    app.include_router(api)
