"""Search by face over HTTP: by a picture, by an event, by an enrolled person."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from pydantic import BaseModel, Field

from camfleet_gateway.auth import Principal, Role
from camfleet_gateway.event_filter import event_filter
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.identity import Problem
from camfleet_gateway.models import ErrorView
from camfleet_gateway.people.embeddings import from_bytes
from camfleet_gateway.people.problems import RefusedError
from camfleet_gateway.store.view import EventView
from camfleet_gateway.stored_routes import Filter, Time
from camfleet_gateway.vectors.index import IndexUnavailableError, Wanted
from camfleet_gateway.vectors.search import DEFAULT_MINIMUM, MAX_LIMIT, Faces, FaceSearch

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Events at most")]
Minimum = Annotated[float, Query(ge=-1, le=1, description="Least cosine similarity")]
Id = Annotated[str | None, Query(min_length=1, max_length=64)]
_REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorView, "description": "No valid token"},
    403: {"model": ErrorView, "description": "The role does not suffice"},
    422: {"model": ErrorView, "description": "No face to look for: NoFace, NoVector, NotAPicture, …"},
    503: {"model": ErrorView, "description": "Database, index or face models cannot be used now"},
}
_PICTURE = {
    "requestBody": {
        "required": True,
        "description": "The picture itself; its largest face is looked for",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class SeenView(BaseModel):
    """A face that was seen."""

    event: EventView
    similarity: Annotated[float, Field(description="Cosine, -1 to 1")]


class AlikeView(BaseModel):
    """Somebody enrolled."""

    id: str
    name: str
    similarity: Annotated[float, Field(description="Cosine, of the most similar of their faces")]


class SearchView(BaseModel):
    """What was found, most similar first."""

    index: Annotated[str, Field(description="Which vector database with which index has searched")]
    took_ms: Annotated[float, Field(description="Search and database, without the analysis of a picture")]
    embedder: Annotated[str, Field(description="Model of the vectors; empty where there were none")]
    faces: list[SeenView]
    people: list[AlikeView]


def add_search(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes."""
    operator = Depends(gateway.identity.require(Role.OPERATOR))
    search = FaceSearch(gateway.store, gateway.people, gateway.vectors)
    api = APIRouter(prefix="/api/faces", tags=["people"], responses=_REFUSED)

    def wanted_of(request: Request) -> Wanted:
        try:
            wanted = event_filter(request.query_params, gateway.hub)
        except ValueError as error:
            raise Problem(422, "invalid", str(error), (str(error),)) from None
        return Wanted(camera=wanted.camera, since=wanted.since, until=wanted.until)

    async def answer(
        faces: Faces,
        request: Request,
        principal: Principal,
        how: str,
        limit: int,
        minimum: float,
        **rest: str,
    ) -> SearchView:
        if not math.isfinite(minimum):
            raise Problem(422, "invalid", "minimum: must be a number", ("minimum: must be a number",))
        try:
            found = await search.search(faces, wanted_of(request), limit=limit, minimum=minimum, **rest)
        except IndexUnavailableError as error:
            raise Problem(503, "search_unavailable", str(error)) from None
        async with gateway.store.database.session() as session:
            detail = {"by": how, "events": len(found.events)}
            gateway.store.audit.add(
                session, principal, "faces.search", request.query_params.get(how, ""), detail
            )
        return SearchView(
            index=gateway.vectors.index.kind,
            took_ms=round(found.seconds * 1000, 1),
            embedder=next(iter(faces), ""),
            faces=[SeenView(event=event, similarity=round(value, 4)) for event, value in found.events],
            people=[
                AlikeView(id=person.id, name=person.name, similarity=round(person.similarity, 4))
                for person in found.people
            ],
        )

    @api.post("/search", openapi_extra=_PICTURE)
    async def by_picture(
        request: Request,
        principal: Principal = operator,
        camera: Filter = None,
        since: Time = None,
        until: Time = None,
        limit: Limit = 50,
        minimum: Minimum = DEFAULT_MINIMUM,
    ) -> SearchView:
        """Where the largest face of a picture was seen, and who it is like. The picture is not kept."""
        wanted_of(request)
        async with gateway.people.uploads.picture(request) as picture:
            analysis = await gateway.people.faces.analyze(picture, max_faces=1)
        embedder = (await gateway.people.faces.embedder()).embedder
        if not analysis.faces:
            raise RefusedError("NoFace", "there is no face in this picture")
        try:
            vector = from_bytes(base64.b64decode(analysis.faces[0].embedding, validate=True))
        except (ValueError, binascii.Error):
            refused = analysis.faces[0].refused or "NoFace"
            raise RefusedError(refused, "the face in this picture is not good enough") from None
        return await answer({embedder: vector[None, :]}, request, principal, "picture", limit, minimum)

    @api.get("/search")
    async def by_what_is_stored(
        request: Request,
        principal: Principal = operator,
        event: Id = None,
        person: Id = None,
        camera: Filter = None,
        since: Time = None,
        until: Time = None,
        limit: Limit = 50,
        minimum: Minimum = DEFAULT_MINIMUM,
    ) -> SearchView:
        """Where the face of an event, or an enrolled person, was seen besides."""
        if (event is None) == (person is None):
            raise Problem(
                422, "invalid", "one of event and person is needed", ("event or person: is needed",)
            )
        if event is not None:
            faces = await search.of_event(event) if event.isprintable() else None
            if faces is None:
                raise Problem(422, "NoVector", "there is no such event, or no face of it is kept")
            return await answer(faces, request, principal, "event", limit, minimum, without=event)
        faces = await search.of_person(person) if person is not None and person.isprintable() else None
        if faces is None:
            raise Problem(404, "unknown_person", "there is no such person")
        return await answer(faces, request, principal, "person", limit, minimum)

    app.include_router(api)
