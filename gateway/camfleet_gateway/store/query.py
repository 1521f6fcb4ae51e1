"""Which events are asked for, and from where on: filters and cursor as SQL."""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select, tuple_

from camfleet_gateway.store.tables import Event
from camfleet_gateway.store.view import EventView

EVENTS = Event.__table__
MAX_LIMIT = 1000
_MAX_CURSOR_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What an event must be like; None lets everything pass.

    Attributes:
        camera: Id of its camera.
        type: Its type; several are separated by commas.
        kind: `face` or `object`.
        label: Its class.
        person: Id of a person.
        identity: `none`, `unsure`, `unknown` or `known`.
        zone: Name of a zone that it was in.
        severity: `info`, `warning` or `critical`; several are separated by commas.
        since: Unix seconds; at that time or later.
        until: Unix seconds; before that time.
    """

    camera: str | None = None
    type: str | None = None
    kind: str | None = None
    label: str | None = None
    person: str | None = None
    identity: str | None = None
    zone: str | None = None
    severity: str | None = None
    since: float | None = None
    until: float | None = None

    def passes(self, event: EventView) -> bool:
        """Whether an event is like that."""
        return (
            (self.camera is None or event.camera == self.camera)
            and (self.type is None or event.type in self.type.split(","))
            and (self.kind is None or event.kind == self.kind)
            and (self.label is None or event.label == self.label)
            and (self.person is None or (event.person is not None and event.person.id == self.person))
            and (self.identity is None or event.identity == self.identity)
            and (self.zone is None or self.zone in event.zones)
            and (self.severity is None or event.severity in self.severity.split(","))
            and (self.since is None or event.time >= self.since)
            and (self.until is None or event.time < self.until)
        )


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: the next one begins after the event with this time and id."""

    time: float
    id: str

    def encode(self) -> str:
        """As text that means nothing to its reader."""
        text = json.dumps([self.time, self.id], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read it back.

        Raises:
            ValueError: It is none.
        """
        try:
            if len(text) > _MAX_CURSOR_CHARACTERS:
                raise ValueError
            padded = text + "=" * (-len(text) % 4)
            match json.loads(base64.b64decode(padded, altchars=b"-_", validate=True)):
                case [int() | float() as time, str(id_)] if math.isfinite(time) and "\0" not in id_:
                    id_.encode()  # half a character is nothing that a database takes
                    return cls(float(time), id_)
        except (ValueError, binascii.Error, RecursionError, OverflowError):
            pass
        raise ValueError("this is no cursor of ours")


def events_query(wanted: EventFilter, cursor: Cursor | None, limit: int) -> Select[Any]:
    """Events newest first, ties by id."""
    columns = EVENTS.c
    query = select(EVENTS).order_by(columns.time.desc(), columns.id.desc()).limit(limit)
    equal = {
        "camera": wanted.camera,
        "kind": wanted.kind,
        "label": wanted.label,
        "person_id": wanted.person,
        "identity": wanted.identity,
    }
    for name, value in equal.items():
        if value is not None:
            query = query.where(columns[name] == value)
    for name, several in (("type", wanted.type), ("severity", wanted.severity)):
        if several is not None:
            query = query.where(columns[name].in_(several.split(",")))
    if wanted.zone is not None:
        query = query.where(columns.zones.contains(f"\n{wanted.zone}\n", autoescape=True))
    if wanted.since is not None:
        query = query.where(columns.time >= wanted.since)
    if wanted.until is not None:
        query = query.where(columns.time < wanted.until)
    if cursor is not None:
        query = query.where(tuple_(columns.time, columns.id) < tuple_(cursor.time, cursor.id))
    return query
