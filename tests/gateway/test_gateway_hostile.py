"""Any bytes on any socket: the sender gets an answer or a close code, and everybody else goes on."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from gateway_clients import FakeViewer, FakeWorker, eventually, ws
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from camfleet_protocol.camera import Camera
from camfleet_protocol.local import StateFolder
from camfleet_protocol.messages import FrameAck
from support.gateway_process import GatewayProcess, put_camera, test_pattern, worker_token

FUZZ = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
OPS = ("subscribe", "ack", "unsubscribe", "ping", "hello", "stats", "event", "type")
FIELDS = ("cameras", "window", "id", "seq", "t", "camera", "event", "source", "frames", "max_fps")
CONTROL = st.fixed_dictionaries({"op": st.sampled_from(OPS)}, optional=dict.fromkeys(FIELDS, JSON))
MESSAGE = st.binary(max_size=300) | st.text(max_size=300) | CONTROL.map(json.dumps)


@asynccontextmanager
async def undisturbed(gateway: GatewayProcess, door: Camera, publish: Any) -> AsyncIterator[FakeWorker]:
    """A worker and its viewer, which must receive a picture before and after."""
    async with publish(door) as worker, FakeViewer.running(gateway.viewer_url, "door") as viewer:
        await worker.demand(lambda d: d.plain, "plain")
        before = await worker.send()
        await eventually(lambda: before in viewer.seqs(), "a picture before")
        yield worker
        after = await worker.send()
        await eventually(lambda: after in viewer.seqs(), "a picture after")
        assert viewer.seqs() == [before, after]
        assert gateway.process.poll() is None


async def throw(uri: str, messages: list[Any], **options: Any) -> None:
    """Connect, send everything, read what comes; being closed is fine."""
    async with connect(uri, max_size=None, **options) as client:
        try:
            for message in messages:
                await client.send(message)
            async with asyncio.timeout(0.05):
                while True:
                    await client.recv()
        except (ConnectionClosed, TimeoutError):
            pass


@pytest.mark.parametrize("path", ["/ws", "/ws/stream", "/ws/stream/door", "/ws/events"])
def test_random_messages_of_viewers(gateway: GatewayProcess, path: str) -> None:
    @FUZZ
    @given(st.lists(MESSAGE, min_size=1, max_size=8))
    def run(messages: list[Any]) -> None:
        subprotocols: Any = ["camera.v1"]
        asyncio.run(throw(ws(gateway.viewer_url) + path, messages, subprotocols=subprotocols))
        assert gateway.process.poll() is None

    run()
    assert httpx.get(f"{gateway.viewer_url}/api/cameras", timeout=60).json()["total_cameras"] == 1


@pytest.mark.parametrize("accepted", [False, True])
def test_random_messages_of_workers(
    gateway: GatewayProcess, state: StateFolder, door: Camera, accepted: bool
) -> None:
    hall = put_camera(state, test_pattern("hall"))
    hello = '{"op":"hello","camera":"default.hall","attempt":1}'

    def names() -> list[str]:
        cameras = httpx.get(f"{gateway.viewer_url}/api/cameras", timeout=60).json()["cameras"]
        return [camera["name"] for camera in cameras]

    asyncio.run(eventually(lambda: names() == ["door", "hall"], "the gateway knows the hall"))

    @FUZZ
    @given(st.lists(MESSAGE, min_size=1, max_size=8))
    def run(messages: list[Any]) -> None:
        subprotocols: Any = ["camera.v1"]
        asyncio.run(
            throw(
                f"{ws(gateway.internal_url)}/ws/worker",
                [hello, *messages] if accepted else messages,
                subprotocols=subprotocols,
                additional_headers={"Authorization": f"Bearer {worker_token(state, hall)}"},
            )
        )
        assert gateway.process.poll() is None

    run()
    assert names() == ["door", "hall"]


def test_random_bytes_instead_of_http(gateway: GatewayProcess) -> None:
    async def throw_raw(port: int, data: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 60)
        except ConnectionError:
            pass  # cut off: as good an answer as any
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except ConnectionError:
                pass

    upgrade = (
        b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n"
    )
    starts = st.sampled_from(
        [
            b"",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n",
            b"POST /api/cameras HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            upgrade % (b"/ws", b"Sec-WebSocket-Protocol: camera.v1\r\n"),
            upgrade % (b"/ws/stream", b""),
        ]
    )

    @FUZZ
    @given(starts, st.binary(max_size=400), st.booleans())
    def run(start: bytes, rest: bytes, internal: bool) -> None:
        port = gateway.internal_port if internal else gateway.viewer_port
        asyncio.run(throw_raw(port, start + rest))
        assert gateway.process.poll() is None

    run()
    assert httpx.get(f"{gateway.viewer_url}/livez", timeout=60).status_code == 200


def raw_close_code(port: int, path: str, *, size: int, opcode: int, token: str = "", first: str = "") -> int:
    """Send `first`, then one message of `size` bytes, all of it, and only then read; the close code."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
        raw.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: camera.v1\r\n\r\n".encode()
        )
        received = raw.recv(65536)
        assert received.startswith(b"HTTP/1.1 101"), received
        if first:
            text = first.encode()
            raw.sendall(struct.pack("!BB", 0x81, 0x80 | len(text)) + bytes(4) + text)
            while b'"op":"hello"' not in received:
                received += raw.recv(65536)
        raw.sendall(struct.pack("!BBQ", 0x80 | opcode, 0xFF, size) + bytes(4) + bytes(size))
        received = b""
        while chunk := raw.recv(65536):
            received += chunk
    marker = received.rfind(b"\x88", 0, len(received) - 2)
    found: int = struct.unpack_from("!H", received, received.find(b"\x88", max(0, marker - 120)) + 2)[0]
    return found


