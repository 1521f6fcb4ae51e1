"""An appearance: one thing or person, from when it came into view until it had left for good.

It is the `data` of an event of the type `appearance`, told when it is sure that something is there, again
when more is known of it, and a last time, with `ended`, when it has gone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from camfleet_protocol.detections import Unit

APPEARANCE = "appearance"
"""Type of the event."""

UnixSeconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Identity(StrEnum):
    """What is known of whose face it is."""

    NONE = "none"
    """Not a face, or faces are not recognised here."""
    UNSURE = "unsure"
    """No picture of it was good enough, or two people are too much alike."""
    UNKNOWN = "unknown"
    """Surely nobody of those who are enrolled."""
    KNOWN = "known"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class ZoneStay(_Part):
    """A zone that it has been in for as long as the zone asks."""

    name: Annotated[str, Field(min_length=1, max_length=63)]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """In the zone so far, with pauses left out."""


class Match(_Part):
    """Who it is, and how sure that is."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    name: Annotated[str, Field(max_length=128)]
    group: Annotated[str, Field(max_length=63)] = ""
    similarity: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
    """Weighted mean of the cosine similarities of this track's pictures."""
    runner_up: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] = -1.0
    """The same for the second most similar person."""


class Appearance(_Part):
    """What appeared."""

    kind: Annotated[str, Field(min_length=1, max_length=32)]
    """`face` or `object`."""
    label: Annotated[str, Field(min_length=1, max_length=64)]
    """The class: `face`, `person`, `car`, …"""
    track: Annotated[int, Field(ge=0)]
    started: UnixSeconds
    """Capture time of its first picture."""
    seen: UnixSeconds
    """Capture time of its newest picture."""
    ended: UnixSeconds | None = None
    """Capture time of its last picture, once it has gone."""
    pictures: Annotated[int, Field(ge=0)] = 0
    """In how many pictures it was found."""
    score: Unit = 0.0
    """Best score of its detections."""
    box: tuple[Unit, Unit, Unit, Unit] | None = None
    """Where it was in the best picture: left, top, width, height."""
    best: UnixSeconds | None = None
    """Capture time of the best picture."""
    quality: Unit = 0.0
    """Quality of the face in the best picture."""
    zones: Annotated[tuple[ZoneStay, ...], Field(max_length=16)] = ()
    identity: Identity = Identity.NONE
    person: Match | None = None
    """With `identity` known."""
    returns: Annotated[int, Field(ge=0)] = 0
    """How often it left and came back soon enough to be the same appearance."""
    detector: Annotated[str, Field(max_length=128)] = ""
    """Name and version of the model that found it, such as yunet@104ee26c71d5."""
    embedder: Annotated[str, Field(max_length=128)] = ""
    gallery_version: Annotated[int, Field(ge=0)] = 0
