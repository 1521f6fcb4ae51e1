"""One captured picture, converted only when and as far as somebody needs its pixels."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, TypeAlias

from camfleet_protocol.detections import Detection

Image: TypeAlias = Any
"""A numpy array, height x width x 3, uint8, BGR. Not imported here: that would slow the start."""


def fit_width(width: int, height: int, wanted: int) -> tuple[int, int]:
    """Size of a picture scaled to `wanted` pixels of width; 0 or more than it has keeps its size."""
    if wanted <= 0 or wanted >= width:
        return width, height
    return wanted, max(2, round(height * wanted / width / 2) * 2)


@dataclass(frozen=True, slots=True)
class Findings:
    """What one inference found.

    Attributes:
        captured_ns: Capture time of the picture it ran on, Unix ns.
        detections: What was found.
        annotated: The picture as a third-party engine drew it, if it did.
    """

    captured_ns: int
    detections: tuple[Detection, ...] = ()
    annotated: Image | None = None


class Picture(ABC):
    """A captured picture; any thread may ask for its pixels.

    Attributes:
        number: Rises by one per captured picture.
        captured_ns: Unix time in ns at which it was decoded.
        width: Of the source, pixels.
        height: Of the source, pixels.
        discontinuity: Whether it is the first one after the source was opened or a loop began anew.
        inference: Set by the dispatcher if inference takes this picture; its findings arrive there.
    """

    def __init__(
        self, *, number: int, captured_ns: int, width: int, height: int, discontinuity: bool
    ) -> None:
        self.number = number
        self.captured_ns = captured_ns
        self.width = width
        self.height = height
        self.discontinuity = discontinuity
        self.inference: PendingInference | None = None
        self._lock = threading.Lock()
        self._images: dict[tuple[int, int], Image] = {}

    def bgr(self, width: int = 0) -> Image:
        """Pixels, scaled down to `width`; 0 keeps the source's size, and nothing is ever enlarged.

        The array is shared with whoever else asks for this size: do not write into it.
        """
        size = fit_width(self.width, self.height, width)
        with self._lock:
            image = self._images.get(size)
            if image is None:
                image = self._images[size] = self._convert(*size)
            return image

    def crop(self, left: float, top: float, width: float, height: float) -> tuple[Image, tuple[int, int]]:
        """A part of the picture at the source's size, without converting all of it where that can be had.

        Args:
            left: Pixels of the source, as the others; what lies outside of the picture is left out.
            top: Of its upper edge.
            width: At least 2 are given.
            height: At least 2 are given.

        Returns:
            Pixels, not to be written into, and where their left upper corner lies in the picture.
        """
        # Even corners: colour is stored for squares of two by two.
        x = min(max(0, int(left)), max(0, self.width - 2)) // 2 * 2
        y = min(max(0, int(top)), max(0, self.height - 2)) // 2 * 2
        right = min(self.width, max(x + 2, (int(left + width) + 2) // 2 * 2))
        bottom = min(self.height, max(y + 2, (int(top + height) + 2) // 2 * 2))
        with self._lock:
            whole = self._images.get((self.width, self.height))
        part = self._convert_part(x, y, right, bottom) if whole is None else None
        if part is None:
            part = (self.bgr() if whole is None else whole)[y:bottom, x:right]
        return part, (x, y)

    def fingerprint(self) -> int | None:
        """A checksum of samples from all over the picture, without converting it.

        None where it cannot be had so cheaply, or where pictures are made to differ.
        """
        return None

    def _convert_part(self, left: int, top: int, right: int, bottom: int) -> Image | None:
        """Make the pixels of a part, whose left upper corner is even; None where all must be converted."""
        return None

    @abstractmethod
    def _convert(self, width: int, height: int) -> Image:
        """Make the pixels at this size, at most the source's."""


class PendingInference:
    """Hands one picture's findings from the inference thread to whoever waits for them."""

    __slots__ = ("_done", "findings")

    def __init__(self) -> None:
        self._done = threading.Event()
        self.findings: Findings | None = None

    def finish(self, findings: Findings | None) -> None:
        """Deliver; None if inference did not run on this picture after all."""
        self.findings = findings
        self._done.set()

    def wait(self, seconds: float) -> Findings | None:
        """The findings, or None if they are not there in time."""
        self._done.wait(seconds)
        return self.findings
