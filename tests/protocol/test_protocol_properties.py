"""Parsing is total: any bytes and any text give a value or the typed error, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camfleet_protocol import messages
from camfleet_protocol.detections import Detection, FrameMeta, encode_meta, parse_meta
from camfleet_protocol.wire import (
    HEADER,
    VERSION,
    Codec,
    Flags,
    Frame,
    Opcode,
    WireError,
    WireFault,
    encode_frame,
    parse_frame,
    with_camera_id,
)

PARSERS = (
    messages.parse_viewer_message,
    messages.parse_gateway_to_viewer,
    messages.parse_worker_message,
    messages.parse_gateway_to_worker,
)
u8 = st.integers(0, 0xFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
unit = st.floats(0, 1)
near_headers = st.builds(
    lambda first, rest, numbers, lengths, tail: HEADER.pack(*first, rest, *numbers, *lengths) + tail,
    st.tuples(st.integers(0, 6), st.sampled_from([VERSION, 0, 2]), st.integers(0, 6), u8),
    u32,
    st.tuples(u64, u64, u64),
    st.tuples(st.integers(0, 40) | u32, st.integers(0, 40) | u32),
    st.binary(max_size=80),
)
frame_fields = st.fixed_dictionaries(
    {
        "opcode": st.sampled_from(Opcode),
        "codec": st.sampled_from(Codec),
        "flags": u8.map(Flags),
        "camera_id": u32,
        "seq": u64,
        "captured_ns": u64,
        "sent_ns": u64,
        "meta": st.binary(max_size=200),
        "payload": st.binary(max_size=200),
    }
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_KEYS = sorted(
    {
        name
        for model in vars(messages).values()
        if isinstance(model, type) and issubclass(model, messages.Message)
        for name in model.model_fields
    }
)
_OPS = ("subscribe", "ack", "hello", "stats", "event", "status", "goaway", "demand", "configure", "ping")
near_messages = st.builds(
    lambda op, body: json.dumps({**body, "op": op}),
    st.sampled_from(_OPS),
    st.dictionaries(st.sampled_from(_KEYS), json_values, max_size=6),
)
detections = st.builds(
    Detection,
    kind=st.text(min_size=1, max_size=32),
    label=st.text(min_size=1, max_size=64),
    score=unit,
    box=st.tuples(unit, unit, unit, unit),
    landmarks=st.lists(st.tuples(unit, unit), max_size=5).map(tuple),
    track_id=st.none() | st.integers(0, 1 << 40),
)
metas = st.builds(
    FrameMeta,
    width=st.integers(1, 16384),
    height=st.integers(1, 16384),
    detections=st.lists(detections, max_size=4).map(tuple),
    inferred_ns=st.none() | u64,
)


@given(st.binary(max_size=400) | near_headers)
def test_any_bytes_give_a_frame_or_a_wire_error(data: bytes) -> None:
    try:
        frame = parse_frame(data)
    except WireError as error:
        assert error.fault in WireFault
        return
    assert isinstance(frame, Frame)
    assert HEADER.size + len(frame.meta) + len(frame.payload) == len(data)


@given(st.binary(max_size=400) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_a_meta_or_a_wire_error(data: bytes) -> None:
    try:
        meta = parse_meta(data)
    except WireError as error:
        assert error.fault is WireFault.BAD_META
        return
    assert parse_meta(encode_meta(meta)) == meta


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text(max_size=300) | st.text(st.characters(), max_size=40) | near_messages)
def test_any_text_gives_a_message_or_a_control_error(parse: Any, text: str) -> None:
    try:
        message = parse(text)
    except messages.ControlError as error:
        assert error.fault in messages.ControlFault
        return
    assert parse(message.encode()) == message


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 60_000,
        '{"op":"ping","t":' + "9" * 5000 + "}",
        '{"op":"ping","x":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"op":"ping","t":1e999}',
        '{"op":"\ud800"}',
        "\x00",
        "x" * (5 * 1024 * 1024),
    ],
    ids=["nested", "long number", "deep but closed", "infinity", "lone surrogate", "nul", "large"],
)
def test_hostile_text(parse: Any, text: str) -> None:
    with pytest.raises(messages.ControlError):
        parse(text)


@given(frame_fields)
def test_encode_then_parse_is_identity(fields: dict[str, Any]) -> None:
    frame = parse_frame(encode_frame(**fields))
    assert {name: getattr(frame, name) for name in fields if name not in ("meta", "payload")} == {
        name: value for name, value in fields.items() if name not in ("meta", "payload")
    }
    assert bytes(frame.meta) == fields["meta"]
    assert bytes(frame.payload) == fields["payload"]


@given(frame_fields, u32)
def test_another_camera_id_changes_nothing_else(fields: dict[str, Any], camera_id: int) -> None:
    buffer = encode_frame(**fields)
    assert with_camera_id(buffer, camera_id) == encode_frame(**{**fields, "camera_id": camera_id})


@given(metas)
def test_meta_round_trip(meta: FrameMeta) -> None:
    assert parse_meta(encode_meta(meta)) == meta


def test_errors_of_control_messages_do_not_carry_the_input() -> None:
    with pytest.raises(messages.ControlError) as caught:
        messages.parse_viewer_message('{"op":"subscribe","cameras":["hunter2-Secret"]}')
    assert "hunter2" not in str(caught.value)
