"""From an export back to people, exactly: ids, times, vectors and pictures.

Somebody who was erased since does not come back this way.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.auth import Principal
from camfleet_gateway.people.archive import MAX_TEXT_BYTES, Archive, bad_archive
from camfleet_gateway.people.embeddings import from_bytes
from camfleet_gateway.people.export_format import (
    FACES,
    MANIFEST,
    PEOPLE,
    VERSION,
    ExportedFace,
    ExportedPerson,
    Manifest,
)
from camfleet_gateway.people.kit import Kit
from camfleet_gateway.people.known import bump, face_context
from camfleet_gateway.people.persons import external_id_taken
from camfleet_gateway.people.problems import RefusedError
from camfleet_gateway.people.views import ImportReport, ImportRow, PictureProblem
from camfleet_gateway.store.snapshots import is_jpeg
from camfleet_gateway.store.tables import Face, Person, RemovedPerson

_BATCH = 50
"""People in one transaction."""
_MAX_PICTURE_BYTES = 1024 * 1024
_MAX_LINES = 500_000
_FIELDS = ("name", "group", "note", "external_id", "valid_from", "valid_until")

Line = TypeVar("Line", bound=BaseModel)


async def restore(kit: Kit, archive: Archive, report: ImportReport, principal: Principal) -> None:
    """Bring back what an export holds; `report` is filled in as it goes.

    Raises:
        RefusedError: The archive is not one of ours, or of a newer program.
    """
    people, faces = await asyncio.to_thread(_read, archive)
    for start in range(0, len(people), _BATCH):
        batch = people[start : start + _BATCH]
        rows = [
            ImportRow(row=start + number, name=person.name, person_id=person.id, action="refused")
            for number, person in enumerate(batch, 1)
        ]
        written: list[tuple[str, str]] = []
        try:
            async with kit.database.session() as session:
                version = await bump(session, kit.wall())
                for person, row in zip(batch, rows, strict=True):
                    try:
                        await _person(kit, session, person, row, version, principal)
                        await _faces(kit, session, archive, faces.get(person.id, ()), row, version, written)
                    except RefusedError as error:
                        row.action, row.code, row.message = "refused", error.code, str(error)
        except BaseException:
            for person_id, face_id in written:
                await asyncio.to_thread(kit.snapshots.remove_face, person_id, face_id)
            raise
        report.rows.extend(rows)
        for row in rows:
            setattr(report, row.action, getattr(report, row.action) + 1)
            report.faces_added += row.faces_added
            report.pictures_refused += len(row.problems)
        await kit.gallery.refresh()


async def _person(
    kit: Kit,
    session: AsyncSession,
    told: ExportedPerson,
    row: ImportRow,
    version: int,
    principal: Principal,
) -> None:
    if await session.get(RemovedPerson, told.id) is not None:
        raise RefusedError("Erased", "this person was erased after the export; enrol them anew")
    if told.external_id is not None:
        owner = select(Person.id).where(Person.external_id == told.external_id)
        if (found := (await session.scalars(owner)).first()) is not None and found != told.id:
            raise external_id_taken()
    person = await session.get(Person, told.id, with_for_update=True)
    if person is None:
        session.add(Person(**told.model_dump(), version=version))
        row.action = "created"
    else:
        different = [name for name in _FIELDS if getattr(person, name) != getattr(told, name)]
        for name in different:
            setattr(person, name, getattr(told, name))
        row.action = "updated" if different else "unchanged"
        if different:
            person.updated, person.version = told.updated, version
    if row.action != "unchanged":
        await session.flush()
        kit.audit.add(session, principal, "person.restore", told.id, {"created": row.action == "created"})


async def _faces(
    kit: Kit,
    session: AsyncSession,
    archive: Archive,
    faces: Sequence[ExportedFace],
    row: ImportRow,
    version: int,
    written: list[tuple[str, str]],
) -> None:
    for face in faces:
        there = await session.get(Face, face.id)
        if there is not None and there.person_id == face.person_id:
            row.faces_known += 1
            continue
        try:
            if there is not None:
                raise RefusedError("IdTaken", "a face of somebody else has this id")
            embedding = _embedding(face)
            picture = await asyncio.to_thread(_picture, archive, face)
        except RefusedError as error:
            row.problems.append(
                PictureProblem(picture=face.picture or face.id, code=error.code, message=str(error))
            )
            continue
        if picture:
            await asyncio.to_thread(kit.snapshots.write_face, face.person_id, face.id, picture)
            written.append((face.person_id, face.id))
        fields = face.model_dump(exclude={"embedding", "picture"})
        session.add(Face(**fields, embedding=kit.sealer.seal(embedding, face_context(face.id))))
        row.faces_added += 1
    if row.faces_added:
        if row.action == "unchanged":
            row.action = "updated"
        person = await session.get(Person, row.person_id)
        if person is not None:
            person.version = version


def _embedding(face: ExportedFace) -> bytes:
    try:
        embedding = base64.b64decode(face.embedding, validate=True)
        from_bytes(embedding)
    except (ValueError, binascii.Error):
        raise RefusedError("BadEmbedding", "the vector of this face cannot be read") from None
    return embedding


def _picture(archive: Archive, face: ExportedFace) -> bytes:
    if not face.picture:
        return b""
    if face.picture not in archive:
        raise RefusedError("NoSuchFile", "there is no such picture in the archive")
    picture = archive.read(face.picture, most=_MAX_PICTURE_BYTES)
    if not is_jpeg(picture):
        raise RefusedError("NotAPicture", "this is not a JPEG picture")
    return picture


def _read(archive: Archive) -> tuple[list[ExportedPerson], dict[str, list[ExportedFace]]]:
    try:
        manifest = Manifest.model_validate_json(archive.read(MANIFEST, most=1024 * 1024))
    except ValidationError:
        raise bad_archive("its manifest.json is not one of an export of people") from None
    if manifest.version > VERSION:
        raise bad_archive("a newer Camfleet has made this export")
    people = list({person.id: person for person in _lines(archive, PEOPLE, ExportedPerson)}.values())
    faces: dict[str, list[ExportedFace]] = {}
    for face in _lines(archive, FACES, ExportedFace):
        faces.setdefault(face.person_id, []).append(face)
    return people, faces


def _lines(archive: Archive, name: str, model: type[Line]) -> Iterator[Line]:
    if name not in archive:
        raise bad_archive(f"it is an export without {name}")
    lines = archive.read(name, most=MAX_TEXT_BYTES).splitlines()
    if len(lines) > _MAX_LINES:
        raise bad_archive(f"its {name} is too long")
    for number, line in enumerate(lines, 1):
        try:
            yield model.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "line"
            raise bad_archive(f"line {number} of {name}: {where}: {first['msg']}") from None
