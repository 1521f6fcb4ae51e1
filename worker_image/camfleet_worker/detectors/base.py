"""The interface of detectors, and how they and third-party engines are found.

A detector is a class named by an entry point of the group `camfleet.detectors`. It is made with a
`DetectorContext` and asked with `detect(image, confidence=…)`. An engine (`camfleet.engines`) takes over the
whole inference with `process_frame(frame) -> (annotated | None, detections)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

from camfleet_protocol.detections import Detection
from camfleet_worker.detectors.providers import Provider
from camfleet_worker.picture import Image

DETECTOR_GROUP = "camfleet.detectors"
ENGINE_GROUP = "camfleet.engines"

BUILT_IN = {
    "motion": "camfleet_worker.detectors.motion:MotionDetector",
    "yunet": "camfleet_worker.detectors.yunet:YuNetDetector",
    "scrfd": "camfleet_worker.detectors.scrfd:ScrfdDetector",
    "yolox": "camfleet_worker.detectors.yolox:YoloxDetector",
    "mock": "camfleet_worker.detectors.mock:MockDetector",
}
"""The same as the entry points of this distribution; named here because scanning them costs start-up time."""


class InferenceUnavailableError(Exception):
    """A detector or engine that cannot run; `reason` is CamelCase, the message is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class DetectorContext:
    """What a detector may need to know.

    Attributes:
        model_dir: Folder with weights.
        backend: Which library runs the model, where there is a choice.
        threads: CPU threads it may use.
        provider: Where ONNX Runtime must run.
        gpu_memory_mib: GPU memory that each model may take, MiB; None for no cap.
        engine_cache_dir: Folder in which TensorRT's engines are kept, None to keep none.
    """

    model_dir: Path | None = None
    backend: Literal["auto", "onnxruntime", "opencv"] = "auto"
    threads: int = 1
    provider: Provider = "cpu"
    gpu_memory_mib: int | None = None
    engine_cache_dir: Path | None = None


class Detector(Protocol):
    """Finds things in pictures. One thread uses it.

    It may also have a `kind`, that of all that it finds, and an `identity`, NAME@first 12 hex digits of the
    SHA-256 of its weights: they go with what is told about its finds.
    """

    input_width: int
    """It is given pictures scaled down to this width in pixels; 0 for the source's size."""

    def detect(self, image: Image, *, confidence: float) -> Sequence[Detection]:
        """Find things.

        Args:
            image: height x width x 3, uint8, BGR; shared, not to be written into.
            confidence: Lowest score that counts, 0 to 1.

        Returns:
            What was found; boxes are fractions of the picture, inside it.
        """


class Engine(Protocol):
    """A third party's whole inference. Made without arguments; may have an `input_width` (default 0)."""

    def process_frame(self, frame: Image) -> tuple[Image | None, Iterable[Detection | dict[str, Any]]]:
        """Process one picture, which is its own copy; return it as drawn, or None, and what was found."""


def load_detector(name: str, context: DetectorContext) -> Detector:
    """Make a detector by its name.

    Raises:
        InferenceUnavailableError: There is no such detector, or it cannot be made.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        factory = getattr(import_module(module), attribute)
    else:
        factory = _entry_point(DETECTOR_GROUP, name, "detector")
    detector: Detector = _make(lambda: factory(context), f"detector {name}")
    return detector


def load_engine(name: str) -> Engine:
    """Make a third party's engine by the name of its entry point.

    Raises:
        InferenceUnavailableError: There is no such engine, or it cannot be made.
    """
    factory = _entry_point(ENGINE_GROUP, name, "engine")
    engine: Engine = _make(factory, f"engine {name}")
    if not callable(getattr(engine, "process_frame", None)):
        raise InferenceUnavailableError("EngineInvalid", f"engine {name} has no process_frame")
    return engine


def _entry_point(group: str, name: str, what: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group=group, name=name):
        return _make(point.load, f"{what} {name}")
    raise InferenceUnavailableError(f"{what.capitalize()}Missing", f"there is no {what} named {name}")


def _make(factory: Any, what: str) -> Any:
    try:
        return factory()
    except InferenceUnavailableError:
        raise
    except Exception as error:  # a plugin may raise anything; the worker goes on without it
        raise InferenceUnavailableError("LoadFailed", f"{what} cannot be loaded: {error}") from error


def unit_box(
    left: float, top: float, right: float, bottom: float
) -> tuple[float, float, float, float] | None:
    """Clip a box given by its edges, as fractions, to the picture; None if nothing of it is inside."""
    left, right = max(0.0, left), min(1.0, right)
    top, bottom = max(0.0, top), min(1.0, bottom)
    if not (left < right and top < bottom):
        return None
    return left, top, right - left, bottom - top
