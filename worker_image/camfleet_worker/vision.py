"""OpenCV with the threads it was given; loaded late, since it takes a while."""

from __future__ import annotations


def prepare_opencv(threads: int) -> None:
    """Load OpenCV and let it use so many threads; by default it takes every core of the host."""
    import cv2

    cv2.setNumThreads(threads)
