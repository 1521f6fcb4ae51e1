"""An event as it is stored, shown and told: the record, and what the gateway knows besides."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, Field
from sqlalchemy import RowMapping

from camfleet_protocol.messages import EventRecord


class PersonView(BaseModel):
    """Somebody who is enrolled, by id and name."""

    id: str
    name: str = ""


class EventView(EventRecord):
    """One event."""

    ended: Annotated[float | None, Field(description="Unix seconds; null while it goes on")] = None
    site: Annotated[str, Field(description="Site of the camera")] = ""
    kind: Annotated[str, Field(description="Of an appearance: `face` or `object`")] = ""
    label: Annotated[str, Field(description="Of an appearance: the class, such as `person`")] = ""
    identity: Annotated[str, Field(description="Of a face: `none`, `unsure`, `unknown` or `known`")] = ""
    person: Annotated[PersonView | None, Field(description="Who it is, where that is known")] = None
    zones: Annotated[tuple[str, ...], Field(description="Zones it was in for as long as they ask")] = ()
    crop_url: Annotated[str | None, Field(description="Path of the best picture of it")] = None
    scene_url: Annotated[str | None, Field(description="Path of the whole picture that the crop is from")] = (
        None
    )
    embedder: Annotated[str, Field(description="Model of the stored face vector; empty without one")] = ""

    def encode(self) -> str:
        """As JSON text, absent values as null."""
        return self.model_dump_json()


def zones_text(names: tuple[str, ...]) -> str:
    """Names of zones as the column `zones` holds them."""
    return "\n" + "\n".join(names) + "\n" if names else ""


def view_of(row: RowMapping | dict[str, Any]) -> EventView:
    """A row of `events`, by the names of its columns, as a view."""
    data: dict[str, Any] = row["data"]
    base = f"/api/events/{quote(row['id'], safe='')}"
    person_id = row["person_id"]
    told = data.get("person")
    name = told.get("name") if isinstance(told, dict) and told.get("id") == person_id else ""
    return EventView.model_construct(
        id=row["id"],
        time=row["time"],
        camera=row["camera"],
        type=row["type"],
        severity=row["severity"],
        message=row["message"],
        data=data,
        # One number for whoever is told: it rises with either, so the highest is always the newest.
        revision=row["revision"] + row["corrections"],
        order=row["worker_order"],
        ended=row["ended"],
        site=row["site"],
        kind=row["kind"],
        label=row["label"],
        identity=row["identity"],
        person=PersonView(id=person_id, name=str(name or "")) if person_id else None,
        zones=tuple(zone for zone in row["zones"].split("\n") if zone),
        crop_url=f"{base}/crop.jpg" if row["crop"] else None,
        scene_url=f"{base}/scene.jpg" if row["scene"] else None,
        embedder=row["embedder"] if row["embedding"] is not None else "",
    )
