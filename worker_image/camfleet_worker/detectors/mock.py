"""A detector for dry runs: one box, at a place that only depends on the picture's number."""

from __future__ import annotations

from collections.abc import Sequence

from camfleet_protocol.detections import Detection
from camfleet_worker.detectors.base import DetectorContext, unit_box
from camfleet_worker.picture import Image
from camfleet_worker.sources.pattern import BALL_RADIUS, ball_centre
from camfleet_worker.stamp import read_stamp


class MockDetector:
    """Finds the test pattern's ball by the number burnt into the picture; elsewhere the box just moves."""

    kind = "object"
    input_width = 640

    def __init__(self, context: DetectorContext) -> None:
        self._calls = 0

    def detect(self, image: Image, *, confidence: float) -> Sequence[Detection]:
        """One detection with score 1."""
        self._calls += 1
        stamp = read_stamp(image)
        height, width = image.shape[:2]
        x, y = ball_centre(stamp.number if stamp is not None else self._calls)
        across, down = BALL_RADIUS, BALL_RADIUS * width / height
        box = unit_box(x - across, y - down, x + across, y + down)
        return [] if box is None else [Detection(kind="object", label="mock", score=1.0, box=box)]
