"""Faces come to a person and leave it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.auth import Principal
from camfleet_gateway.people import words
from camfleet_gateway.people.embeddings import to_bytes
from camfleet_gateway.people.face_process import Quality
from camfleet_gateway.people.judging import check_likeness, choose
from camfleet_gateway.people.kit import Kit, new_id
from camfleet_gateway.people.known import bump, face_context
from camfleet_gateway.people.problems import RefusedError, no_room, unknown_face, unknown_person
from camfleet_gateway.store.tables import Face, Person

MAX_FACES = 50
"""Pictures of one person, and as many faces that are not theirs."""

Source = Literal["upload", "event", "import"]


@dataclass(frozen=True, slots=True)
class NewFace:
    """A face that was analysed and is to be stored."""

    embedding: NDArray[np.float32]
    embedder: str
    crop: bytes
    digest: str
    quality: float
    measured: Quality | None = None
    negative: bool = False
    source: Source = "upload"
    event_id: str | None = None


class Enrolment:
    """Puts pictures to people."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def analyse(self, picture: bytes, *, source: Source = "upload") -> NewFace:
        """The one face of a picture.

        Raises:
            RefusedError: There is none that can be used, or faces cannot be analysed here.
        """
        ready = await self._kit.faces.embedder()
        digest, analysis = await asyncio.gather(
            asyncio.to_thread(digest_of, picture), self._kit.faces.analyze(picture)
        )
        chosen = choose(analysis)
        return NewFace(
            embedding=chosen.embedding,
            embedder=ready.embedder,
            crop=chosen.crop,
            digest=digest,
            quality=chosen.quality.score,
            measured=chosen.quality,
            source=source,
        )

    async def add(
        self,
        person_id: str,
        face: NewFace,
        principal: Principal,
        *,
        force: bool,
        unlike: Collection[str] = (),
    ) -> Face:
        """Enrol a face.

        Args:
            person_id: Whose it is.
            face: The face.
            principal: Who says so.
            force: Accept one that is almost the same as another, or that looks like somebody else.
            unlike: People whose face it surely is not.

        Raises:
            RefusedError: `unknown_person`, `Duplicate`, `LooksLikeSomebodyElse` or `TooManyFaces`.
        """
        if not force:
            await self.check(person_id, face, unlike=unlike)
        row = self.row(person_id, face)
        await self.put_crop(row, face)
        try:
            async with self._kit.database.session() as session:
                await self.store(session, row, principal)
        except BaseException:
            await self.drop_crops([row])
            raise
        await self._kit.gallery.refresh()
        return row

    async def check(self, person_id: str, face: NewFace, *, unlike: Collection[str] = ()) -> None:
        """See whether the face is new, and not somebody else's.

        Raises:
            RefusedError: `Duplicate` or `LooksLikeSomebodyElse`.
        """
        await self._kit.gallery.refresh()
        async with self._kit.database.reading() as session:
            await refuse_same(session, person_id, face.digest, negative=face.negative)
        ready = await self._kit.faces.embedder()
        if face.embedder != ready.embedder:
            return  # vectors of different models say nothing about each other
        check_likeness(
            self._kit.known,
            person_id=person_id,
            embedding=face.embedding,
            embedder=face.embedder,
            threshold=ready.threshold,
            unlike=unlike,
        )

    def row(self, person_id: str, face: NewFace) -> Face:
        """The row of a new face."""
        face_id = new_id()
        return Face(
            id=face_id,
            person_id=person_id,
            negative=face.negative,
            source=face.source,
            event_id=face.event_id,
            digest=face.digest,
            quality=face.quality,
            embedder=face.embedder,
            embedding=self._kit.sealer.seal(to_bytes(face.embedding), face_context(face_id)),
            created=self._kit.wall(),
        )

    async def store(self, session: AsyncSession, row: Face, principal: Principal) -> None:
        """Add a face in a transaction, with its audit row and the gallery's new version.

        Raises:
            RefusedError: `unknown_person`, `Duplicate` or `TooManyFaces`.
        """
        person = await session.get(Person, row.person_id, with_for_update=True)
        if person is None:
            raise unknown_person()
        await refuse_same(session, row.person_id, row.digest, negative=row.negative)
        count = await session.scalar(
            select(func.count()).where(Face.person_id == row.person_id, Face.negative == row.negative)
        )
        if (count or 0) >= MAX_FACES:
            raise RefusedError(
                "TooManyFaces", f"at most {MAX_FACES} pictures of a person are kept; remove one", status=409
            )
        session.add(row)
        await touch(self._kit, session, person)
        self._kit.audit.add(
            session,
            principal,
            "face.refuse" if row.negative else "face.add",
            row.person_id,
            {"face": row.id, "source": row.source, **({"event": row.event_id} if row.event_id else {})},
        )

    async def remove(self, person_id: str, face_id: str, principal: Principal) -> None:
        """Remove a face and its picture.

        Raises:
            RefusedError: There is no such face.
        """
        async with self._kit.database.session() as session:
            person = await session.get(Person, person_id, with_for_update=True)
            if person is None:
                raise unknown_person()
            face = await session.get(Face, face_id)
            if face is None or face.person_id != person_id:
                raise unknown_face()
            await session.delete(face)
            await touch(self._kit, session, person)
            self._kit.audit.add(session, principal, "face.remove", person_id, {"face": face_id})
        await self.drop_crops([face])
        await self._kit.gallery.refresh()

    async def put_crop(self, row: Face, face: NewFace) -> None:
        """Write the picture of a face. None is kept of a face that is not theirs: it shows somebody else.

        Raises:
            RefusedError: The disk does not take it.
        """
        if not face.crop or row.negative:
            return
        try:
            await asyncio.to_thread(self._kit.snapshots.write_face, row.person_id, row.id, face.crop)
        except OSError:
            raise no_room() from None

    async def drop_crops(self, rows: Collection[Face]) -> None:
        """Remove the pictures of faces."""
        for row in rows:
            await asyncio.to_thread(self._kit.snapshots.remove_face, row.person_id, row.id)


async def refuse_same(session: AsyncSession, person_id: str, digest: str, *, negative: bool) -> None:
    """Refuse a picture that is there already.

    Raises:
        RefusedError: It is.
    """
    if digest and await has_picture(session, person_id, digest, negative=negative):
        raise RefusedError("Duplicate", words.SAME_PICTURE, status=409)


async def has_picture(session: AsyncSession, person_id: str, digest: str, *, negative: bool = False) -> bool:
    """Whether a person has this very picture."""
    same = select(Face.id).where(
        Face.person_id == person_id, Face.digest == digest, Face.negative.is_(negative)
    )
    return (await session.scalars(same.limit(1))).first() is not None


async def touch(kit: Kit, session: AsyncSession, person: Person) -> None:
    """Mark a person as changed, for the workers to hear of it."""
    now = kit.wall()
    person.version = await bump(kit.database, session, now)
    person.updated = now


def digest_of(picture: bytes) -> str:
    """What tells one file from another."""
    return hashlib.sha256(picture).hexdigest()
