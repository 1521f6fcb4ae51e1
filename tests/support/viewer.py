"""A viewer as a program would write one: one WebSocket, many cameras, acknowledgements."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect

from camfleet_protocol.detections import FrameMeta, parse_meta
from camfleet_protocol.messages import (
    Ack,
    CameraInfo,
    EventNotice,
    Hello,
    ProtocolProblem,
    StatusUpdate,
    Subscribe,
    parse_gateway_to_viewer,
)
from camfleet_protocol.wire import MAX_FRAME_BYTES, SUBPROTOCOL, Frame, parse_frame


@dataclass
class Seen:
    """One received picture, and when (monotonic and Unix seconds)."""

    camera: str
    frame: Frame
    at: float
    wall: float

    @property
    def meta(self) -> FrameMeta:
        return parse_meta(self.frame.meta)

    @property
    def age(self) -> float:
        """Seconds from capture to reception, by the wall clock of one machine."""
        return self.wall - self.frame.captured_ns / 1e9


@dataclass
class Viewer:
    """A connected viewer."""

    socket: ClientConnection
    cameras: dict[int, CameraInfo] = field(default_factory=dict)
    problems: list[ProtocolProblem] = field(default_factory=list)
    events: list[EventNotice] = field(default_factory=list)

    async def subscribe(
        self, *cameras: str, window: int = 2, max_fps: float | None = None, annotated: bool = False
    ) -> None:
        await self.socket.send(
            Subscribe(cameras=cameras, window=window, max_fps=max_fps, annotated=annotated).encode()
        )

    async def frames(self, *, acknowledge: bool = True) -> AsyncIterator[Seen]:
        """Pictures as they come; everything else is taken note of."""
        async for message in self.socket:
            if isinstance(message, str):
                self._note(message)
                continue
            frame = parse_frame(message)
            if acknowledge:
                await self.socket.send(Ack(id=frame.camera_id, seq=frame.seq).encode())
            info = self.cameras.get(frame.camera_id)
            yield Seen(info.camera if info else "?", frame, time.monotonic(), time.time())

    def _note(self, text: str) -> None:
        match parse_gateway_to_viewer(text):
            case Hello(cameras=cameras) | StatusUpdate(cameras=cameras):
                self.cameras.update({info.id: info for info in cameras})
            case ProtocolProblem() as problem:
                self.problems.append(problem)
            case EventNotice() as notice:
                self.events.append(notice)

    async def collect(self, seconds: float) -> list[Seen]:
        """Pictures of the next seconds."""
        seen: list[Seen] = []
        try:
            async with asyncio.timeout(seconds):
                async for item in self.frames():
                    seen.append(item)  # noqa: PERF401 (what came before the deadline counts)
        except TimeoutError:
            pass
        return seen

    async def first(self, within: float = 60.0) -> Seen:
        """The next picture."""
        async with asyncio.timeout(within):
            async for item in self.frames():
                return item
        raise AssertionError("the socket closed before a picture came")


@asynccontextmanager
async def viewing(
    url: str,
    *cameras: str,
    annotated: bool = False,
    max_fps: float | None = None,
    token: str | None = None,
) -> AsyncIterator[Viewer]:
    """A viewer on `http://HOST:PORT`, subscribed to these cameras (`namespace.name`)."""
    async with connect(
        url.replace("http", "ws", 1) + "/ws",
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
        compression=None,
        max_size=MAX_FRAME_BYTES,
        ping_interval=None,
        additional_headers={"Authorization": f"Bearer {token}"} if token else None,
    ) as socket:
        viewer = Viewer(socket)
        if cameras:
            await viewer.subscribe(*cameras, annotated=annotated, max_fps=max_fps)
        yield viewer
