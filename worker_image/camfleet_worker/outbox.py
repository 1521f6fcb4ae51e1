"""Events wait on disk until the gateway has stored them: a gateway restart, or the worker's own, loses none.

Told at least once, under an id and a revision: a higher revision replaces a lower one that still waits.
Bounded by number and bytes: past that the oldest is dropped and counted. While the disk takes nothing, what
is stored stays, new events wait in a smaller memory, `problem` says so, and the file is tried again every
second. Its methods block on the disk, so the event loop calls them in threads; `problem`, `dropped` and `len`
do not block.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import NotRequired, TypedDict

from camfleet_protocol.messages import EventRecord
from camfleet_protocol.redaction import redact
from camfleet_worker.log import get_logger
from camfleet_worker.outbox_file import MAX_TOLD, OutboxFile, Pending, first_order

__all__ = ["MAX_CROP_BYTES", "MAX_EMBEDDING_BYTES", "EventFields", "Outbox", "Pending"]

logger = get_logger(__name__)

MAX_EVENTS = 1000
MAX_BYTES = 64 * 1024 * 1024
MAX_CROP_BYTES = 84 * 1024
"""Of each picture; the limit of the wire."""
MAX_EMBEDDING_BYTES = 3072
MAX_DATA_BYTES = 16 * 1024
"""Of an event's data, as JSON."""
RETRY_SECONDS = 1.0
_MAX_WAITING = MAX_EVENTS
_MAX_WAITING_BYTES = 16 * 1024 * 1024
_MAX_MESSAGE = 512
_NO_ROOM = 64 * 1024


class EventFields(TypedDict):
    """What `Outbox.put` is told besides the id."""

    kind: str
    severity: str
    message: str
    data: dict[str, object]
    time: float
    crop: NotRequired[bytes]
    scene: NotRequired[bytes]
    embedding: NotRequired[bytes]
    embedder: NotRequired[str]


