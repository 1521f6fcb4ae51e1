"""Faces turned and scaled so that eyes, nose and mouth are where embedding models expect them."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from camfleet_worker.picture import Image

SIZE = 112
"""Pixels; width and height of an aligned face."""
TEMPLATE: NDArray[np.float64] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where ArcFace (Deng et al., 2019) and all that is trained like it want the five landmarks, in pixels."""
_CORNERS = (0j, SIZE + 0j, SIZE * 1j, SIZE + SIZE * 1j)
_TINY = 1e-6
_MOST = 256
_EDGE = 2
"""Pixels around what is needed, for the interpolation."""


def align_face(image: Image, landmarks_px: NDArray[np.float32]) -> Image:
    """Cut a face out, upright and of one size.

    Args:
        image: height x width x 3, uint8, BGR.
        landmarks_px: 5 x 2, pixels of `image`: right eye, left eye, nose, right and left corner of the mouth
            (of the person; the right eye is on the left in the picture).

    Returns:
        112 x 112 x 3, uint8, BGR, its own memory; black where it reaches beyond the picture. Landmarks that
        all coincide give a picture of one colour: the quality gate refuses such faces before.
    """
    points = np.asarray(landmarks_px, np.float64)
    matrix = similarity(points, TEMPLATE)
    if abs(complex(matrix[0, 0], matrix[1, 0])) > _TINY:
        image, points = _surroundings(image, points, matrix)
        matrix = similarity(points, TEMPLATE)
    return cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The turn, scale and shift that brings points closest to others, least squares.

    Umeyama: "Least-squares estimation of transformation parameters between two point patterns", 1991. In two
    dimensions its singular values have a closed form: with points as complex numbers, the best scale and turn
    is one complex factor. A mirror image is never taken.

    Args:
        source: n x 2.
        target: n x 2.

    Returns:
        2 x 3, float64. All zero but for the shift where the source's points coincide.
    """
    # As Python's own numbers: of five points, numpy's calls would cost ten times as much.
    before = [complex(x, y) for x, y in source.tolist()]
    after = [complex(x, y) for x, y in target.tolist()]
    before_mean, after_mean = sum(before) / len(before), sum(after) / len(after)
    product, spread = 0j, 0.0
    for one, other in zip(before, after, strict=True):
        product += (one - before_mean).conjugate() * (other - after_mean)
        spread += abs(one - before_mean) ** 2
    turn = product / spread if spread > 0 else 0j
    shift = after_mean - turn * before_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _surroundings(
    image: Image, points: NDArray[np.float64], matrix: NDArray[np.float64]
) -> tuple[Image, NDArray[np.float64]]:
    """Only what is needed of the picture, and where the landmarks are in it.

    OpenCV takes 3 ms to sample 112 x 112 pixels of a 1080p picture, and a tenth of that from a piece of it.
    What is more than twice too large is shrunk by area first, since sampling alone would alias.
    """
    height, width = image.shape[:2]
    turn, shift = (complex(matrix[0, n], matrix[1, n]) for n in (0, 2))
    corners = [(corner - shift) / turn for corner in _CORNERS]
    left = max(0, math.floor(min(corner.real for corner in corners)) - _EDGE)
    top = max(0, math.floor(min(corner.imag for corner in corners)) - _EDGE)
    right = max(0, math.ceil(max(corner.real for corner in corners)) + _EDGE)
    bottom = max(0, math.ceil(max(corner.imag for corner in corners)) + _EDGE)
    crop = image[top : min(bottom, height), left : min(right, width)]
    points = points - (left, top)
    factor = int(min(1 / abs(turn), _MOST))
    if min(crop.shape[:2]) < factor or not crop.size:
        return np.zeros((1, 1, 3), np.uint8), points
    if factor < 2:
        return crop, points
    size = (crop.shape[1] // factor, crop.shape[0] // factor)
    whole = crop[: size[1] * factor, : size[0] * factor]
    # A pixel's coordinate is its centre, so shrinking moves it by half of the difference.
    return cv2.resize(whole, size, interpolation=cv2.INTER_AREA), (points + 0.5) / factor - 0.5
