"""Simulated workers for the page's tests: the worker protocol with real JPEGs, all in one thread.

Each picture holds a magenta block exactly where its meta says that the detection is, and nothing else is
magenta: so a test can compare what is drawn over a picture with what is in it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from camfleet_protocol import messages as m
from camfleet_protocol.camera import Camera, SourceType
from camfleet_protocol.detections import Detection, FrameMeta, encode_meta
from camfleet_protocol.local import StateFolder
from camfleet_protocol.wire import SUBPROTOCOL, Codec, Flags, Opcode, encode_frame
from support.gateway_process import worker_token

WIDTH, HEIGHT = 640, 360
MAGENTA = (255, 0, 255)
_RETRY_SECONDS = 0.1
_AT_ONCE = 16
"""Events that a gateway is given at a time."""


@dataclass
class SimulatedWorker:
    """One worker; its fields may be changed by a test while it runs."""

    camera: Camera
    fps: float = 10.0
    source: m.SourceStats = field(
        default_factory=lambda: m.SourceStats(
            state=m.SourceState.CONNECTED, width=WIDTH, height=HEIGHT, fps=10.0, codec="h264"
        )
    )
    connected: bool = True
    """Whether it wants to be connected to the gateway."""
    seen: list[str] = field(default_factory=list)
    """Operations that the gateway has sent."""
    published: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    """Events to tell, fields of `EventRecord`; each is sent until it is acknowledged. What `WorkerEvent` has
    besides, such as a crop, stands below `with`."""
    unacknowledged: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)

    def lose_source(self, message: str) -> None:
        """The source vanishes; the worker stays."""
        self.source = self.source.model_copy(
            update={
                "state": m.SourceState.BACKOFF,
                "reason": "SourceUnavailable",
                "message": message,
                "fps": 0.0,
            }
        )

    def find_source(self) -> None:
        """The source is back."""
        self.source = self.source.model_copy(
            update={"state": m.SourceState.CONNECTED, "reason": "", "message": "", "fps": self.fps}
        )

    @property
    def has_source(self) -> bool:
        return self.source.state is m.SourceState.CONNECTED


def block_of(number: int) -> tuple[int, int, int, int]:
    """Left, top, width and height in pixels of the block in a picture; multiples of 16, as JPEG likes."""
    return 32 + 16 * (number % 24), 96 + 16 * (number % 7), 112, 96


def make_picture(number: int, tint: int) -> tuple[bytes, FrameMeta]:
    """The JPEG of a picture and its meta."""
    picture = np.full((HEIGHT, WIDTH, 3), (40 + tint % 60, 60, 40 + (number * 5) % 60), np.uint8)
    cv2.putText(picture, f"{number:06d}", (16, 48), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (230, 230, 230), 2)
    left, top, width, height = block_of(number)
    picture[top : top + height, left : left + width] = MAGENTA
    done, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done
    found = Detection(
        kind="face",
        label="face",
        score=0.91,
        box=(left / WIDTH, top / HEIGHT, width / WIDTH, height / HEIGHT),
    )
    return coded.tobytes(), FrameMeta(width=WIDTH, height=HEIGHT, detections=(found,))


class Publishers:
    """Runs simulated workers until closed; they reconnect by themselves."""

    def __init__(self, state: StateFolder, gateway_port: int) -> None:
        self._state = state
        self._url = f"ws://127.0.0.1:{gateway_port}/ws/worker"
        self._loop = asyncio.new_event_loop()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._thread = threading.Thread(target=self._loop.run_forever, name="publishers", daemon=True)
        self._thread.start()

    def add(self, camera: Camera, fps: float = 10.0) -> SimulatedWorker:
        """Start a worker for a camera."""
        worker = SimulatedWorker(camera, fps)

        async def start() -> None:
            self._tasks[camera.id] = asyncio.create_task(self._run(worker), name=camera.id)

        asyncio.run_coroutine_threadsafe(start(), self._loop).result(60)
        return worker

    def close(self) -> None:
        """Stop all of them."""

        async def stop() -> None:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    async def _run(self, worker: SimulatedWorker) -> None:
        while True:
            if worker.connected:
                try:
                    await self._connection(worker)
                except (ConnectionClosed, InvalidHandshake, OSError, TimeoutError):
                    pass
            await asyncio.sleep(_RETRY_SECONDS)

    async def _connection(self, worker: SimulatedWorker) -> None:
        token = worker_token(self._state, worker.camera)
        async with connect(
            self._url,
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            open_timeout=5,
            close_timeout=1,
        ) as socket:
            hello = m.WorkerHello(
                camera=worker.camera.id,
                attempt=1,
                source_type=worker.camera.spec.source.type or SourceType.TEST_PATTERN,
                source="simulated",
            )
            await socket.send(hello.encode())
            worker.events[:0] = worker.unacknowledged.values()
            worker.unacknowledged.clear()
            demand = m.Demand()
            number = camera_number = 0
            accepted = False
            seq = time.time_ns() // 1_000_000
            last_frame = 0
            started = next_stats = next_frame = time.monotonic()
            while worker.connected:
                now = time.monotonic()
                wait = max(0.0, min(next_stats, next_frame) - now)
                if (answer := await _receive(socket, wait)) is not None:
                    worker.seen.append(answer.op)
                    if isinstance(answer, m.Accepted):
                        camera_number, accepted = answer.id, True
                    elif isinstance(answer, m.Demand):
                        demand = answer
                    elif isinstance(answer, m.EventAck):
                        worker.unacknowledged.pop((answer.id, answer.revision), None)
                    continue
                now = time.monotonic()
                if now >= next_frame:
                    next_frame = max(now, next_frame + 1 / worker.fps)
                    if worker.has_source:
                        last_frame = time.time_ns()
                        number += 1
                        if demand.plain:
                            picture, meta = make_picture(number, hash(worker.camera.id))
                            seq += 1
                            worker.published += 1
                            await socket.send(
                                encode_frame(
                                    opcode=Opcode.FRAME,
                                    codec=Codec.JPEG,
                                    flags=Flags.KEYFRAME,
                                    camera_id=camera_number,
                                    seq=seq,
                                    captured_ns=last_frame,
                                    sent_ns=time.time_ns(),
                                    meta=encode_meta(meta),
                                    payload=picture,
                                )
                            )
                while accepted and worker.events and len(worker.unacknowledged) < _AT_ONCE:
                    told = worker.events.pop(0)
                    event = m.EventRecord.model_validate(told)
                    worker.unacknowledged[event.id, event.revision] = told
                    await socket.send(m.WorkerEvent(event=event, **told.get("with", {})).encode())
                if now >= next_stats:
                    next_stats = now + 0.5
                    stats = m.Stats(
                        source=worker.source,
                        frames=m.FrameCounts(captured=number, published=worker.published),
                        last_frame_ns=last_frame,
                        uptime_seconds=now - started,
                    )
                    await socket.send(stats.encode())


async def _receive(
    socket: ClientConnection, seconds: float
) -> m.Accepted | m.FrameAck | m.EventAck | m.Demand | m.Configure | m.Command | m.GoAway | None:
    try:
        async with asyncio.timeout(seconds):
            return m.parse_gateway_to_worker(str(await socket.recv()))
    except TimeoutError:
        return None
