"""Pictures of any shape for models of a fixed one: scaled down to fit, in the left upper corner."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from camfleet_worker.picture import Image


class Letterbox:
    """Fits pictures into `width` x `height`, and fills the rest. Its buffer is used again by each call."""

    def __init__(self, width: int, height: int, fill: int) -> None:
        self.width = width
        self.height = height
        self._fill = fill
        self._filled: tuple[int, int] | None = None
        self._canvas: NDArray[np.uint8] = np.full((height, width, 3), fill, np.uint8)

    def fit(self, image: Image) -> tuple[Image, float]:
        """Fit a picture.

        Args:
            image: height x width x 3, uint8.

        Returns:
            The filled picture, valid until the next call, and how many of its pixels one of `image` takes.
        """
        height, width = image.shape[:2]
        scale = min(self.width / width, self.height / height)
        across = min(self.width, max(1, round(width * scale)))
        down = min(self.height, max(1, round(height * scale)))
        if (across, down) != (width, height):
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            image = cv2.resize(image, (across, down), interpolation=method)
        return self.place(image), scale

    def place(self, image: Image) -> Image:
        """Fill up a picture that is no larger than this, without scaling it."""
        size = image.shape[:2]
        if self._filled != size:
            self._canvas[:] = self._fill
            self._filled = size
        self._canvas[: size[0], : size[1]] = image
        return self._canvas
