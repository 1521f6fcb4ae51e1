"""A store on either database, and events to put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from camfleet_gateway.clock import Clock
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.store.service import Store
from camfleet_protocol.messages import EventRecord

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4
OTHER_JPEG = b"\xff\xd8\xff\xe1" + bytes(500)
VECTOR = bytes(range(256))
NOW = 1_800_000_000.0
ANNA = {"id": "p-anna", "name": "Anna Muster", "group": "staff", "similarity": 0.7}


class StandingClock:
    """A wall clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.now)


def files(folder: Path, pattern: str = "*.jpg") -> list[Path]:
    """The files below a folder."""
    return sorted(path for path in folder.rglob(pattern) if path.is_file())


def event(id_: str, *, camera: str = "default.door", time: float = NOW, **fields: Any) -> EventRecord:
    """An event of some type."""
    return EventRecord.model_validate({"id": id_, "camera": camera, "time": time, "type": "motion", **fields})


def appearance(
    id_: str, *, person: dict[str, Any] | None = None, revision: int = 0, **fields: Any
) -> EventRecord:
    """Somebody's face at the door, in the hall."""
    data = {
        "kind": "face",
        "label": "face",
        "track": 1,
        "started": NOW,
        "seen": NOW,
        "zones": [{"name": "hall", "seconds": 2.0}],
        "identity": "known" if person else "unknown",
        **({"person": person} if person else {}),
        **fields.pop("data", {}),
    }
    message = f"{person['name']} is at the door" if person else "somebody unknown is at the door"
    return event(id_, type="appearance", revision=revision, **{"data": data, "message": message, **fields})


@asynccontextmanager
async def opened(
    folder: Path, url: str | None = None, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Store]:
    """A store that is open; without a URL on SQLite in the folder."""
    failed: list[bool] = []
    store = Store(
        GatewaySettings(data_dir=folder, database_url=url, **settings), clock or StandingClock().clock()
    )
    await store.start(lambda: failed.append(True))
    try:
        yield store
    finally:
        await store.stop()
    assert not failed
