"""From what a worker tells to a row of `events`, and how a later revision changes one.

A row is a dict by the names of the columns. Everything here is pure.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from camfleet_gateway.store.view import zones_text
from camfleet_protocol.appearance import Identity
from camfleet_protocol.messages import EventRecord

DAY = 86400.0
CLOCK_SET = 1_577_836_800.0
"""The year 2020: what is of before is of a clock that was never set."""
_MAX_ORDER = (1 << 63) - 1
_IDENTITIES = frozenset(Identity)
_MAX_ZONES = 16
SOMEBODY = "somebody"
"""Stands where the name of somebody who was erased stood."""
_ERASED = "erased"
"""In an event's data: it told of somebody who was erased. Only the store says so."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """An event on its way into the store."""

    record: EventRecord
    crop: bytes = field(default=b"", repr=False)
    scene: bytes = field(default=b"", repr=False)
    embedding: bytes = field(default=b"", repr=False)
    embedder: str = ""
    site: str = ""
    retention_days: float = 30.0

    @property
    def size(self) -> int:
        """Bytes it holds in memory, roughly."""
        return len(self.crop) + len(self.scene) + len(self.embedding) + 2048


def merged(events: list[Incoming]) -> Incoming:
    """One event told several times: the highest revision, with the newest of each picture and the vector."""
    ordered = sorted(events, key=lambda event: event.record.revision)
    last = ordered[-1]
    with_vector = next((event for event in reversed(ordered) if event.embedding), last)
    return Incoming(
        record=last.record,
        crop=next((event.crop for event in reversed(ordered) if event.crop), b""),
        scene=next((event.scene for event in reversed(ordered) if event.scene), b""),
        embedding=with_vector.embedding,
        embedder=with_vector.embedder,
        site=last.site,
        retention_days=last.retention_days,
    )


def row_of(event: Incoming, *, now: float) -> dict[str, Any]:
    """A new row, without pictures and vector."""
    record = event.record
    data = plain(record.data)
    data.pop(_ERASED, None)
    return {
        "id": record.id,
        "revision": record.revision,
        "corrections": 0,
        "time": record.time,
        "ended": _number(data.get("ended")),
        "stored": now,
        "camera": record.camera,
        "site": event.site[:63],
        "worker_order": min(record.order, _MAX_ORDER),
        "type": record.type,
        "severity": record.severity,
        "message": record.message.replace("\0", "")[:512],
        "kind": _text(data.get("kind"), 32),
        "label": _text(data.get("label"), 64),
        "identity": found if (found := _text(data.get("identity"), 8)) in _IDENTITIES else "",
        "person_id": person_id(data),
        "decided": False,
        "zones": zones_text(_zones(data)),
        "data": data,
        "crop": False,
        "scene": False,
        "picture_bytes": 0,
        "embedder": "",
        "embedding": None,
        "expires": counted_from(record.time, now) + event.retention_days * DAY,
    }


def counted_from(time: float, stored: float) -> float:
    """From when on the days of an event count, that was stored at a time.

    A clock that is ahead must not keep anything for longer, nor one that was never set delete it at once.
    """
    return min(time, stored) if time >= CLOCK_SET else stored


def revised(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A row after a later revision: its time stays, so do pictures and vector that are not told anew."""
    kept = ("corrections", "time", "crop", "scene", "picture_bytes", "embedder", "embedding")
    row = {**new, **{name: old[name] for name in kept}}
    stored = new["stored"]
    row["expires"] = new["expires"] + counted_from(old["time"], stored) - counted_from(new["time"], stored)
    if old["decided"]:
        data = dict(new["data"])
        for name in ("person", "identity"):
            if name in old["data"]:
                data[name] = old["data"][name]
            else:
                data.pop(name, None)
        row.update(
            decided=True,
            person_id=old["person_id"],
            identity=old["identity"],
            message=old["message"],
            data=data,
        )
    return anonymous({**row, "message": old["message"]}) if is_erased(old) else row


def is_erased(row: dict[str, Any]) -> bool:
    """Whether an event told of somebody who was erased: it goes on without person, pictures and vector."""
    return row["data"].get(_ERASED) is True


def anonymous(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the person in it: their name, id, vector and pictures are gone, what happened stays."""
    data = dict(row["data"])
    told = data.pop("person", None)
    name = told.get("name") if isinstance(told, dict) else None
    if "identity" in data:
        data["identity"] = Identity.UNKNOWN.value
    if isinstance(name, str) and name:
        data = renamed(data, name, SOMEBODY)
    data[_ERASED] = True
    return {
        **row,
        "person_id": None,
        "identity": Identity.UNKNOWN.value if row["identity"] else "",
        "message": renamed(row["message"], name, SOMEBODY)[:512]
        if isinstance(name, str) and name
        else row["message"],
        "data": data,
        "crop": False,
        "scene": False,
        "picture_bytes": 0,
        "embedder": "",
        "embedding": None,
    }


def person_id(data: dict[str, Any]) -> str | None:
    """The id of the person that an event's data tells of."""
    told = data.get("person")
    found = told.get("id") if isinstance(told, dict) else None
    return found[:64] if isinstance(found, str) and found else None


def plain(value: Any) -> Any:
    """JSON that every database takes: no NaN, no infinity, no NUL."""
    if isinstance(value, dict):
        return {
            plain(name) if isinstance(name, str) else str(name): plain(each) for name, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str) and "\0" in value:
        return value.replace("\0", "")
    return value


def renamed(value: Any, name: str, to: str) -> Any:
    """JSON with another name wherever a name stands as words of their own."""
    if isinstance(value, dict):
        return {key: renamed(each, name, to) for key, each in value.items()}
    if isinstance(value, list):
        return [renamed(each, name, to) for each in value]
    if not isinstance(value, str):
        return value
    return re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _: to, value)


def _zones(data: dict[str, Any]) -> tuple[str, ...]:
    """The zones of an appearance, or the one of an alert."""
    stays = data.get("zones")
    named = [stay.get("name") for stay in stays if isinstance(stay, dict)] if isinstance(stays, list) else []
    named.append(data.get("zone"))
    texts = (_text(name, 63).replace("\n", " ") for name in named)
    return tuple(dict.fromkeys(text for text in texts if text))[:_MAX_ZONES]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _text(value: object, length: int) -> str:
    return value[:length] if isinstance(value, str) else ""
