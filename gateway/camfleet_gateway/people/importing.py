"""Many people at once: from folders of pictures, from a table, or from an export.

An import runs in a task of its own, so that it comes to its end when its caller has gone; its report can be
read then, too. What was enrolled before stays as it is: sending the same archive again changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.auth import Principal
from camfleet_gateway.people.archive import Archive
from camfleet_gateway.people.enrolment import Enrolment, NewFace, digest_of, has_picture
from camfleet_gateway.people.import_plan import Plan, Wish, open_upload, plan_archive, plan_table
from camfleet_gateway.people.kit import Kit
from camfleet_gateway.people.persons import Persons
from camfleet_gateway.people.problems import RefusedError
from camfleet_gateway.people.restore import restore
from camfleet_gateway.people.views import ImportReport, ImportRow, PersonIn, PictureProblem
from camfleet_gateway.store.errors import StoreError
from camfleet_gateway.store.tables import Person

logger = logging.getLogger(__name__)

_AHEAD = 2
"""Pictures of a person that are analysed at once."""


class Importer:
    """One import at a time."""

    def __init__(self, kit: Kit, persons: Persons, enrolment: Enrolment) -> None:
        self._kit = kit
        self._persons = persons
        self._enrolment = enrolment
        self._task: asyncio.Task[ImportReport] | None = None
        self.report = ImportReport()
        """Of the import that runs or of the last one."""

    @property
    def running(self) -> bool:
        """Whether one runs."""
        return self._task is not None and not self._task.done()

    def refuse_second(self) -> None:
        """Let nobody send an archive for nothing.

        Raises:
            RefusedError: An import runs.
        """
        if self.running:
            raise RefusedError("Busy", "an import is running; GET this path shows how far it is", status=409)

    async def run(self, path: Path, principal: Principal, *, group: str, force: bool) -> ImportReport:
        """Import a file; it must stay until this returns, also when the caller has gone.

        Raises:
            RefusedError: It cannot be read as people, or another import runs.
        """
        self.refuse_second()
        self._task = asyncio.create_task(
            self._import(path, principal, group=group, force=force), name="people-import"
        )
        return await self._task

    async def erased(self, _: AsyncSession, person_id: str) -> None:
        """Somebody is erased: the report tells of them no longer."""
        self.report.rows = [row for row in self.report.rows if row.person_id != person_id]

    async def stop(self) -> None:
        """End an import that runs; what it has enrolled stays."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _import(self, path: Path, principal: Principal, *, group: str, force: bool) -> ImportReport:
        report = self.report = ImportReport(running=True)
        archive: Archive | None = None
        try:
            archive = await asyncio.to_thread(open_upload, path)
            if archive is None:
                plan = await asyncio.to_thread(plan_table, path, group)
            else:
                plan = await asyncio.to_thread(plan_archive, archive, group)
            report.format = plan.format
            if plan.format == "export":
                assert archive is not None
                await restore(self._kit, archive, report, principal)
            else:
                await self._all(plan, archive, report, principal, force=force)
        except RefusedError as error:
            report.error = str(error)
            raise
        except StoreError as error:
            report.error = str(error)
            logger.error("an import ended before its end: %s", error)
        except asyncio.CancelledError:
            report.error = "the gateway stopped"
            raise
        finally:
            report.running = False
            if archive is not None:
                archive.close()
            await self._note(report, principal)
        return report

    async def _note(self, report: ImportReport, principal: Principal) -> None:
        counts = report.model_dump(include={"created", "updated", "unchanged", "refused", "faces_added"})
        try:
            async with self._kit.database.session() as session:
                self._kit.audit.add(
                    session, principal, "people.import", "", {"format": report.format, **counts}
                )
        except StoreError as error:
            logger.error("an import could not be written into the audit log: %s", error)

    async def _all(
        self,
        plan: Plan,
        archive: Archive | None,
        report: ImportReport,
        principal: Principal,
        *,
        force: bool,
    ) -> None:
        for wish in plan.wishes:
            row = ImportRow(row=wish.row.number, name=wish.row.name, action="refused")
            try:
                await self._one(wish, archive, row, principal, force=force)
            except RefusedError as error:
                if error.status == 503:
                    report.rows.append(row)
                    count(report, row)
                    report.error = f"{error.code}: {error}"
                    return  # the next ones would fare no better
                row.code, row.message = error.code, str(error)
            report.rows.append(row)
            count(report, row)

    async def _one(
        self, wish: Wish, archive: Archive | None, row: ImportRow, principal: Principal, *, force: bool
    ) -> None:
        given = wish.row.person()
        row.name = given.name
        async with self._kit.database.session() as session:
            person = await _find(session, given)
            if person is None:
                person = await self._persons.add(session, given, principal)
                row.action = "created"
            else:
                changes = wish.row.changes(given)
                changed = await self._persons.apply(session, person, changes, principal)
                row.action = "updated" if changed else "unchanged"
        row.person_id = person.id
        await self._kit.gallery.refresh()
        tasks: deque[asyncio.Task[NewFace | None]] = deque()
        waiting = iter(wish.pictures)

        def look_ahead() -> None:
            while len(tasks) < _AHEAD and (name := next(waiting, None)) is not None:
                tasks.append(asyncio.create_task(self._prepare(person.id, name, archive), name="import"))

        try:
            for name in wish.pictures:
                look_ahead()
                try:
                    face = await tasks.popleft()
                    if face is None:
                        row.faces_known += 1
                        continue
                    await self._enrolment.add(person.id, face, principal, force=force)
                except RefusedError as error:
                    if error.status == 503:
                        raise
                    row.problems.append(PictureProblem(picture=name, code=error.code, message=str(error)))
                else:
                    row.faces_added += 1
                    row.action = "created" if row.action == "created" else "updated"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _prepare(self, person_id: str, name: str, archive: Archive | None) -> NewFace | None:
        """Analyse a picture; None if the person has it already.

        Raises:
            RefusedError: It cannot be used.
        """
        if archive is None or name not in archive:
            raise RefusedError("NoSuchFile", "there is no such picture in the archive")
        picture = await asyncio.to_thread(archive.read, name)
        digest = await asyncio.to_thread(digest_of, picture)
        async with self._kit.database.reading() as session:
            if await has_picture(session, person_id, digest):
                return None
        return await self._enrolment.analyse(picture, source="import")


def count(report: ImportReport, row: ImportRow) -> None:
    """Add a row's outcome to the totals."""
    setattr(report, row.action, getattr(report, row.action) + 1)
    report.faces_added += row.faces_added
    report.pictures_refused += len(row.problems)


async def _find(session: AsyncSession, given: PersonIn) -> Person | None:
    """Who is meant: by external id, else by name.

    Raises:
        RefusedError: Several people have that name.
    """
    if given.external_id is not None:
        wanted = select(Person).where(Person.external_id == given.external_id)
        return (await session.scalars(wanted.with_for_update())).first()
    wanted = select(Person).where(Person.name == given.name).order_by(Person.id).limit(2)
    found = (await session.scalars(wanted.with_for_update())).all()
    if len(found) > 1:
        raise RefusedError(
            "AmbiguousName", "several people have this name; tell them apart by external_id", status=409
        )
    return found[0] if found else None
