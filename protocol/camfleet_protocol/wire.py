"""Binary frames of `camera.v1`: a fixed 40-byte header, JSON meta, payload.

The layout is `docs/protocol.md`; `tests/vectors/camera_v1.json` holds examples that every client must pass.
Parsing is total: any byte string gives a `Frame` or raises a `WireError` that names what is wrong.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag, StrEnum

SUBPROTOCOL = "camera.v1"
VERSION = 1
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""Largest binary message, header included. A longer one closes the connection with 1009."""
MAX_META_BYTES = 256 * 1024

HEADER = struct.Struct("<BBBBIQQQII")
_CAMERA_ID = struct.Struct("<I")
_CAMERA_ID_OFFSET = 4


class Opcode(IntEnum):
    """What a binary message carries."""

    FRAME = 1
    VIDEO_CHUNK = 2
    CODEC_CONFIG = 3
    DETECTIONS = 4
    GALLERY = 5
    """Gateway to worker: a part of the people that faces are compared with (`camfleet_protocol.gallery`)."""


class Codec(IntEnum):
    """How the payload is coded; `NONE` for messages without one."""

    NONE = 0
    JPEG = 1
    H264_ANNEX_B = 2
    H265 = 3
    FMP4 = 4
    ZLIB = 5
    """zlib (RFC 1950)."""


class Flags(IntFlag):
    """Bits of the flags byte. Receivers ignore bits they do not know."""

    NONE = 0
    KEYFRAME = 1
    DISCONTINUITY = 2
    DETECTIONS_CARRIED = 4
    ANNOTATED = 8


class WireFault(StrEnum):
    """Why a byte string is not a frame."""

    TRUNCATED_HEADER = "truncated_header"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_OPCODE = "unknown_opcode"
    UNKNOWN_CODEC = "unknown_codec"
    LENGTH_MISMATCH = "length_mismatch"
    TOO_LARGE = "too_large"
    BAD_META = "bad_meta"


class WireError(ValueError):
    """A byte string that is not a `camera.v1` frame; `fault` says why."""

    def __init__(self, fault: WireFault, detail: str) -> None:
        super().__init__(f"{fault.value}: {detail}")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Frame:
    """One binary message, split; `meta` and `payload` are views into `buffer`, nothing is copied.

    Attributes:
        opcode: What the message carries.
        codec: How the payload is coded.
        flags: See `Flags`; unknown bits are kept.
        camera_id: Number of the camera, given by the gateway, the same for all its viewers.
        seq: Rises by one per published picture; starts at the publisher's Unix time in ms, so that a
            restarted publisher never repeats a number. Both forms of one picture share it.
        captured_ns: Unix time in ns at which the worker had the decoded picture.
        sent_ns: Unix time in ns at which the worker handed the message to its socket.
        meta: JSON text, UTF-8 (`camfleet_protocol.detections.FrameMeta`).
        payload: The coded picture or chunk.
        buffer: The whole message.
    """

    opcode: Opcode
    codec: Codec
    flags: Flags
    camera_id: int
    seq: int
    captured_ns: int
    sent_ns: int
    meta: memoryview
    payload: memoryview
    buffer: bytes

    @property
    def annotated(self) -> bool:
        """Whether boxes are drawn into the picture."""
        return bool(self.flags & Flags.ANNOTATED)


def parse_frame(buffer: bytes) -> Frame:
    """Split a binary message.

    Args:
        buffer: The message as received.

    Returns:
        The frame. Its meta is not decoded: relays never need it.

    Raises:
        WireError: `buffer` is not a frame of this version.
    """
    size = len(buffer)
    if size > MAX_FRAME_BYTES:
        raise WireError(WireFault.TOO_LARGE, f"{size} bytes, at most {MAX_FRAME_BYTES}")
    if size < HEADER.size:
        raise WireError(WireFault.TRUNCATED_HEADER, f"{size} bytes, a header has {HEADER.size}")
    opcode, version, codec, flags, camera_id, seq, captured, sent, meta_len, payload_len = HEADER.unpack_from(
        buffer
    )
    if version != VERSION:
        raise WireError(WireFault.UNSUPPORTED_VERSION, f"version {version}, expected {VERSION}")
    if opcode not in _OPCODES:
        raise WireError(WireFault.UNKNOWN_OPCODE, f"opcode {opcode}")
    if codec not in _CODECS:
        raise WireError(WireFault.UNKNOWN_CODEC, f"codec {codec}")
    if meta_len > MAX_META_BYTES:
        raise WireError(WireFault.TOO_LARGE, f"meta of {meta_len} bytes, at most {MAX_META_BYTES}")
    if HEADER.size + meta_len + payload_len != size:
        raise WireError(
            WireFault.LENGTH_MISMATCH,
            f"header announces {HEADER.size + meta_len + payload_len} bytes, message has {size}",
        )
    view = memoryview(buffer)
    meta_end = HEADER.size + meta_len
    return Frame(
        opcode=_OPCODES[opcode],
        codec=_CODECS[codec],
        flags=Flags(flags),
        camera_id=camera_id,
        seq=seq,
        captured_ns=captured,
        sent_ns=sent,
        meta=view[HEADER.size : meta_end],
        payload=view[meta_end:],
        buffer=buffer,
    )


def encode_frame(
    *,
    opcode: Opcode,
    codec: Codec,
    camera_id: int,
    seq: int,
    captured_ns: int,
    sent_ns: int,
    flags: Flags = Flags.NONE,
    meta: bytes = b"",
    payload: bytes | memoryview = b"",
) -> bytes:
    """Join one binary message.

    Raises:
        WireError: The message would be longer than `MAX_FRAME_BYTES` or its meta than `MAX_META_BYTES`.
    """
    if len(meta) > MAX_META_BYTES:
        raise WireError(WireFault.TOO_LARGE, f"meta of {len(meta)} bytes, at most {MAX_META_BYTES}")
    size = HEADER.size + len(meta) + len(payload)
    if size > MAX_FRAME_BYTES:
        raise WireError(WireFault.TOO_LARGE, f"{size} bytes, at most {MAX_FRAME_BYTES}")
    header = HEADER.pack(
        opcode, VERSION, codec, flags, camera_id, seq, captured_ns, sent_ns, len(meta), len(payload)
    )
    return b"".join((header, meta, payload))


def with_camera_id(buffer: bytes, camera_id: int) -> bytes:
    """Copy a message with another camera id, as a relay does once per frame."""
    return b"".join(
        (
            buffer[:_CAMERA_ID_OFFSET],
            _CAMERA_ID.pack(camera_id),
            memoryview(buffer)[_CAMERA_ID_OFFSET + _CAMERA_ID.size :],
        )
    )


_OPCODES = {int(o): o for o in Opcode}
_CODECS = {int(c): c for c in Codec}
