"""The worker's one connection: pictures, stats and events out; demand, settings, people and commands in."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from camfleet_protocol.gallery import GalleryUpdate, decode_part
from camfleet_protocol.messages import (
    Accepted,
    Command,
    Configure,
    ControlError,
    ControlFault,
    Demand,
    EventAck,
    FrameAck,
    GoAway,
    Stats,
    WorkerHello,
    parse_gateway_to_worker,
)
from camfleet_protocol.redaction import redact
from camfleet_protocol.settings import Settings
from camfleet_protocol.wire import MAX_FRAME_BYTES, SUBPROTOCOL, WireError, parse_frame
from camfleet_worker.counters import Counters
from camfleet_worker.event_sender import EventSender
from camfleet_worker.ladder import gateway_delay
from camfleet_worker.link import tune, why
from camfleet_worker.live import NO_DEMAND, Live
from camfleet_worker.log import get_logger
from camfleet_worker.outbox import Outbox
from camfleet_worker.picture_sender import PictureSender
from camfleet_worker.stream import Coded

logger = get_logger(__name__)

OPEN_TIMEOUT = 5.0
ACCEPT_TIMEOUT = 20.0
"""The gateway holds a worker up to 10 s until it knows of it."""
STATS_SECONDS = 1.0
STABLE_SECONDS = 5.0
_MAX_MESSAGE_BYTES = MAX_FRAME_BYTES + 64 * 1024
_MAX_BAD_MESSAGES = 100
_POLICY, _TRY_LATER = 1008, 1013


class FencedError(Exception):
    """The gateway has closed the connection for good: another worker has this camera, or this one may not."""


class _Outcome(Enum):
    RETRY = auto()
    LATER = auto()


@dataclass(slots=True)
class Hooks:
    """What the publisher calls on the event loop."""

    hello: Callable[[], WorkerHello]
    stats: Callable[[], Stats]
    configure: Callable[[Settings, str], None]
    command: Callable[[str], None]
    demanded: Callable[[], None]
    set_ready: Callable[[bool], None]
    """Whether a picture could be sent now; shuts and opens the stream thread's slot."""
    gallery: Callable[[GalleryUpdate], None] = lambda update: None
    """People to compare faces with; called in a thread, one part after the other."""


