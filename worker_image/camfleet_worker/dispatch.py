"""From the capture thread to inference and stream: newest picture wins, nothing queues.

The two rates are paced here, in one place, so that a picture taken for inference is, whenever the rates
allow, one that is streamed as well: then its own boxes go with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from camfleet_protocol.vision import BlurFaces
from camfleet_worker.counters import Counters, Rate
from camfleet_worker.detectors.turns import needed_fps
from camfleet_worker.live import Live
from camfleet_worker.pacing import Pacer
from camfleet_worker.picture import PendingInference, Picture

_FRESH_SECONDS = 1.0


class Slot:
    """Holds the newest picture for one consumer."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._picture: Picture | None = None
        self._open = True
        self._woken = False

    def put(self, picture: Picture | None) -> Picture | None:
        """Place a picture; returns the one it replaces, which nobody took."""
        with self._condition:
            replaced, self._picture = self._picture, picture
            self._condition.notify()
            return replaced

    def take(self, seconds: float) -> Picture | None:
        """Take the newest picture, waiting for one; None if none comes, or the slot is shut."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._woken or (self._open and self._picture is not None), seconds
            )
            self._woken = False
            if not self._open:
                return None
            picture, self._picture = self._picture, None
            return picture

    def set_open(self, value: bool) -> None:
        """Shut the slot while its consumer could not pass a picture on, or open it again."""
        with self._condition:
            self._open = value
            self._condition.notify()

    def wake(self) -> None:
        """Let the consumer look around, though there may be no picture."""
        with self._condition:
            self._woken = True
            self._condition.notify()


class Dispatcher:
    """Gives captured pictures to those who take them; called by the capture thread, but for `demanded`."""

    def __init__(self, live: Live, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self.for_inference = Slot()
        self.for_stream = Slot()
        self.captured = Rate(clock=clock)
        self.inference_ready = False
        """Set by the inference thread while it has something to run."""
        self.latest: Picture | None = None
        self.last_captured_ns = 0
        """Capture time of the newest picture ever, Unix ns."""
        self._live = live
        self._counters = counters
        self._clock = clock
        self._stream_pacer = Pacer()
        self._inference_pacer = Pacer()
        self._watched = False

    def offer(self, picture: Picture) -> None:
        """A picture was captured."""
        now = self._clock()
        self.latest = picture
        self.last_captured_ns = picture.captured_ns
        self.captured.tick()
        self._counters.add("captured")
        live = self._live
        watched, stream_fps = live.watched, live.stream_fps
        inference_fps = needed_fps(live.settings.inference)
        if watched and live.settings.privacy.blur_faces is not BlurFaces.NEVER:
            # Faces must be looked for in every picture that is to leave.
            inference_fps = max(inference_fps, stream_fps)
        if watched and not self._watched:
            self._stream_pacer.reset()
        self._watched = watched
        stream = self._stream_pacer.due(now, stream_fps) and watched
        infer = self._inference_pacer.due(now, inference_fps) and self.inference_ready
        if infer and watched and not stream and stream_fps >= inference_fps:
            infer = False  # the next streamed picture is less than one of its periods away
        if infer:
            self._inference_pacer.taken(now, inference_fps)
            picture.inference = PendingInference()
            self.skip_inference(self.for_inference.put(picture), "inference_busy")
        if stream:
            self._stream_pacer.taken(now, stream_fps)
            if self.for_stream.put(picture) is not None:
                self._counters.add_labelled("dropped", "stream_busy")

    def demanded(self) -> None:
        """Somebody began to watch: show the picture that is there rather than wait for the next one."""
        picture = self.latest
        if picture is not None and time.time_ns() - picture.captured_ns < _FRESH_SECONDS * 1e9:
            self.for_stream.put(picture)

    def skip_inference(self, picture: Picture | None, reason: str) -> None:
        """Inference will not run on this picture after all."""
        if picture is not None:
            if picture.inference is not None:
                picture.inference.finish(None)
            self._counters.add_labelled("dropped", reason)

    def clear(self) -> None:
        """The source is gone: its last pictures are old news."""
        self.captured.reset()
        self.latest = None
        self.for_stream.put(None)
        old = self.for_inference.put(None)
        if old is not None and old.inference is not None:
            old.inference.finish(None)
