"""WebSockets that carry plain JSON text: `/ws/stream` as existing clients know it, and `/ws/events`."""

from __future__ import annotations

import json
from typing import Any

from camfleet_gateway.auth import Principal
from camfleet_gateway.channel import Channel
from camfleet_gateway.clock import Clock
from camfleet_gateway.events import EventLog, Told
from camfleet_gateway.hub import Hub
from camfleet_gateway.limits import TokenBucket
from camfleet_gateway.pictures import Subscription, ViewerKind
from camfleet_gateway.roster import Roster
from camfleet_gateway.store.query import EventFilter
from camfleet_gateway.transport import Link, text_message

UNKNOWN_CAMERA = 4404
MESSAGES_PER_SECOND = 50.0
_MAX_UNREAD_BYTES = 1024 * 1024


class TextMember:
    """What both have in common: pings, and a bound on what a client may say."""

    kind: ViewerKind

    def __init__(self, link: Link, principal: Principal, *, clock: Clock) -> None:
        self.link = link
        self.principal = principal
        self._clock = clock
        self._rate = TokenBucket(
            rate=MESSAGES_PER_SECOND, burst=4 * MESSAGES_PER_SECOND, now=clock.monotonic()
        )

    def on_text(self, text: str) -> None:
        """Answer a ping in the form it has; anything else is ignored."""
        if not self._rate.take(1, self._clock.monotonic()):
            self.link.close(1008, "too many messages")
            return
        if text.strip().lower() == "ping":
            self.link.write(text_message("pong"))
            return
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(message, dict) and message.get("type") == "ping":
            self.link.write(text_message(json.dumps({"type": "pong", "timestamp": self._clock.wall()})))

    def on_binary(self, data: bytes) -> None:
        """Nothing binary is expected; it only counts."""
        if not self._rate.take(1, self._clock.monotonic()):
            self.link.close(1008, "too many messages")

    def on_writable(self) -> None:
        """Nothing waits here."""

    def leave(self, code: int, reason: str, *, retry_ms: int | None) -> None:
        """Close; the code says why."""
        self.link.close(code, reason)

    def check(self, now: float) -> None:
        """Cut off a client that asks and never reads."""
        if self.link.unsent_bytes > _MAX_UNREAD_BYTES:
            self.link.abort()

    def debug(self, now: float) -> dict[str, Any]:
        """What one needs to see why a picture is late."""
        return {
            "kind": self.kind.value,
            "principal": self.principal.name,
            "paused": self.link.paused,
            "unsent_bytes": self.link.unsent_bytes,
            "bytes_sent": self.link.bytes_sent,
        }


class LegacyViewer(TextMember):
    """One camera as JSON with base64 pictures. It cannot acknowledge: one picture is under way at a time."""

    kind = ViewerKind.LEGACY

    def __init__(
        self,
        link: Link,
        principal: Principal,
        channel: Channel,
        *,
        hub: Hub,
        clock: Clock,
        annotated: bool,
        max_fps: float | None = None,
    ) -> None:
        super().__init__(link, principal, clock=clock)
        self._traffic = hub.traffic[self.kind]
        self.subscription = Subscription(channel, self, self._traffic, annotated=annotated, max_fps=max_fps)

    def notify(self, subscription: Subscription) -> None:
        """Send, if the kernel has taken the picture before."""
        if self.link.paused:
            return
        picture = subscription.take(self._clock.monotonic())
        if picture is None:
            return
        channel = subscription.channel
        telemetry = channel.publisher.telemetry if channel.publisher else None
        message = picture.legacy_message(channel.id, telemetry.stream_fps if telemetry else 0.0)
        self._traffic.bytes_sent += len(message)
        self.link.write(message)

    def on_writable(self) -> None:
        """The kernel has taken the last picture: send the newest."""
        if self.subscription.ready(self._clock.monotonic()):
            self.notify(self.subscription)

    def dropped(self, subscription: Subscription) -> None:
        """The camera is gone."""
        self.link.close(UNKNOWN_CAMERA, "the camera was deleted")

    def debug(self, now: float) -> dict[str, Any]:
        """What one needs to see why a picture is late."""
        return super().debug(now) | {"subscriptions": [self.subscription.debug(now)]}


class EventListener(TextMember):
    """Events as they happen, all or those that pass a filter."""

    kind = ViewerKind.EVENTS

    def __init__(self, link: Link, principal: Principal, *, clock: Clock, wanted: EventFilter) -> None:
        super().__init__(link, principal, clock=clock)
        self._wanted = wanted

    def happened(self, told: Told) -> None:
        """Pass an event on; also one that did pass until people changed it: nobody keeps what was wrong."""
        before = told.before
        if self._wanted.passes(told.event) or (before is not None and self._wanted.passes(before)):
            self.link.write(told.message)


async def serve_legacy(viewer: LegacyViewer, *, hub: Hub, roster: Roster) -> None:
    """Run one legacy connection to its end.

    Raises:
        TooManyError: A limit on viewers is reached.
    """
    viewer.link.attach(viewer)
    roster.add(viewer)
    try:
        hub.subscribe(viewer.subscription)
        await viewer.link.wait_closed()
    finally:
        viewer.subscription.channel.unsubscribe(viewer.subscription)
        roster.remove(viewer)


async def serve_events(listener: EventListener, *, events: EventLog, roster: Roster) -> None:
    """Run one events connection to its end.

    Raises:
        TooManyError: A limit on viewers is reached.
    """
    listener.link.attach(listener)
    roster.add(listener)
    events.listen(listener.happened)
    try:
        await listener.link.wait_closed()
    finally:
        events.unlisten(listener.happened)
        roster.remove(listener)
