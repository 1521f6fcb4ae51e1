"""Viewers that speak `camera.v1`: many cameras on one socket, acknowledged pictures.

There is no task and no queue of pictures per viewer. `_pump` runs whenever something may have become
possible (a picture was offered, one was acknowledged, the kernel has room, a control message was made) and
writes while the link takes it: control messages first, then one picture per camera in turn.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections import deque
from typing import Any

from camfleet_gateway.auth import Principal
from camfleet_gateway.clock import Clock
from camfleet_gateway.hub import Hub, TooManyError
from camfleet_gateway.limits import TokenBucket
from camfleet_gateway.pictures import Subscription, ViewerKind
from camfleet_gateway.roster import Roster
from camfleet_gateway.transport import Link, text_message
from camfleet_protocol import __version__
from camfleet_protocol.messages import (
    MAX_SUBSCRIPTIONS,
    Ack,
    ControlError,
    GoAway,
    Hello,
    Ping,
    Pong,
    ProtocolProblem,
    Subscribe,
    Unsubscribe,
    parse_viewer_message,
)
from camfleet_protocol.redaction import redact
from camfleet_protocol.wire import VERSION

logger = logging.getLogger(__name__)

MAX_WAITING_MESSAGES = 512
MAX_BAD_MESSAGES = 20
UNACKNOWLEDGED_SECONDS = 60.0
"""A viewer that acknowledges nothing for so long is no viewer: its worker encodes for nobody."""
MESSAGES_PER_SECOND = 2000.0

_ACK = re.compile(r'\{"op":"ack","id":([0-9]{1,10}),"seq":([0-9]{1,20})\}')
"""An acknowledgement as nearly all clients write it: one per picture, so worth recognising without JSON."""


class Viewer:
    """One `camera.v1` connection."""

    kind = ViewerKind.V1

    def __init__(self, link: Link, principal: Principal, *, hub: Hub, clock: Clock) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.link = link
        self.principal = principal
        self.bad_messages = 0
        self._hub = hub
        self._clock = clock
        self._traffic = hub.traffic[ViewerKind.V1]
        self._subscriptions: dict[str, Subscription] = {}
        self._by_number: dict[int, Subscription] = {}
        self._watched: tuple[str, ...] = ()
        self._control: deque[bytes] = deque()
        self._ready: deque[Subscription] = deque()
        self._rate = TokenBucket(
            rate=MESSAGES_PER_SECOND, burst=2 * MESSAGES_PER_SECOND, now=clock.monotonic()
        )

    # ── From the viewer ────────────────────────────────────────────────────────────────────────────

    def on_text(self, text: str) -> None:
        """Take a control message."""
        now = self._clock.monotonic()
        if not self._rate.take(1, now):
            self.link.close(1008, "too many messages")
            return
        if (ack := _ACK.fullmatch(text)) is not None:
            subscription = self._by_number.get(int(ack[1]))
            if subscription is not None:
                subscription.acked(int(ack[2]), now)
            return
        try:
            message = parse_viewer_message(text)
        except ControlError as error:
            self._bad(error.fault.value, str(error))
            return
        match message:
            case Ack():
                subscription = self._by_number.get(message.id)
                if subscription is not None:
                    subscription.acked(message.seq, now)
            case Subscribe():
                self._subscribe(message)
            case Unsubscribe():
                for name in message.cameras:
                    channel = self._hub.find(name)
                    self._end(channel.id if channel is not None else name)
            case Ping():
                self.tell(text_message(Pong(t=message.t, time=self._clock.wall()).encode()))

    def on_binary(self, data: bytes) -> None:
        """Viewers have nothing binary to say."""
        self._bad("invalid", f"a viewer sends text only, this was binary, {len(data)} bytes")

    def on_writable(self) -> None:
        """The kernel has room again."""
        self._pump()

    def _subscribe(self, message: Subscribe) -> None:
        for name in message.cameras:
            channel = self._hub.find(name)
            if channel is None:
                self._problem("unknown_camera", f"there is no camera {name}")
                continue
            if channel.id not in self._subscriptions and len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
                self._problem("too_many", f"at most {MAX_SUBSCRIPTIONS} cameras on one connection")
                continue
            before = self._subscriptions.get(channel.id)
            subscription = Subscription(
                channel,
                self,
                self._traffic,
                annotated=message.annotated,
                window=message.window,
                max_fps=message.max_fps,
            )
            if before is not None:
                self._replace(before, subscription)
                continue
            self._subscriptions[channel.id] = self._by_number[channel.number] = subscription
            try:
                self._hub.subscribe(subscription)
            except TooManyError as error:
                self._forget(subscription)
                self._problem("too_many", str(error))
        self._watched = tuple(sorted(self._subscriptions))

    def _replace(self, before: Subscription, after: Subscription) -> None:
        if before.window is not None and after.window is not None:
            # What is under way stays under way: changing options must not open the window twice.
            before.window.size = after.window.size
            after.window = before.window
        self._subscriptions[after.channel.id] = self._by_number[after.channel.number] = after
        after.channel.replace(before, after)
        before.slot = None

    def _end(self, camera_id: str) -> None:
        subscription = self._subscriptions.get(camera_id)
        if subscription is not None:
            subscription.channel.unsubscribe(subscription)
            self._forget(subscription)
            self._watched = tuple(sorted(self._subscriptions))

    def _forget(self, subscription: Subscription) -> None:
        subscription.slot = None
        self._subscriptions.pop(subscription.channel.id, None)
        self._by_number.pop(subscription.channel.number, None)

    def _problem(self, code: str, text: str) -> None:
        self.tell(text_message(ProtocolProblem(code=code, message=redact(text)[:512]).encode()))

    def _bad(self, code: str, text: str) -> None:
        self.bad_messages += 1
        if self.bad_messages >= MAX_BAD_MESSAGES:
            self._hub.refused["bad_messages"] += 1
            self.link.close(1008, "too many unusable messages")
            return
        self._problem(code, text)

    # ── To the viewer ──────────────────────────────────────────────────────────────────────────────

    def greet(self) -> None:
        """Send the first message."""
        hello = Hello(
            version=VERSION,
            session=self.id,
            server=f"camfleet/{__version__}",
            role=self.principal.role.label,
            cameras=self._hub.infos(),
        )
        self.tell(text_message(hello.encode()))

    def tell(self, message: bytes) -> None:
        """Send a control message, before any picture that waits."""
        if len(self._control) >= MAX_WAITING_MESSAGES:
            self.link.abort()  # it has read nothing for very long
            return
        self._control.append(message)
        self._pump()

    def tell_figures(self, message: bytes) -> None:
        """Send figures, unless control messages wait already."""
        if not self._control:
            self.tell(message)

    def watched(self) -> tuple[str, ...]:
        """Ids of the cameras it is subscribed to."""
        return self._watched

    def notify(self, subscription: Subscription) -> None:
        """A picture waits and may be sent."""
        subscription.queued = True
        self._ready.append(subscription)
        self._pump()

    def dropped(self, subscription: Subscription) -> None:
        """The camera is gone; the status message that follows says so."""
        self._forget(subscription)
        self._watched = tuple(sorted(self._subscriptions))

    def _pump(self) -> None:
        link = self.link
        control = self._control
        ready = self._ready
        while not link.paused:
            if control:
                link.write(control.popleft())
                continue
            if not ready:
                return
            subscription = ready.popleft()
            subscription.queued = False
            now = self._clock.monotonic()
            if subscription.ready(now) and (picture := subscription.take(now)) is not None:
                message = picture.message
                self._traffic.bytes_sent += len(message)
                link.write(message)

    # ── Life ───────────────────────────────────────────────────────────────────────────────────────

    def check(self, now: float) -> None:
        """Close a viewer that acknowledges nothing any more."""
        for subscription in self._subscriptions.values():
            window = subscription.window
            oldest = window.oldest_sent_at if window is not None else None
            if oldest is not None and now - oldest > UNACKNOWLEDGED_SECONDS:
                self.leave(1008, "pictures are not acknowledged", retry_ms=1000)
                return

    def leave(self, code: int, reason: str, *, retry_ms: int | None) -> None:
        """Say goodbye and close."""
        self.link.write(text_message(GoAway(reason=reason, retry_ms=retry_ms).encode()))
        self.link.close(code, reason)

    def end(self) -> None:
        """Unsubscribe from everything."""
        for subscription in list(self._subscriptions.values()):
            subscription.channel.unsubscribe(subscription)
            self._forget(subscription)
        self._ready.clear()
        self._control.clear()
        self._watched = ()

    def debug(self, now: float) -> dict[str, Any]:
        """What one needs to see why a picture is late."""
        return {
            "session": self.id,
            "kind": self.kind.value,
            "principal": self.principal.name,
            "paused": self.link.paused,
            "unsent_bytes": self.link.unsent_bytes,
            "bytes_sent": self.link.bytes_sent,
            "control_waiting": len(self._control),
            "bad_messages": self.bad_messages,
            "subscriptions": [s.debug(now) for s in self._subscriptions.values()],
        }


async def serve_v1(viewer: Viewer, *, hub: Hub, roster: Roster) -> None:
    """Run one connection, accepted and trusted, to its end.

    Raises:
        TooManyError: There are as many viewers as there may be.
    """
    viewer.link.attach(viewer)
    roster.add(viewer)
    hub.join(viewer)
    try:
        viewer.greet()
        await viewer.link.wait_closed()
    finally:
        hub.leave(viewer)
        roster.remove(viewer)
        viewer.end()
