"""The Python implementation passes the shared vectors."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.vectors.make_camera_v1 import document

from camfleet_protocol import messages
from camfleet_protocol.detections import encode_meta, parse_meta
from camfleet_protocol.gallery import decode_part
from camfleet_protocol.window import window_size
from camfleet_protocol.wire import Codec, Opcode, WireError, WireFault, encode_frame, parse_frame
from support.require import ROOT

FILE = ROOT / "tests" / "vectors" / "camera_v1.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
PARSERS: dict[str, Callable[[str], messages.Message]] = {
    "viewer_to_gateway": messages.parse_viewer_message,
    "gateway_to_viewer": messages.parse_gateway_to_viewer,
    "worker_to_gateway": messages.parse_worker_message,
    "gateway_to_worker": messages.parse_gateway_to_worker,
}


def _named(cases: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(case, id=case["name"].replace(" ", "-")) for case in cases]


def test_file_is_what_the_script_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == document(), "run python -m tests.vectors.make_camera_v1"


def test_every_fault_has_a_vector() -> None:
    faults = {case["fault"] for case in VECTORS["invalid_frames"] + VECTORS["invalid_meta"]}
    assert faults == {fault.value for fault in WireFault}


@pytest.mark.parametrize("case", _named(VECTORS["frames"]))
def test_frame(case: dict[str, Any]) -> None:
    frame = parse_frame(bytes.fromhex(case["whole"]))

    assert (frame.opcode, frame.codec, frame.flags, frame.camera_id) == (
        case["opcode"],
        case["codec"],
        case["flags"],
        case["camera_id"],
    )
    assert (str(frame.seq), str(frame.captured_ns), str(frame.sent_ns)) == (
        case["seq"],
        case["captured_ns"],
        case["sent_ns"],
    )
    assert bytes(frame.meta).decode() == case["meta"]
    assert bytes(frame.payload).hex() == case["payload"]
    again = encode_frame(
        opcode=frame.opcode,
        codec=frame.codec,
        flags=frame.flags,
        camera_id=frame.camera_id,
        seq=frame.seq,
        captured_ns=frame.captured_ns,
        sent_ns=frame.sent_ns,
        meta=bytes(frame.meta),
        payload=frame.payload,
    )
    assert again.hex() == case["whole"]
    if case["meta"]:
        assert encode_meta(parse_meta(frame.meta)).decode() == case["meta"]


@pytest.mark.parametrize("case", _named(VECTORS["invalid_frames"]))
def test_invalid_frame(case: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        parse_frame(bytes.fromhex(case["hex"]) + bytes(case["zeros"]))
    assert caught.value.fault == case["fault"]


@pytest.mark.parametrize("case", _named(VECTORS["invalid_meta"]))
def test_invalid_meta(case: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        parse_meta(bytes.fromhex(case["hex"]))
    assert caught.value.fault == WireFault.BAD_META


@pytest.mark.parametrize("direction", PARSERS)
def test_valid_control(direction: str) -> None:
    for case in VECTORS["control"][direction]["valid"]:
        message = PARSERS[direction](case["text"])
        assert message.op == case["op"]  # type: ignore[attr-defined]
        assert message.encode() == case["text"]


@pytest.mark.parametrize(
    ("direction", "case"),
    [
        pytest.param(direction, case, id=f"{direction}-{case['name'].replace(' ', '-')}")
        for direction in PARSERS
        for case in VECTORS["control"][direction]["invalid"]
    ],
)
def test_invalid_control(direction: str, case: dict[str, Any]) -> None:
    with pytest.raises(messages.ControlError) as caught:
        PARSERS[direction](case["text"])
    assert caught.value.fault == case["fault"]


def test_unknown_fields_are_ignored() -> None:
    message = messages.parse_viewer_message('{"op":"ping","t":1,"of_version_2":[1]}')
    assert message == messages.Ping(t=1)


@pytest.mark.parametrize("case", VECTORS["windows"])
def test_window_size(case: dict[str, Any]) -> None:
    assert window_size(case["fps"], case["round_trip_seconds"]) == case["size"]


def test_gallery() -> None:
    vector = VECTORS["gallery"]
    update = decode_part(parse_frame(bytes.fromhex(vector["whole"])))
    assert (update.version, update.vectors.hex()) == (vector["version"], vector["vectors"])
    assert update.part.model_dump_json(exclude_defaults=True) == vector["meta"]


def gallery_message(meta: str, payload: bytes, codec: Codec = Codec.ZLIB) -> bytes:
    return encode_frame(
        opcode=Opcode.GALLERY,
        codec=codec,
        camera_id=0,
        seq=1,
        captured_ns=0,
        sent_ns=0,
        meta=meta.encode(),
        payload=payload,
    )


PERSON = (
    '{"embedder":"m@1","dimensions":2,"base":0,"part":0,"parts":1,"people":[{"id":"a","name":"A","rows":1}]}'
)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (gallery_message(PERSON, zlib.compress(bytes(4)), Codec.NONE), WireFault.BAD_META),
        (gallery_message("{}", b""), WireFault.BAD_META),
        (
            gallery_message(PERSON.replace('"part":0', '"part":1'), zlib.compress(bytes(4))),
            WireFault.BAD_META,
        ),
        (gallery_message(PERSON, b"not zlib"), WireFault.LENGTH_MISMATCH),
        (gallery_message(PERSON, zlib.compress(bytes(2))), WireFault.LENGTH_MISMATCH),
        (gallery_message(PERSON, zlib.compress(bytes(50_000_000))), WireFault.LENGTH_MISMATCH),
    ],
    ids=["no zlib", "no meta", "part beyond parts", "garbage", "too few vectors", "a bomb"],
)
def test_no_gallery(message: bytes, fault: WireFault) -> None:
    with pytest.raises(WireError) as raised:
        decode_part(parse_frame(message))
    assert raised.value.fault is fault
