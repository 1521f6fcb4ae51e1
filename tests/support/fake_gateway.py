"""A gateway for the worker's tests: a real WebSocket server that speaks the worker's side of `camera.v1`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from camfleet_protocol.detections import FrameMeta, parse_meta
from camfleet_protocol.messages import (
    Accepted,
    Command,
    Configure,
    Demand,
    EventAck,
    EventRecord,
    FrameAck,
    GoAway,
    Stats,
    WorkerEvent,
    WorkerHello,
    parse_worker_message,
)
from camfleet_protocol.settings import Settings
from camfleet_protocol.wire import SUBPROTOCOL, Frame, parse_frame

DEADLINE = 60.0


@dataclass
class Received:
    """One picture, when it came and what it said."""

    frame: Frame
    meta: FrameMeta
    at_ns: int


@dataclass
class FakeGateway:
    """Collects what workers send; answers as a gateway would, unless told otherwise."""

    token: str | None = None
    ack: bool = True
    ack_events: bool = True
    demand: Demand | None = None
    hellos: list[WorkerHello] = field(default_factory=list)
    frames: list[Received] = field(default_factory=list)
    stats: list[Stats] = field(default_factory=list)
    events: dict[str, EventRecord] = field(default_factory=dict)
    event_messages: list[WorkerEvent] = field(default_factory=list)
    """All that came, with what is attached to it."""
    event_sends: int = 0
    connections: int = 0
    on_hello: Callable[[ServerConnection], Any] | None = None
    """Runs instead of the acceptance."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _connection: ServerConnection | None = None
    _server: Server | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; on the same port as before after a `stop`."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            max_size=8 * 1024 * 1024,
            process_request=self._check,
            close_timeout=0.5,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop the connections, as a killed gateway would."""
        if self._server is not None:
            self._server.close()
            if self._connection is not None:
                self._connection.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path != "/ws/worker":
            return connection.respond(HTTPStatus.NOT_FOUND, "no\n")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "no\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        self._connection = connection
        self.connections += 1
        try:
            hello = parse_worker_message(str(await connection.recv()))
            assert isinstance(hello, WorkerHello)
            self.hellos.append(hello)
            if self.on_hello is not None:
                await self.on_hello(connection)
                return
            await connection.send(Accepted(version=1, session="s", id=7).encode())
            if self.demand is not None:
                await connection.send(self.demand.encode())
            await self._notify()
            async for message in connection:
                await self._received(connection, message)
        except ConnectionClosed:
            pass
        finally:
            if self._connection is connection:
                self._connection = None
            await self._notify()

    async def _received(self, connection: ServerConnection, message: str | bytes) -> None:
        if isinstance(message, bytes):
            frame = parse_frame(message)
            self.frames.append(Received(frame, parse_meta(frame.meta), time.time_ns()))
            if self.ack:
                await connection.send(FrameAck(seq=frame.seq).encode())
        else:
            control = parse_worker_message(message)
            if isinstance(control, Stats):
                self.stats.append(control)
            elif isinstance(control, WorkerEvent):
                self.event_sends += 1
                self.event_messages.append(control)
                self.events[control.event.id] = control.event
                if self.ack_events:
                    await connection.send(
                        EventAck(id=control.event.id, revision=control.event.revision).encode()
                    )
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], Any], what: str = "", seconds: float = DEADLINE) -> Any:
        """Wait until `condition()` is true; fails with `what` after `seconds`."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: bool(condition()))
        except TimeoutError:
            last = self.stats[-1].source if self.stats else None
            raise AssertionError(f"not within {seconds} s: {what}; last source stats: {last}") from None
        return condition()

    async def send(
        self, message: Demand | Configure | Command | GoAway | FrameAck | EventAck | str | bytes
    ) -> None:
        """Send something to the connected worker."""
        await self.until(lambda: self._connection is not None, "a worker is connected")
        assert self._connection is not None
        await self._connection.send(message if isinstance(message, str | bytes) else message.encode())

    async def close(self, code: int, reason: str = "") -> None:
        """Close the connection with a code."""
        assert self._connection is not None
        await self._connection.close(code, reason)

    async def watch(
        self, *, plain: bool = True, annotated: bool = False, max_fps: float | None = None
    ) -> None:
        """Say that somebody watches, now and after each reconnect."""
        self.demand = Demand(plain=plain, annotated=annotated, max_fps=max_fps)
        await self.send(self.demand)

    async def configure(self, settings: Settings) -> None:
        """Send settings."""
        await self.send(Configure(hash=settings.hash, settings=settings.values()))

    def event_types(self) -> list[str]:
        """Types of the events received, oldest first."""
        return [event.type for event in sorted(self.events.values(), key=lambda event: event.time)]


@asynccontextmanager
async def fake_gateway(**options: Any) -> AsyncIterator[FakeGateway]:
    """A running `FakeGateway`."""
    gateway = FakeGateway(**options)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()
