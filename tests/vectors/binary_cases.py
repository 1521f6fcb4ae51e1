"""Frames, galleries and metas, good and bad, with what must be made of them."""

from __future__ import annotations

import struct
from typing import Any

from camfleet_protocol.detections import Detection, FrameMeta, encode_meta
from camfleet_protocol.gallery import GalleryPart, GalleryPerson, encode_part
from camfleet_protocol.wire import (
    HEADER,
    MAX_FRAME_BYTES,
    MAX_META_BYTES,
    VERSION,
    Codec,
    Flags,
    Opcode,
    WireFault,
    encode_frame,
)

_U64 = 0xFFFFFFFFFFFFFFFF
_JPEG = bytes.fromhex("ffd8ffe000104a46494600010100ffd9")

_JSON_TEXT = b'{"op":"subscribe","cameras":["default.lobby"],"window":2}'
_BIG_ENDIAN = struct.pack(">BBBBIQQQII", 1, 1, 1, 0, 1, 2, 3, 4, 0, 1) + b"x"

_FACE = Detection(
    kind="face",
    label="face",
    score=0.93,
    box=(0.25, 0.125, 0.1875, 0.25),
    landmarks=((0.3, 0.2), (0.38, 0.2), (0.34, 0.25), (0.31, 0.31), (0.37, 0.31)),
    track_id=7,
)
_MOTION = Detection(kind="motion", label="motion", score=1.0, box=(0.0, 0.5, 1.0, 0.5))
_META = encode_meta(
    FrameMeta(width=640, height=360, detections=(_FACE,), inferred_ns=1_760_000_000_000_000_000)
)
_GALLERY = GalleryPart(
    embedder="mobilefacenet@b7120c095d60",
    dimensions=2,
    base=0,
    part=0,
    parts=1,
    people=(GalleryPerson(id="p-1", name="Alex Smith", group="staff", rows=2),),
)


def frames() -> list[dict[str, Any]]:
    """Valid messages, one per thing worth showing."""
    small = encode_meta(FrameMeta(width=2, height=2))
    carried = encode_meta(FrameMeta(width=640, height=360, detections=(_FACE, _MOTION), inferred_ns=1))
    unicode_meta = encode_meta(
        FrameMeta(
            width=1920,
            height=1080,
            detections=(Detection(kind="face", label="Zoë 田中", score=0.5, box=(0.0, 0.0, 1.0, 1.0)),),
        )
    )
    jpeg: dict[str, Any] = {"opcode": Opcode.FRAME, "codec": Codec.JPEG}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("jpeg with one face", {**jpeg, "flags": Flags.KEYFRAME, "meta": _META, "payload": _JPEG}),
        ("smallest picture meta", {**jpeg, "meta": small, "payload": b"\xff"}),
        ("no meta, no payload", {"opcode": Opcode.FRAME, "codec": Codec.NONE}),
        (
            "annotated, detections carried over",
            {
                **jpeg,
                "flags": Flags.KEYFRAME | Flags.ANNOTATED | Flags.DETECTIONS_CARRIED,
                "meta": carried,
                "payload": _JPEG,
            },
        ),
        ("unknown flag bits are kept", {**jpeg, "flags": Flags(0xF1), "meta": small, "payload": _JPEG}),
        ("label outside ASCII", {**jpeg, "meta": unicode_meta, "payload": _JPEG}),
        ("detections only", {"opcode": Opcode.DETECTIONS, "codec": Codec.NONE, "meta": carried}),
        (
            "codec config",
            {
                "opcode": Opcode.CODEC_CONFIG,
                "codec": Codec.H264_ANNEX_B,
                "payload": bytes.fromhex("0000000167640028"),
            },
        ),
        (
            "video chunk after a gap",
            {
                "opcode": Opcode.VIDEO_CHUNK,
                "codec": Codec.H264_ANNEX_B,
                "flags": Flags.KEYFRAME | Flags.DISCONTINUITY,
                "meta": small,
                "payload": bytes.fromhex("0000000165888040"),
            },
        ),
        (
            "largest numbers",
            {
                **jpeg,
                "camera_id": 0xFFFFFFFF,
                "seq": _U64,
                "captured_ns": _U64,
                "sent_ns": _U64,
                "meta": small,
            },
        ),
    ]
    result = []
    for number, (name, given) in enumerate(cases):
        fields = {
            "camera_id": 3 + number,
            "seq": 1_760_000_000_123 + number,
            "captured_ns": 1_760_000_000_000_000_000 + number,
            "sent_ns": 1_760_000_000_004_000_000 + number,
            "flags": Flags.NONE,
            "meta": b"",
            "payload": b"",
            **given,
        }
        result.append(
            {
                "name": name,
                "opcode": int(fields["opcode"]),
                "codec": int(fields["codec"]),
                "flags": int(fields["flags"]),
                "camera_id": fields["camera_id"],
                **{key: str(fields[key]) for key in ("seq", "captured_ns", "sent_ns")},
                "meta": fields["meta"].decode(),
                "payload": fields["payload"].hex(),
                "whole": encode_frame(**fields).hex(),
            }
        )
    return result


