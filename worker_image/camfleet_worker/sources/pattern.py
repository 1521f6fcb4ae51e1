"""A synthetic picture that moves and says when it was made. Drawn only when somebody wants to see it."""

from __future__ import annotations

import math
import threading
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from camfleet_protocol.camera import TestPatternSource
from camfleet_worker.picture import Image, Picture
from camfleet_worker.sources.base import SourceContext

DEFAULT_WIDTH = 1280
DEFAULT_HEIGHT = 720
DEFAULT_FPS = 15.0
_LATE_SECONDS = 0.5
BALL_RADIUS = 0.05
"""Fraction of the picture's width."""
_draw_lock = threading.Lock()


def ball_centre(number: int) -> tuple[float, float]:
    """Where the ball is in picture `number`, as fractions of width and height; it bounces without end."""
    x = _bounce(number * 0.008)
    y = _bounce(number * 0.011 + 0.3)
    return 0.12 + 0.76 * x, 0.28 + 0.5 * y


def _bounce(position: float) -> float:
    return abs((position % 2.0) - 1.0)


class PatternSource:
    """Makes pictures at a steady rate."""

    network = False

    def __init__(self, spec: TestPatternSource, context: SourceContext) -> None:
        self.codec = "raw"
        self._width = spec.width or DEFAULT_WIDTH
        self._height = spec.height or DEFAULT_HEIGHT
        self._period = 1 / (spec.fps or DEFAULT_FPS)
        self._wait = context.wait
        self._number = 0
        self._due = 0.0

    def open(self) -> None:
        """Nothing can fail."""
        self._due = time.monotonic()
        self._number = 0

    def read(self) -> Picture | None:
        """Wait until the next picture is due and make it."""
        delay = self._due - time.monotonic()
        if delay > 0 and not self._wait(delay):
            return None
        self._due += self._period
        if time.monotonic() - self._due > _LATE_SECONDS:
            self._due = time.monotonic()
        self._number += 1
        return PatternPicture(
            number=self._number,
            captured_ns=time.time_ns(),
            width=self._width,
            height=self._height,
            discontinuity=self._number == 1,
        )

    def close(self) -> None:
        """Nothing is held."""


class PatternPicture(Picture):
    """Bars, a bouncing ball, and its number and time as text and as blocks (`camfleet_worker.stamp`)."""

    def _convert(self, width: int, height: int) -> Image:
        import cv2

        from camfleet_worker.stamp import MIN_WIDTH, Stamp, burn_stamp

        with _draw_lock:
            image = _background(width, height).copy()
        x, y = ball_centre(self.number)
        centre, radius = (round(x * width), round(y * height)), max(2, round(BALL_RADIUS * width))
        cv2.circle(image, centre, radius, (70, 200, 250), -1, cv2.LINE_AA)
        cv2.circle(image, centre, radius, (255, 255, 255), max(1, width // 320), cv2.LINE_AA)
        angle = self.captured_ns % 2_000_000_000 / 1e9 * math.pi
        tip = (
            round(centre[0] + 0.8 * radius * math.sin(angle)),
            round(centre[1] - 0.8 * radius * math.cos(angle)),
        )
        cv2.line(image, centre, tip, (40, 40, 40), max(1, width // 240), cv2.LINE_AA)
        moment = datetime.fromtimestamp(self.captured_ns / 1e9, UTC)
        text = f"#{self.number}  {moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"
        scale, thick = width / 900, max(1, width // 640)
        (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
        origin = ((width - text_width) // 2, height - text_height)
        cv2.putText(image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (235, 235, 235), thick, cv2.LINE_AA)
        if width >= MIN_WIDTH:
            burn_stamp(image, Stamp(self.captured_ns, self.number))
        return image


@lru_cache(maxsize=4)
def _background(width: int, height: int) -> Any:
    import cv2
    import numpy as np

    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, np.newaxis, np.newaxis]
    image = np.empty((height, width, 3), np.uint8)
    image[:] = (np.array([60, 38, 26]) * (1 - ramp) + np.array([28, 18, 14]) * ramp).astype(np.uint8)
    for step in range(1, 16):
        x = round(step * width / 16)
        cv2.line(image, (x, 0), (x, height), (70, 52, 42), 1)
    for step in range(1, 9):
        y = round(step * height / 9)
        cv2.line(image, (0, y), (width, y), (70, 52, 42), 1)
    bars = [(190,) * 3, (0, 190, 190), (190, 190, 0), (0, 190, 0), (190, 0, 190), (0, 0, 190), (190, 0, 0)]
    top, bottom = round(height * 0.12), round(height * 0.2)
    for index, colour in enumerate(bars):
        left, right = round(index * width / len(bars)), round((index + 1) * width / len(bars))
        image[top:bottom, left:right] = colour
    return image
