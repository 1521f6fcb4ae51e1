"""The tables; `migrations/` brings a database to them.

Times are Unix seconds in UTC. Vectors are little-endian float16 of length 1, encrypted (`store.sealing`).
Names of people stand in `people` and, as they were told, in the `data` of events; erasing a person removes
both.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID = String(64)


class Table(DeclarativeBase):
    """Base of all tables."""


class Event(Table):
    """One thing that happened; a later revision replaces the row."""

    __tablename__ = "events"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    revision: Mapped[int] = mapped_column(Integer, default=0)
    """As its maker counts; what is told has the corrections added to it."""
    corrections: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """How often people, or an erasure, have changed it."""
    time: Mapped[float] = mapped_column(Float)
    ended: Mapped[float | None] = mapped_column(Float)
    stored: Mapped[float] = mapped_column(Float)
    camera: Mapped[str] = mapped_column(String(127))
    site: Mapped[str] = mapped_column(String(63), default="")
    order: Mapped[int] = mapped_column("worker_order", BigInteger, default=0)
    type: Mapped[str] = mapped_column(String(48))
    severity: Mapped[str] = mapped_column(String(8))
    message: Mapped[str] = mapped_column(String(512))
    kind: Mapped[str] = mapped_column(String(32), default="")
    """Of an appearance: `face` or `object`."""
    label: Mapped[str] = mapped_column(String(64), default="")
    """Of an appearance: the class."""
    identity: Mapped[str] = mapped_column(String(8), default="")
    person_id: Mapped[str | None] = mapped_column(ID)
    decided: Mapped[bool] = mapped_column(Boolean, default=False)
    """Somebody has said who it is: later revisions change nothing about that."""
    zones: Mapped[str] = mapped_column(Text, default="")
    """Names of zones, each between two line feeds."""
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    crop: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether there is a file of this picture."""
    scene: Mapped[bool] = mapped_column(Boolean, default=False)
    picture_bytes: Mapped[int] = mapped_column(Integer, default=0)
    embedder: Mapped[str] = mapped_column(String(128), default="")
    embedding: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires: Mapped[float] = mapped_column(Float)
    """When it is deleted."""

    __table_args__ = (
        # With the bytes, so that their sum is had from the index alone.
        Index("events_time", "time", "id", "picture_bytes"),
        Index("events_camera_time", "camera", "time", "id"),
        Index("events_person_time", "person_id", "time", "id"),
        Index("events_type_time", "type", "time", "id"),
        Index("events_expires", "expires"),
    )


class Person(Table):
    """Somebody who is enrolled."""

    __tablename__ = "people"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    group: Mapped[str] = mapped_column("person_group", String(63), default="staff")
    note: Mapped[str] = mapped_column(String(512), default="")
    external_id: Mapped[str | None] = mapped_column(String(128), unique=True)
    """Key of the person in another system."""
    valid_from: Mapped[float | None] = mapped_column(Float)
    valid_until: Mapped[float | None] = mapped_column(Float)
    created: Mapped[float] = mapped_column(Float)
    updated: Mapped[float] = mapped_column(Float)
    version: Mapped[int] = mapped_column(BigInteger)
    """The gallery version that brought the newest change."""

    __table_args__ = (Index("people_name", "name"), Index("people_version", "version"))


class Face(Table):
    """One picture of a person, or with `negative` one that is surely not theirs."""

    __tablename__ = "faces"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    person_id: Mapped[str] = mapped_column(ID, ForeignKey("people.id", ondelete="CASCADE"))
    negative: Mapped[bool] = mapped_column(Boolean, default=False)
    source: Mapped[str] = mapped_column(String(16), default="upload")
    """`upload`, `event` or `import`."""
    event_id: Mapped[str | None] = mapped_column(ID)
    """The event that it was taken from."""
    digest: Mapped[str] = mapped_column(String(64), default="")
    """SHA-256 of the picture that was given."""
    quality: Mapped[float] = mapped_column(Float, default=0.0)
    embedder: Mapped[str] = mapped_column(String(128))
    embedding: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[float] = mapped_column(Float)

    __table_args__ = (Index("faces_person", "person_id"),)


class RemovedPerson(Table):
    """That somebody was removed, so that workers hear of it; nothing about them but the id."""

    __tablename__ = "removed_people"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    removed: Mapped[float] = mapped_column(Float)


class Counter(Table):
    """Numbers that only rise, such as `gallery`."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


class Fact(Table):
    """What the database knows of itself, such as `key`: with which key vectors in it are sealed."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str] = mapped_column(String(128))


class Alert(Table):
    """A rule that fired; its event has the same id."""

    __tablename__ = "alerts"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    time: Mapped[float] = mapped_column(Float)
    camera: Mapped[str] = mapped_column(String(127))
    rule: Mapped[str] = mapped_column(String(63))
    severity: Mapped[str] = mapped_column(String(8))
    message: Mapped[str] = mapped_column(String(512))
    event_id: Mapped[str | None] = mapped_column(ID)
    """The event that raised it."""
    acknowledged: Mapped[float | None] = mapped_column(Float)
    acknowledged_by: Mapped[str] = mapped_column(String(64), default="")

    __table_args__ = (Index("alerts_time", "time"), Index("alerts_rule", "camera", "rule", "time"))


class Delivery(Table):
    """A message to a webhook, until it was taken or given up."""

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    webhook: Mapped[str] = mapped_column(String(63))
    event_id: Mapped[str] = mapped_column(ID)
    body: Mapped[str] = mapped_column(Text)
    created: Mapped[float] = mapped_column(Float)
    due: Mapped[float] = mapped_column(Float)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    dead: Mapped[bool] = mapped_column(Boolean, default=False)
    """Given up: the dead-letter list."""
    problem: Mapped[str] = mapped_column(String(256), default="")

    __table_args__ = (Index("deliveries_due", "dead", "due"),)


class AuditEntry(Table):
    """Who did what to people and their data. Never deleted by erasing; holds ids, no names of people."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    time: Mapped[float] = mapped_column(Float)
    actor: Mapped[str] = mapped_column(String(64))
    """Name of the token."""
    role: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(48))
    """`person.create`, `person.erase`, `people.export`, …"""
    subject: Mapped[str] = mapped_column(String(128), default="")
    """Id of the person, face or event."""
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)

    __table_args__ = (Index("audit_time", "time"), Index("audit_subject", "subject"))
