"""Write `camera_v1.json`: examples of `camera.v1` that every implementation must pass.

Run it after a change of the protocol and review the difference; a test fails while the file is out of date.
64-bit numbers are strings, because not every JSON reader keeps them whole.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

from camfleet_protocol import messages as m
from camfleet_protocol.appearance import APPEARANCE, Appearance, Identity, Match
from camfleet_protocol.camera import SourceType
from camfleet_protocol.detections import Detection, FrameMeta, encode_meta
from camfleet_protocol.gallery import GalleryPart, GalleryPerson, encode_part
from camfleet_protocol.window import window_size
from camfleet_protocol.wire import (
    HEADER,
    MAX_FRAME_BYTES,
    MAX_META_BYTES,
    SUBPROTOCOL,
    VERSION,
    Codec,
    Flags,
    Opcode,
    WireFault,
    encode_frame,
)

TARGET = Path(__file__).with_name("camera_v1.json")
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


def control() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Control messages by direction."""
    info = m.CameraInfo(
        camera="default.lobby",
        id=3,
        state=m.CameraState.LIVE,
        source_type=SourceType.RTSP,
        fps=25.0,
        stream_fps=10.0,
        inference_fps=5.0,
        viewers=2,
        frame_age_ms=41.5,
        width=1920,
        height=1080,
        ai_enabled=True,
        settings={"inference": {"enabled": True}, "stream": {"width": 640}},
        site="front",
    )
    event = m.EventRecord(
        id="0198a5f2-1",
        time=1_760_000_000.25,
        camera="default.lobby",
        type="source.lost",
        severity="warning",
        message="No picture for 20 s",
        data={"seconds": 20},
    )
    appearance = Appearance(
        kind="face",
        label="face",
        track=7,
        started=1_760_000_000.25,
        seen=1_760_000_002.5,
        pictures=11,
        score=0.93,
        identity=Identity.KNOWN,
        person=Match(id="p-1", name="Alex Smith", group="staff", similarity=0.71, runner_up=0.22),
    )
    seen = m.EventRecord(
        id="0198a5f2-2",
        time=1_760_000_000.25,
        camera="default.lobby",
        type=APPEARANCE,
        message="Alex Smith in view.",
        data=appearance.model_dump(mode="json", exclude_defaults=True),
        revision=1,
        order=42,
    )
    stats = m.Stats(
        source=m.SourceStats(state=m.SourceState.CONNECTED, width=1920, height=1080, fps=25.0, codec="h264"),
        frames=m.FrameCounts(captured=250, inferred=50, encoded=100, published=99, dropped={"window": 1}),
        last_frame_ns=1_760_000_000_000_000_000,
        embedder="mobilefacenet@b7120c095d60",
        gallery_version=17,
        present=(m.Present(label="person", zone="door", count=2),),
    )
    valid: dict[str, list[m.Message]] = {
        "viewer_to_gateway": [
            m.Subscribe(cameras=("default.lobby", "default.street"), window=3, max_fps=10.0),
            m.Subscribe(cameras=("lobby",), annotated=True),
            m.Unsubscribe(cameras=("default.lobby",)),
            m.Ack(id=3, seq=1_760_000_000_123),
            m.Ping(t=1234.5),
        ],
        "gateway_to_viewer": [
            m.Hello(version=1, session="s-1", server="camfleet/0.1.0", role="viewer", cameras=(info,)),
            m.StatusUpdate(cameras=(info,), removed=("default.old",)),
            m.EventNotice(event=event),
            m.Pong(t=1234.5, time=1_760_000_000.5),
            m.GoAway(reason="the gateway stops", retry_ms=250),
            m.GoAway(reason="the token was withdrawn"),
            m.ProtocolProblem(code="unknown_camera", message="there is no camera default.gone"),
        ],
        "worker_to_gateway": [
            m.WorkerHello(camera="default.lobby", attempt=2, pod="lobby-2-x", source_type=SourceType.FILE),
            stats,
            m.WorkerEvent(event=event),
            m.WorkerEvent(
                event=seen, crop="/9j/2Q==", embedding="ADwAAA==", embedder="mobilefacenet@b7120c095d60"
            ),
        ],
        "gateway_to_worker": [
            m.Accepted(version=1, session="w-1", id=3),
            m.FrameAck(seq=1_760_000_000_123),
            m.EventAck(id="0198a5f2-1"),
            m.EventAck(id="0198a5f2-2", revision=1),
            m.Demand(plain=True, max_fps=10.0),
            m.Configure(hash="0123456789abcdef", settings={"inference": {"enabled": False}}),
            m.Command(name="reopen"),
            m.GoAway(reason="replaced by attempt 3"),
        ],
    }
    everywhere: list[tuple[str, str, str]] = [
        ("empty", "", "invalid"),
        ("not JSON", "hello", "invalid"),
        ("not an object", '["ping"]', "invalid"),
        ("no op", '{"t":1}', "invalid"),
        ("op of another type", '{"op":1}', "unknown_op"),
        ("unknown op", '{"op":"reboot"}', "unknown_op"),
        ("cut off", '{"op":"ping","t":1', "invalid"),
    ]
    own: dict[str, list[tuple[str, str, str]]] = {
        "viewer_to_gateway": [
            ("no cameras", '{"op":"subscribe","cameras":[]}', "invalid"),
            ("cameras not a list", '{"op":"subscribe","cameras":"lobby"}', "invalid"),
            ("upper case camera", '{"op":"subscribe","cameras":["Lobby"]}', "invalid"),
            ("path as camera", '{"op":"subscribe","cameras":["../etc"]}', "invalid"),
            (
                "257 cameras",
                json.dumps({"op": "subscribe", "cameras": ["a"] * 257}, separators=(",", ":")),
                "invalid",
            ),
            ("window 9", '{"op":"subscribe","cameras":["a"],"window":9}', "invalid"),
            ("window 0", '{"op":"subscribe","cameras":["a"],"window":0}', "invalid"),
            ("max_fps 0", '{"op":"subscribe","cameras":["a"],"max_fps":0}', "invalid"),
            ("negative seq", '{"op":"ack","id":1,"seq":-1}', "invalid"),
            ("id over 32 bits", '{"op":"ack","id":4294967296,"seq":1}', "invalid"),
            ("op of the gateway", '{"op":"hello","version":1}', "unknown_op"),
        ],
        "gateway_to_viewer": [
            ("hello without session", '{"op":"hello","version":1,"server":"x","role":"viewer"}', "invalid"),
            ("camera without state", '{"op":"status","cameras":[{"camera":"a","id":1}]}', "invalid"),
            ("unknown state", '{"op":"status","cameras":[{"camera":"a","id":1,"state":"odd"}]}', "invalid"),
            ("pong without time", '{"op":"pong","t":1}', "invalid"),
            ("goaway without reason", '{"op":"goaway"}', "invalid"),
            ("op of a viewer", '{"op":"subscribe","cameras":["a"]}', "unknown_op"),
        ],
        "worker_to_gateway": [
            ("hello without camera", '{"op":"hello","attempt":1}', "invalid"),
            ("negative attempt", '{"op":"hello","camera":"a","attempt":-1}', "invalid"),
            ("stats without source", '{"op":"stats","frames":{}}', "invalid"),
            (
                "metric label with a space",
                '{"op":"stats","source":{"state":"connected"},"frames":{"dropped":{"a b":1}}}',
                "invalid",
            ),
            (
                "event type in upper case",
                '{"op":"event","event":{"id":"1","time":1,"camera":"a","type":"Lost"}}',
                "invalid",
            ),
        ],
        "gateway_to_worker": [
            ("demand with max_fps 0", '{"op":"demand","max_fps":0}', "invalid"),
            ("configure without settings", '{"op":"configure","hash":"x"}', "invalid"),
            ("empty command", '{"op":"command","name":""}', "invalid"),
        ],
    }
    return {
        direction: {
            "valid": [
                {"op": message.op, "text": message.encode()}  # type: ignore[attr-defined]
                for message in given
            ],
            "invalid": [
                {"name": name, "text": text, "fault": fault}
                for name, text, fault in [*everywhere, *own[direction]]
            ],
        }
        for direction, given in valid.items()
    }


def document() -> str:
    """The whole file."""
    windows = [
        (10, 0.0),
        (10, 0.05),
        (10, 0.1),
        (10, 0.11),
        (10, 0.25),
        (25, 0.3),
        (30, 2.0),
        (0.5, 1.0),
        (0, 1.0),
    ]
    content = {
        "subprotocol": SUBPROTOCOL,
        "version": VERSION,
        "limits": {
            "frame_bytes": MAX_FRAME_BYTES,
            "meta_bytes": MAX_META_BYTES,
            "viewer_control_characters": m.MAX_VIEWER_CONTROL_BYTES,
            "worker_control_characters": m.MAX_WORKER_CONTROL_BYTES,
            "subscriptions_per_message": m.MAX_SUBSCRIPTIONS,
        },
        "frames": frames(),
        "gallery": gallery(),
        "invalid_frames": invalid_frames(),
        "invalid_meta": invalid_meta(),
        "control": control(),
        "windows": [
            {"fps": fps, "round_trip_seconds": rtt, "size": window_size(fps, rtt)} for fps, rtt in windows
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"{TARGET.name} written\n")
