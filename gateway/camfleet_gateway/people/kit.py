"""What everything about people works with."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from camfleet_gateway.people.faces_client import FacesClient
from camfleet_gateway.people.gallery_source import GallerySource
from camfleet_gateway.people.known import KnownPeople
from camfleet_gateway.store.audit import Audit
from camfleet_gateway.store.database import Database
from camfleet_gateway.store.events import EventStore
from camfleet_gateway.store.sealing import Sealer
from camfleet_gateway.store.snapshots import Snapshots


@dataclass(frozen=True, slots=True)
class Kit:
    """The parts, put together by `service.People`."""

    database: Database
    sealer: Sealer
    snapshots: Snapshots
    audit: Audit
    events: EventStore
    faces: FacesClient
    known: KnownPeople
    gallery: GallerySource
    wall: Callable[[], float]
    """Unix seconds."""
    scratch: Path
    """Folder for uploads and exports while they are worked on."""

    @property
    def embedder(self) -> str:
        """The model in use; empty while that is not known."""
        return self.faces.identity


def new_id() -> str:
    """An id for a person or a face."""
    return uuid.uuid4().hex
