"""The people's API: archives in and out, erasure, embedding anew, and what people say of events."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from camfleet_gateway.auth import Principal, Role
from camfleet_gateway.bodies import read_model
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.people.exporting import export
from camfleet_gateway.people.problems import RefusedError
from camfleet_gateway.people.records import face_view
from camfleet_gateway.people.views import (
    ErasedView,
    ErasurePreview,
    EventPerson,
    Group,
    ImportReport,
    ReembedView,
    SaidView,
)
from camfleet_gateway.query import flag

_ARCHIVE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A ZIP archive (a folder of pictures for each person, or people.csv and pictures, or "
        "an export), at most 256 MiB and 10,000 files; or people.csv alone",
        "content": {
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
            "text/csv": {"schema": {"type": "string"}},
        },
    }
}
_SAID_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Whose face it is",
        "content": {
            "application/json": {
                "schema": EventPerson.model_json_schema(ref_template="#/components/schemas/{model}")
            }
        },
    }
}
PersonPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
EventPath = Annotated[str, Path(max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
_GROUP: TypeAdapter[str] = TypeAdapter(Group)


def bulk_routes(gateway: Gateway, refused: dict[int | str, dict[str, Any]]) -> APIRouter:
    """Archives and embedding anew; to be added before the routes with a person's id."""
    people = gateway.people
    require = gateway.identity.require
    operator, admin = Depends(require(Role.OPERATOR)), Depends(require(Role.ADMIN))
    api = APIRouter(prefix="/api/people", tags=["people"], responses=refused)

    @api.post("/import", openapi_extra=_ARCHIVE_BODY)
    async def import_people(
        request: Request,
        group: Annotated[str, Query(max_length=63, description="For whom the archive names none")] = "",
        force: Annotated[str | None, Query(description="1: accept faces much like others")] = None,
        principal: Principal = operator,
    ) -> ImportReport:
        """Enrol many people; answers when all is done, with a row for each.

        What is enrolled already stays, so the same archive can be sent again. If the answer is not waited
        for, the import goes on, and GET tells how far it is.
        """
        _check_group(group)
        people.importer.refuse_second()
        async with people.uploads.archive(request) as path:
            # Shielded: the file must stay while the import reads it, also when its sender has gone.
            work = asyncio.create_task(
                people.importer.run(path, principal, group=group, force=flag(force or None, default=False))
            )
            try:
                return await asyncio.shield(work)
            finally:
                if not work.done():
                    await asyncio.wait([work])

    @api.get("/import")
    async def import_report(_: Principal = operator) -> ImportReport:
        """How far the import is, or how the last one ended."""
        return people.importer.report

    @api.get(
        "/export",
        response_class=Response,
        responses={200: {"content": {"application/zip": {}}, "description": "The archive"}},
    )
    async def export_people(
        cursor: Annotated[
            str, Query(pattern=r"^[A-Za-z0-9_-]{0,64}$", description="From the header X-Next-Cursor")
        ] = "",
        principal: Principal = admin,
    ) -> Response:
        """Everybody who is enrolled, with pictures and plain vectors, for `/api/people/import`.

        With more people than fit into one archive, the header `X-Next-Cursor` leads to the next one.
        """
        made = await export(people.kit, principal, after=cursor)
        return FileResponse(
            made.path,
            media_type="application/zip",
            filename="people.zip",
            headers={"X-Next-Cursor": made.next_cursor} if made.next_cursor else None,
            background=BackgroundTask(made.path.unlink, missing_ok=True),
        )

    @api.post("/reembed", status_code=202)
    async def reembed(principal: Principal = admin) -> ReembedView:
        """Embed all pictures of other models anew, in the background."""
        return await people.reembedding.begin(principal)

    @api.get("/reembed")
    async def reembedding(_: Principal = operator) -> ReembedView:
        """How far that is."""
        return people.reembedding.view

    @api.get("/{person_id}/erasure")
    async def preview_erasure(person_id: PersonPath, _: Principal = admin) -> ErasurePreview:
        """What erasing a person would remove. All vectors of events without a name are compared for it."""
        return await people.erasure.preview(person_id)

    @api.delete("/{person_id}")
    async def erase_person(
        person_id: PersonPath,
        lookalikes: Annotated[
            Literal["erase", "keep"],
            Query(description="What becomes of events that tell of nobody and show this person's face"),
        ] = "erase",
        principal: Principal = admin,
    ) -> ErasedView:
        """Erase a person: their faces, pictures and vectors; their events stay without them.

        So do events in which nobody had recognised them, as far as they are as much like them as a recognised
        face, unless these are to be kept. The audit log keeps that it was done, and the numbers.
        """
        counts = await people.erasure.erase(person_id, principal, lookalikes=lookalikes == "erase")
        return ErasedView(erased=counts)

    return api


def saying_routes(gateway: Gateway, refused: dict[int | str, dict[str, Any]]) -> APIRouter:
    """What people say of events."""
    people = gateway.people
    operator = Depends(gateway.identity.require(Role.OPERATOR))
    api = APIRouter(tags=["people"], responses=refused)

    @api.post("/api/events/{event_id}/person", openapi_extra=_SAID_BODY)
    async def say_who(
        event_id: EventPath,
        request: Request,
        force: Annotated[str | None, Query(description="1: accept a face much like somebody else")] = None,
        principal: Principal = operator,
    ) -> SaidView:
        """Say whose face an event shows: it is enrolled, and the event tells of that person.

        Or whose it is surely not: they are not recognised by such a face again.
        """
        wanted = await read_model(request, EventPerson)
        said = await people.from_events.say(
            event_id, wanted, principal, force=flag(force or None, default=False)
        )
        return SaidView(
            event=said.event,
            person_id=said.person_id,
            face=face_view(said.face, people.kit.embedder) if said.face is not None else None,
            not_enrolled=said.reason,
        )

    return api


def _check_group(group: str) -> None:
    try:
        if group:
            _GROUP.validate_python(group)
    except ValidationError:
        raise RefusedError("invalid", "group: must be a DNS label, such as staff") from None
