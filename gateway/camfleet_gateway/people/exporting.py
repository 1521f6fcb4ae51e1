"""A backup of everybody who is enrolled, as an archive that an import restores exactly."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import tempfile
import zipfile
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.auth import Principal
from camfleet_gateway.people.archive import MAX_ENTRIES
from camfleet_gateway.people.csv_table import write_table
from camfleet_gateway.people.export_format import (
    FACES,
    MANIFEST,
    PEOPLE,
    ExportedFace,
    ExportedPerson,
    Manifest,
    picture_path,
)
from camfleet_gateway.people.import_plan import TABLE
from camfleet_gateway.people.kit import Kit
from camfleet_gateway.people.known import face_context
from camfleet_gateway.people.problems import no_room
from camfleet_gateway.people.times import written
from camfleet_gateway.store.errors import WrongKeyError
from camfleet_gateway.store.tables import Face, Person

logger = logging.getLogger(__name__)

MAX_ARCHIVE_PICTURES = MAX_ENTRIES - 100
MAX_ARCHIVE_BYTES = 192 * 1024 * 1024
"""An import takes 256 MiB; the tables come last."""
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Exported:
    """An archive, and after whom the next one goes on where not all were in it."""

    path: Path
    next_cursor: str | None


async def export(kit: Kit, principal: Principal, *, after: str = "") -> Exported:
    """Write an archive into the scratch folder; the caller removes it. The audit row is written first.

    Args:
        kit: The parts.
        principal: Who asks.
        after: Leave out whoever's id is not after this one.

    Raises:
        RefusedError: The disk does not take it.
        UnavailableError: The database is away.
    """
    async with kit.database.session() as session:
        count = await session.scalar(select(func.count()).where(Person.id > after))
        kit.audit.add(session, principal, "people.export", "", {"people": count or 0})
    faces: dict[str, list[Any]] = {}
    async with kit.database.reading() as session:
        people = await _pages(
            session, select(*_columns(Person, ExportedPerson)).where(Person.id > after), Person.id
        )
        for face in await _pages(
            session, select(*_columns(Face, ExportedFace)).where(Face.person_id > after), Face.id
        ):
            faces.setdefault(face.person_id, []).append(face)
    for of_person in faces.values():
        of_person.sort(key=lambda face: (face.created, face.id))
    try:
        return await asyncio.to_thread(_write, kit, people, faces)
    except OSError:
        raise no_room() from None


def _columns(table: type[Person] | type[Face], line: type[BaseModel]) -> list[Any]:
    """The columns that a line of the export tells of."""
    return [getattr(table, name) for name in line.model_fields if hasattr(table, name)]


async def _pages(session: AsyncSession, wanted: Select[Any], by: Any) -> list[Any]:
    """All rows, a page at a time: others have their turn in between."""
    found: list[Any] = []
    page: Sequence[Any] = (await session.execute(wanted.order_by(by).limit(_PAGE))).all()
    while page:
        found.extend(page)
        following = wanted.where(by > page[-1].id).order_by(by).limit(_PAGE)
        page = (await session.execute(following)).all() if len(page) == _PAGE else ()
    return found


def _write(kit: Kit, people: Sequence[Any], faces: Mapping[str, Sequence[Any]]) -> Exported:
    kit.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=kit.scratch, prefix="export-", suffix=".zip")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            next_cursor = _fill(archive, kit, people, faces)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Exported(path, next_cursor)


def _fill(
    archive: zipfile.ZipFile, kit: Kit, people: Sequence[Any], faces: Mapping[str, Sequence[Any]]
) -> str | None:
    """Fill the archive until it is full; returns the id of the last one in it if there are more."""
    lines: list[str] = []
    rows: list[dict[str, str]] = []
    told: list[str] = []
    tally: Tally[str] = Tally()
    pictures = size = 0
    next_cursor = None
    for person in people:
        of_person = faces.get(person.id, ())
        if told and (pictures + len(of_person) > MAX_ARCHIVE_PICTURES or size > MAX_ARCHIVE_BYTES):
            break
        paths: list[str] = []
        for face in of_person:
            try:
                embedding = kit.sealer.open(face.embedding, face_context(face.id))
            except WrongKeyError:
                logger.error("the face %s is not exported: this key does not open it", face.id)
                continue
            picture = kit.snapshots.read_face(face.person_id, face.id)
            path = picture_path(face.person_id, face.id) if picture else ""
            if picture:
                archive.writestr(zipfile.ZipInfo(path), picture, zipfile.ZIP_STORED)
                pictures += 1
                size += len(picture)
                if not face.negative:
                    paths.append(path)
            lines.append(_face(face, embedding, path).model_dump_json())
            tally[face.embedder] += 1
        told.append(_person(person).model_dump_json())
        rows.append(_row(person, paths))
    if len(told) < len(people):
        next_cursor = people[len(told) - 1].id
    manifest = Manifest(created=kit.wall(), people=len(told), faces=len(lines), embedders=dict(tally))
    archive.writestr(TABLE, write_table(rows))
    archive.writestr(PEOPLE, "\n".join(told))
    archive.writestr(FACES, "\n".join(lines))
    archive.writestr(MANIFEST, manifest.model_dump_json())
    return next_cursor


def _face(face: Any, embedding: bytes, picture: str) -> ExportedFace:
    return ExportedFace.model_validate(
        {
            "id": face.id,
            "person_id": face.person_id,
            "negative": face.negative,
            "source": face.source,
            "event_id": face.event_id,
            "digest": face.digest,
            "quality": min(max(face.quality, 0.0), 1.0),
            "embedder": face.embedder,
            "embedding": base64.b64encode(embedding).decode(),
            "created": face.created,
            "picture": picture,
        }
    )


def _person(person: Any) -> ExportedPerson:
    names = ExportedPerson.model_fields
    return ExportedPerson.model_construct(**{name: getattr(person, name) for name in names})


def _row(person: Any, pictures: list[str]) -> dict[str, str]:
    return {
        "id": person.id,
        "name": person.name,
        "group": person.group,
        "external_id": person.external_id or "",
        "valid_from": written(person.valid_from),
        "valid_until": written(person.valid_until),
        "note": person.note,
        "pictures": ";".join(pictures),
    }
