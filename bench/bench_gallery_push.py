"""Galleries to workers: how long until all have 10,000 people, and what that costs the gateway.

The gateway is a process of its own with its database full of people; the workers are connections of another
process that read all they are sent, say what they have once a second, and look at each part's header.
Measured are all workers connecting with nothing, and one person more through the API until the last worker
has heard of it. The reference is the least that could be done: a server that writes as many bytes to as many
plain TCP connections, all read in another process.

    python bench/bench_gallery_push.py [--workers 100] [--people 10000] [--faces 3] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import uvloop
from measuring import cpu_seconds, line, machine, part, poke
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from camfleet_gateway.people.known import GALLERY, face_context  # noqa: E402
from camfleet_gateway.store.database import Database  # noqa: E402
from camfleet_gateway.store.sealing import Sealer, own_key  # noqa: E402
from camfleet_gateway.store.service import DATABASE_FILE, KEY_FILE  # noqa: E402
from camfleet_gateway.store.tables import Counter, Face, Person  # noqa: E402
from camfleet_protocol.local import StateFolder  # noqa: E402
from camfleet_protocol.messages import FrameCounts, SourceState, SourceStats, Stats, WorkerHello  # noqa: E402
from camfleet_protocol.wire import HEADER, Opcode  # noqa: E402
from support.gateway_process import GatewayProcess, put_camera, test_pattern, worker_token  # noqa: E402

MODEL = "mobilefacenet@b7120c095d60"
DIMENSIONS = 128
STATS_SECONDS = 1.0


# ── People ──────────────────────────────────────────────────────────────────────────────────────────


async def enrol(folder: Path, people: int, faces: int) -> None:
    """Fill a gateway's database, as enrolling them would."""
    sealer = Sealer(own_key(folder / KEY_FILE))
    database = Database(f"sqlite+aiosqlite:///{folder / DATABASE_FILE}")
    await database.open()
    random = np.random.default_rng(6)
    now, version = time.time(), int(time.time())
    async with database.session() as session:
        session.add(Counter(name=GALLERY, value=version))
        ids = [f"person-{number:05d}" for number in range(people)]
        session.add_all(Person(id=id_, name=id_, created=now, updated=now, version=version) for id_ in ids)
        await session.flush()
        for number, person in enumerate(ids):
            vectors = random.normal(size=(faces, DIMENSIONS)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            for index, vector in enumerate(vectors.astype("<f2")):
                face = f"face-{number:05d}-{index}"
                session.add(
                    Face(
                        id=face,
                        person_id=person,
                        embedder=MODEL,
                        embedding=sealer.seal(vector.tobytes(), face_context(face)),
                        created=now,
                    )
                )
    await database.close()


# ── Workers, in a process of their own ──────────────────────────────────────────────────────────────


class Worker(WSListener):  # type: ignore[misc]
    """One worker's connection; says what it has once a second, and when a transfer is complete."""

    def __init__(self, camera: str) -> None:
        self.camera = camera
        self.version = 0
        self.bytes = 0
        self.complete_at = 0.0

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Greet."""
        self.transport = transport
        transport.send(WSMsgType.TEXT, WorkerHello(camera=self.camera, attempt=1).encode().encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message."""
        if frame.msg_type == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.TEXT:
            if frame.get_payload_as_bytes().startswith(b'{"op":"hello"'):
                self.tell()
        elif frame.msg_type == WSMsgType.BINARY:
            payload = frame.get_payload_as_memoryview()
            opcode, *_, version, _, _, meta, _ = HEADER.unpack_from(payload)
            self.bytes += len(payload)
            part = json.loads(bytes(payload[HEADER.size : HEADER.size + meta]))
            if opcode == Opcode.GALLERY and part.get("part", 0) + 1 == part["parts"]:
                self.version, self.complete_at = version, time.monotonic()

    def tell(self) -> None:
        """Statistics."""
        stats = Stats(
            source=SourceStats(state=SourceState.CONNECTED),
            frames=FrameCounts(),
            embedder=MODEL,
            gallery_version=self.version,
        )
        self.transport.send(WSMsgType.TEXT, stats.encode().encode())


async def workers(port: int, tokens: dict[str, str]) -> None:
    """Connect all when a line comes; then answer each line with how many have which version since when."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    listeners: list[Worker] = []

    async def connect(camera: str, token: str) -> None:
        _, worker = await ws_connect(
            lambda: Worker(camera),
            f"ws://127.0.0.1:{port}/ws/worker",
            extra_headers=[("Sec-WebSocket-Protocol", "camera.v1"), ("Authorization", f"Bearer {token}")],
            websocket_handshake_timeout=60,
            max_frame_size=16 * 1024 * 1024,
        )
        listeners.append(worker)

    async def tell() -> None:
        while True:
            await asyncio.sleep(STATS_SECONDS)
            for worker in listeners:
                worker.tell()

    telling = asyncio.create_task(tell())
    await asyncio.gather(*(connect(camera, token) for camera, token in tokens.items()))
    while await loop.run_in_executor(None, sys.stdin.readline):
        versions = [worker.version for worker in listeners]
        latest = max(versions, default=0)
        print(
            versions.count(latest),
            latest,
            max(worker.complete_at for worker in listeners),
            sum(worker.bytes for worker in listeners),
            flush=True,
        )
    telling.cancel()


# ── The reference: the same bytes over as many plain connections ─────────────────────────────────────


async def plain_server(connections: int, size: int) -> None:
    """Say the port; write `size` bytes to each of `connections` connections, in parts, as they come."""
    chunk = os.urandom(256 * 1024)
    everybody = asyncio.Event()
    here = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal here
        here += 1
        if here == connections:
            everybody.set()
        await everybody.wait()
        left = size
        while left:
            part = chunk[: min(left, len(chunk))]
            writer.write(part)
            left -= len(part)
            await writer.drain()
        await reader.read()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def plain_readers(port: int, connections: int, size: int) -> None:
    """Read them all, and say how long that took."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    open_ = connections

    class Reader(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(256 * 1024)
            self.left = size

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            nonlocal open_
            self.left -= nbytes
            if self.left == 0:
                open_ -= 1
                if open_ == 0 and not done.done():
                    done.set_result(None)

    began = time.monotonic()
    await asyncio.gather(*(loop.create_connection(Reader, "127.0.0.1", port) for _ in range(connections)))
    await done
    print(time.monotonic() - began, flush=True)


# ── Measuring ───────────────────────────────────────────────────────────────────────────────────────


def resident(pid: int, field: str = "VmRSS") -> float:
    """MB."""
    for text in Path(f"/proc/{pid}/status").read_text().splitlines():
        if text.startswith(f"{field}:"):
            return int(text.split()[1]) / 1024
    return 0.0


class Peak:
    """The highest resident memory of a process, looked at all the time."""

    def __init__(self, pid: int) -> None:
        self.mb = 0.0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError):
            while not self._stop.wait(0.01):
                self.mb = max(self.mb, resident(self._pid))


def wait_for_all(process: subprocess.Popen[str], count: int, above: int) -> tuple[int, float, int]:
    """Until all have the same version above another; that version, when the last had it, bytes so far."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        poke(process)
        having, version, at, size = line(process).split()
        if int(having) == count and int(version) > above:
            return int(version), float(at), int(size)
        time.sleep(0.02)
    raise RuntimeError("not all workers have it after two minutes")


def reference(options: argparse.Namespace, size: int) -> float:
    with part("--plain", options.workers, size) as server:
        port = line(server)
        with part("--readers", port, options.workers, size) as readers:
            return float(line(readers))


def measure(options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        state = StateFolder(Path(folder) / "state")
        state.create()
        (state.root / "gateway").mkdir()
        asyncio.run(enrol(state.root / "gateway", options.people, options.faces))
        cameras = [put_camera(state, test_pattern(f"cam-{n}")) for n in range(options.workers)]
        gateway = GatewayProcess(state, log_level="WARNING")
        tokens = json.dumps({camera.id: worker_token(state, camera) for camera in cameras})
        try:
            with (
                part("--workers", gateway.internal_port, tokens) as process,
                Peak(gateway.pid) as peak,
            ):
                time.sleep(2.0)
                before, cpu = resident(gateway.pid), cpu_seconds(gateway.pid)
                began = time.monotonic()
                poke(process)
                version, at, size = wait_for_all(process, options.workers, 0)
                cold, cpu = at - began, cpu_seconds(gateway.pid) - cpu
                time.sleep(2 * STATS_SECONDS)
                deltas = []
                for number in range(5):
                    url = f"{gateway.viewer_url}/api/people"
                    httpx.post(url, json={"name": f"New {number}"}, timeout=30).raise_for_status()
                    asked = time.monotonic()
                    version, at, after = wait_for_all(process, options.workers, version)
                    deltas.append(at - asked)
                return {
                    "cold": cold,
                    "cpu": cpu,
                    "MB each": size / options.workers / 1e6,
                    "change": statistics.median(deltas),
                    "worst change": max(deltas),
                    "rss before": before,
                    "peak": peak.mb,
                    "rss after": resident(gateway.pid),
                    "plain": reference(options, size // options.workers),
                    "delta bytes": (after - size) / options.workers / 5,
                }
        finally:
            gateway.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time until all workers have the enrolled people.")
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--faces", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine("uvicorn", "uvloop", "picows"))
    who = f"{options.people} people with {options.faces} faces of {DIMENSIONS} values"
    print(f"{options.workers} workers, {who}")
    rounds = [measure(options) for _ in range(options.rounds)]
    for name in rounds[0]:
        values = sorted(values[name] for values in rounds)
        print(f"{name:>13}: median {statistics.median(values):.3f}  range {values[0]:.3f} - {values[-1]:.3f}")
    ratio = statistics.median(values["cold"] / values["plain"] for values in rounds)
    print(f"all people to all workers against the same bytes over plain TCP: {ratio:.2f}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--workers", port, tokens] if tokens.startswith("{"):
            uvloop.run(workers(int(port), json.loads(tokens)))
        case ["--plain", connections, size]:
            uvloop.run(plain_server(int(connections), int(size)))
        case ["--readers", port, connections, size]:
            uvloop.run(plain_readers(int(port), int(connections), int(size)))
        case _:
            main()
