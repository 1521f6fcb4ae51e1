"""The outbox's SQLite file: what it looks like, and how a file of an earlier version becomes one.

Everything here may raise `sqlite3.Error`; what follows from that is the outbox's business. Each call is one
transaction: it happens as a whole or, on a full disk say, not at all.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from camfleet_protocol.appearance import APPEARANCE
from camfleet_protocol.messages import EventRecord

NAME = "outbox.db"
MAX_TOLD = 5000
"""Events of which revision and order are remembered after they were acknowledged; those told last stay."""
MAX_OPEN = 1000
"""Appearances that go on and are remembered as such; those told last stay."""
_VERSION = 3
_MINE = 0o600
_WITH_PICTURES = 2
"""The first version whose events have attachments."""
_SHRINK_BYTES = 256 * 1024
_BLOBS = ("embedding", "crop", "scene")
_SIZE = "length(body) + length(embedding) + length(crop) + length(scene)"
_TABLES = """
CREATE TABLE events (
  n INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT UNIQUE NOT NULL,
  body BLOB NOT NULL,
  revision INTEGER NOT NULL DEFAULT 0,
  embedder TEXT NOT NULL DEFAULT '',
  embedding BLOB NOT NULL DEFAULT x'',
  crop BLOB NOT NULL DEFAULT x'',
  scene BLOB NOT NULL DEFAULT x''
);
CREATE TABLE told (
  id TEXT PRIMARY KEY, revision INTEGER NOT NULL, position INTEGER NOT NULL, n INTEGER NOT NULL
);
CREATE INDEX told_n ON told (n);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_GOING_ON = """
CREATE TABLE going_on (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, body BLOB NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class Pending:
    """An event with its attachments; those that it has not are empty.

    Attributes:
        event: With revision and order.
        crop: JPEG.
        scene: JPEG.
        embedding: Little-endian float16, of length 1.
        embedder: NAME@HASH of the model of the embedding.
    """

    event: EventRecord
    crop: bytes = b""
    scene: bytes = b""
    embedding: bytes = b""
    embedder: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Id and revision."""
        return self.event.id, self.event.revision

    def after(self, before: Pending) -> Pending:
        """With the attachments of the revision that it replaces, where it brings none of its own."""
        return Pending(
            self.event,
            self.crop or before.crop,
            self.scene or before.scene,
            self.embedding or before.embedding,
            self.embedder if self.embedding else before.embedder,
        )

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return 512 + len(self.event.message) + len(self.crop) + len(self.scene) + len(self.embedding)


