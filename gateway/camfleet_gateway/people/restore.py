"""From an export back to people, exactly: ids, times, vectors and pictures.

Somebody who was erased since does not come back this way, nor does what others had as not theirs: it may
show who was erased.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
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
from camfleet_gateway.people.problems import RefusedError, no_room
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
    created, people, faces = await asyncio.to_thread(_read, archive)
    async with kit.database.reading() as session:
        since = select(RemovedPerson.id).where(RemovedPerson.removed >= created).limit(1)
        somebody_erased = (await session.scalars(since)).first() is not None
    if somebody_erased:
        await _leave_out_negatives(kit, faces)
    for start in range(0, len(people), _BATCH):
        batch = _Batch(kit, archive, people[start : start + _BATCH], faces, first=start + 1)
        try:
            async with kit.database.session() as session:
                await batch.write(session, principal)
        except BaseException:
            await asyncio.to_thread(batch.take_back)
            raise
        for row in batch.rows:
            report.rows.append(row)
            setattr(report, row.action, getattr(report, row.action) + 1)
            report.faces_added += row.faces_added
            report.pictures_refused += len(row.problems)
        await kit.gallery.refresh()


async def _leave_out_negatives(kit: Kit, faces: dict[str, list[ExportedFace]]) -> None:
    """Take out negative faces, but for those that are enrolled still."""
    async with kit.database.reading() as session:
        there = set((await session.scalars(select(Face.id).where(Face.negative.is_(True)))).all())
    for person, told in faces.items():
        faces[person] = [face for face in told if not face.negative or face.id in there]


class _Batch:
    """Some people of an export, written in one transaction."""

    def __init__(
        self,
        kit: Kit,
        archive: Archive,
        people: Sequence[ExportedPerson],
        faces: Mapping[str, Sequence[ExportedFace]],
        *,
        first: int,
    ) -> None:
        self._kit = kit
        self._archive = archive
        self._people = people
        self._faces = {person.id: faces.get(person.id, ()) for person in people}
        self._written: list[tuple[str, str]] = []
        """Person and face of each picture that was written."""
        self.rows = [
            ImportRow(row=number, name=person.name, person_id=person.id, action="refused")
            for number, person in enumerate(people, first)
        ]

    async def write(self, session: AsyncSession, principal: Principal) -> None:
        """Compare with what is there, and write what differs."""
        ids = [person.id for person in self._people]
        removed = set(
            (await session.scalars(select(RemovedPerson.id).where(RemovedPerson.id.in_(ids)))).all()
        )
        locked = select(Person).where(Person.id.in_(ids)).with_for_update()
        there = {person.id: person for person in (await session.scalars(locked)).all()}
        keys = [person.external_id for person in self._people if person.external_id is not None]
        taken = select(Person.external_id, Person.id).where(Person.external_id.in_(keys))
        owners = {row[0]: row[1] for row in await session.execute(taken)}
        face_ids = [face.id for faces in self._faces.values() for face in faces]
        known = select(Face.id, Face.person_id).where(Face.id.in_(face_ids))
        faces_there = {row[0]: row[1] for row in await session.execute(known)}
        version = 0
        for told, row in zip(self._people, self.rows, strict=True):
            if told.id in removed:
                row.code = "Erased"
                row.message = "this person was erased after the export; enrol them anew"
                continue
            if owners.setdefault(told.external_id, told.id) != told.id and told.external_id is not None:
                row.code, row.message = "ExternalIdTaken", str(external_id_taken())
                continue
            new = await asyncio.to_thread(self._new_faces, told, faces_there, row)
            person = there.get(told.id)
            different = person is None or any(
                getattr(person, name) != getattr(told, name) for name in _FIELDS
            )
            row.action = "created" if person is None else "updated" if different or new else "unchanged"
            if row.action == "unchanged":
                continue
            version = version or await bump(self._kit.database, session, self._kit.wall())
            if person is None:
                person = Person(**told.model_dump(), version=version)
                session.add(person)
                await session.flush()
            for name in (*_FIELDS, "updated"):
                setattr(person, name, getattr(told, name))
            person.version = version
            session.add_all(new)
            detail = {"created": row.action == "created", "faces": len(new)}
            self._kit.audit.add(session, principal, "person.restore", told.id, detail)

    def _new_faces(self, told: ExportedPerson, there: Mapping[str, str], row: ImportRow) -> list[Face]:
        """The faces that are not there, their pictures written."""
        new: list[Face] = []
        for face in self._faces[told.id]:
            if there.get(face.id) == told.id:
                row.faces_known += 1
                continue
            try:
                if face.id in there:
                    raise RefusedError("IdTaken", "a face of somebody else has this id")
                embedding = _embedding(face)
                picture = _picture(self._archive, face)
            except RefusedError as error:
                where = face.picture or face.id
                row.problems.append(PictureProblem(picture=where, code=error.code, message=str(error)))
                continue
            if picture:
                try:
                    self._kit.snapshots.write_face(told.id, face.id, picture)
                except OSError:
                    raise no_room() from None
                self._written.append((told.id, face.id))
            fields = face.model_dump(exclude={"embedding", "picture"})
            sealed = self._kit.sealer.seal(embedding, face_context(face.id))
            new.append(Face(**fields, embedding=sealed))
        row.faces_added = len(new)
        return new

    def take_back(self) -> None:
        """Remove the pictures of a batch that was not committed."""
        for person_id, face_id in self._written:
            self._kit.snapshots.remove_face(person_id, face_id)


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


def _read(archive: Archive) -> tuple[float, list[ExportedPerson], dict[str, list[ExportedFace]]]:
    """When it was made, people, and their faces."""
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
    return manifest.created, people, faces


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
