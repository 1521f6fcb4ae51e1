"""A worker and viewers for tests of the gateway: real sockets, scripted behaviour."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from camfleet_protocol.detections import Detection, FrameMeta, encode_meta
from camfleet_protocol.gallery import GalleryUpdate, decode_part
from camfleet_protocol.messages import (
    Accepted,
    Ack,
    CameraInfo,
    Configure,
    Demand,
    EventAck,
    EventNotice,
    EventRecord,
    FrameAck,
    FrameCounts,
    GoAway,
    Hello,
    ProtocolProblem,
    SourceState,
    SourceStats,
    Stats,
    StatusUpdate,
    Subscribe,
    WorkerEvent,
    WorkerHello,
    parse_gateway_to_viewer,
    parse_gateway_to_worker,
)
from camfleet_protocol.window import AckWindow
from camfleet_protocol.wire import Codec, Flags, Frame, Opcode, encode_frame, parse_frame

DEADLINE = 60.0
"""Seconds that nothing takes, however slow the machine is."""
T = TypeVar("T")

META = encode_meta(
    FrameMeta(
        width=640,
        height=360,
        detections=(Detection(kind="face", label="face", score=0.9, box=(0.1, 0.2, 0.3, 0.4)),),
    )
)


async def eventually(check: Callable[[], T | Awaitable[T]], what: str, within: float = DEADLINE) -> T:
    """Poll until `check` gives something true.

    Raises:
        AssertionError: It did not in time.
    """
    deadline = time.monotonic() + within
    while True:
        found: Any = check()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found  # type: ignore[no-any-return]
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        await asyncio.sleep(0.02)


def ws(url: str) -> str:
    """The WebSocket form of an HTTP address."""
    return url.replace("http", "ws", 1)


def picture(seq: int, *, size: int = 2000, annotated: bool = False, camera_id: int = 0) -> bytes:
    """A frame whose payload begins with its number; not a real JPEG, nobody here decodes it."""
    return encode_frame(
        opcode=Opcode.FRAME,
        codec=Codec.JPEG,
        camera_id=camera_id,
        seq=seq,
        captured_ns=time.time_ns(),
        sent_ns=time.time_ns(),
        flags=Flags.ANNOTATED if annotated else Flags.NONE,
        meta=META,
        payload=(struct.pack("!Q", seq) + bytes(size))[:size],
    )


class FakeWorker:
    """A worker whose pictures the test makes."""

    def __init__(self, socket: ClientConnection, camera: str) -> None:
        self.socket = socket
        self.camera = camera
        self.received: list[Any] = []
        self.parts: list[GalleryUpdate] = []
        self.has: dict[str, Any] = {}
        """What its statistics say besides, such as `embedder` and `gallery_version`."""
        self.window = AckWindow(2)
        self.captured = 0
        self.published = 0
        self.seq = time.time_ns() // 1_000_000
        self.closed = asyncio.Event()
        self.changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        url: str,
        camera: str,
        token: str,
        *,
        attempt: int = 1,
        pod: str = "pod",
        stats: bool = True,
        hello: bool = True,
    ) -> AsyncIterator[FakeWorker]:
        """Connect, say hello, send statistics ten times a second."""
        async with connect(
            f"{ws(url)}/ws/worker",
            subprotocols=["camera.v1"],  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            max_size=None,
        ) as socket:
            worker = cls(socket, camera)
            worker._tasks.append(asyncio.create_task(worker._read()))
            try:
                if hello:
                    await worker._greet(WorkerHello(camera=camera, attempt=attempt, pod=pod))
                if stats:
                    worker._tasks.append(asyncio.create_task(worker._tell()))
                yield worker
            finally:
                for task in worker._tasks:
                    task.cancel()
                await asyncio.gather(*worker._tasks, return_exceptions=True)

    async def _greet(self, hello: WorkerHello) -> None:
        try:
            await self.socket.send(hello.encode())
        except ConnectionClosed:
            pass  # refused already; the test looks at the close code

    async def _read(self) -> None:
        try:
            async for text in self.socket:
                if isinstance(text, bytes):
                    self.parts.append(decode_part(parse_frame(text)))
                    self.changed.set()
                    continue
                message = parse_gateway_to_worker(text)
                self.received.append(message)
                if isinstance(message, FrameAck):
                    self.window.acked(message.seq, time.monotonic())
                self.changed.set()
        except ConnectionClosed:
            pass
        self.closed.set()
        self.changed.set()

    async def _tell(self) -> None:
        try:
            while True:
                await self.socket.send(self.stats().encode())
                await asyncio.sleep(0.1)
        except ConnectionClosed:
            pass

    def stats(self, **changes: Any) -> Stats:
        """Its statistics; capture goes on whether or not somebody watches."""
        self.captured += 1
        values: dict[str, Any] = {
            "source": SourceStats(state=SourceState.CONNECTED, fps=10.0, width=640, height=360),
            "frames": FrameCounts(
                captured=self.captured, published=self.published, encoded=self.published, dropped={"late": 3}
            ),
            "last_frame_ns": time.time_ns(),
            "detections": {"face": 2},
            "uptime_seconds": 1.0,
        }
        return Stats(**(values | self.has | changes))

    def of(self, kind: type[T]) -> list[T]:
        """Messages of one kind, as they came."""
        return [message for message in self.received if isinstance(message, kind)]

    async def accepted(self) -> Accepted:
        """Wait until the gateway has accepted it."""
        await eventually(lambda: self.of(Accepted) or self.closed.is_set(), "accepted or closed")
        assert self.of(Accepted), f"closed with {self.socket.close_code} {self.socket.close_reason}"
        return self.of(Accepted)[0]

    async def demand(self, check: Callable[[Demand], bool], what: str) -> Demand:
        """Wait until the newest demand is as wanted."""
        await eventually(lambda: bool(self.of(Demand)) and check(self.of(Demand)[-1]), f"demand {what}")
        return self.of(Demand)[-1]

    async def configured(self) -> Configure:
        """Wait for settings."""
        await eventually(lambda: self.of(Configure), "configure")
        return self.of(Configure)[-1]

    async def send(self, *, size: int = 2000, annotated: bool = False, camera_id: int = 0) -> int:
        """Publish one picture; returns its number."""
        self.seq += 1
        await self.socket.send(picture(self.seq, size=size, annotated=annotated, camera_id=camera_id))
        self.published += 1
        return self.seq

    async def stream(self, fps: float, *, size: int = 2000, annotated: bool = False) -> None:
        """Publish at a rate until cancelled, within the acknowledgement window, as a real worker."""
        start, count = time.monotonic(), 0
        while True:
            if self.window.open:
                self.window.sent(self.seq + 1, time.monotonic())
                await self.send(size=size, annotated=annotated)
            count += 1
            await asyncio.sleep(max(0.0, start + count / fps - time.monotonic()))

    async def event(self, event: EventRecord) -> None:
        """Tell an event."""
        await self.socket.send(WorkerEvent(event=event).encode())

    async def event_acks(self, count: int) -> list[EventAck]:
        """Wait for so many acknowledgements of events."""
        await eventually(lambda: len(self.of(EventAck)) >= count, "event_ack")
        return self.of(EventAck)

    async def closing(self, within: float = DEADLINE) -> tuple[int | None, list[GoAway]]:
        """Wait until the gateway closes; the code, and the goodbyes before it."""
        async with asyncio.timeout(within):
            await self.closed.wait()
        return self.socket.close_code, self.of(GoAway)


class FakeViewer:
    """A `camera.v1` viewer that keeps all it receives."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.control: list[Any] = []
        self.frames: list[tuple[float, Frame]] = []
        self.acknowledge = True
        self.closed = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def running(
        cls, url: str, *cameras: str, token: str | None = None, acknowledge: bool = True, **options: Any
    ) -> AsyncIterator[FakeViewer]:
        """Connect, and subscribe to `cameras` with `options`."""
        headers = {"Authorization": f"Bearer {token}"} if token else None
        async with connect(
            f"{ws(url)}/ws",
            subprotocols=["camera.v1"],  # type: ignore[list-item]
            additional_headers=headers,
            compression=None,
            max_size=None,
        ) as socket:
            viewer = cls(socket)
            viewer.acknowledge = acknowledge
            reader = asyncio.create_task(viewer._read())
            try:
                if cameras:
                    await viewer.subscribe(*cameras, **options)
                yield viewer
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                if isinstance(message, str):
                    self.control.append(parse_gateway_to_viewer(message))
                    continue
                frame = parse_frame(message)
                self.frames.append((time.monotonic(), frame))
                if self.acknowledge:
                    await self.ack(frame)
        except ConnectionClosed:
            pass
        self.closed.set()

    async def ack(self, frame: Frame) -> None:
        """Acknowledge up to this picture."""
        await self.socket.send(Ack(id=frame.camera_id, seq=frame.seq).encode())

    async def subscribe(self, *cameras: str, **options: Any) -> None:
        """Subscribe."""
        await self.socket.send(Subscribe(cameras=cameras, **options).encode())

    def of(self, kind: type[T]) -> list[T]:
        """Control messages of one kind, as they came."""
        return [message for message in self.control if isinstance(message, kind)]

    def seqs(self, camera_id: int | None = None) -> list[int]:
        """Numbers of the pictures received, of one camera if named."""
        return [f.seq for _, f in self.frames if camera_id is None or f.camera_id == camera_id]

    async def hello(self) -> Hello:
        """Wait for the first message."""
        await eventually(lambda: self.of(Hello), "hello")
        return self.of(Hello)[0]

    async def state(self, camera: str, state: str) -> CameraInfo:
        """Wait until the newest word on a camera is this state."""

        def newest() -> CameraInfo | None:
            for message in reversed(self.control):
                for info in getattr(message, "cameras", ()):
                    if info.camera == camera:
                        return info if info.state == state else None
            return None

        found = await eventually(newest, f"{camera} {state}")
        assert found is not None
        return found

    async def problem(self, code: str) -> ProtocolProblem:
        """Wait for an error message."""
        await eventually(lambda: [p for p in self.of(ProtocolProblem) if p.code == code], f"error {code}")
        return next(p for p in self.of(ProtocolProblem) if p.code == code)

    def events(self) -> list[EventRecord]:
        """Events told."""
        return [notice.event for notice in self.of(EventNotice)]

    def updates(self) -> list[StatusUpdate]:
        """Status messages."""
        return self.of(StatusUpdate)
