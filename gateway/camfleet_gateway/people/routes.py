"""The people's API: people and their faces. Archives are in `bulk_routes`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response

from camfleet_gateway.auth import ALL_PICTURES, Principal, Role
from camfleet_gateway.bodies import read_model
from camfleet_gateway.failures import failure
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.models import ErrorView
from camfleet_gateway.people.bulk_routes import bulk_routes, saying_routes
from camfleet_gateway.people.problems import RefusedError, no_picture_file, unknown_face
from camfleet_gateway.people.records import (
    Seen,
    face_view,
    faces_of,
    find_people,
    person_view,
)
from camfleet_gateway.people.views import (
    FaceList,
    FaceView,
    PersonIn,
    PersonList,
    PersonPatch,
    PersonView,
    QualityView,
)
from camfleet_gateway.query import flag
from camfleet_gateway.store.tables import Face

Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorView, "description": "No valid token"},
    403: {"model": ErrorView, "description": "The role does not suffice"},
    404: {"model": ErrorView, "description": "No such person, face or event"},
    409: {"model": ErrorView, "description": "It contradicts what is enrolled already"},
    413: {"model": ErrorView, "description": "The body is too large"},
    422: {"model": ErrorView, "description": "The reason, for programs and for people"},
    503: {"model": ErrorView, "description": "No weights, too much to do, or no database now"},
}
PICTURE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The picture itself, JPEG, PNG or WebP, at most 20 MiB",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def json_body(model: type[PersonIn] | type[PersonPatch], note: str) -> dict[str, Any]:
    """Describe a body that we read ourselves, so that no error ever quotes it."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "description": note, "content": content}}


def add_people(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return failure(error.status, error.code, str(error), error.details)

    app.include_router(bulk_routes(gateway, REFUSED))
    app.include_router(saying_routes(gateway, REFUSED))
    app.include_router(_people_routes(gateway))
    app.include_router(_face_routes(gateway))


def _people_routes(gateway: Gateway) -> APIRouter:
    people = gateway.people
    require = gateway.identity.require
    viewer, operator = Depends(require(Role.VIEWER)), Depends(require(Role.OPERATOR))
    api = APIRouter(prefix="/api/people", tags=["people"], responses=REFUSED)

    def seen_by(principal: Principal) -> Seen:
        return Seen(
            now=gateway.clock.wall(),
            embedder=people.kit.embedder,
            private=principal.role >= Role.OPERATOR,
        )

    @api.get("")
    async def list_people(
        *,
        principal: Principal = viewer,
        query: Annotated[str, Query(max_length=128, description="Part of the name or external id")] = "",
        group: Annotated[str, Query(max_length=63)] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        cursor: Annotated[str | None, Query(max_length=1024)] = None,
    ) -> PersonList:
        """Enrolled people, by name."""
        async with people.kit.database.reading() as session:
            page = await find_people(
                session, query=query, group=group, limit=limit, cursor=cursor, seen=seen_by(principal)
            )
        return PersonList(
            people=page.people, next_cursor=page.next_cursor, total=page.total, groups=page.groups
        )

    @api.post("", status_code=201, openapi_extra=json_body(PersonIn, "Who it is"))
    async def create_person(request: Request, principal: Principal = operator) -> PersonView:
        """Enrol somebody; pictures are added afterwards."""
        person = await people.persons.create(await read_model(request, PersonIn), principal)
        async with people.kit.database.reading() as session:
            return await person_view(session, person.id, seen_by(principal))

    @api.get("/{person_id}")
    async def get_person(person_id: Id, principal: Principal = viewer) -> PersonView:
        """One person."""
        async with people.kit.database.reading() as session:
            return await person_view(session, person_id, seen_by(principal))

    @api.patch("/{person_id}", openapi_extra=json_body(PersonPatch, "The fields to change"))
    async def change_person(person_id: Id, request: Request, principal: Principal = operator) -> PersonView:
        """Change name, group, note, external id or dates; null takes a value away."""
        await people.persons.change(person_id, await read_model(request, PersonPatch), principal)
        async with people.kit.database.reading() as session:
            return await person_view(session, person_id, seen_by(principal))

    return api


def _face_routes(gateway: Gateway) -> APIRouter:
    people = gateway.people
    require = gateway.identity.require
    viewer, operator = Depends(require(Role.VIEWER)), Depends(require(Role.OPERATOR))
    api = APIRouter(prefix="/api/people/{person_id}/faces", tags=["people"], responses=REFUSED)

    @api.get("")
    async def list_faces(person_id: Id, _: Principal = viewer) -> FaceList:
        """The faces of a person, first enrolled first."""
        async with people.kit.database.reading() as session:
            faces = await faces_of(session, person_id)
        return FaceList(faces=[face_view(face, people.kit.embedder) for face in faces])

    @api.post("", status_code=201, openapi_extra=PICTURE_BODY)
    async def add_face(
        person_id: Id,
        request: Request,
        principal: Principal = operator,
        force: Annotated[str | None, Query(description="1: accept a face much like another one")] = None,
    ) -> FaceView:
        """Enrol a picture of a person. Only the face is kept, with a margin around it."""
        async with people.kit.database.reading() as session:
            await faces_of(session, person_id)  # before a large body is taken in
        async with people.uploads.picture(request) as picture:
            face = await people.enrolment.analyse(picture)
        row = await people.enrolment.add(person_id, face, principal, force=flag(force or None, default=False))
        measured = face.measured.model_dump() if face.measured is not None else {"score": row.quality}
        return face_view(row, people.kit.embedder, QualityView.model_validate(measured))

    @api.get(
        "/{face_id}.jpg",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}, "description": "The face"}},
    )
    async def get_face(person_id: Id, face_id: Id, request: Request) -> Response:
        """The picture of a face. `ticket` (of the action `pictures`) stands in for a token."""
        gateway.identity.allow_picture(request, ALL_PICTURES, "pictures")
        async with people.kit.database.reading() as session:
            face = await session.get(Face, face_id)
        if face is None or face.person_id != person_id:
            raise unknown_face()
        picture = await asyncio.to_thread(people.kit.snapshots.read_face, person_id, face_id)
        if picture is None:
            raise no_picture_file()
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, no-cache"})

    @api.delete("/{face_id}", status_code=204)
    async def remove_face(person_id: Id, face_id: Id, principal: Principal = operator) -> Response:
        """Remove a face and its picture."""
        await people.enrolment.remove(person_id, face_id, principal)
        return Response(status_code=204)

    return api
