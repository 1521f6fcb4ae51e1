"""Detections and the JSON meta of a frame."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from camfleet_protocol.wire import WireError, WireFault

MAX_DETECTIONS = 512

Unit = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class Detection(BaseModel):
    """One thing found in one picture; coordinates are fractions of its width and height."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Annotated[str, Field(min_length=1, max_length=32)]
    """Which family it is of: `face`, `motion`, `object`, …; bounded, fit for a metric label."""
    label: Annotated[str, Field(min_length=1, max_length=64)]
    """What a person reads beside the box."""
    score: Unit
    box: tuple[Unit, Unit, Unit, Unit]
    """Left, top, width, height."""
    landmarks: tuple[tuple[Unit, Unit], ...] = Field(default=(), max_length=128)
    """For faces: right eye, left eye, nose, right and left corner of the mouth."""
    track_id: Annotated[int | None, Field(ge=0)] = None
    person: Annotated[str, Field(max_length=64)] = ""
    """Id of the enrolled person that the face is of; the label then is their name. Empty: not recognised."""


class FrameMeta(BaseModel):
    """Meta of a `FRAME` or `DETECTIONS` message.

    `width` and `height` are those of the coded picture in pixels. `inferred_ns` is the capture time of
    the picture that the detections were found in: equal to the frame's own unless they are carried over.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    width: Annotated[int, Field(ge=1, le=16384)]
    height: Annotated[int, Field(ge=1, le=16384)]
    detections: tuple[Detection, ...] = Field(default=(), max_length=MAX_DETECTIONS)
    inferred_ns: Annotated[int | None, Field(ge=0)] = None


def parse_meta(meta: bytes | memoryview) -> FrameMeta:
    """Decode the meta of a frame.

    Raises:
        WireError: With `BAD_META`, if it is not the JSON of a `FrameMeta`.
    """
    try:
        return FrameMeta.model_validate_json(bytes(meta))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "meta"
        raise WireError(WireFault.BAD_META, f"{where}: {first['msg']}") from None


def encode_meta(meta: FrameMeta) -> bytes:
    """Encode the meta of a frame as compact UTF-8 JSON."""
    return meta.model_dump_json(exclude_defaults=True).encode()
