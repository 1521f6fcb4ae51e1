"""Several detectors on the same pictures, each at its own rate.

What a detector found stays in view until its next turn, but is told only once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from camfleet_protocol.detections import MAX_DETECTIONS, Detection
from camfleet_protocol.settings import InferenceSettings
from camfleet_worker.detectors.base import Detector
from camfleet_worker.detectors.filters import Filter
from camfleet_worker.detectors.turns import Turns
from camfleet_worker.picture import Picture
from camfleet_worker.tracking_port import Ran

DOUBTFUL_CONFIDENCE = 0.35
"""A face with a lower score is none, even where it is better to blur one too many."""


class Report(Protocol):
    """Hears how the detectors fare."""

    def failed(self, name: str, error: Exception) -> None:
        """One has raised. What this raises goes on to the caller of `DetectorGroup.run`."""

    def recovered(self, name: str) -> None:
        """One has run; it may have failed before."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one picture.

    Attributes:
        ran: The detectors that ran and did not fail.
        found: What each of them found that counts, in the same order.
        failed: Names of those that failed.
    """

    ran: tuple[Ran, ...] = ()
    found: tuple[tuple[Detection, ...], ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def fresh(self) -> list[Detection]:
        """What was found, in the order of `ran`."""
        return [detection for found in self.found for detection in found]


class DetectorGroup:
    """Runs detectors. One thread uses it."""

    def __init__(self, detectors: Sequence[tuple[str, Detector]], clock: Callable[[], float]) -> None:
        self._detectors = dict(detectors)
        self._clock = clock
        self._turns = Turns(tuple(self._detectors))
        self._shown: dict[str, tuple[tuple[Detection, ...], float]] = {}
        self._settings: InferenceSettings | None = None
        self._filters: dict[str, Filter] = {}

    def run(
        self,
        picture: Picture,
        settings: InferenceSettings,
        report: Report,
        *,
        blur: bool = False,
        every_face: bool = False,
    ) -> Turn:
        """Run those whose turn it is; the picture is decoded once, and converted once per width.

        Args:
            picture: The picture.
            settings: Those in force.
            report: Hears how they fare.
            blur: Faces are blurred, so what may be one is told, too.
            every_face: Whoever looks for faces does so in every picture, whatever their own rate.
        """
        self._apply(settings)
        always = frozenset(name for name in self._detectors if every_face and self._kind(name) == "face")
        ran: list[Ran] = []
        results: list[tuple[Detection, ...]] = []
        failed: list[str] = []
        for name in self._turns.due(self._clock(), settings, always):
            detector, counts, kind = self._detectors[name], self._filters[name], self._kind(name)
            doubts = blur and kind == "face"
            confidence = min(counts.confidence, DOUBTFUL_CONFIDENCE) if doubts else counts.confidence
            began = self._clock()
            try:
                found = detector.detect(picture.bgr(detector.input_width), confidence=confidence)
                kept = counts.apply(found)
            except Exception as error:  # a plugin may raise anything; the others go on
                failed.append(name)
                report.failed(name, error)
            else:
                report.recovered(name)
                others = tuple(face for face in found if not counts.counts(face)) if doubts else ()
                ran.append(Ran(name, kind, getattr(detector, "identity", ""), others[:MAX_DETECTIONS]))
                results.append(tuple(kept))
            now = self._clock()
            self._turns.took(name, now, now - began, settings)
        return Turn(tuple(ran), tuple(results), tuple(failed))

    def show(
        self, turn: Turn, detections: Sequence[Detection], settings: InferenceSettings
    ) -> tuple[Detection, ...]:
        """All that is to be seen now.

        Args:
            turn: What came of the picture.
            detections: `turn.fresh`, or what tracking made of it: as many, in the same order.
            settings: Those in force.
        """
        now, start = self._clock(), 0
        for name in turn.failed:
            self._shown.pop(name, None)
        for ran, found in zip(turn.ran, turn.found, strict=True):
            self._shown[ran.name] = (tuple(detections[start : start + len(found)]), now)
            start += len(found)
        if start != len(detections):
            raise ValueError(f"{start} detections were tracked, and {len(detections)} came back")
        seen: list[Detection] = []
        for name in self._detectors:
            shown, since = self._shown.get(name, ((), now))
            if now - since <= self._turns.patience(name, settings):
                seen.extend(shown)
        return tuple(seen[:MAX_DETECTIONS])

    def _kind(self, name: str) -> str:
        return getattr(self._detectors[name], "kind", "")

    def _apply(self, settings: InferenceSettings) -> None:
        if settings == self._settings:
            return
        self._settings = settings
        self._filters = {name: Filter.of(settings, name) for name in self._detectors}
        self._shown.clear()  # what no longer counts must go at once