def invalid_frames() -> list[dict[str, Any]]:
    """Byte strings that are no frames; `zeros` more zero bytes follow the hex."""

    def header(
        opcode: int = 1,
        version: int = VERSION,
        codec: int = 1,
        meta: int = 0,
        payload: int = 0,
    ) -> bytes:
        return HEADER.pack(opcode, version, codec, 0, 1, 2, 3, 4, meta, payload)

    cases: list[tuple[str, bytes, int, WireFault]] = [
        ("empty", b"", 0, WireFault.TRUNCATED_HEADER),
        ("one byte", b"\x01", 0, WireFault.TRUNCATED_HEADER),
        ("39 bytes", header()[:-1], 0, WireFault.TRUNCATED_HEADER),
        ("version 0", header(version=0), 0, WireFault.UNSUPPORTED_VERSION),
        ("version 2", header(version=2), 0, WireFault.UNSUPPORTED_VERSION),
        ("version before opcode", header(opcode=99, version=2), 0, WireFault.UNSUPPORTED_VERSION),
        ("opcode 0", header(opcode=0), 0, WireFault.UNKNOWN_OPCODE),
        ("opcode 6", header(opcode=6), 0, WireFault.UNKNOWN_OPCODE),
        ("codec 6", header(codec=6), 0, WireFault.UNKNOWN_CODEC),
        ("codec 255", header(codec=255), 0, WireFault.UNKNOWN_CODEC),
        ("payload missing", header(payload=1), 0, WireFault.LENGTH_MISMATCH),
        ("one byte too many", header() + b"\x00", 0, WireFault.LENGTH_MISMATCH),
        ("meta longer than the message", header(meta=10) + b"{}", 0, WireFault.LENGTH_MISMATCH),
        (
            "lengths that overflow 32 bits together",
            header(meta=0x100, payload=0xFFFFFF00),
            0,
            WireFault.LENGTH_MISMATCH,
        ),
        ("meta over its limit", header(meta=MAX_META_BYTES + 1), MAX_META_BYTES + 1, WireFault.TOO_LARGE),
        (
            "message over its limit",
            header(payload=MAX_FRAME_BYTES - HEADER.size + 1),
            MAX_FRAME_BYTES - HEADER.size + 1,
            WireFault.TOO_LARGE,
        ),
        ("JSON text", _JSON_TEXT, 0, WireFault.UNSUPPORTED_VERSION),
        ("big-endian header", _BIG_ENDIAN, 0, WireFault.LENGTH_MISMATCH),
    ]
    return [
        {"name": name, "hex": content.hex(), "zeros": zeros, "fault": fault.value}
        for name, content, zeros, fault in cases
    ]


def gallery() -> dict[str, Any]:
    """A part of a gallery: two faces of one person."""
    vectors = struct.pack("<4e", 1.0, 0.0, 0.6, 0.8)
    return {
        "version": 17,
        "meta": _GALLERY.model_dump_json(exclude_defaults=True),
        "vectors": vectors.hex(),
        "whole": encode_part(17, _GALLERY, vectors).hex(),
    }


def invalid_meta() -> list[dict[str, str]]:
    """Texts and bytes that are no meta; each gives `bad_meta`."""
    picture = '"width":640,"height":360'

    def one(detection: str) -> bytes:
        return f'{{{picture},"detections":[{detection}]}}'.encode()

    cases: list[tuple[str, bytes]] = [
        ("empty", b""),
        ("not JSON", b"{"),
        ("not UTF-8", b'{"width":640,"height":360,"x":"\xff"}'),
        ("not an object", b"[]"),
        ("null", b"null"),
        ("no height", b'{"width":640}'),
        ("width 0", b'{"width":0,"height":360}'),
        ("width a fraction", b'{"width":640.5,"height":360}'),
        ("width beyond the limit", b'{"width":16385,"height":360}'),
        ("detections not a list", f'{{{picture},"detections":{{}}}}'.encode()),
        ("box of three", one('{"kind":"face","label":"f","score":0.5,"box":[0,0,1]}')),
        ("box outside the picture", one('{"kind":"face","label":"f","score":0.5,"box":[0,0,1,1.5]}')),
        ("negative box", one('{"kind":"face","label":"f","score":0.5,"box":[-0.1,0,1,1]}')),
        ("score of 2", one('{"kind":"face","label":"f","score":2,"box":[0,0,1,1]}')),
        ("no kind", one('{"label":"f","score":0.5,"box":[0,0,1,1]}')),
        ("empty label", one('{"kind":"face","label":"","score":0.5,"box":[0,0,1,1]}')),
        ("513 detections", one(",".join(['{"kind":"a","label":"b","score":0,"box":[0,0,0,0]}'] * 513))),
    ]
    return [
        {"name": name, "hex": content.hex(), "fault": WireFault.BAD_META.value} for name, content in cases
    ]
