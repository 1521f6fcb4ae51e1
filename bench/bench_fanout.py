"""Fan-out: gateway CPU per delivered picture, against a bare picows server with the same window.

Both servers are processes of their own. 200 viewers in another process subscribe to one camera that publishes
60 KB pictures 15 times a second, and acknowledge each picture; each side sends at most two that are not
acknowledged. CPU is what the kernel counts for the server's process (user and system, /proc/PID/stat) over
the measured time, divided by the pictures that reached viewers in it. The two servers take turns, several
rounds; the ratio is that of the medians. The gateway's figure includes taking the pictures from the worker's
socket.

    python bench/bench_fanout.py [--viewers 200] [--fps 15] [--seconds 6] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop
from measuring import cpu_seconds, line, machine, part, poke
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_connect, ws_create_server

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from camfleet_protocol.local import StateFolder  # noqa: E402
from camfleet_protocol.messages import FrameCounts, SourceState, SourceStats, Stats, WorkerHello  # noqa: E402
from camfleet_protocol.window import AckWindow  # noqa: E402
from camfleet_protocol.wire import Codec, Opcode, encode_frame  # noqa: E402
from support.gateway_process import GatewayProcess, put_camera, test_pattern, worker_token  # noqa: E402

WINDOW = 2
SUBSCRIBE = b'{"op":"subscribe","cameras":["default.bench"],"window":%d}' % WINDOW
_IDS = struct.Struct("<IQ")
_IDS_OFFSET = 4


# ── The reference: as little as a server with an acknowledgement window can do ─────────────────────


class BareViewer(WSListener):  # type: ignore[misc]
    """One viewer of the reference server."""

    def __init__(self, viewers: set[BareViewer]) -> None:
        self.viewers = viewers
        self.window = AckWindow(WINDOW)
        self.slot: tuple[int, bytes] | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        self.transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Forget it."""
        self.viewers.discard(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message."""
        if frame.msg_type == WSMsgType.TEXT:
            text = frame.get_payload_as_memoryview()
            if bytes(text[:12]) == b'{"op":"ack",':
                self.window.acked(int(bytes(text).rpartition(b":")[2][:-1]), 0.0)
                if self.slot is not None and self.window.open:
                    self.send(*self.slot)
            else:
                self.viewers.add(self)

    def offer(self, seq: int, message: bytes) -> None:
        """Send the newest picture, or keep it until there is room."""
        if self.window.open:
            self.send(seq, message)
        else:
            self.slot = (seq, message)

    def send(self, seq: int, message: bytes) -> None:
        """Send a picture."""
        self.slot = None
        self.window.sent(seq, 0.0)
        self.transport.send(WSMsgType.BINARY, message)


async def bare_server(size: int, fps: float) -> None:
    viewers: set[BareViewer] = set()

    def accept(_: WSUpgradeRequest) -> BareViewer:
        return BareViewer(viewers)

    server = await ws_create_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    start, count = time.monotonic(), 0
    while True:
        count += 1
        message = frame_bytes(count, size)
        for viewer in list(viewers):
            viewer.offer(count, message)
        await asyncio.sleep(max(0.0, start + count / fps - time.monotonic()))


def frame_bytes(seq: int, size: int) -> bytes:
    return encode_frame(
        opcode=Opcode.FRAME,
        codec=Codec.JPEG,
        camera_id=1,
        seq=seq,
        captured_ns=time.time_ns(),
        sent_ns=time.time_ns(),
        meta=b'{"width":640,"height":360}',
        payload=bytes(size),
    )


# ── Viewers and worker, in a process of their own ──────────────────────────────────────────────────


class Client(WSListener):  # type: ignore[misc]
    """One viewer: acknowledges each picture at once."""

    def __init__(self) -> None:
        self.frames = 0
        self.gaps = 0
        self.last = 0
        self.ages: list[float] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        transport.send(WSMsgType.TEXT, SUBSCRIBE)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message."""
        if frame.msg_type != WSMsgType.BINARY:
            if frame.msg_type == WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())
            return
        head = frame.get_payload_as_memoryview()
        camera, seq = _IDS.unpack_from(head, _IDS_OFFSET)
        transport.send(WSMsgType.TEXT, b'{"op":"ack","id":%d,"seq":%d}' % (camera, seq))
        self.frames += 1
        if self.last and seq != self.last + 1:
            self.gaps += 1
        self.last = seq
        if self.frames % 15 == 0:
            self.ages.append(time.time() - struct.unpack_from("<Q", head, 16)[0] / 1e9)


