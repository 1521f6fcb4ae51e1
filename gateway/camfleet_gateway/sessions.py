"""Workers: who they are, which of them may publish, and what they send.

A worker that is not current yet waits (`WorkerGate.serve`) until the directory's status names it; one that is
no longer current is sent away for good. Of two sockets of the same worker the newest wins.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

from camfleet_gateway.channel import Channel
from camfleet_gateway.clock import Clock
from camfleet_gateway.event_intake import Budget, EventIntake, EventSink
from camfleet_gateway.fencing import Judgement, Verdict, hold
from camfleet_gateway.gallery_push import GalleryPush, GalleryReceiver
from camfleet_gateway.hub import Hub
from camfleet_gateway.limits import TokenBucket
from camfleet_gateway.pictures import Picture
from camfleet_gateway.telemetry import Telemetry
from camfleet_gateway.transport import Link, text_message
from camfleet_gateway.worker_auth import BadTokenError, Credential, UnverifiedError, WorkerAuthenticator
from camfleet_protocol.camera import Camera
from camfleet_protocol.logs import ContextAdapter
from camfleet_protocol.messages import (
    Accepted,
    Command,
    Configure,
    ControlError,
    ControlFault,
    Demand,
    GatewayToWorker,
    GoAway,
    Stats,
    WorkerEvent,
    WorkerHello,
    parse_worker_message,
)
from camfleet_protocol.redaction import redact
from camfleet_protocol.wire import VERSION, Codec, Opcode, WireError, parse_frame, with_camera_id

logger = logging.getLogger(__name__)

HELLO_SECONDS = 10.0
MAX_HELD = 1000
MAX_BAD_MESSAGES = 20
MAX_MESSAGES_PER_SECOND = 500.0
MAX_BYTES_PER_SECOND = 64.0 * 1024 * 1024
_MAX_UNREAD_BYTES = 1024 * 1024

POLICY, TRY_LATER, NORMAL_GONE = 1008, 1013, 1001
_INTERNAL = 1011


class WorkerSession:
    """One worker's connection, from its hello to its end."""

    def __init__(
        self, link: Link, *, clock: Clock, hub: Hub, events: EventSink, budget: Budget, gallery: GalleryPush
    ) -> None:
        self.link = link
        self.id = uuid.uuid4().hex[:12]
        self.credential: Credential
        self.greeting: asyncio.Future[WorkerHello] = link.loop.create_future()
        self.hello: WorkerHello
        self.telemetry = Telemetry(clock)
        self.channel: Channel | None = None
        self.frames = 0
        self.frames_refused = 0
        self.bad_messages = 0
        self._clock = clock
        self._hub = hub
        self._events = events
        self._budget = budget
        self._gallery = gallery
        self._receiver = GalleryReceiver(link, clock)
        self._intake: EventIntake | None = None
        self._storing: asyncio.Task[None] | None = None
        now = clock.monotonic()
        self._messages = TokenBucket(rate=MAX_MESSAGES_PER_SECOND, burst=2 * MAX_MESSAGES_PER_SECOND, now=now)
        self._bytes = TokenBucket(rate=MAX_BYTES_PER_SECOND, burst=2 * MAX_BYTES_PER_SECOND, now=now)
        self.log = ContextAdapter(logger, {})

    # ── From the worker ────────────────────────────────────────────────────────────────────────────

    def on_text(self, text: str) -> None:
        """Take a control message."""
        try:
            message = parse_worker_message(text)
        except ControlError as error:
            if error.fault is not ControlFault.UNKNOWN_OP:
                self._bad(str(error))
            return
        match message:
            case WorkerHello():
                if not self.greeting.done():
                    self.hello = message
                    self.log = ContextAdapter(
                        logger,
                        {"camera": message.camera, "attempt": message.attempt, "pod": redact(message.pod)},
                    )
                    self.greeting.set_result(message)
            case Stats():
                self.telemetry.update(message)
                if self.channel is not None:
                    self._hub.refresh(self.channel)
                    self._gallery.heard(self._receiver, message)
            case WorkerEvent():
                if self._intake is not None:
                    self._intake.take(message)

    def on_binary(self, data: bytes) -> None:
        """Take a picture: acknowledge it and offer it to whoever watches."""
        channel = self.channel
        if channel is None:
            return
        now = self._clock.monotonic()
        try:
            frame = parse_frame(data)
        except WireError as error:
            self._bad(str(error))
            return
        # What is over the limit is dropped, yet acknowledged: the worker's window must not stay shut.
        accepted = self._messages.take(1, now) and self._bytes.take(len(data), now)
        self._send(b'{"op":"ack","seq":%d}' % frame.seq)
        if not accepted or frame.opcode is not Opcode.FRAME or frame.codec is not Codec.JPEG:
            self.frames_refused += 1
            return
        if frame.camera_id != channel.number:
            frame = parse_frame(with_camera_id(data, channel.number))
        self.telemetry.picture(now)
        if channel.publish(Picture(frame, now)):
            self.frames += 1
        else:
            self.frames_refused += 1

    def on_writable(self) -> None:
        """Control messages are small and written at once; only parts of a gallery wait."""
        self._receiver.writable()

    def begin(self, channel: Channel) -> None:
        """It is accepted as the worker of this camera."""
        self.channel = channel
        self.telemetry.heard_at = self._clock.monotonic()
        self._intake = EventIntake(
            sink=self._events,
            budget=self._budget,
            clock=self._clock,
            acknowledge=self.send,
            bad=self._bad,
            log=self.log,
        )
        self._storing = asyncio.create_task(
            self._intake.run(channel.id, lambda: channel.facts), name=f"events-{channel.id}"
        )
        self._storing.add_done_callback(self._storing_ended)

    def end(self) -> None:
        """It has left; what is not stored yet comes again with its next connection."""
        self._gallery.gone(self._receiver)
        if self._storing is not None and self._intake is not None:
            self._storing.cancel()
            self._intake.close()

    def _storing_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("events of this session cannot be taken in", exc_info=error)
            self.leave(_INTERNAL, "events cannot be taken in", retry=True)

    def _bad(self, problem: str) -> None:
        self.bad_messages += 1
        if self.bad_messages in (1, MAX_BAD_MESSAGES):
            self.log.warning("unusable message (%d so far): %s", self.bad_messages, problem)
        if self.bad_messages >= MAX_BAD_MESSAGES:
            self.leave(POLICY, "too many unusable messages", retry=False)

    # ── To the worker ──────────────────────────────────────────────────────────────────────────────

    def send(self, message: GatewayToWorker) -> None:
        """Send a control message."""
        self._send(message.encode().encode())

    def demand(self, demand: Demand) -> None:
        """Say what somebody watches."""
        self.send(demand)

    def configure(self, configure: Configure) -> None:
        """Say which settings are in force."""
        self.send(configure)

    def command(self, name: str) -> None:
        """Have something done once."""
        self.send(Command(name=name))

    def leave(self, code: int, reason: str, *, retry: bool) -> None:
        """Say goodbye and close."""
        self.send(GoAway(reason=reason, retry_ms=1000 if retry else None))
        self.link.close(code, reason)

    def _send(self, text: bytes) -> None:
        if self.link.unsent_bytes > _MAX_UNREAD_BYTES + self._receiver.writing:
            self.link.abort()  # it sends and never reads
            return
        self.link.write(text_message(text))


