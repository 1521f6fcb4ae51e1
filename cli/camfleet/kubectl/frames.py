"""Live pictures of one camera, as a program gets them: the protocol `camera.v1`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from camfleet.kubectl.errors import Declined, Problem, Unreachable
from camfleet_protocol.detections import FrameMeta, parse_meta
from camfleet_protocol.messages import (
    Ack,
    CameraInfo,
    ControlError,
    Hello,
    ProtocolProblem,
    StatusUpdate,
    Subscribe,
    parse_gateway_to_viewer,
)
from camfleet_protocol.redaction import redact
from camfleet_protocol.wire import MAX_FRAME_BYTES, SUBPROTOCOL, Codec, Frame, Opcode, WireError, parse_frame

_UNAUTHENTICATED = 4401


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture.

    Attributes:
        seq: Its number.
        captured: Unix seconds.
        age: Seconds between capture and arrival, by two machines' clocks.
        meta: Size and detections.
        jpeg: The picture.
    """

    seq: int
    captured: float
    age: float
    meta: FrameMeta
    jpeg: bytes


def pictures(
    gateway: str, camera: str, token: str, *, annotated: bool = False, patience: float = 20.0
) -> Iterator[Picture]:
    """Pictures of a camera as they come, newest first served; ends only by an error.

    Args:
        gateway: `http://HOST:PORT` or `https://…` of the viewers' listener.
        camera: `NAMESPACE.NAME`.
        token: The viewer's token; empty if none is needed.
        annotated: Whether boxes are drawn into the pictures.
        patience: Seconds to wait for the next picture.

    Raises:
        Declined: No picture came; the camera's own reason is in the text.
        Problem: The gateway does not let us, or does not know the camera.
    """
    with _open(gateway, token) as socket:
        try:
            yield from _follow(socket, camera, annotated, patience)
        except ConnectionClosed as error:  # while we listen, or before we could say a word
            raise _closed(error) from None


def _follow(socket: ClientConnection, camera: str, annotated: bool, patience: float) -> Iterator[Picture]:
    socket.send(Subscribe(cameras=(camera,), window=2, annotated=annotated).encode())
    known: CameraInfo | None = None
    until = time.monotonic() + patience
    while True:
        try:
            message = socket.recv(timeout=max(0.0, until - time.monotonic()))
        except TimeoutError:
            raise Declined(f"no picture of {camera} within {patience:g} s", _state(known)) from None
        if isinstance(message, str):
            known = _control(message, camera) or known
            continue
        frame = _frame(message)
        if frame is None:
            continue
        socket.send(Ack(id=frame.camera_id, seq=frame.seq).encode())
        if frame.opcode is Opcode.FRAME and frame.codec is Codec.JPEG:
            yield _picture(frame)
            until = time.monotonic() + patience


def _open(gateway: str, token: str) -> ClientConnection:
    options: dict[str, Any] = {"proxy": None} if "//127.0.0.1:" in gateway else {}
    try:
        return cast(
            ClientConnection,
            connect(
                gateway.rstrip("/").replace("http", "ws", 1) + "/ws",
                subprotocols=cast(Any, [SUBPROTOCOL]),
                compression=None,
                max_size=MAX_FRAME_BYTES,
                additional_headers={"Authorization": f"Bearer {token}"} if token else None,
                **options,
            ),
        )
    except (OSError, InvalidHandshake, InvalidURI) as error:
        raise Unreachable(f"the gateway {gateway} cannot be watched: {redact(str(error))}") from None


def _control(text: str, camera: str) -> CameraInfo | None:
    try:
        message = parse_gateway_to_viewer(text)
    except ControlError:
        return None  # of a newer gateway
    if isinstance(message, ProtocolProblem):
        raise Problem(f"the gateway says {message.code}: {redact(message.message)}")
    if isinstance(message, Hello | StatusUpdate):
        return next((info for info in message.cameras if info.camera == camera), None)
    return None


def _frame(message: bytes) -> Frame | None:
    try:
        return parse_frame(message)
    except WireError:
        return None


def _picture(frame: Frame) -> Picture:
    try:
        meta = parse_meta(frame.meta)
    except WireError:
        meta = FrameMeta(width=1, height=1)
    captured = frame.captured_ns / 1e9
    return Picture(frame.seq, captured, time.time() - captured, meta, bytes(frame.payload))


def _state(info: CameraInfo | None) -> str:
    if info is None:
        return "the gateway has not told of the camera"
    return f"{info.state.value}, {info.reason or 'no reason'}: {redact(info.message)}".rstrip(": ")


def _closed(error: ConnectionClosed) -> Problem:
    code = error.rcvd.code if error.rcvd is not None else 0
    if code == _UNAUTHENTICATED:
        return Problem("the gateway does not accept the token", "give a valid one with --token-file")
    said = f" ({code}: {redact(error.rcvd.reason)})" if error.rcvd is not None else ""
    return Unreachable(f"the gateway closed the connection{said}")
