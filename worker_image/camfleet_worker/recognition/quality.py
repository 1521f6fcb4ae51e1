"""Whether a face is good enough to say whose it is: big, sharp and turned towards the camera.

Measured with MobileFaceNet on the sample portraits, made worse on purpose (shrunk, blurred, noise, JPEG): the
similarity of a face to its own good picture, by height of the face's box and by `sharpness`:

| height, pixels | 112          | 60           | 40           |
|----------------|--------------|--------------|--------------|
| not blurred    | 0.98 to 0.99 | 0.83 to 0.94 | 0.59 to 0.79 |
| sharpness 0.1  | 0.6 to 0.8   | 0.5 to 0.7   | 0.4 to 0.6   |
| sharpness 0.06 | 0.1 to 0.5   | 0.1 to 0.5   | 0.1 to 0.4   |
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from camfleet_worker.picture import Image
from camfleet_worker.recognition.align import TEMPLATE, align_face

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""

TOO_SMALL = "TooSmall"
BLURRED = "Blurred"
TURNED_AWAY = "TurnedAway"

_DEPTH = np.array([0.0, 0.0, -22.0, -6.0, -6.0])
"""How far nose and corners of the mouth are behind the eyes of a face of the template's size, pixels."""
_FACE = np.column_stack((TEMPLATE, _DEPTH)) - np.append(TEMPLATE.mean(axis=0), _DEPTH.mean())
_FACE_INVERSE = np.linalg.pinv(_FACE)
_PROFILE = 90.0
_FLAT = 1e-6
"""Nearly one direction instead of two: then the short way is not exact."""
_INNER = (slice(16, 104), slice(16, 96))
"""Of an aligned face, without hair and background."""
_DETAIL_SIGMA = 2.0
"""Pixels of the aligned face; what is finer than this is detail."""
_CONTRAST_FLOOR = 1.0
_HEIGHT_SCALE = 36.0
_SHARP_RANGE = (0.04, 0.14)


@dataclass(frozen=True, slots=True)
class FaceQuality:
    """What is known about a face's picture.

    Attributes:
        height_px: Height of the face's box in the picture it was cut from.
        sharpness: Share of fine detail in the contrast of the face, 0 to 1, whatever its size and light:
            above 0.14 sharp, below 0.07 hardly a face.
        yaw: Degrees that it is turned to a side, positive to the right in the picture.
        pitch: Degrees that it is raised, negative looking down; the landmarks alone say it to about 15.
        roll: Degrees that it is tilted, positive clockwise in the picture.
        score: 0 to 1; for choosing the best picture of a face.
    """

    height_px: float
    sharpness: float
    yaw: float
    pitch: float
    roll: float
    score: float


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """From when a face is refused."""

    min_height_px: float = 40.0
    min_sharpness: float = 0.07
    max_yaw: float = 60.0
    max_pitch: float = 45.0


RECOGNITION_LIMITS = QualityLimits()
"""For faces in a stream: another, better picture follows."""
ENROLMENT_LIMITS = QualityLimits(min_height_px=64.0, min_sharpness=0.09, max_yaw=45.0, max_pitch=40.0)
"""For pictures that later ones are compared with for months."""


def measure(
    image: Image, box_px: Box, landmarks_px: NDArray[np.float32], *, aligned: Image | None = None
) -> FaceQuality:
    """Measure a face.

    Args:
        image: height x width x 3, uint8, BGR.
        box_px: The face's box, pixels of `image`.
        landmarks_px: 5 x 2, as for `align_face`.
        aligned: What `align_face` makes of them, if it is there already.
    """
    height = float(box_px[3])
    sharpness = _sharpness(align_face(image, landmarks_px) if aligned is None else aligned)
    yaw, pitch, roll = _pose(np.asarray(landmarks_px, np.float64))
    low, high = _SHARP_RANGE
    score = (
        (1 - math.exp(-max(0.0, height) / _HEIGHT_SCALE))
        * min(1.0, max(0.0, (sharpness - low) / (high - low)))
        * max(0.0, math.cos(math.radians(yaw)) * math.cos(math.radians(pitch)))
    )
    return FaceQuality(height, sharpness, yaw, pitch, roll, score)


def refuse(quality: FaceQuality, limits: QualityLimits = RECOGNITION_LIMITS) -> str | None:
    """Why a face is not good enough, a CamelCase reason; None if it is."""
    if quality.height_px < limits.min_height_px:
        return TOO_SMALL
    if abs(quality.yaw) > limits.max_yaw or abs(quality.pitch) > limits.max_pitch:
        return TURNED_AWAY
    if quality.sharpness < limits.min_sharpness:
        return BLURRED
    return None


def _sharpness(aligned: Image) -> float:
    """Standard deviation of what a small blur takes away, against that of all.

    Variance of the Laplacian, the usual measure, follows noise and contrast: its correlation with how well a
    face was recognised was 0.78, that of this one 0.88.
    """
    grey = cv2.cvtColor(aligned[_INNER], cv2.COLOR_BGR2GRAY)
    contrast = float(cv2.meanStdDev(grey)[1][0, 0])
    values = grey.astype(np.float32)
    detail = cv2.norm(values, cv2.GaussianBlur(values, (0, 0), _DETAIL_SIGMA)) / math.sqrt(values.size)
    return min(1.0, detail / (contrast + _CONTRAST_FLOOR))


def _pose(landmarks: NDArray[np.float64]) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a head that is seen from far away (scaled orthography), least squares."""
    shadow = (_FACE_INVERSE @ (landmarks - landmarks.mean(axis=0))).T
    if not np.isfinite(shadow).all() or np.linalg.norm(shadow[0]) + np.linalg.norm(shadow[1]) < 1e-6:
        return _PROFILE, 0.0, 0.0
    across, down = _upright(*shadow.tolist())
    outward = across[0] * down[1] - across[1] * down[0]
    yaw = math.degrees(math.atan2(-across[2], outward))
    pitch = math.degrees(math.asin(max(-1.0, min(1.0, down[2]))))
    return yaw, pitch, math.degrees(math.atan2(down[0], across[0]))


def _upright(across: list[float], down: list[float]) -> tuple[list[float], list[float]]:
    """The two directions, of length 1 and at a right angle, that are nearest to two others."""
    p, q, r = (
        sum(map(operator.mul, one, other)) for one, other in ((across, across), (across, down), (down, down))
    )
    area = p * r - q * q
    if area < _FLAT * (p + r) ** 2:
        left, _, right = np.linalg.svd(np.array((across, down)), full_matrices=False)
        first, second = (left @ right).tolist()
        return first, second
    # Their matrix by the inverse square root of its product with itself, which is 2 x 2.
    root = math.sqrt(area)
    scale = 1 / (root * math.sqrt(p + r + 2 * root))
    pairs = list(zip(across, down, strict=True))
    return (
        [((r + root) * x - q * y) * scale for x, y in pairs],
        [((p + root) * y - q * x) * scale for x, y in pairs],
    )
