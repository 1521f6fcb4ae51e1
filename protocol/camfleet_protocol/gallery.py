"""The gallery on the wire: the enrolled people that a worker compares faces with.

A binary message of the opcode `GALLERY`, gateway to worker: JSON meta (`GalleryPart`) and, compressed by
zlib, the vectors of its people one after the other, little-endian float16, each of length 1. `seq` in the
header is the version that the parts lead to. A gallery or a change of one comes in parts; it takes effect
with the last.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from camfleet_protocol.wire import Codec, Frame, Opcode, WireError, WireFault, encode_frame

MAX_PEOPLE_PER_PART = 500
MAX_PARTS = 1000
MAX_PART_BYTES = 4 * 1024 * 1024
"""Of vectors, uncompressed."""
_BYTES_PER_VALUE = 2

UnixSeconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PersonId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class GalleryPerson(_Model):
    """One person; `rows` of the vectors are faces of theirs, the next `negatives` faces that are not."""

    id: PersonId
    name: Annotated[str, Field(max_length=128)]
    group: Annotated[str, Field(max_length=63)] = ""
    valid_from: UnixSeconds | None = None
    valid_until: UnixSeconds | None = None
    rows: Annotated[int, Field(ge=0, le=64)]
    negatives: Annotated[int, Field(ge=0, le=64)] = 0


class GalleryPart(_Model):
    """Meta of one message."""

    embedder: Annotated[str, Field(min_length=1, max_length=128)]
    """Model of the vectors; a worker that runs another one refuses them."""
    dimensions: Annotated[int, Field(ge=1, le=1536)]
    base: Annotated[int, Field(ge=0)]
    """Version that this changes; 0 for a whole gallery."""
    part: Annotated[int, Field(ge=0, lt=MAX_PARTS)]
    parts: Annotated[int, Field(ge=1, le=MAX_PARTS)]
    people: Annotated[tuple[GalleryPerson, ...], Field(max_length=MAX_PEOPLE_PER_PART)] = ()
    """Each replaces whoever has its id."""
    removed: Annotated[tuple[PersonId, ...], Field(max_length=2000)] = ()

    @model_validator(mode="after")
    def _in_bounds(self) -> GalleryPart:
        if self.part >= self.parts:
            raise ValueError("part is not below parts")
        if self.size > MAX_PART_BYTES:
            raise ValueError("too many vectors for one part")
        return self

    @property
    def size(self) -> int:
        """Bytes of all vectors."""
        rows = sum(person.rows + person.negatives for person in self.people)
        return rows * self.dimensions * _BYTES_PER_VALUE


@dataclass(frozen=True, slots=True)
class GalleryUpdate:
    """One part, decoded; `vectors` are the bytes of a C-ordered float16 array, rows x dimensions."""

    version: int
    part: GalleryPart
    vectors: bytes


def encode_part(version: int, part: GalleryPart, vectors: bytes) -> bytes:
    """Make the message; the same bytes are good for every worker.

    Raises:
        ValueError: The vectors are not as many as the meta says.
    """
    if len(vectors) != part.size:
        raise ValueError(f"{len(vectors)} bytes of vectors, the part says {part.size}")
    return encode_frame(
        opcode=Opcode.GALLERY,
        codec=Codec.ZLIB,
        camera_id=0,
        seq=version,
        captured_ns=0,
        sent_ns=0,
        meta=part.model_dump_json(exclude_defaults=True).encode(),
        payload=zlib.compress(vectors, 1),
    )


def decode_part(frame: Frame) -> GalleryUpdate:
    """Read a message of the opcode `GALLERY`.

    Raises:
        WireError: It is none, or its vectors are not as many as its meta says.
    """
    if frame.opcode is not Opcode.GALLERY or frame.codec is not Codec.ZLIB:
        raise WireError(WireFault.BAD_META, "not a part of a gallery")
    try:
        part = GalleryPart.model_validate_json(bytes(frame.meta))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(item) for item in first["loc"]) or "meta"
        raise WireError(WireFault.BAD_META, f"{where}: {first['msg']}") from None
    inflater = zlib.decompressobj()
    try:
        vectors = inflater.decompress(frame.payload, part.size + 1)
    except zlib.error:
        raise WireError(WireFault.LENGTH_MISMATCH, "the vectors are not zlib data") from None
    if len(vectors) != part.size:
        raise WireError(
            WireFault.LENGTH_MISMATCH, f"{len(vectors)} bytes of vectors, the meta says {part.size}"
        )
    return GalleryUpdate(frame.seq, part, vectors)