class OutboxFile:
    """An open file; nobody else has it meanwhile. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open it, and make or convert it if need be.

        Raises:
            sqlite3.Error: It cannot be read, or not be written to.
        """
        self._wal = folder / f"{NAME}-wal"
        _keep_private(folder / NAME, self._wal)
        self._database = sqlite3.connect(
            folder / NAME, check_same_thread=False, timeout=2.0, isolation_level=None
        )
        try:
            self._prepare()
        except sqlite3.Error:
            self._database.close()
            raise

    @staticmethod
    def remove(folder: Path) -> None:
        """Remove a file that is none."""
        for suffix in ("", "-wal", "-shm"):
            (folder / f"{NAME}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Close it."""
        self._database.close()

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────────

    def told(self) -> dict[str, tuple[int, int]]:
        """Newest revision and order of each event that may go on, those told longest ago first."""
        rows = self._database.execute("SELECT id, revision, position FROM told ORDER BY n")
        return {event_id: (revision, order) for event_id, revision, order in rows}

    def going_on(self) -> list[EventRecord]:
        """The appearances that were told and not ended, as they were told last."""
        found: list[EventRecord] = []
        for (body,) in self._database.execute("SELECT body FROM going_on ORDER BY n"):
            with suppress(ValidationError):
                found.append(EventRecord.model_validate_json(body))
        return found

    def order(self) -> int:
        """The highest number that an event was given; 0 before the first."""
        row = self._database.execute("SELECT value FROM counters WHERE name = 'order'").fetchone()
        return int(row[0]) if row else 0

    def ids(self) -> set[str]:
        """Of all events in it."""
        return {event_id for (event_id,) in self._database.execute("SELECT id FROM events")}

    def read(self, limit: int) -> Iterator[tuple[int, Pending | None]]:
        """The oldest events with their numbers; None for what this version cannot read."""
        rows = self._database.execute(
            "SELECT n, body, revision, crop, scene, embedding, embedder FROM events ORDER BY n LIMIT ?",
            (limit,),
        )
        for n, body, revision, crop, scene, embedding, embedder in rows.fetchall():
            try:
                event = EventRecord.model_validate_json(body)
            except ValidationError:
                yield n, None
                continue
            event = event.model_copy(update={"revision": revision})
            yield n, Pending(event, bytes(crop), bytes(scene), bytes(embedding), embedder)

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────────

    def save(self, item: Pending, *, goes_on: bool, limit: int, limit_bytes: int) -> list[str]:
        """Put one in, in the place of its lower revision; returns the ids of the oldest that had to go.

        An attachment that it does not bring is the one of the revision it replaces.
        """
        event = item.event
        with self._transaction() as database:
            database.execute(
                "INSERT INTO events (id, body, revision, embedder, embedding, crop, scene)"
                " VALUES (:id, :body, :revision, :embedder, :embedding, :crop, :scene)"
                " ON CONFLICT (id) DO UPDATE SET body = :body, revision = :revision,"
                " embedder = CASE WHEN length(:embedding) THEN :embedder ELSE embedder END,"
                + ", ".join(f"{b} = CASE WHEN length(:{b}) THEN :{b} ELSE {b} END" for b in _BLOBS)
                + " WHERE revision < :revision",
                {
                    "id": event.id,
                    "body": event.model_dump_json().encode(),
                    "revision": event.revision,
                    "embedder": item.embedder,
                    "embedding": item.embedding,
                    "crop": item.crop,
                    "scene": item.scene,
                },
            )
            if goes_on:
                self._remember(database, event)
                self._note_going_on(database, event)
            database.execute(
                "INSERT INTO counters VALUES ('order', ?) ON CONFLICT (name)"
                " DO UPDATE SET value = max(value, excluded.value)",
                (event.order,),
            )
            return self._drop_oldest(database, limit, limit_bytes)

    def forget(self, acknowledged: Mapping[str, int]) -> None:
        """Remove events, each up to a revision."""
        with self._transaction() as database:
            database.executemany(
                "DELETE FROM events WHERE id = ? AND revision <= ?", list(acknowledged.items())
            )
        if not self.ids() and self._wal.stat().st_size > _SHRINK_BYTES:
            # Nothing of the pictures that were in here needs to stay on the disk.
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def forget_number(self, n: int) -> None:
        """Remove one by its number."""
        with self._transaction() as database:
            database.execute("DELETE FROM events WHERE n = ?", (n,))

    def _remember(self, database: sqlite3.Connection, event: EventRecord) -> None:
        database.execute(
            "INSERT INTO told SELECT ?, ?, ?, coalesce(max(n), 0) + 1 FROM told WHERE true"
            " ON CONFLICT (id) DO UPDATE SET revision = max(revision, excluded.revision), n = excluded.n",
            (event.id, event.revision, event.order),
        )
        database.execute(
            "DELETE FROM told WHERE n <= (SELECT n FROM told ORDER BY n DESC LIMIT 1 OFFSET ?)", (MAX_TOLD,)
        )

    def _note_going_on(self, database: sqlite3.Connection, event: EventRecord) -> None:
        database.execute("DELETE FROM going_on WHERE id = ?", (event.id,))
        if event.type != APPEARANCE or event.data.get("ended") is not None:
            return
        body = event.model_dump_json().encode()
        database.execute("INSERT INTO going_on (id, body) VALUES (?, ?)", (event.id, body))
        database.execute(
            "DELETE FROM going_on WHERE n <= (SELECT n FROM going_on ORDER BY n DESC LIMIT 1 OFFSET ?)",
            (MAX_OPEN,),
        )

    def _drop_oldest(self, database: sqlite3.Connection, limit: int, limit_bytes: int) -> list[str]:
        rows = database.execute(f"SELECT n, id, {_SIZE} FROM events ORDER BY n").fetchall()
        count, total = len(rows), sum(size for _, _, size in rows)
        gone: list[str] = []
        for n, event_id, size in rows[:-1]:
            if count <= limit and total <= limit_bytes:
                break
            count, total = count - 1, total - size
            gone.append(event_id)
            database.execute("DELETE FROM events WHERE n = ?", (n,))
        return gone

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # a full disk ends it by itself
                self._database.execute("ROLLBACK")
            raise

    # ── Versions ────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self) -> None:
        database = self._database
        # One process has it, without a file of shared memory: a full disk would have no room for that.
        database.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        if database.execute("PRAGMA page_count").fetchone()[0] == 0:
            database.execute("PRAGMA auto_vacuum=FULL")  # the disk gets its room back
        database.execute("PRAGMA journal_mode=WAL").fetchall()
        database.execute("PRAGMA synchronous=NORMAL")
        if self._version() >= _VERSION:
            return
        with self._transaction():
            before = self._version()
            if before < _WITH_PICTURES:
                old = self._old_events()
                for statement in _TABLES.split(";")[:-1]:
                    database.execute(statement)
                self._take_over(old)
            if before < _VERSION:
                database.execute(_GOING_ON)
                database.execute(f"PRAGMA user_version={_VERSION}")

    def _version(self) -> int:
        return int(self._database.execute("PRAGMA user_version").fetchone()[0])

    def _old_events(self) -> list[tuple[str, bytes]]:
        """The events of a file from before there were attachments; moves its table out of the way."""
        if not self._database.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
            return []
        rows = self._database.execute("SELECT id, CAST(body AS BLOB) FROM events ORDER BY n").fetchall()
        self._database.execute("DROP TABLE events")
        return rows

    def _take_over(self, old: list[tuple[str, bytes]]) -> None:
        order = first_order() - 1
        for event_id, body in old:
            try:
                event = EventRecord.model_validate_json(body)
            except ValidationError:
                continue
            order += 1
            body = event.model_copy(update={"order": order}).model_dump_json().encode()
            self._database.execute("INSERT INTO events (id, body) VALUES (?, ?)", (event_id, body))
        if old:
            self._database.execute("INSERT INTO counters VALUES ('order', ?)", (order,))


def _keep_private(file: Path, log: Path) -> None:
    """Faces and names are in it: nobody else reads it. SQLite gives its log the rights of the file."""
    with suppress(OSError):  # then SQLite cannot open it either, and says so; or the volume knows no rights
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, _MINE))
        file.chmod(_MINE)
        if log.exists():
            log.chmod(_MINE)


def first_order() -> int:
    """The number of the first event of a new file: above those of a file that was lost with its node."""
    return int(time.time())
