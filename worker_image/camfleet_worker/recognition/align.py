"""Faces turned and scaled so that eyes, nose and mouth are where embedding models expect them."""

from __future__ import annotations

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
_SHRINK_FIRST = 2.0
"""Faces larger than so many times `SIZE` are shrunk by area first; sampling them alone would alias."""


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
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if 0 < scale < 1 / _SHRINK_FIRST:
        image, points = _shrunk(image, points, scale)
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
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    x, y = (source - source_mean).T
    u, v = (target - target_mean).T
    spread = float((x * x + y * y).sum())
    cosine = float((x * u + y * v).sum()) / spread if spread > 0 else 0.0
    sine = float((x * v - y * u).sum()) / spread if spread > 0 else 0.0
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.hstack((turn, (target_mean - turn @ source_mean)[:, np.newaxis]))


def _shrunk(image: Image, points: NDArray[np.float64], scale: float) -> tuple[Image, NDArray[np.float64]]:
    """The face's surroundings at about the wanted size, and where the landmarks are then."""
    height, width = image.shape[:2]
    reach = SIZE / scale  # from the middle of the landmarks to beyond every corner of the aligned square
    middle = points.mean(axis=0)
    left, top = (int(max(0, value)) for value in np.floor(middle - reach))
    right, bottom = (int(value) for value in np.ceil(middle + reach))
    crop = image[top : min(bottom, height), left : min(right, width)]
    if crop.size == 0:
        return image, points
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    factor = np.array([size[0] / crop.shape[1], size[1] / crop.shape[0]])
    # A pixel's coordinate is its centre, so scaling moves it by half of the difference.
    moved = (points - (left, top) + 0.5) * factor - 0.5
    return cv2.resize(crop, size, interpolation=cv2.INTER_AREA), moved