async def clients(port: int, path: str, count: int) -> None:
    """Connect, then answer each line of standard input with the figures since the last one."""
    listeners: list[Client] = []
    for _ in range(count):
        _, listener = await ws_connect(
            Client, f"ws://127.0.0.1:{port}{path}", extra_headers=[("Sec-WebSocket-Protocol", "camera.v1")]
        )
        listeners.append(listener)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    before = (0, 0)
    while await loop.run_in_executor(None, sys.stdin.readline):
        now = (sum(c.frames for c in listeners), sum(c.gaps for c in listeners))
        ages = sorted(age for c in listeners for age in c.ages) or [0.0]
        for listener in listeners:
            listener.ages.clear()
        figures = (now[0] - before[0], now[1] - before[1], ages[len(ages) // 2], ages[int(len(ages) * 0.99)])
        before = now
        print(*figures, flush=True)


class Publisher(WSListener):  # type: ignore[misc]
    """The worker: obeys its acknowledgement window."""

    def __init__(self) -> None:
        self.window = AckWindow(WINDOW)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Begin."""
        self.transport = transport
        transport.send(WSMsgType.TEXT, WorkerHello(camera="default.bench", attempt=1).encode().encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message."""
        if frame.msg_type == WSMsgType.TEXT and frame.get_payload_as_bytes().startswith(b'{"op":"ack"'):
            self.window.acked(int(frame.get_payload_as_ascii_text().rpartition(":")[2][:-1]), 0.0)


async def publisher(port: int, token: str, size: int, fps: float) -> None:
    _, worker = await ws_connect(
        Publisher,
        f"ws://127.0.0.1:{port}/ws/worker",
        extra_headers=[("Sec-WebSocket-Protocol", "camera.v1"), ("Authorization", f"Bearer {token}")],
    )
    start, count, seq = time.monotonic(), 0, time.time_ns() // 1_000_000
    while True:
        if count % max(1, round(fps)) == 0:
            stats = Stats(
                source=SourceStats(state=SourceState.CONNECTED, fps=fps),
                frames=FrameCounts(captured=count, published=count),
                last_frame_ns=time.time_ns(),
            )
            worker.transport.send(WSMsgType.TEXT, stats.encode().encode())
        if worker.window.open:
            seq += 1
            worker.window.sent(seq, 0.0)
            worker.transport.send(WSMsgType.BINARY, frame_bytes(seq, size))
        count += 1
        await asyncio.sleep(max(0.0, start + count / fps - time.monotonic()))


# ── Measuring ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Result:
    """One run of one server."""

    micros: float
    percent: float
    delivered: float
    gaps: int
    p50_ms: float
    p99_ms: float


def ask(process: subprocess.Popen[str]) -> list[float]:
    poke(process)
    return [float(word) for word in line(process).split()]


def measure(pid: int, port: int, path: str, options: argparse.Namespace) -> Result:
    with part("--clients", port, path, options.viewers) as viewers:
        line(viewers)
        time.sleep(1.5)
        ask(viewers)
        cpu, begin = cpu_seconds(pid), time.monotonic()
        time.sleep(options.seconds)
        frames, gaps, p50, p99 = ask(viewers)
        cpu, elapsed = cpu_seconds(pid) - cpu, time.monotonic() - begin
    wanted = options.viewers * options.fps * elapsed
    return Result(
        cpu / frames * 1e6, cpu / elapsed * 100, frames / wanted * 100, int(gaps), p50 * 1000, p99 * 1000
    )


def measure_bare(options: argparse.Namespace) -> Result:
    with part("--bare", options.size, options.fps) as server:
        return measure(server.pid, int(line(server)), "/", options)


def measure_gateway(options: argparse.Namespace) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        state = StateFolder(Path(folder) / "state")
        state.create()
        camera = put_camera(state, test_pattern("bench"))
        gateway = GatewayProcess(state, log_level="WARNING")
        token = worker_token(state, camera)
        try:
            with part("--publisher", gateway.internal_port, token, options.size, options.fps):
                return measure(gateway.pid, gateway.viewer_port, "/ws", options)
        finally:
            gateway.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Gateway CPU per delivered picture against a bare picows server."
    )
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--fps", type=float, default=15.0)
    parser.add_argument("--size", type=int, default=60_000)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(machine("uvicorn", "websockets", "uvloop", "picows"))
    load = f"{options.viewers} viewers x {options.fps:g} fps x {options.size} B, window {WINDOW}"
    print(load)
    print("server   us/picture  CPU %  delivered %  gaps  p50 ms  p99 ms")
    results: dict[str, list[Result]] = {"picows": [], "gateway": []}
    for _ in range(options.rounds):
        for name, run in (("picows", measure_bare), ("gateway", measure_gateway)):
            r = run(options)
            results[name].append(r)
            speed = f"{r.micros:10.1f} {r.percent:6.1f} {r.delivered:12.1f}"
            print(f"{name:8} {speed} {r.gaps:5d} {r.p50_ms:7.1f} {r.p99_ms:7.1f}", flush=True)
    medians = {name: statistics.median(r.micros for r in runs) for name, runs in results.items()}
    print(
        f"median: gateway {medians['gateway']:.1f} us, picows {medians['picows']:.1f} us, "
        f"ratio {medians['gateway'] / medians['picows']:.2f}"
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--bare", size, fps]:
            uvloop.run(bare_server(int(size), float(fps)))
        case ["--clients", port, path, count]:
            uvloop.run(clients(int(port), path, int(count)))
        case ["--publisher", port, token, size, fps]:
            uvloop.run(publisher(int(port), token, int(size), float(fps)))
        case _:
            main()
