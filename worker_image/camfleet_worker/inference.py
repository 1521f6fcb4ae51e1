"""The inference thread: one inference per picture, shared by everybody.

A detector that is missing or fails costs its own boxes and nothing else: the worker goes on and says why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from camfleet_protocol.detections import MAX_DETECTIONS, Detection
from camfleet_protocol.settings import InferenceSettings, Settings
from camfleet_worker.counters import Counters, Rate
from camfleet_worker.detectors.base import (
    Detector,
    DetectorContext,
    Engine,
    InferenceUnavailableError,
    load_detector,
    load_engine,
)
from camfleet_worker.dispatch import Dispatcher
from camfleet_worker.live import Live
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Findings, Image, Picture
from camfleet_worker.presence import Presence
from camfleet_worker.tracking_port import TRACKED_KINDS, Ran, Tracking
from camfleet_worker.vision import prepare_opencv
from camfleet_worker.watchdog import Stage

logger = get_logger(__name__)

IDLE_SECONDS = 1.0
_LOAD_DEADLINE = 180.0
_FIRST_RUN_DEADLINE = 60.0
"""A GPU's library may choose its kernels then."""
RUN_DEADLINE = 30.0
_IDLE_DEADLINE = 20.0
_RETRY_SECONDS = 10.0
"""Weights may be downloaded meanwhile."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    detectors: tuple[tuple[str, Detector], ...] = ()
    engine: tuple[str, Engine] | None = None
    missing: bool = False

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
        self.rate = Rate(clock=clock)
        self.latest: tuple[Findings, float] | None = None
        """The newest findings and when they were made, monotonic seconds."""
        self.last_captured_ns = 0
        """Capture time of the newest picture that inference ran on, Unix ns."""
        self.reason = ""
        self.message = ""
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
        self._runs_loaded: _Loaded | None = None
        """What has run at least once."""
        self._loaded_for: tuple[object, ...] | None = None
        self._retry_at = 0.0
        self._told: set[str] = set()
        self._failing: dict[str, str] = {}
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="inference", daemon=True)

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
        if self._clock() - made > max(1.0, 3 / settings.fps, 3 * self.seconds):
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
        first = self._runs_loaded is not self._loaded
        self._stage.expect(_FIRST_RUN_DEADLINE if first else RUN_DEADLINE, "running inference")
        findings = self._infer(picture, self._live.settings)
        self._runs_loaded = self._loaded
        if picture.inference is not None:
            picture.inference.finish(findings)

    def _switch_off(self) -> None:
        self._dispatcher.inference_ready = False
        self.latest = None
        self.reason = self.message = ""
        self._presence.end_all()
        if self._tracking is not None:
            self._tracking.end_all()

    def _tick(self) -> None:
        self._presence.tick()
        if self._tracking is not None:
            self._tracking.tick()

    def _load(self, settings: InferenceSettings) -> None:
        wanted = (settings.detectors, settings.backend, settings.engine)
        if wanted != self._loaded_for or (self._loaded.missing and self._clock() >= self._retry_at):
            if wanted != self._loaded_for:
                self.latest = None
                self._told.clear()
                self._failing.clear()
            self._loaded_for = wanted
            self._stage.expect(_LOAD_DEADLINE, "loading detectors")
            prepare_opencv(self._context.threads)
            self._loaded = self._make(settings)
            self._retry_at = self._clock() + _RETRY_SECONDS
        self._dispatcher.inference_ready = not self._loaded.empty

    def _make(self, settings: InferenceSettings) -> _Loaded:
        context = replace(self._context, backend=settings.backend)
        detectors: list[tuple[str, Detector]] = []
        engine: tuple[str, Engine] | None = None
        self.reason = self.message = ""
        kept = dict(self._loaded.detectors) if self._loaded.missing else {}
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
        return _Loaded(tuple(detectors), engine, missing)

    def _unavailable(self, name: str, error: InferenceUnavailableError) -> None:
        self.reason, self.message = error.reason, str(error)
        if f"{name}:{error.reason}" not in self._told:
            self._told.add(f"{name}:{error.reason}")
            logger.warning("no inference by %s: %s (%s)", name, error, error.reason)

    def _infer(self, picture: Picture, settings: Settings) -> Findings:
        started = self._clock()
        annotated: Image | None = None
        if self._loaded.engine is not None:
            annotated, found = self._run_engine(*self._loaded.engine, picture, settings.inference)
        else:
            found = []
            for name, detector in self._loaded.detectors:
                found.extend(self._run_detector(name, detector, picture, settings.inference.confidence))
            if self._tracking is not None:
                ran = [
                    Ran(name, getattr(detector, "kind", ""), getattr(detector, "identity", ""))
                    for name, detector in self._loaded.detectors
                ]
                found = list(self._tracking.observe(picture, found, ran, settings))
        took = self._clock() - started
        self.seconds = took if self.seconds == 0 else 0.8 * self.seconds + 0.2 * took
        findings = Findings(picture.captured_ns, tuple(found[:MAX_DETECTIONS]), annotated)
        self.latest = (findings, self._clock())
        self.last_captured_ns = picture.captured_ns
        self.rate.tick()
        self._counters.add_inference(took)
        kinds = {detection.kind for detection in findings.detections}
        if self._tracking is not None and self._loaded.engine is None:
            kinds -= TRACKED_KINDS
        for detection in findings.detections:
            self._counters.add_labelled("detections", _label(detection.kind))
        self._presence.observe(kinds)
        return findings

    def _run_detector(
        self, name: str, detector: Detector, picture: Picture, confidence: float
    ) -> Sequence[Detection]:
        try:
            found = detector.detect(picture.bgr(detector.input_width), confidence=confidence)
        except Exception as error:  # a plugin may raise anything; the worker goes on
            self._failed(name, error)
            return ()
        self._recovered(name)
        return found

    def _run_engine(
        self, name: str, engine: Engine, picture: Picture, settings: InferenceSettings
    ) -> tuple[Image | None, list[Detection]]:
        try:
            frame = picture.bgr(getattr(engine, "input_width", 0)).copy()
            annotated, detections = engine.process_frame(frame)
            found = [Detection.model_validate(item) for item in detections]
        except Exception as error:  # a plugin may raise anything; the worker goes on
            self._failed(name, error)
            return None, []
        self._recovered(name)
        return annotated, [item for item in found if item.score >= settings.confidence]

    def _failed(self, name: str, error: Exception) -> None:
        """Count a failed inference, and log each kind of failure once."""
        kind = type(error).__name__
        self._failing[name] = kind
        self.reason = "InferenceFailed"
        self.message = f"{name} failed: {kind}"
        self._counters.add_labelled("dropped", "inference_error")
        if f"{name}:{kind}" not in self._told:
            self._told.add(f"{name}:{kind}")
            detail = error.errors(include_input=False) if isinstance(error, ValidationError) else error
            logger.error("%s failed (%s: %s); told once", name, kind, detail, exc_info=error)

    def _recovered(self, name: str) -> None:
        if self._failing.pop(name, None) is not None and not self._failing and not self._loaded.missing:
            self.reason = self.message = ""


def _label(kind: str) -> str:
    """A kind as a metric label."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in kind.lower())[:32]
