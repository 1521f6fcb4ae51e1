"""What of a detector's finds counts, by the settings: confidence, class, size, and masks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from camfleet_protocol.detections import MAX_DETECTIONS, Detection
from camfleet_protocol.settings import InferenceSettings

Polygon = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """What counts of one detector's finds.

    Attributes:
        confidence: Lowest score.
        classes: Labels that count; None for all.
        min_height: Least height, as a fraction of the picture's.
        masks: Polygons; what has its middle in one does not count.
    """

    confidence: float
    classes: frozenset[str] | None = None
    min_height: float = 0.0
    masks: tuple[Polygon, ...] = ()

    @classmethod
    def of(cls, settings: InferenceSettings, name: str) -> Filter:
        """The filter for a detector."""
        masks = tuple(
            tuple((point.x, point.y) for point in mask.points)
            for mask in settings.masks
            if mask.detectors is None or name in mask.detectors
        )
        for options in settings.detector_options:
            if options.name == name:
                return cls(
                    settings.confidence if options.confidence is None else options.confidence,
                    None if options.classes is None else frozenset(options.classes),
                    options.min_size or 0.0,
                    masks,
                )
        return cls(settings.confidence, masks=masks)

    def apply(self, found: Iterable[Detection]) -> list[Detection]:
        """What counts, at most `MAX_DETECTIONS`."""
        return [detection for detection in found if self.counts(detection)][:MAX_DETECTIONS]

    def counts(self, detection: Detection) -> bool:
        """Whether a find counts."""
        if detection.score < self.confidence or detection.box[3] < self.min_height:
            return False
        if self.classes is not None and detection.label not in self.classes:
            return False
        left, top, width, height = detection.box
        middle = left + width / 2, top + height / 2
        return not any(within(mask, *middle) for mask in self.masks)


def within(polygon: Sequence[tuple[float, float]], x: float, y: float) -> bool:
    """Whether a point is in a polygon: an odd number of its sides lies to the right of the point."""
    inside = False
    before_x, before_y = polygon[-1]
    for corner_x, corner_y in polygon:
        if (corner_y > y) != (before_y > y):
            crossing = (before_x - corner_x) * (y - corner_y) / (before_y - corner_y) + corner_x
            inside ^= x < crossing
        before_x, before_y = corner_x, corner_y
    return inside
