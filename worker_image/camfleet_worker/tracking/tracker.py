"""Which detection of this picture is which of the last one.

Similari's SORT (Bewley et al.: "Simple Online and Realtime Tracking", 2016) pairs boxes that overlap with
where their tracks should be by now. It counts pictures, not seconds, and at a few pictures a second someone
who walks fast overlaps with nothing: so what it could not pair is paired here by distance, with a reach that
grows with the time since. Ids are ours, rise, and are unique over all kinds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import similari  # type: ignore[import-untyped]

from camfleet_protocol.detections import Detection

HITS_TO_CONFIRM = 2
LOST_SECONDS = 3.0
"""A track that is not seen for so long, or for so many of its usual intervals, is over."""
_LOST_INTERVALS = 3.0
_MAX_INTERVAL = 30.0
"""Longer, and it was a pause and no interval."""
_MIN_IOU = 0.2
_IDLE_EPOCHS = 60
_MAX_SCENES = 128
_MAX_SPEED = 2.5
"""Heights of its box a second that something may move, and be found again by distance."""
_MAX_REACH = 1.5
"""Heights of its box, however long ago it was seen."""
_MAX_GROWTH = 1.8
_MISSED_INTERVALS = 1.6
_JUMP = 0.5
"""Heights of its box; whoever moves further from one picture to the next may be somebody else."""

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class Track:
    """One thing, followed; times are Unix seconds of capture.

    Attributes:
        id: Rises; never used again while the worker runs.
        kind: As of its detections.
        label: Class of its detections.
        detection: The newest one.
        first: When it was first seen.
        last: When it was last seen.
        hits: How often it was seen.
        jumped: Whether it moved so far that it may be somebody else than in the picture before.
        missed: Whether it was not found in the picture before.
    """

    id: int
    kind: str
    label: str
    detection: Detection
    first: float
    last: float
    hits: int = 1
    jumped: bool = False
    missed: bool = False
    _velocity: tuple[float, float] = (0.0, 0.0)
    _interval: float = 0.0

    @property
    def confirmed(self) -> bool:
        """Whether it was seen often enough to be something."""
        return self.hits >= HITS_TO_CONFIRM

    @property
    def patience(self) -> float:
        """Seconds that it may be out of sight and still be followed."""
        return max(LOST_SECONDS, _LOST_INTERVALS * self._interval)

    def predicted(self, at: float, aspect: float) -> tuple[float, float]:
        """Where its middle should be, in heights of the picture."""
        x, y = _middle(self.detection.box, aspect)
        ahead = min(1.0, max(0.0, at - self.last))
        return x + self._velocity[0] * ahead, y + self._velocity[1] * ahead

    def seen(self, detection: Detection, at: float, aspect: float) -> None:
        """It is in another picture."""
        gap = at - self.last
        if gap > 0:
            x, y = _middle(detection.box, aspect)
            was_x, was_y = _middle(self.detection.box, aspect)
            height = max(detection.box[3], self.detection.box[3], 1e-6)
            off = self.predicted(at, aspect)
            self.jumped = min(math.hypot(x - was_x, y - was_y), math.hypot(x - off[0], y - off[1])) > (
                _JUMP * height
            )
            speed = ((x - was_x) / gap, (y - was_y) / gap)
            old = self._velocity
            self._velocity = (
                speed
                if self.hits == 1
                else (
                    0.5 * (old[0] + speed[0]),
                    0.5 * (old[1] + speed[1]),
                )
            )
            self.missed = self.hits > 1 and gap > _MISSED_INTERVALS * self._interval
            self._interval = gap if self.hits == 1 else 0.7 * self._interval + 0.3 * gap
        self.detection, self.last, self.hits = detection, at, self.hits + 1


class Tracker:
    """Follows things of all kinds and classes. One thread uses it."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = itertools.count(1)
        # One for all kinds and classes, for each has two threads of its own.
        self._sort = similari.Sort(
            shards=1, max_idle_epochs=_IDLE_EPOCHS, method=similari.PositionalMetricType.iou(_MIN_IOU)
        )
        self._scenes: dict[tuple[str, str], _Scene] = {}
        self._scene_numbers = itertools.count(1)
        self._looks: dict[str, tuple[float, float, float]] = {}
        """By kind: when it was looked for last, and the last two intervals."""

    def update(
        self, detections: Sequence[Detection], *, looked_for: frozenset[str], at: float, aspect: float
    ) -> list[Track]:
        """Take in a picture.

        Args:
            detections: What was found in it.
            looked_for: Kinds that were looked for; the others' tracks stay as they are.
            at: Unix seconds of its capture.
            aspect: Its width divided by its height.

        Returns:
            The track of each detection, in their order.
        """
        by_scene: dict[tuple[str, str], list[int]] = {}
        for index, detection in enumerate(detections):
            by_scene.setdefault((detection.kind, detection.label), []).append(index)
        for key in by_scene.keys() - self._scenes.keys():
            if len(self._scenes) >= _MAX_SCENES:
                self._scenes.pop(min(self._scenes, key=lambda known: self._scenes[known].used)).clear()
            self._scenes[key] = _Scene(self._sort, next(self._scene_numbers), self._numbers)
        intervals = {kind: self._interval(kind, at) for kind in looked_for | {key[0] for key in by_scene}}
        tracks: dict[int, Track] = {}
        for key, scene in self._scenes.items():
            indexes = by_scene.get(key, [])
            if key[0] in looked_for or indexes:
                found = scene.update(
                    [detections[index] for index in indexes], at, aspect, interval=intervals[key[0]]
                )
                tracks.update(zip(indexes, found, strict=True))
        return [tracks[index] for index in range(len(detections))]

    def live(self, at: float) -> list[Track]:
        """Tracks that are not over."""
        return [track for scene in self._scenes.values() for track in scene.live(at)]

    def clear(self) -> None:
        """Forget everything; ids go on."""
        for scene in self._scenes.values():
            scene.clear()
        self._scenes.clear()
        self._looks.clear()

    def _interval(self, kind: str, at: float) -> float:
        """Seconds from one look for a kind to the next, by the shorter one of the last two."""
        last, newer, _ = self._looks.get(kind, (at, 0.0, 0.0))
        gap = max(0.0, at - last)
        self._looks[kind] = (at, gap, newer)
        return min(gap, newer, _MAX_INTERVAL)


