"""Pictures on their way to the gateway: the newest in a slot, those under way in an acknowledgement window.

While the window is full, or nobody is connected, the stream thread's slot is shut, so that no picture is
encoded in vain and the newest one is encoded the moment the window opens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from camfleet_protocol.window import MIN_WINDOW, AckWindow, window_size
from camfleet_protocol.wire import Codec, Opcode, WireError, encode_frame
from camfleet_worker.counters import Counters
from camfleet_worker.live import Live
from camfleet_worker.stream import Coded

_PING_SECONDS = 5.0
_ANSWER_SECONDS = 15.0
_TRIPS_KEPT = 8


class PictureSender:
    """Sends the newest picture whenever there is room for one. Lives on the event loop."""

    def __init__(
        self,
        *,
        live: Live,
        counters: Counters,
        set_ready: Callable[[bool], None],
        clock: Callable[[], float],
    ) -> None:
        self._live = live
        self._counters = counters
        self._set_ready = set_ready
        self._clock = clock
        self._seq = time.time_ns() // 1_000_000
        self._slot: Coded | None = None
        self._filled = asyncio.Event()
        self._window = AckWindow(MIN_WINDOW)
        self._camera_id: int | None = None
        self._round_trip = 0.0

    @property
    def connected(self) -> bool:
        """Whether there is a connection that takes pictures."""
        return self._camera_id is not None

    def connect(self, camera_id: int) -> None:
        """There is a connection; `camera_id` goes into the header of its pictures."""
        self._camera_id = camera_id
        self._window = AckWindow(MIN_WINDOW)
        self._tell_ready()

    def disconnect(self) -> None:
        """The connection is gone, and the picture that waited for it is old when there is another."""
        self._camera_id = None
        self._slot = None
        self._filled.clear()
        self._tell_ready()

    def place(self, coded: Coded) -> None:
        """Take a picture to send; it replaces one that still waits."""
        if not self.connected:
            self._counters.add_labelled("dropped", "not_connected")
            return
        if self._slot is not None:
            self._counters.add_labelled("dropped", "window_full")
        self._slot = coded
        self._filled.set()
        self._tell_ready()

    def acknowledged(self, seq: int) -> None:
        """The gateway has taken in all pictures up to this one."""
        self._window.acked(seq, self._clock())
        self._tell_ready()

    async def run(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Send over one connection until it fails."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            coded, self._slot = self._slot, None
            if coded is None:
                continue
            self._seq += 1
            self._window.size = window_size(self._live.stream_fps, self._round_trip)
            self._window.sent(self._seq, self._clock())
            try:
                for message in self._messages(coded):
                    await send(message)
            except WireError as error:
                self._counters.add_labelled("dropped", error.fault.value)
                self._window.acked(self._seq, self._clock())
            else:
                self._counters.add("published")
            self._tell_ready()

    async def measure(self, ping: Callable[[], Awaitable[Awaitable[float]]]) -> None:
        """Round trips of the idle link, and proof that the gateway lives.

        Raises:
            TimeoutError: It does not: a ping or a picture is long without an answer.
        """
        trips: list[float] = []
        while True:
            idle = len(self._window) == 0
            async with asyncio.timeout(_ANSWER_SECONDS):
                trip = await (await ping())
            if idle or not trips:
                trips = [*trips, trip][-_TRIPS_KEPT:]
                self._round_trip = min(trips)
            oldest = self._window.oldest_sent_at
            if oldest is not None and self._clock() - oldest > _ANSWER_SECONDS:
                raise TimeoutError("the gateway acknowledges no pictures")
            await asyncio.sleep(_PING_SECONDS)

    def _messages(self, coded: Coded) -> Iterator[bytes]:
        """One message for each form of the picture, made when its turn comes."""
        for form in coded.forms:
            yield encode_frame(
                opcode=Opcode.FRAME,
                codec=Codec.JPEG,
                camera_id=self._camera_id or 0,
                seq=self._seq,
                captured_ns=coded.captured_ns,
                sent_ns=time.time_ns(),
                flags=form.flags,
                meta=form.meta,
                payload=form.payload,
            )

    def _tell_ready(self) -> None:
        self._set_ready(self.connected and self._slot is None and self._window.open)
