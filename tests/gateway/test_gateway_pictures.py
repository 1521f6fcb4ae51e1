"""The ways to watch for clients that know no `camera.v1`: legacy WebSocket, MJPEG, snapshots, tickets."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from gateway_clients import FakeWorker, eventually, picture, ws
from gateway_tokens import Tokens
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from camfleet_protocol.camera import Camera
from camfleet_protocol.local import StateFolder
from support.gateway_process import GatewayProcess, put_camera, remove_camera, test_pattern, worker_token


async def pictures_of(socket: Any) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 60))
    return message


async def test_legacy_protocol(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    base = ws(gateway.viewer_url)
    async with publish(door) as worker, AsyncExitStack() as stack:
        first = await stack.enter_async_context(connect(f"{base}/ws/stream"))
        named = await stack.enter_async_context(connect(f"{base}/ws/stream/door"))
        plain = await stack.enter_async_context(connect(f"{base}/ws/stream/default.door?annotated=0"))
        await worker.demand(lambda d: d.plain and d.annotated, "both forms")
        boxed_seq = await worker.send(annotated=True, size=500)
        await worker.socket.send(picture(boxed_seq, size=700))
        for client, size in ((first, 500), (named, 500), (plain, 700)):
            message = await pictures_of(client)
            assert message["type"] == "frame"
            data = base64.b64decode(message["data"])
            assert len(data) == size and int.from_bytes(data[:8], "big") == boxed_seq
            metadata = message["metadata"]
            assert metadata["camera_id"] == "default.door"
            assert set(metadata) == {"camera_id", "timestamp", "fps", "detections"}
            assert metadata["timestamp"] == pytest.approx(time.time(), abs=20)
            assert metadata["detections"][0] == {
                "kind": "face",
                "label": "face",
                "score": 0.9,
                "box": [0.1, 0.2, 0.3, 0.4],
                "landmarks": [],
                "person": "",
            }
        await first.send("ping")
        assert await asyncio.wait_for(first.recv(), 60) == "pong"
        await first.send(json.dumps({"type": "ping"}))
        assert (await pictures_of(first))["type"] == "pong"
        await first.send("[1, nonsense")
        await first.send(b"\x00\xff")
        seq = await worker.send(annotated=True, size=500)
        assert base64.b64decode((await pictures_of(first))["data"])[:8] == seq.to_bytes(8, "big")
    async with connect(f"{base}/ws/stream/nowhere") as client:
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(client.recv(), 60)
        assert client.close_code == 4404


async def test_a_legacy_viewer_ends_with_its_camera(
    gateway: GatewayProcess, state: StateFolder, door: Camera
) -> None:
    async with connect(f"{ws(gateway.viewer_url)}/ws/stream/door") as client:
        remove_camera(state, door.id)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(client.recv(), 60)
        assert client.close_code == 4404


async def test_a_legacy_viewer_that_reads_nothing_skips_pictures(
    gateway: GatewayProcess, door: Camera, publish: Any
) -> None:
    uri = f"{ws(gateway.viewer_url)}/ws/stream/door"
    small = socket.create_connection(("127.0.0.1", gateway.viewer_port))
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    async with (
        publish(door) as worker,
        connect(uri, sock=small, max_queue=1, max_size=None, compression=None) as client,
    ):
        await worker.demand(lambda d: d.annotated, "annotated")
        streaming = asyncio.create_task(worker.stream(50, size=200_000, annotated=True))

        async def skipped() -> bool:
            async with httpx.AsyncClient(timeout=60) as http:
                debug = (await http.get(f"{gateway.viewer_url}/streaming/debug")).json()
            return bool(debug["traffic"]["legacy"]["frames_skipped"] > 20)

        await eventually(skipped, "pictures skipped for it")
        newest, message = worker.seq, {}
        async with asyncio.timeout(60):
            while True:
                message = json.loads(await client.recv())
                if int.from_bytes(base64.b64decode(message["data"])[:8], "big") >= newest:
                    break  # what lay in the buffers is read; from here on it is up to date
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)


async def read_parts(answer: httpx.Response, count: int) -> list[bytes]:
    """Payloads of the first parts, split as the standard says: boundary lines and Content-Length."""
    boundary = b"--" + answer.headers["content-type"].partition("boundary=")[2].encode()
    buffer, parts = b"", []
    async for chunk in answer.aiter_raw():
        buffer += chunk
        while True:
            head_end = buffer.find(b"\r\n\r\n")
            if head_end < 0:
                break
            head = buffer[:head_end].split(b"\r\n")
            assert head[0] == boundary, head
            headers = dict(line.split(b": ", 1) for line in head[1:])
            assert headers[b"Content-Type"] == b"image/jpeg"
            end = head_end + 4 + int(headers[b"Content-Length"])
            if len(buffer) < end + 2:
                break
            parts.append(buffer[head_end + 4 : end])
            assert buffer[end : end + 2] == b"\r\n"
            buffer = buffer[end + 2 :]
            if len(parts) == count:
                return parts
    return parts


async def test_mjpeg(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with publish(door) as worker, httpx.AsyncClient(timeout=60) as http:
        async with http.stream("GET", f"{gateway.viewer_url}/cameras/door/stream/feed") as answer:
            assert answer.status_code == 200
            assert answer.headers["x-accel-buffering"] == "no"
            assert answer.headers["content-type"].startswith("multipart/x-mixed-replace;")
            await worker.demand(lambda d: d.annotated and not d.plain, "annotated")
            streaming = asyncio.create_task(worker.stream(20, size=30_000, annotated=True))
            parts = await asyncio.wait_for(read_parts(answer, 10), 60)
            numbers = [int.from_bytes(part[:8], "big") for part in parts]
            assert numbers == sorted(set(numbers)) and all(len(part) == 30_000 for part in parts)
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)
        await worker.demand(lambda d: not d.annotated, "the disconnect was noticed")
        url = f"{gateway.viewer_url}/cameras/door/stream/feed?annotated=0&fps=3"
        async with http.stream("GET", url) as answer:
            await worker.demand(lambda d: d.plain and d.max_fps == 3, "plain at 3 a second")
        assert (await http.get(f"{gateway.viewer_url}/cameras/door/stream/feed?fps=nan")).status_code == 422
        assert (await http.get(f"{gateway.viewer_url}/cameras/nowhere/stream/feed")).status_code == 404


async def test_mjpeg_ends_with_the_camera(gateway: GatewayProcess, state: StateFolder, door: Camera) -> None:
    url = f"{gateway.viewer_url}/cameras/door/stream/feed"
    async with httpx.AsyncClient(timeout=60) as http, http.stream("GET", url) as answer:
        remove_camera(state, door.id)
        assert await asyncio.wait_for(answer.aread(), 60)


async def test_viewers_are_limited(start: Callable[..., GatewayProcess], state: StateFolder) -> None:
    door = put_camera(state, test_pattern("door"))
    put_camera(state, test_pattern("hall"))
    gateway = start(max_viewers=3, max_viewers_per_camera=2)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        feed = f"{gateway.viewer_url}/cameras/door/stream/feed"
        for _ in range(2):
            answer = await stack.enter_async_context(http.stream("GET", feed))
            assert answer.status_code == 200
        refused = await http.get(feed)
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "too_many"
        async with connect(f"{ws(gateway.viewer_url)}/ws/stream/hall") as third:
            async with connect(f"{ws(gateway.viewer_url)}/ws/stream/hall") as fourth:
                with pytest.raises(ConnectionClosed):
                    await asyncio.wait_for(fourth.recv(), 60)
                assert fourth.close_code == 1013
            await third.send("ping")
            assert await asyncio.wait_for(third.recv(), 60) == "pong"
    assert door.id == "default.door"


async def test_snapshot_asks_the_worker_once(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    url = f"{gateway.viewer_url}/cameras/door/snapshot.jpg"
    async with httpx.AsyncClient(timeout=60) as http:
        offline = await http.get(url)
        assert offline.status_code == 503 and offline.json()["error"]["code"] == "no_picture"
        async with publish(door) as worker:
            asking = asyncio.create_task(http.get(url))
            await worker.demand(lambda d: d.annotated and not d.plain, "annotated")
            streaming = asyncio.create_task(worker.stream(20, annotated=True, size=900))
            answer = await asking
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "image/jpeg"
            assert len(answer.content) == 900
            assert int(answer.headers["x-sequence"]) == int.from_bytes(answer.content[:8], "big")

            async def the_same() -> bool:
                one, two = [(await http.get(url)).headers["x-sequence"] for _ in range(2)]
                return one == two

            await eventually(the_same, "the picture of this second serves again")
            streaming.cancel()
            await asyncio.gather(streaming, return_exceptions=True)
            await worker.demand(lambda d: not d.annotated, "nothing more is asked for")


async def test_tickets(start: Callable[..., GatewayProcess], state: StateFolder, tokens: Tokens) -> None:
    door = put_camera(state, test_pattern("door"))
    put_camera(state, test_pattern("hall"))
    gateway = start(tokens_file=str(tokens.path))
    async with (
        FakeWorker.running(gateway.internal_url, door.id, worker_token(state, door)) as worker,
        httpx.AsyncClient(timeout=60, base_url=gateway.viewer_url) as http,
    ):
        await worker.accepted()
        wanted = {"camera": "door", "action": "snapshot"}
        assert (await http.post("/api/tickets", json=wanted)).status_code == 401
        answer = await http.post("/api/tickets", json=wanted, headers=tokens.header("viewer"))
        ticket = answer.json()["ticket"]
        assert answer.json()["expires_in"] == 60

        async def status(path: str, ticket: str) -> int:
            return (await http.get(path, params={"ticket": ticket})).status_code

        asking = asyncio.create_task(status("/cameras/door/snapshot.jpg", ticket))
        await worker.demand(lambda d: d.annotated, "annotated")
        await worker.send(annotated=True)
        assert await asking == 200
        assert await status("/cameras/hall/snapshot.jpg", ticket) == 401, "for another camera"
        assert await status("/cameras/nowhere/snapshot.jpg", ticket) == 401, "tells nothing about cameras"
        assert await status("/cameras/door/stream/feed", ticket) == 401, "for another action"
        assert await status("/api/cameras", ticket) == 401, "for pictures only"
        for forged in (ticket[:-3] + "AAA", "é", "x" * 5000, ".", ticket.partition(".")[0]):
            assert await status("/cameras/door/snapshot.jpg", forged) == 401
    assert ticket not in gateway.log


async def test_a_ticket_ends_with_the_token_it_came_from(
    start: Callable[..., GatewayProcess], state: StateFolder, tokens: Tokens
) -> None:
    door = put_camera(state, test_pattern("door"))
    gateway = start(tokens_file=str(tokens.path))
    async with (
        FakeWorker.running(gateway.internal_url, door.id, worker_token(state, door)) as worker,
        httpx.AsyncClient(timeout=60, base_url=gateway.viewer_url) as http,
    ):
        await worker.accepted()
        answer = await http.post(
            "/api/tickets", json={"camera": "door", "action": "feed"}, headers=tokens.header("viewer")
        )
        feed = "/cameras/door/stream/feed?ticket=" + answer.json()["ticket"]
        async with http.stream("GET", feed) as stream:
            assert stream.status_code == 200
            tokens.write(("admin",))
            async with asyncio.timeout(60):
                async for _ in stream.aiter_raw():
                    pass
        assert (await http.get(feed)).status_code == 401
