"""The stream thread: encodes a picture once per form that somebody watches, and only then.

A picture that inference also takes is held back for its own boxes, but no longer than `MAX_HOLD_SECONDS` and
not at all when inference is slower than that; other pictures carry the last boxes. Where faces are blurred, a
picture waits until its own are known, and one whose faces were not looked for is left out: see `privacy`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from camfleet_protocol.detections import FrameMeta, encode_meta
from camfleet_protocol.messages import Demand
from camfleet_protocol.vision import BlurFaces
from camfleet_protocol.wire import Flags
from camfleet_worker.boxes import Box
from camfleet_worker.counters import Counters
from camfleet_worker.dispatch import Dispatcher
from camfleet_worker.inference import Inference
from camfleet_worker.live import Live
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Findings, Image, Picture, fit_width
from camfleet_worker.privacy import FaceCover, Wait, pixelated
from camfleet_worker.vision import prepare_opencv
from camfleet_worker.watchdog import Stage

logger = get_logger(__name__)

MAX_HOLD_SECONDS = 0.06
_HOLD_FACTOR = 1.5
_HOLD_MARGIN = 0.005
_BLUR_HOLD_SECONDS = 2.0
_IDLE_SECONDS = 1.0
DEADLINE = 30.0


@dataclass(frozen=True, slots=True)
class Form:
    """One coded form of a picture."""

    flags: Flags
    meta: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class Coded:
    """A picture ready to be sent."""

    captured_ns: int
    forms: tuple[Form, ...]


def hold_seconds(inference_seconds: float) -> float:
    """How long to hold a picture for its own boxes, when an inference takes this long on average."""
    if inference_seconds > MAX_HOLD_SECONDS:
        return 0.0
    return min(MAX_HOLD_SECONDS, inference_seconds * _HOLD_FACTOR + _HOLD_MARGIN)


class Stream:
    """Owns the stream thread."""

    def __init__(
        self,
        *,
        live: Live,
        dispatcher: Dispatcher,
        inference: Inference,
        counters: Counters,
        stage: Stage,
        deliver: Callable[[Coded], None],
        cover: FaceCover | None = None,
        threads: int = 1,
    ) -> None:
        self._live = live
        self._dispatcher = dispatcher
        self._inference = inference
        self._counters = counters
        self._stage = stage
        self._deliver = deliver
        self._cover = cover if cover is not None else FaceCover()
        self._threads = threads
        self._discontinuity = True
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="stream", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()
        self._dispatcher.for_stream.wake()

    def _run(self) -> None:
        self._stage.expect(DEADLINE, "loading OpenCV")
        prepare_opencv(self._threads)
        while not self._stopping.is_set():
            self._stage.expect(DEADLINE, "waiting for a picture")
            picture = self._dispatcher.for_stream.take(_IDLE_SECONDS)
            demand = self._live.demand
            if picture is None or not (demand.plain or demand.annotated):
                continue
            self._stage.expect(DEADLINE, "encoding")
            self._discontinuity |= picture.discontinuity
            coded = self.encode(picture, demand)
            if coded is not None:
                self._discontinuity = False
                self._deliver(coded)
        self._stage.rest()

    def encode(self, picture: Picture, demand: Demand) -> Coded | None:
        """Make the forms that are demanded; None if the picture must not be shown."""
        settings = self._live.settings
        stream, mode = settings.stream, settings.privacy.blur_faces
        findings, carried = self._findings(picture, blur=mode is not BlurFaces.NEVER)
        hidden = self._cover.areas(picture.captured_ns, mode)
        if isinstance(hidden, Wait):
            self._counters.add_labelled("dropped", "faces_unknown")
            return None
        width, height = fit_width(picture.width, picture.height, stream.width)
        meta = FrameMeta(
            width=width,
            height=height,
            detections=findings.detections if findings is not None else (),
            inferred_ns=findings.captured_ns if findings is not None else None,
        )
        encoded_meta = encode_meta(meta)
        flags = Flags.KEYFRAME
        if self._discontinuity:
            flags |= Flags.DISCONTINUITY
        if carried:
            flags |= Flags.DETECTIONS_CARRIED
        image = picture.bgr(stream.width)
        if hidden:
            image = pixelated(image, hidden)
        drawn: Image | None = None
        if demand.annotated:
            drawn = self._annotated(image, findings, carried, hidden)
        forms: list[Form] = []
        if demand.plain:
            payload = self._jpeg(image, stream.quality)
            forms.append(Form(flags, encoded_meta, payload))
        if drawn is not None:
            payload = forms[0].payload if drawn is image and forms else self._jpeg(drawn, stream.quality)
            forms.append(Form(flags | Flags.ANNOTATED, encoded_meta, payload))
        return Coded(picture.captured_ns, tuple(forms)) if forms else None

    def _findings(self, picture: Picture, *, blur: bool) -> tuple[Findings | None, bool]:
        pending = picture.inference
        if pending is not None:
            own = pending.wait(_BLUR_HOLD_SECONDS if blur else hold_seconds(self._inference.seconds))
            if own is not None and self._live.settings.inference.enabled:
                return own, False
        carried = self._inference.current()
        return carried, carried is not None and carried.captured_ns != picture.captured_ns

    def _annotated(
        self, image: Image, findings: Findings | None, carried: bool, hidden: Sequence[Box]
    ) -> Image:
        if findings is None:
            return image
        if findings.annotated is not None and not carried:
            drawn = _fitted(findings.annotated, image)
            return pixelated(drawn, hidden) if hidden else drawn
        if not findings.detections:
            return image
        from camfleet_worker.draw import draw_detections

        return draw_detections(image, findings.detections)

    def _jpeg(self, image: Image, quality: int) -> bytes:
        import cv2

        done, buffer = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not done:
            raise RuntimeError("OpenCV cannot encode JPEG")
        self._counters.add("encoded")
        return bytes(buffer)


def _fitted(drawn: Image, like: Image) -> Image:
    """An engine's picture at the size of the stream's."""
    import cv2

    if drawn.shape == like.shape:
        return drawn
    return cv2.resize(drawn, (like.shape[1], like.shape[0]), interpolation=cv2.INTER_AREA)
