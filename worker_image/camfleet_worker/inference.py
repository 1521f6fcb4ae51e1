"""The inference thread: one inference per picture, shared by everybody.

Several detectors take turns on the same pictures, each at its own rate (`DetectorGroup`). One that is missing
or fails costs its own boxes and nothing else: the worker goes on and says why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from camfleet_protocol.detections import Detection
from camfleet_protocol.settings import InferenceSettings, Settings
from camfleet_protocol.vision import BlurFaces
from camfleet_worker.counters import Counters
from camfleet_worker.detectors.base import (
    Detector,
    DetectorContext,
    Engine,
    InferenceUnavailableError,
    load_detector,
    load_engine,
)
from camfleet_worker.detectors.filters import Filter
from camfleet_worker.detectors.group import DetectorGroup
from camfleet_worker.detectors.providers import GpuFaultError, is_gpu_fault
from camfleet_worker.detectors.turns import needed_fps
from camfleet_worker.dispatch import Dispatcher
from camfleet_worker.live import Live
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Findings, Image, Picture
from camfleet_worker.presence import Presence
from camfleet_worker.tracking_port import TRACKED_KINDS, Tracking
from camfleet_worker.vision import prepare_opencv
from camfleet_worker.watchdog import Stage

logger = get_logger(__name__)

IDLE_SECONDS = 1.0
_LOAD_DEADLINE = 180.0
_FIRST_RUN_DEADLINE = 60.0
"""A GPU's library may choose its kernels then."""
RUN_DEADLINE = 30.0
_BUILD_DEADLINE = 900.0
"""TensorRT builds its engines, and waits for another worker that builds the same one."""
_REBUILD_DEADLINE = 300.0
"""It builds again for pictures or faces of another size or number than before."""
_IDLE_DEADLINE = 20.0
_RETRY_SECONDS = 10.0
"""Weights may be downloaded meanwhile."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    detectors: tuple[tuple[str, Detector], ...] = ()
    engine: tuple[str, Engine] | None = None
    missing: bool = False
    backend: str = ""
    """That the detectors were made with."""

    @property
    def empty(self) -> bool:
        return not self.detectors and self.engine is None


class Inference:
    """Owns the inference thread."""

    def __init__(
        self,
        context: DetectorContext,
        *,
        live: Live,
        dispatcher: Dispatcher,
        counters: Counters,
        stage: Stage,
        presence: Presence,
        tracking: Tracking | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.latest: tuple[Findings, float] | None = None
        """The newest findings and when they were made, monotonic seconds."""
        self.last_captured_ns = 0
        """Capture time of the newest picture that inference ran on, Unix ns."""
        self.seconds = 0.0
        """Moving average of what one inference takes."""
        self._context = context
        self._live = live
        self._dispatcher = dispatcher
        self._counters = counters
        self._stage = stage
        self._presence = presence
        self._tracking = tracking
        self._clock = clock
        self._loaded = _Loaded()
        self._group = DetectorGroup((), clock)
        self._runs_loaded: _Loaded | None = None
        """What has run at least once."""
        self._loaded_for: tuple[object, ...] | None = None
        self._retry_at = 0.0
        self._reason = self._message = ""
        self._told: set[str] = set()
        self._failing: dict[str, str] = {}
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="inference", daemon=True)

    @property
    def reason(self) -> str:
        """CamelCase reason why not all that is asked for is done; empty if it is."""
        return self._reason or (self._tracking.reason if self._tracking is not None else "")

    @property
    def message(self) -> str:
        """The same for people."""
        return self._message or (self._tracking.message if self._tracking is not None else "")

    def start(self) -> None:
        """Start the thread; it loads the detectors first."""
        self.thread.start()

    def stop(self) -> None:
        """Ask the thread to end after the inference it is in."""
        self._stopping.set()
        self._dispatcher.for_inference.wake()

    def current(self) -> Findings | None:
        """The newest findings, unless they have expired or inference is switched off."""
        latest, settings = self.latest, self._live.settings.inference
        if latest is None or not settings.enabled:
            return None
        findings, made = latest
        if self._clock() - made > max(1.0, 3 / needed_fps(settings), 3 * self.seconds):
            return None
        return findings

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._step()
        self._dispatcher.inference_ready = False
        if self._tracking is not None:
            self._tracking.end_all()
        self._stage.rest()

    def _step(self) -> None:
        settings = self._live.settings.inference
        if not settings.enabled:
            self._switch_off()
        else:
            self._load(settings)
        self._stage.expect(_IDLE_DEADLINE, "waiting for a picture")
        picture = self._dispatcher.for_inference.take(IDLE_SECONDS)
        settings = self._live.settings.inference
        if picture is None or not settings.enabled or self._loaded.empty:
            if picture is not None and picture.inference is not None:
                picture.inference.finish(None)
            self._tick()
            return
        everything = self._live.settings
        if self._tracking is not None and self._loaded.engine is None:
            self._stage.expect(self._patient(_LOAD_DEADLINE, _BUILD_DEADLINE), "loading the face embedder")
            self._tracking.prepare(everything)
        first = self._runs_loaded is not self._loaded
        if first:
            deadline = self._patient(_FIRST_RUN_DEADLINE, _BUILD_DEADLINE)
        else:
            deadline = self._patient(RUN_DEADLINE, _REBUILD_DEADLINE)
        self._stage.expect(deadline, "running inference")
        findings = self._infer(picture, everything)
        self._runs_loaded = self._loaded
        if picture.inference is not None:
            picture.inference.finish(findings)

    def _switch_off(self) -> None:
        self._dispatcher.inference_ready = False
        self.latest = None
        self._reason = self._message = ""
        self._presence.end_all()
        if self._tracking is not None:
            self._tracking.end_all()

    def _tick(self) -> None:
        self._presence.tick()
        if self._tracking is not None:
            self._tracking.tick(self._live.settings)

    def _load(self, settings: InferenceSettings) -> None:
        wanted = (settings.detectors, settings.backend, settings.engine)
        if wanted != self._loaded_for or (self._loaded.missing and self._clock() >= self._retry_at):
            if wanted != self._loaded_for:
                self.latest = None
                self._told.clear()
                self._failing.clear()
            self._loaded_for = wanted
            self._stage.expect(self._patient(_LOAD_DEADLINE, _BUILD_DEADLINE), "loading detectors")
            prepare_opencv(self._context.threads)
            before, self._loaded = self._loaded, self._make(settings)
            if self._loaded.detectors != before.detectors:
                self._group = DetectorGroup(self._loaded.detectors, self._clock)
            self._retry_at = self._clock() + _RETRY_SECONDS
            if self._tracking is not None and (settings.engine or not settings.detectors):
                self._tracking.end_all()
        self._dispatcher.inference_ready = not self._loaded.empty

    def _patient(self, seconds: float, building: float) -> float:
        return max(seconds, building) if self._context.provider == "tensorrt" else seconds

    def _make(self, settings: InferenceSettings) -> _Loaded:
        context = replace(self._context, backend=settings.backend)
        detectors: list[tuple[str, Detector]] = []
        engine: tuple[str, Engine] | None = None
        self._reason = self._message = ""
        keep = self._loaded.missing and self._loaded.backend == settings.backend
        kept = dict(self._loaded.detectors) if keep else {}
        names = () if settings.engine else settings.detectors
        try:
            if settings.engine:
                engine = (settings.engine, load_engine(settings.engine))
        except InferenceUnavailableError as error:
            self._unavailable(settings.engine or "", error)
        for name in names:
            try:
                detectors.append((name, kept.get(name) or load_detector(name, context)))
            except InferenceUnavailableError as error:
                self._unavailable(name, error)
        missing = len(detectors) < len(names) or bool(settings.engine and engine is None)
        return _Loaded(tuple(detectors), engine, missing, settings.backend)

    def _unavailable(self, name: str, error: InferenceUnavailableError) -> None:
        self._reason, self._message = error.reason, str(error)
        if f"{name}:{error.reason}" not in self._told:
            self._told.add(f"{name}:{error.reason}")
            logger.warning("no inference by %s: %s (%s)", name, error, error.reason)

    def _infer(self, picture: Picture, settings: Settings) -> Findings | None:
        """The picture's findings; None if no detector was due."""
        started = self._clock()
        annotated: Image | None = None
        fresh: Sequence[Detection]
        if self._loaded.engine is not None:
            annotated, fresh = self._run_engine(*self._loaded.engine, picture, settings.inference)
            shown = tuple(fresh)
        else:
            blur = settings.privacy.blur_faces is not BlurFaces.NEVER
            turn = self._group.run(
                picture, settings.inference, self, blur=blur, every_face=blur and self._live.watched
            )
            if not turn.ran and not turn.failed:
                return None
            fresh = turn.fresh
            if self._tracking is not None and turn.ran:
                fresh = self._tracking.observe(picture, fresh, turn.ran, settings)
            elif self._tracking is not None:
                self._tracking.tick(settings)
            shown = self._group.show(turn, fresh, settings.inference)
        took = self._clock() - started
        self.seconds = took if self.seconds == 0 else 0.8 * self.seconds + 0.2 * took
        findings = Findings(picture.captured_ns, shown, annotated)
        self.latest = (findings, self._clock())
        self.last_captured_ns = picture.captured_ns
        self._counters.add_inference(took)
        for detection in fresh:
            self._counters.add_labelled("detections", _label(detection.kind))
        kinds = {detection.kind for detection in fresh}
        if self._tracking is not None and self._loaded.engine is None:
            kinds -= TRACKED_KINDS
        self._presence.observe(kinds)
        return findings

    def _run_engine(
        self, name: str, engine: Engine, picture: Picture, settings: InferenceSettings
    ) -> tuple[Image | None, list[Detection]]:
        try:
            frame = picture.bgr(getattr(engine, "input_width", 0)).copy()
            annotated, detections = engine.process_frame(frame)
            found = [Detection.model_validate(item) for item in detections]
            _check(annotated)
        except Exception as error:  # a plugin may raise anything; the worker goes on
            self.failed(name, error)
            return None, []
        self.recovered(name)
        return annotated, Filter.of(settings, name).apply(found)

    def failed(self, name: str, error: Exception) -> None:
        """Count a failed inference, and log each kind of failure once.

        Raises:
            GpuFaultError: The GPU is lost to this process, which must end: see `is_gpu_fault`.
        """
        if is_gpu_fault(error):
            raise GpuFaultError(f"{name} has lost the GPU") from error
        kind = type(error).__name__
        self._failing[name] = kind
        self._reason = "InferenceFailed"
        self._message = f"{name} failed: {kind}"
        self._counters.add_labelled("dropped", "inference_error")
        if f"{name}:{kind}" not in self._told:
            self._told.add(f"{name}:{kind}")
            detail = error.errors(include_input=False) if isinstance(error, ValidationError) else error
            logger.error("%s failed (%s: %s); told once", name, kind, detail, exc_info=error)

    def recovered(self, name: str) -> None:
        """Take back what was said of a failure that is over."""
        if self._failing.pop(name, None) is not None and not self._failing and not self._loaded.missing:
            self._reason = self._message = ""


def _check(annotated: Image | None) -> None:
    """Refuse what an engine gives as its picture and is none, before somebody encodes it."""
    import numpy as np

    if annotated is None:
        return
    if not isinstance(annotated, np.ndarray) or annotated.dtype != np.uint8 or not annotated.size:
        raise TypeError("the engine's picture is not an array of uint8")
    if annotated.ndim != 3 or annotated.shape[2] != 3:
        raise TypeError("the engine's picture is not height x width x 3")


def _label(kind: str) -> str:
    """A kind as a metric label."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in kind.lower())[:32]