class Outbox:
    """A queue of events in a SQLite file. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        camera: str,
        *,
        limit: int = MAX_EVENTS,
        limit_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped = 0
        """Events that are lost."""
        self.problem = ""
        """Why events cannot be kept on disk now; empty when all is well."""
        self._camera = camera
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._folder = folder
        self._file: OutboxFile | None = None
        self._stored: set[str] = set()
        self._pending = 0
        self._order = 0
        self._told: dict[str, tuple[int, int]] = {}
        """Newest revision and order of what may go on, told longest ago first."""
        self._waiting: dict[str, tuple[Pending, bool]] = {}
        """By id: what is not on disk yet, and whether it may go on."""
        self._acknowledged: dict[str, int] = {}
        """What is acknowledged and could not be removed yet."""
        self._tried = -RETRY_SECONDS
        with self._lock:
            self._write()

    # ── In ──────────────────────────────────────────────────────────────────────────────────────────

    def add(self, kind: str, severity: str, message: str, data: dict[str, object]) -> None:
        """Put an event in that is told once; its text is redacted."""
        record = self._record(uuid.uuid4().hex, kind, severity, message, data, time.time())
        with self._lock:
            self._wait(Pending(record.model_copy(update={"order": self._next_order()})), goes_on=False)

    def put(
        self,
        event_id: str,
        *,
        kind: str,
        severity: str,
        message: str,
        data: dict[str, object],
        time: float,
        crop: bytes = b"",
        scene: bytes = b"",
        embedding: bytes = b"",
        embedder: str = "",
    ) -> None:
        """Put an event in, or the next revision of one; its text is redacted.

        Args:
            event_id: The same id again means the same event, of which more is known now.
            kind: Type of the event, such as `appearance`.
            severity: `info`, `warning` or `critical`.
            message: For people.
            data: What there is to say; at most `MAX_DATA_BYTES` as JSON. An appearance without `ended` is
                remembered as one that goes on.
            time: Unix seconds of the event, the same in all its revisions.
            crop: JPEG; none means the one of the revision before, or none at all where that was dropped for
                want of room. Left out if over `MAX_CROP_BYTES`.
            scene: JPEG, likewise.
            embedding: Little-endian float16 of length 1; none means the one of the revision before.
            embedder: NAME@HASH of its model.

        Raises:
            ValidationError: The event is not one of the protocol.
        """
        record = self._record(event_id, kind, severity, message, data, time)
        item = Pending(
            record,
            _at_most(crop, MAX_CROP_BYTES, "crop"),
            _at_most(scene, MAX_CROP_BYTES, "scene"),
            _at_most(embedding, MAX_EMBEDDING_BYTES, "embedding"),
            embedder,
        )
        with self._lock:
            revision, order = self._told.pop(event_id, (-1, 0))
            if revision < 0:
                order = self._next_order()
            self._remember(event_id, revision + 1, order)
            event = record.model_copy(update={"revision": revision + 1, "order": order})
            self._wait(replace(item, event=event), goes_on=True)

    def tend(self) -> None:
        """Try again what the disk has not taken; call it about once a second."""
        with self._lock:
            if self.problem:
                self._write()

    # ── Out ─────────────────────────────────────────────────────────────────────────────────────────

    def going_on(self) -> list[EventRecord]:
        """The appearances that were told and not ended, as they were told last.

        Before the first `put` of a process: those that an earlier one, which was killed, has left behind.
        None if the file cannot be read now; the next process may.
        """
        with self._lock:
            try:
                return self._file.going_on() if self._file is not None else []
            except sqlite3.Error as error:
                self._failed(error)
                return []

    def pending(self, limit: int, skip: Collection[tuple[str, int]] = ()) -> list[Pending]:
        """The oldest events, at most `limit`, but for those whose id and revision are in `skip`."""
        with self._lock:
            found = [item for item in self._read(limit + len(skip)) if item.key not in skip]
            found += [item for item, _ in self._waiting.values() if item.key not in skip]
        return found[:limit]

    def ack(self, event_id: str, revision: int = 0) -> None:
        """The gateway has it up to this revision."""
        with self._lock:
            waiting = self._waiting.get(event_id)
            if waiting is not None and waiting[0].event.revision <= revision:
                del self._waiting[event_id]
            self._acknowledged[event_id] = max(revision, self._acknowledged.get(event_id, 0))
            self._write()

    def __len__(self) -> int:
        return self._pending

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._write()
            if self._file is not None:
                self._file.close()
                self._file = None

    # ── All below with the lock held ────────────────────────────────────────────────────────────────

    def _wait(self, item: Pending, *, goes_on: bool) -> None:
        before = self._waiting.get(item.event.id)
        if before is not None:
            item = item.after(before[0])
        self._waiting[item.event.id] = (item, goes_on)
        if not self.problem or self._clock() - self._tried >= RETRY_SECONDS:
            self._write()
        while len(self._waiting) > 1 and (
            len(self._waiting) > _MAX_WAITING
            or sum(item.size for item, _ in self._waiting.values()) > _MAX_WAITING_BYTES
        ):
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        self._count()

    def _count(self) -> None:
        # What a lower revision of was acknowledged counts as gone until it is written: never mind.
        self._pending = len((self._stored - self._acknowledged.keys()) | self._waiting.keys())

    def _write(self) -> None:
        """Bring the file up to date, as far as the disk lets us."""
        self._tried = self._clock()
        try:
            file = self._file if self._file is not None else self._open()
            if self._acknowledged:
                file.forget(self._acknowledged)
                self._acknowledged.clear()
                self._stored = file.ids()
            for event_id, (item, goes_on) in list(self._waiting.items()):
                lost = file.save(item, goes_on=goes_on, limit=self._limit, limit_bytes=self._limit_bytes)
                del self._waiting[event_id]
                if lost and not self.dropped:
                    logger.warning("the outbox is full: the oldest events are dropped")
                self.dropped += len(lost)
                self._stored.add(event_id)
                self._stored.difference_update(lost)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
        else:
            if self.problem:
                logger.info("events can be kept on disk again")
            self.problem = ""
        self._count()

    def _read(self, limit: int) -> list[Pending]:
        found: list[Pending] = []
        try:
            file = self._file if self._file is not None else self._open()
            for n, item in file.read(limit + len(self._acknowledged)):
                if item is None:
                    logger.warning("dropping an event that this version cannot read")
                    file.forget_number(n)
                    self.dropped += 1
                    self._stored = file.ids()
                    self._count()
                elif self._acknowledged.get(item.event.id, -1) < item.event.revision:
                    found.append(item)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
        return found[:limit]

    def _open(self) -> OutboxFile:
        try:
            file = OutboxFile(self._folder)
        except sqlite3.DatabaseError as error:
            if not _broken(error):
                raise
            logger.error("the outbox is not readable (%s); starting an empty one", error)
            OutboxFile.remove(self._folder)
            file = OutboxFile(self._folder)
        try:
            self._order = max(self._order, file.order())
            self._told = file.told() | self._told
            self._stored = file.ids()
        except sqlite3.Error:
            file.close()
            raise
        self._file = file
        return file

    def _failed(self, error: sqlite3.Error | OSError) -> None:
        if _code(error) != sqlite3.SQLITE_FULL and self._file is not None:
            # Whatever it is, a file that is opened anew shows it, or does not have it any more.
            self._file.close()
            self._file = None
            if _broken(error):
                OutboxFile.remove(self._folder)
                self.dropped += len(self._stored)
                self._stored = set()
        if not self.problem:
            logger.error("events cannot be kept on disk now, and wait in memory: %s", error)
        self.problem = (
            "the disk is full" if _full(error, self._folder) else f"events cannot be kept: {error}"[:256]
        )

    def _next_order(self) -> int:
        self._order = self._order + 1 if self._order else first_order()
        return self._order

    def _remember(self, event_id: str, revision: int, order: int) -> None:
        self._told[event_id] = (revision, order)
        while len(self._told) > MAX_TOLD:
            del self._told[next(iter(self._told))]

    def _record(
        self, event_id: str, kind: str, severity: str, message: str, data: dict[str, object], at: float
    ) -> EventRecord:
        if len(json.dumps(data)) > MAX_DATA_BYTES:
            logger.error("the data of a %s event is too large, and left out", kind)
            data = {}
        return EventRecord.model_validate(
            {
                "id": event_id,
                "time": at,
                "camera": self._camera,
                "type": kind,
                "severity": severity,
                "message": redact(message)[:_MAX_MESSAGE],
                "data": data,
            }
        )


def _at_most(attachment: bytes, limit: int, what: str) -> bytes:
    if len(attachment) <= limit:
        return attachment
    logger.warning("the %s of an event has %d bytes, more than %d; left out", what, len(attachment), limit)
    return b""


def _code(error: Exception) -> int | None:
    """The primary result code of SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def _full(error: Exception, folder: Path) -> bool:
    """Whether it is for want of room; some calls of SQLite say only that they failed."""
    if _code(error) == sqlite3.SQLITE_FULL:
        return True
    try:
        return shutil.disk_usage(folder).free < _NO_ROOM
    except OSError:
        return False


def _broken(error: Exception) -> bool:
    """Whether the file is no database, or one that is damaged."""
    return _code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