class WorkerGate:
    """Lets workers in, and shows those out that are no longer current."""

    def __init__(
        self,
        *,
        hub: Hub,
        authenticator: WorkerAuthenticator,
        events: EventSink,
        gallery: GalleryPush,
        clock: Clock,
        stats_timeout: float,
        hold_seconds: float,
    ) -> None:
        self.sessions: dict[WorkerSession, None] = {}
        self._current: dict[str, WorkerSession] = {}
        """The newest session of each camera; one that it has replaced is closed already."""
        self._hub = hub
        self._authenticator = authenticator
        self._events = events
        self._budget = Budget()
        self._gallery = gallery
        self._clock = clock
        self._stats_timeout = stats_timeout
        self._hold_seconds = hold_seconds
        self._held: dict[str, dict[WorkerSession, asyncio.Event]] = {}
        """By the camera they claim, for each camera that changes wakes only its own."""
        hub.on_tick(self._close_silent)

    @property
    def held(self) -> int:
        """How many workers wait to become current."""
        return sum(map(len, self._held.values()))

    async def serve(self, link: Link, token: str | None) -> None:
        """Run one connection, accepted and not yet trusted, to its end."""
        session = WorkerSession(
            link,
            clock=self._clock,
            hub=self._hub,
            events=self._events,
            budget=self._budget,
            gallery=self._gallery,
        )
        link.attach(session)
        closed = asyncio.ensure_future(link.wait_closed())
        try:
            if await self._admit(session, token, closed):
                await closed
                self._gone(session)
        finally:
            closed.cancel()
            session.greeting.cancel()
            session.end()

    def camera_changed(self, camera_id: str, camera: Camera | None) -> None:
        """The directory has changed: whoever waits looks again, whoever is no longer current goes."""
        for event in self._held.get(camera_id, {}).values():
            event.set()
        session = self._current.get(camera_id)
        if session is not None and camera is not None:
            judgement = session.credential.judge(session.hello, camera)
            if judgement.verdict is Verdict.REFUSE:
                session.log.info("sent away: %s", judgement.reason)
                session.leave(POLICY, judgement.reason, retry=False)

    def leave_all(self, reason: str) -> None:
        """The gateway stops: tell all workers to come back."""
        for session in list(self.sessions):
            session.leave(NORMAL_GONE, reason, retry=True)

    async def _admit(self, session: WorkerSession, token: str | None, closed: asyncio.Future[int]) -> bool:
        if not await self._authenticate(session, token, closed):
            return False
        waits: set[asyncio.Future[Any]] = {session.greeting, closed}
        deadline = self._clock.monotonic() + HELLO_SECONDS
        done: set[asyncio.Future[Any]] = set()
        # The loop's own timer counts our pauses, the clock does not.
        while not done and (left := deadline - self._clock.monotonic()) > 0:
            done, _ = await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if closed.done():
            return False
        if not session.greeting.done():
            return self._refuse(session, POLICY, "no_hello", "no hello came")
        judgement = await self._hold(session, closed)
        if closed.done():
            return False
        if judgement.verdict is Verdict.REFUSE:
            return self._refuse(session, POLICY, judgement.kind, judgement.reason)
        if judgement.verdict is Verdict.HOLD:
            return self._refuse(session, TRY_LATER, judgement.kind, judgement.reason)
        self._accept(session)
        return True

    async def _authenticate(
        self, session: WorkerSession, token: str | None, closed: asyncio.Future[int]
    ) -> bool:
        """Find out who it is, however long that takes; false if it is nobody, or has gone meanwhile."""
        if token is None:
            return self._refuse(session, POLICY, "bad_token", "a token is needed")
        asking = asyncio.ensure_future(self._authenticator.authenticate(token))
        waits: set[asyncio.Future[Any]] = {asking, closed}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if closed.done():
                return False
            credential = asking.result()
        except BadTokenError as error:
            return self._refuse(session, POLICY, error.kind, str(error))
        except UnverifiedError as error:
            return self._refuse(session, TRY_LATER, "unverified", str(error))
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        if credential is None:
            return self._refuse(session, POLICY, "bad_token", "the token is not valid")
        session.credential = credential
        return True

    async def _hold(self, session: WorkerSession, closed: asyncio.Future[int]) -> Judgement:
        deadline = self._clock.monotonic() + self._hold_seconds
        looked = asyncio.Event()
        if self.held >= MAX_HELD:
            return hold("too many workers are waiting")
        waiting = self._held.setdefault(session.hello.camera, {})
        waiting[session] = looked
        try:
            while True:
                looked.clear()
                channel = self._hub.channels.get(session.hello.camera)
                camera = channel.camera if channel else None
                judgement = session.credential.judge(session.hello, camera)
                left = deadline - self._clock.monotonic()
                if judgement.verdict is not Verdict.HOLD or left <= 0:
                    return judgement
                waiter = asyncio.ensure_future(looked.wait())
                waits: set[asyncio.Future[Any]] = {waiter, closed}
                try:
                    await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiter.cancel()
                if closed.done():
                    return judgement
        finally:
            del waiting[session]
            if not waiting:
                self._held.pop(session.hello.camera, None)

    def _refuse(self, session: WorkerSession, code: int, kind: str, reason: str) -> bool:
        self._hub.refused[kind] += 1
        session.log.warning("worker refused: %s", reason)
        session.leave(code, reason, retry=code == TRY_LATER)
        return False

    def _accept(self, session: WorkerSession) -> None:
        channel = self._hub.channel_for_worker(session.hello.camera)
        session.begin(channel)
        self.sessions[session] = None
        self._current[channel.id] = session
        session.send(Accepted(version=VERSION, session=session.id, id=channel.number))
        before = channel.connect(session)
        if before is not None:
            same = not session.credential.by_hand or bool(
                session.hello.pod and session.hello.pod == before.hello.pod
            )
            # The same process has dialled again: its old socket is dead. Another one must not fight back.
            before.leave(NORMAL_GONE if same else POLICY, "replaced by a newer connection", retry=same)
        session.log.info("worker connected, session %s", session.id)
        self._hub.refresh(channel)

    def _gone(self, session: WorkerSession) -> None:
        self.sessions.pop(session, None)
        channel = session.channel
        if channel is not None and self._current.get(channel.id) is session:
            del self._current[channel.id]
        session.log.info(
            "worker disconnected, session %s, code %s, %d pictures taken, %d refused",
            session.id,
            session.link.close_code,
            session.frames,
            session.frames_refused,
        )
        if channel is not None and channel.disconnect(session):
            self._hub.worker_left(channel)

    def _close_silent(self, now: float) -> None:
        for session in list(self.sessions):
            if now - session.telemetry.heard_at > self._stats_timeout:
                session.log.warning("no statistics for %g s: counted as lost", self._stats_timeout)
                session.leave(_INTERNAL, "no statistics came", retry=True)