class _Scene:
    """Things of one kind and class."""

    def __init__(self, sort: similari.Sort, number: int, numbers: Iterator[int]) -> None:
        self.used = 0.0
        self._sort = sort
        self._number = number
        self._numbers = numbers
        self._tracks: dict[int, Track] = {}
        """By the id that similari gave."""

    def update(
        self, detections: Sequence[Detection], at: float, aspect: float, *, interval: float
    ) -> list[Track]:
        self.used = at
        boxes = [(_box(detection.box, aspect), index) for index, detection in enumerate(detections)]
        keys = [-1 - index for index in range(len(detections))]
        for found in self._sort.predict_with_scene(self._number, boxes):
            keys[found.custom_object_id] = found.id
        self._sort.clear_wasted()
        self._tracks = {key: track for key, track in self._tracks.items() if _alive(track, at)}
        lost = {key: track for key, track in self._tracks.items() if key not in keys}
        fresh = [index for index, key in enumerate(keys) if key not in self._tracks]
        for index, key in _pair(detections, fresh, lost, at, aspect):
            self._tracks[keys[index]] = self._tracks.pop(key)
        result: list[Track] = []
        for key, detection in zip(keys, detections, strict=True):
            track = self._tracks.get(key)
            if track is None:
                number = next(self._numbers)
                track = Track(number, detection.kind, detection.label, detection, at, at, _interval=interval)
                self._tracks[key] = track
            else:
                track.seen(detection, at, aspect)
            result.append(track)
        return result

    def clear(self) -> None:
        self._sort.skip_epochs_for_scene(self._number, _IDLE_EPOCHS + 1)
        self._sort.clear_wasted()

    def live(self, at: float) -> list[Track]:
        return [track for track in self._tracks.values() if _alive(track, at)]


def _alive(track: Track, at: float) -> bool:
    return at - track.last <= track.patience


def _pair(
    detections: Sequence[Detection], fresh: Sequence[int], lost: dict[int, Track], at: float, aspect: float
) -> list[tuple[int, int]]:
    """What overlapped with nothing, and the tracks near enough to be the same; nearest first."""
    if not fresh:
        return []
    options: list[tuple[float, int, int]] = []
    tracks = [
        (
            key,
            max(track.detection.box[3], 1e-6),
            _middle(track.detection.box, aspect),
            track.predicted(at, aspect),
            min(_MAX_REACH, _MAX_SPEED * max(0.2, at - track.last)),
        )
        for key, track in lost.items()
    ]
    for index in fresh:
        x, y = _middle(detections[index].box, aspect)
        height = detections[index].box[3]
        for key, other, was, ahead, reach in tracks:
            if not 1 / _MAX_GROWTH <= height / other <= _MAX_GROWTH:
                continue
            distance = min(math.hypot(x - was[0], y - was[1]), math.hypot(x - ahead[0], y - ahead[1]))
            if distance <= reach * max(height, other):
                options.append((distance / max(height, other), index, key))
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, index, key in sorted(options):
        if index not in pairs and key not in taken:
            pairs[index] = key
            taken.add(key)
    return list(pairs.items())


def _middle(box: Box, aspect: float) -> tuple[float, float]:
    """In heights of the picture."""
    return (box[0] + box[2] / 2) * aspect, box[1] + box[3] / 2


def _box(box: Box, aspect: float) -> similari.Universal2DBox:
    left, top, width, height = box
    return similari.BoundingBox(left * aspect, top, max(width * aspect, 1e-4), max(height, 1e-4)).as_xyaah()