class Publisher:
    """Keeps the connection up. All methods but `offer` run on the event loop."""

    def __init__(
        self,
        url: str,
        *,
        read_token: Callable[[], str | None],
        live: Live,
        counters: Counters,
        outbox: Outbox,
        hooks: Hooks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._read_token = read_token
        self._live = live
        self._pictures = PictureSender(live=live, counters=counters, set_ready=hooks.set_ready, clock=clock)
        self._events = EventSender(outbox, clock=clock)
        self._hooks = hooks
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bad_messages = 0
        self._goaway: GoAway | None = None

    def offer(self, coded: Coded) -> None:
        """Hand over a picture; called by the stream thread."""
        self._on_loop(self._pictures.place, coded)

    def wake_events(self) -> None:
        """There is an event in the outbox; called by any thread."""
        self._on_loop(self._events.wake)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    async def run(self) -> None:
        """Connect, and connect again, until cancelled.

        Raises:
            FencedError: The gateway wants no more of this worker.
        """
        self._loop = asyncio.get_running_loop()
        failures = 0
        down_since = self._clock()
        told = False
        while True:
            began = self._clock()
            self._goaway = None
            try:
                outcome = await self._one_connection()
                told = False
            except (OSError, TimeoutError, WebSocketException) as error:
                outcome = _Outcome.RETRY
                if not told:
                    logger.warning("the gateway cannot be reached: %s", why(error))
                    told = not isinstance(error, ConnectionClosed)
            finally:
                self._disconnected()
            now = self._clock()
            if now - began > STABLE_SECONDS:
                failures, down_since = 0, now
            delay = gateway_delay(failures, now - down_since, random.uniform)
            failures += 1
            goaway = self._goaway
            if goaway is not None:
                if goaway.retry_ms is None:
                    raise FencedError(goaway.reason)
                delay = min(goaway.retry_ms / 1000, 60.0) * random.uniform(1.0, 1.8)
            elif outcome is _Outcome.LATER:
                delay = random.uniform(0.9, 1.1)
            await asyncio.sleep(delay)

    async def _one_connection(self) -> _Outcome:
        headers = {}
        token = await asyncio.to_thread(self._read_token)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with connect(
            self._url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            additional_headers=headers,
            user_agent_header="camfleet-worker",
            compression=None,
            proxy=None,
            open_timeout=OPEN_TIMEOUT,
            close_timeout=1.0,
            ping_interval=None,
            max_size=_MAX_MESSAGE_BYTES,
        ) as socket_:
            tune(socket_)
            try:
                await self._session(socket_)
            except ConnectionClosed as closed:
                return self._closed(closed)
        return _Outcome.RETRY

    def _closed(self, closed: ConnectionClosed) -> _Outcome:
        code = closed.rcvd.code if closed.rcvd is not None else None
        reason = redact(closed.rcvd.reason) if closed.rcvd is not None else ""
        if code == _POLICY:
            raise FencedError(reason)
        if self._goaway is None:
            logger.warning("the connection to the gateway is lost: %s", why(closed))
        return _Outcome.LATER if code == _TRY_LATER else _Outcome.RETRY

    def _disconnected(self) -> None:
        self._live.demand = NO_DEMAND
        self._pictures.disconnect()

    async def _session(self, connection: ClientConnection) -> None:
        await connection.send(self._hooks.hello().encode())
        async with asyncio.timeout(ACCEPT_TIMEOUT):
            while not self._pictures.connected:
                self._receive(await connection.recv())
        tasks: list[Coroutine[Any, Any, None]] = [
            self._receive_all(connection),
            self._pictures.run(connection.send),
            self._pictures.measure(connection.ping),
            self._events.run(connection.send),
            self._send_stats(connection),
        ]
        await _first_failure(tasks)

    async def _send_stats(self, connection: ClientConnection) -> None:
        while True:
            await connection.send(self._hooks.stats().encode())
            await asyncio.sleep(STATS_SECONDS)

    # ── In ──────────────────────────────────────────────────────────────────────────────────────────

    async def _receive_all(self, connection: ClientConnection) -> None:
        async for message in connection:
            acked = self._receive(message)
            if acked is not None:
                await acked
            if self._bad_messages > _MAX_BAD_MESSAGES:
                await connection.close(_POLICY, "too many bad messages")
            if self._goaway is not None:
                await connection.close(1000)
        # Iteration ends without an exception when the connection was closed in order.
        raise connection.protocol.close_exc

    def _receive(self, text: str | bytes) -> Awaitable[None] | None:
        """Act on one message of the gateway; anything that is none is counted and passed over."""
        if isinstance(text, bytes):
            return self._gallery_part(text)
        try:
            message = parse_gateway_to_worker(text)
        except ControlError as error:
            if error.fault is not ControlFault.UNKNOWN_OP:
                self._bad(error)
            return None
        match message:
            case FrameAck():
                self._pictures.acknowledged(message.seq)
            case Demand():
                self._demand(message)
            case EventAck():
                return self._events.acknowledged(message)
            case Accepted():
                self._accepted(message)
            case Configure():
                self._configure(message)
            case Command():
                self._hooks.command(message.name)
            case GoAway():
                self._goaway = message
                logger.info("the gateway sends us away: %s", message.reason)
        return None

    def _bad(self, error: ControlError | WireError) -> None:
        self._bad_messages += 1
        if self._bad_messages == 1:
            logger.warning("the gateway sent something that is no message: %s", error)

    async def _gallery_part(self, message: bytes) -> None:
        try:
            # Inflating and taking over a large part lasts longer than a picture may wait.
            await asyncio.to_thread(lambda: self._hooks.gallery(decode_part(parse_frame(message))))
        except WireError as error:
            self._bad(error)

    def _accepted(self, message: Accepted) -> None:
        self._bad_messages = 0
        logger.info("connected to the gateway")
        self._pictures.connect(message.id)

    def _demand(self, message: Demand) -> None:
        watched = self._live.watched
        self._live.demand = message
        if self._live.watched and not watched:
            self._hooks.demanded()

    def _configure(self, message: Configure) -> None:
        try:
            settings = Settings.model_validate(message.settings)
        except ValidationError as error:
            logger.error("the gateway sent settings that are refused: %s", error)
            return
        self._hooks.configure(settings, message.hash)


async def _first_failure(coroutines: list[Coroutine[Any, Any, None]]) -> None:
    """Run all; when one ends, end the others and raise what it raised."""
    tasks = [asyncio.create_task(coroutine, name=f"gateway-{n}") for n, coroutine in enumerate(coroutines)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    # Several may have seen the connection close; the close itself tells most.
    errors = [error for task in done if (error := task.exception()) is not None]
    errors.sort(key=lambda error: not isinstance(error, ConnectionClosed))
    if errors:
        raise errors[0]
