"""Pictures over plain HTTP: an endless multipart answer, and single ones.

Neither can be acknowledged. A new picture is chosen only when the kernel has taken all of the one before,
and the kernel itself holds little (`TCP_NOTSENT_LOWAT`), so a slow reader skips pictures rather than falling
ever further behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from camfleet_gateway.auth import Principal
from camfleet_gateway.channel import Channel
from camfleet_gateway.clock import Clock
from camfleet_gateway.hub import Hub, TooManyError
from camfleet_gateway.pictures import Picture, Subscription, ViewerKind
from camfleet_gateway.roster import Roster

BOUNDARY = b"camfleet-picture"
SNAPSHOT_WAIT_SECONDS = 5.0
END_SECONDS = 1.0
"""How long a reader may take for the rest of an answer that ends."""


class MjpegViewer:
    """One reader of the multipart answer."""

    kind = ViewerKind.MJPEG

    def __init__(
        self,
        channel: Channel,
        principal: Principal,
        *,
        hub: Hub,
        clock: Clock,
        annotated: bool,
        max_fps: float | None,
        abort: Callable[[], None],
    ) -> None:
        self._abort = abort
        self.principal = principal
        self.subscription = Subscription(
            channel, self, hub.traffic[self.kind], annotated=annotated, max_fps=max_fps
        )
        self._clock = clock
        self._traffic = hub.traffic[self.kind]
        self._wake = asyncio.Event()
        self._ended = False
        self._cut_off: asyncio.TimerHandle | None = None

    def notify(self, subscription: Subscription) -> None:
        """A picture waits."""
        self._wake.set()

    def dropped(self, subscription: Subscription) -> None:
        """The camera is gone."""
        self.end()

    def leave(self, code: int, reason: str, *, retry_ms: int | None) -> None:
        """End the answer; HTTP has no place for a reason by now."""
        self.end()

    def check(self, now: float) -> None:
        """Nothing to check: TCP ends connections that take nothing."""

    def end(self) -> None:
        """End the answer; a reader that takes nothing is cut off soon."""
        if not self._ended:
            self._ended = True
            self._wake.set()
            self._cut_off = asyncio.get_running_loop().call_later(END_SECONDS, self._abort)

    def ended(self) -> None:
        """The answer has ended."""
        self._ended = True
        if self._cut_off is not None:
            self._cut_off.cancel()

    def debug(self, now: float) -> dict[str, Any]:
        """What one needs to see why a picture is late."""
        return {
            "kind": self.kind.value,
            "principal": self.principal.name,
            "subscriptions": [self.subscription.debug(now)],
        }

    async def write(self, send: Send) -> None:
        """Send pictures until the end."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._ended:
                return
            await _drained(send)
            picture = self.subscription.take(self._clock.monotonic())
            if picture is not None:
                part = multipart_part(picture)
                self._traffic.bytes_sent += len(part)
                await send({"type": "http.response.body", "body": part, "more_body": True})


async def _drained(send: Send) -> None:
    # An empty piece writes nothing, and returns once everything written before is with the kernel.
    await send({"type": "http.response.body", "body": b"", "more_body": True})


def multipart_part(picture: Picture) -> bytes:
    """One part, with the boundary that ends it: browsers show a part when they see its end."""
    payload = picture.frame.payload
    return b"".join(
        (
            b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n" % len(payload),
            b"X-Sequence: %d\r\nX-Timestamp: %.6f\r\n\r\n" % (picture.seq, picture.frame.captured_ns / 1e9),
            payload,
            b"\r\n--" + BOUNDARY + b"\r\n",
        )
    )


class MjpegResponse(Response):
    """The endless answer; it ends with the connection, the camera or the gateway."""

    media_type = f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"

    def __init__(self, viewer: MjpegViewer, *, hub: Hub, roster: Roster) -> None:
        """Count the viewer and begin its subscription.

        Raises:
            TooManyError: A limit on viewers is reached.
        """
        super().__init__(headers={"X-Accel-Buffering": "no", "Connection": "close"})
        del self.headers["content-length"]
        self._viewer = viewer
        self._roster = roster
        roster.add(viewer)
        try:
            hub.subscribe(viewer.subscription)
        except TooManyError:
            roster.remove(viewer)
            raise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send pictures while the client listens."""
        listener = asyncio.create_task(self._until_disconnect(receive), name="mjpeg-disconnect")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            first = b"--" + BOUNDARY + b"\r\n"
            await send({"type": "http.response.body", "body": first, "more_body": True})
            await self._viewer.write(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            listener.cancel()
            self._viewer.ended()
            self._viewer.subscription.channel.unsubscribe(self._viewer.subscription)
            self._roster.remove(self._viewer)

    async def _until_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._viewer.end()


class _OnePicture:
    """Waits for the next picture of a camera."""

    kind = ViewerKind.SNAPSHOT

    def __init__(self) -> None:
        self.come = asyncio.Event()

    def notify(self, subscription: Subscription) -> None:
        """It is there."""
        self.come.set()

    def dropped(self, subscription: Subscription) -> None:
        """The camera is gone."""
        self.come.set()


async def next_picture(channel: Channel, *, hub: Hub, clock: Clock, annotated: bool) -> Picture | None:
    """The picture of this second, else the next one, for which the worker is asked; None if none comes.

    Raises:
        TooManyError: The camera has as many viewers as it may.
    """
    sink = _OnePicture()
    traffic = hub.traffic[sink.kind]
    subscription = Subscription(channel, sink, traffic, annotated=annotated)
    hub.subscribe(subscription)
    try:
        async with asyncio.timeout(SNAPSHOT_WAIT_SECONDS):
            await sink.come.wait()
    except TimeoutError:
        return None
    finally:
        channel.unsubscribe(subscription)
    picture = subscription.take(clock.monotonic())
    if picture is not None:
        traffic.bytes_sent += len(picture.frame.payload)
    return picture
