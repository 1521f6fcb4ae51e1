"""Motion without weights: what differs from the learnt background, more than the picture's own noise does.

Each pixel of a small grey picture has a running mean and a running mean deviation; a pixel stands out when
it is further from its mean than a multiple of its deviation and a floor. Single pixels are noise, so only
blobs count that are there in two successive pictures, and only if something in them has moved lately: where
somebody stood while the background was learnt, a ghost is left that does not move, and it is learnt away
soon. When most of the picture changes at once, the light or the view has changed: all is learnt anew and
nothing is reported.

Measured at 5 pictures a second, confidence 0.7: static scenes with Gaussian noise up to a deviation of 25
grey levels, JPEG quality 20, slow drift or 6 levels of flicker: 0 % of pictures flagged; with a person in the
picture or just gone: see `tests/worker/test_worker_motion.py`. 0.8 ms a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from camfleet_protocol.detections import Detection
from camfleet_worker.detectors.base import DetectorContext, unit_box
from camfleet_worker.picture import Image

WORK_WIDTH = 192
"""Pixels; a person 1/40 of the picture's height wide is still two blobs' worth."""
_WARM_UP = 5
_MEAN_RATE = 0.04
_DEVIATION_RATE = 0.02
_FOREGROUND_RATE = 0.003
"""How fast what stands out is taken into the background while it moves, per picture."""
_STILL_RATE = 0.06
"""The same once it has not moved for `_STILL_AFTER` pictures."""
_STILL_AFTER = 10
_CHANGE = 8.0
"""Grey levels between successive pictures that count as movement."""
_MOVING_SHARE = 0.015
"""Of a blob: a person who stands moves an arm at times."""
_DEVIATIONS = 4.0
_FLOOR = 12.0
"""Grey levels."""
_START_DEVIATION = 3.0
_GLOBAL_SHARE = 0.6
_MIN_AREA = 0.0012
"""Of the picture."""
_MAX_BOXES = 16


class MotionDetector:
    """Finds regions that move; scores are how far beyond the noise they are."""

    kind = "motion"
    input_width = 640

    def __init__(self, context: DetectorContext) -> None:
        self._mean: Any = None
        self._deviation: Any = None
        self._before: Any = None
        self._last: Any = None
        self._still: Any = None
        self._seen = 0
        self._open = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
        self._join = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))

    def detect(self, image: Image, *, confidence: float) -> Sequence[Detection]:
        """Find motion since the last few pictures."""
        grey = self._small(image)
        if self._mean is None or self._mean.shape != grey.shape:
            self._learn(grey)
            return []
        self._seen += 1
        distance = cv2.absdiff(grey, self._mean)
        threshold = np.maximum(self._deviation * _DEVIATIONS, _FLOOR)
        moving = (distance > threshold).astype(np.uint8)
        if moving.mean() > _GLOBAL_SHARE:
            self._learn(grey)
            return []
        self._still += 1
        self._still[cv2.absdiff(grey, self._last) > np.maximum(self._deviation * _DEVIATIONS, _CHANGE)] = 0
        self._last = grey
        self._adapt(grey, distance, moving)
        blobs = cv2.morphologyEx(moving, cv2.MORPH_OPEN, self._open)
        blobs = cv2.dilate(blobs, self._join)
        both = blobs if self._before is None else cv2.bitwise_and(blobs, self._before)
        self._before = blobs
        if self._seen < _WARM_UP:
            return []
        return self._boxes(both, moving, distance / threshold, confidence)

    def _small(self, image: Image) -> Any:
        height, width = image.shape[:2]
        size = (WORK_WIDTH, max(16, round(height * WORK_WIDTH / width)))
        grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        return cv2.GaussianBlur(grey, (5, 5), 0).astype(np.float32)

    def _learn(self, grey: Any) -> None:
        self._mean = grey.copy()
        self._last = grey
        self._still = np.full_like(grey, _STILL_AFTER)
        self._deviation = np.full_like(grey, _START_DEVIATION)
        self._before = None
        self._seen = 0

    def _adapt(self, grey: Any, distance: Any, moving: Any) -> None:
        rate = 0.3 if self._seen < _WARM_UP else _MEAN_RATE
        cv2.accumulateWeighted(grey, self._mean, rate, 1 - moving)
        still = (self._still > _STILL_AFTER).astype(np.uint8)
        cv2.accumulateWeighted(grey, self._mean, _FOREGROUND_RATE, cv2.bitwise_and(moving, 1 - still))
        cv2.accumulateWeighted(grey, self._mean, _STILL_RATE, cv2.bitwise_and(moving, still))
        cv2.accumulateWeighted(distance, self._deviation, max(rate / 2, _DEVIATION_RATE), 1 - moving)

    def _boxes(self, blobs: Any, moving: Any, strength: Any, confidence: float) -> list[Detection]:
        height, width = blobs.shape
        count, labels, stats, _ = cv2.connectedComponentsWithStats(blobs)
        found: list[Detection] = []
        for index in range(1, count):
            left, top, across, down, _ = (int(value) for value in stats[index])
            inside = moving[top : top + down, left : left + across] > 0
            inside &= labels[top : top + down, left : left + across] == index
            area = int(inside.sum())
            lately = self._still[top : top + down, left : left + across][inside] <= _STILL_AFTER
            if area < _MIN_AREA * width * height or lately.mean() < _MOVING_SHARE:
                continue
            excess = float(strength[top : top + down, left : left + across][inside].mean())
            score = 1 - 0.5 ** (2 * (excess - 1) + 1)
            box = unit_box(left / width, top / height, (left + across) / width, (top + down) / height)
            if box is not None and score >= confidence:
                found.append(Detection(kind="motion", label="motion", score=score, box=box))
        found.sort(key=lambda detection: detection.box[2] * detection.box[3], reverse=True)
        return found[:_MAX_BOXES]