async def test_nine_mebibytes_close_with_1009(
    gateway: GatewayProcess, state: StateFolder, door: Camera, publish: Any
) -> None:
    hall = put_camera(state, test_pattern("hall"))
    token = worker_token(state, hall)
    async with undisturbed(gateway, door, publish):
        code = await asyncio.to_thread(
            raw_close_code,
            gateway.internal_port,
            "/ws/worker",
            size=9 * 1024 * 1024,
            opcode=2,
            token=token,
            first='{"op":"hello","camera":"default.hall","attempt":1}',
        )
        assert code == 1009
        for path in ("/ws", "/ws/stream/door", "/ws/events"):
            for opcode in (1, 2):
                for size in (70 * 1024, 9 * 1024 * 1024):
                    code = await asyncio.to_thread(
                        raw_close_code, gateway.viewer_port, path, size=size, opcode=opcode
                    )
                    assert code == 1009, (path, opcode, size)
        async with FakeWorker.running(gateway.internal_url, hall.id, token) as worker:
            await worker.accepted()


async def test_nonsense_is_answered_then_ended(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with undisturbed(gateway, door, publish), FakeViewer.running(gateway.viewer_url) as viewer:
        await viewer.socket.send("{")
        await viewer.problem("invalid")
        await viewer.socket.send('{"op":"dance"}')
        await viewer.problem("unknown_op")
        await viewer.socket.send(b"\x00")
        assert not viewer.closed.is_set()
        for _ in range(40):
            await viewer.socket.send("[")
        await asyncio.wait_for(viewer.closed.wait(), 60)
        assert viewer.socket.close_code == 1008


async def test_one_who_asks_and_never_reads(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    """Floods of pings whose answers nobody reads: dropped, and memory stays."""
    async with undisturbed(gateway, door, publish):
        for path, payload, opcode in (("/ws", b'{"op":"ping","t":1}', 1), ("/ws/events", bytes(100), 9)):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.viewer_port, limit=1024)
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                "Sec-WebSocket-Protocol: camera.v1\r\n\r\n".encode()
            )
            await reader.readuntil(b"\r\n\r\n")
            frame = struct.pack("!BB", 0x80 | opcode, 0x80 | len(payload)) + bytes(4) + payload
            try:
                async with asyncio.timeout(60):
                    while True:
                        writer.write(frame * 500)
                        await writer.drain()
            except (ConnectionError, TimeoutError) as error:
                assert isinstance(error, ConnectionError), f"{path}: never ended"
            writer.transport.abort()


async def test_fragments_without_end(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with undisturbed(gateway, door, publish):
        subprotocols: Any = ["camera.v1"]
        async with connect(ws(gateway.viewer_url) + "/ws", subprotocols=subprotocols) as client:
            with pytest.raises(ConnectionClosed):

                async def empty() -> AsyncIterator[str]:
                    while True:
                        yield ""
                        await asyncio.sleep(0)  # let it read that it was closed

                await client.send(empty())
            assert client.close_code == 1009


async def test_half_requests_are_ended(gateway: GatewayProcess) -> None:
    readers = []
    for data in (b"", b"GET /api/cam", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.viewer_port)
        writer.write(data)
        readers.append((reader, writer))
    for reader, writer in readers:
        try:
            assert await asyncio.wait_for(reader.read(), 60) == b""
        except ConnectionError:
            pass
        writer.transport.abort()


async def test_too_much_from_a_worker_is_dropped_not_spread(
    gateway: GatewayProcess, state: StateFolder, door: Camera, publish: Any
) -> None:
    hall = put_camera(state, test_pattern("hall"))
    async with (
        undisturbed(gateway, door, publish),
        FakeWorker.running(gateway.internal_url, hall.id, worker_token(state, hall)) as flood,
    ):
        await flood.accepted()
        for _ in range(1500):
            await flood.send(size=100)
        await eventually(lambda: any(ack.seq == flood.seq for ack in flood.of(FrameAck)), "all acknowledged")

        def refused() -> int:
            workers = httpx.get(f"{gateway.viewer_url}/streaming/debug", timeout=60).json()["workers"]
            return next(w["frames_refused"] for w in workers if w["camera"] == hall.id)

        assert refused() > 0


def test_refusing_a_handshake_leaves_nothing_behind(gateway: GatewayProcess) -> None:
    async def run() -> None:
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            with pytest.raises(InvalidHandshake):
                async with connect(ws(gateway.viewer_url) + "/ws", additional_headers=headers):
                    pass
        async with connect(f"{ws(gateway.internal_url)}/ws/worker") as client:
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(client.recv(), 60)
            assert client.close_code == 1002

    asyncio.run(run())
    assert len(os.listdir(f"/proc/{gateway.pid}/fd")) < 60
