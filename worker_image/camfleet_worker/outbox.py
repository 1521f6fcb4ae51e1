"""Events wait on disk until the gateway has stored them: a gateway restart, or the worker's own, loses none.

Bounded: past `MAX_EVENTS` the oldest is dropped and counted. Its methods block on the disk, so the event loop
calls them in threads.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from pathlib import Path

from pydantic import ValidationError

from camfleet_protocol.messages import EventRecord
from camfleet_protocol.redaction import redact
from camfleet_worker.log import get_logger

logger = get_logger(__name__)

MAX_EVENTS = 1000
_FILE = "outbox.db"
_MAX_MESSAGE = 512


class Outbox:
    """A queue of events in a SQLite file. Thread-safe."""

    def __init__(self, folder: Path, camera: str, *, limit: int = MAX_EVENTS) -> None:
        self._camera = camera
        self._limit = limit
        self._lock = threading.Lock()
        self._path = folder / _FILE
        self._database = self._open()
        self.dropped = 0

    def add(self, kind: str, severity: str, message: str, data: dict[str, object]) -> None:
        """Put an event in; its text is redacted."""
        event = EventRecord.model_validate(
            {
                "id": uuid.uuid4().hex,
                "time": time.time(),
                "camera": self._camera,
                "type": kind,
                "severity": severity,
                "message": redact(message)[:_MAX_MESSAGE],
                "data": data,
            }
        )
        try:
            with self._lock, self._database as database:
                database.execute(
                    "INSERT INTO events (id, body) VALUES (?, ?)", (event.id, event.model_dump_json())
                )
                excess = self._count() - self._limit
                if excess > 0:
                    database.execute(
                        "DELETE FROM events WHERE n IN (SELECT n FROM events ORDER BY n LIMIT ?)", (excess,)
                    )
                    self.dropped += excess
        except sqlite3.Error as error:
            self.dropped += 1
            logger.error("an event cannot be kept: %s", error)

    def pending(self, limit: int, after: int = 0) -> list[tuple[int, EventRecord]]:
        """The oldest events with numbers above `after`, at most `limit`, with their numbers."""
        with self._lock:
            rows = self._database.execute(
                "SELECT n, body FROM events WHERE n > ? ORDER BY n LIMIT ?", (after, limit)
            ).fetchall()
        events: list[tuple[int, EventRecord]] = []
        for number, body in rows:
            try:
                events.append((number, EventRecord.model_validate_json(body)))
            except ValidationError:
                logger.warning("dropping an event that this version cannot read")
                self._forget_number(number)
        return events

    def ack(self, event_id: str) -> None:
        """The gateway has it."""
        with self._lock, self._database as database:
            database.execute("DELETE FROM events WHERE id = ?", (event_id,))

    def __len__(self) -> int:
        with self._lock:
            return self._count()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _count(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM events").fetchone()[0])

    def _forget_number(self, number: int) -> None:
        with self._lock, self._database as database:
            database.execute("DELETE FROM events WHERE n = ?", (number,))
        self.dropped += 1

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            logger.error("the outbox is not readable (%s); starting an empty one", error)
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(_FILE + suffix).unlink(missing_ok=True)
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, check_same_thread=False, timeout=2.0)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(
                "CREATE TABLE IF NOT EXISTS events"
                " (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, body TEXT NOT NULL)"
            )
            database.commit()
        except sqlite3.Error:
            database.close()
            raise
        return database
