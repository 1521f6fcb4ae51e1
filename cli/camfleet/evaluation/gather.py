"""Pictures from disk to faces, several at once, by the worker's `FaceAnalyzer`."""

from __future__ import annotations

import itertools
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from camfleet_worker.detectors.base import DetectorContext
from camfleet_worker.picture import Image
from camfleet_worker.recognition.faces import AnalyzedFace, FaceAnalyzer, FaceFinder
from camfleet_worker.recognition.quality import Box, refuse
from camfleet_worker.recognition.refine import intersection
from camfleet_worker.vision import prepare_opencv

_PROGRESS_SECONDS = 2.0
_AS_CERTAIN = 0.2
_OVERLAPS = 1 / 3
"""Of the smaller one's area."""
_MAX_PICTURE_BYTES = 256 * 1024 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Looked:
    """What one picture gave.

    Attributes:
        embedding: Of the face that counts; None without a face.
        count: Faces found.
        refused: Why the quality gate of a stream would refuse that face; empty if it would not.
        problem: Why the picture could not be read; empty if it could.
    """

    embedding: NDArray[np.float32] | None = None
    count: int = 0
    refused: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FoundBoxes:
    """Faces of one picture: left, top, width, height in pixels, as it is stored, and score.

    Attributes:
        size: Width and height of the picture, as it is stored.
    """

    boxes: tuple[tuple[Box, float], ...] = ()
    problem: str = ""
    size: tuple[float, float] = (math.inf, math.inf)


Faces = Mapping[Path, Looked]


class Gatherer:
    """Looks at pictures.

    Attributes:
        embedder: Identity of the model that compares; empty if none was asked for.
        threshold: That model's own.
        margin: That model's own.

    Raises:
        InferenceUnavailableError: Weights are missing or cannot be used.
    """

    def __init__(
        self, model_dir: Path, *, embedder: str | None, detector: str, confidence: float, threads: int
    ) -> None:
        os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
        prepare_opencv(1)
        self.detector = detector
        self.confidence = confidence
        self._threads = threads
        self._own = threading.local()
        self._context = DetectorContext(model_dir)
        self._embedder = embedder
        first = self._analyzer()
        self.embedder, self.threshold, self.margin = "", 0.0, 0.0
        if isinstance(first, FaceAnalyzer):
            model = first.embedder
            self.embedder, self.threshold, self.margin = model.identity, model.threshold, model.margin

    def faces(self, files: Sequence[Path]) -> Faces:
        """Look at each picture once."""
        return dict(zip(files, self._all(files, self._face), strict=True))

    def boxes(self, files: Sequence[Path]) -> list[FoundBoxes]:
        """Find the faces of each picture."""
        return self._all(files, self._boxes)

    def _analyzer(self) -> FaceAnalyzer | FaceFinder:
        """One for each thread: detectors are not shared."""
        made: FaceAnalyzer | FaceFinder | None = getattr(self._own, "analyzer", None)
        if made is None:
            options: dict[str, Any] = {"detector": self.detector, "confidence": self.confidence}
            made = (
                FaceFinder(self._context, **options)
                if self._embedder is None
                else FaceAnalyzer(self._context, self._embedder, **options)
            )
            self._own.analyzer = made
        return made

    def _face(self, file: Path) -> Looked:
        analyzer = self._analyzer()
        assert isinstance(analyzer, FaceAnalyzer)
        try:
            image = read_picture(file)
        except PictureUnreadableError as error:
            return Looked(problem=str(error))
        faces = analyzer.analyze(image)
        if not faces:
            return Looked()
        face = most_prominent(faces, image)
        return Looked(face.embedding, len(faces), refuse(face.quality) or "")

    def _boxes(self, file: Path) -> FoundBoxes:
        analyzer = self._analyzer()
        assert isinstance(analyzer, FaceFinder)
        try:
            image, stored = read_picture(file), read_picture(file, upright=False)
        except PictureUnreadableError as error:
            return FoundBoxes(problem=str(error))
        back = as_stored(image, stored)
        found = analyzer.find(image, weaker=False)
        height, width = stored.shape[:2]
        return FoundBoxes(tuple((back(face.box_px), face.score) for face in found), size=(width, height))

    def _all(self, files: Sequence[Path], look: Callable[[Path], T]) -> list[T]:
        results: list[T] = []
        began = told = time.monotonic()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="eval") as pool:
            for done in pool.map(look, files):
                results.append(done)
                now = time.monotonic()
                if now - told >= _PROGRESS_SECONDS:
                    told = now
                    rate = len(results) / (now - began)
                    left = (len(files) - len(results)) / rate
                    text = f"{len(results)} of {len(files)} pictures, {rate:.1f} a second, {left:.0f} s left"
                    print(text, file=sys.stderr, flush=True)
        return results


class PictureUnreadableError(Exception):
    """A file that is no picture, or cannot be read; the text says why."""


def read_picture(file: Path, *, upright: bool = True) -> Image:
    """Read whatever picture OpenCV can, turned upright as its EXIF says or as it is stored; BGR, 8 bits.

    Raises:
        PictureUnreadableError: It cannot be read, or decoded.
    """
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        if file.stat().st_size > _MAX_PICTURE_BYTES:
            raise PictureUnreadableError("larger than 256 MiB")
        data = np.fromfile(file, np.uint8)
        image = cv2.imdecode(data, flags) if data.size else None
    except OSError as error:
        raise PictureUnreadableError(error.strerror or "cannot be read") from None
    except cv2.error:
        raise PictureUnreadableError("cannot be decoded") from None
    if image is None or image.ndim != 3:
        raise PictureUnreadableError("not a picture, or a damaged one")
    return image


def as_stored(upright: Image, stored: Image) -> Callable[[Box], Box]:
    """What turns boxes of a picture that was turned upright into those of its stored pixels.

    dlib, whose documents boxes are compared with, knows nothing of EXIF. How the picture was turned is told
    from its pixels: it is one of eight ways.
    """
    height, width = upright.shape[:2]
    for turned, down, across in itertools.product((False, True), (1, -1), (1, -1)):
        like = (stored.transpose(1, 0, 2) if turned else stored)[::down, ::across]
        if np.array_equal(like, upright):
            break
    else:
        turned, down, across = False, 1, 1

    def back(box: Box) -> Box:
        x, y, w, h = box
        x, y = x if across > 0 else width - x - w, y if down > 0 else height - y - h
        return (y, x, h, w) if turned else (x, y, w, h)

    return back


def most_prominent(faces: Sequence[AnalyzedFace], image: Image) -> AnalyzedFace:
    """The face that a picture is of, where there are several: large and in the middle.

    Area less twice the square of the distance from the middle, as insightface's evaluations choose it, of
    those that are about as certain as the most certain one. What overlaps a more certain one, as bowed heads
    have a second face of hair, is out.
    """
    height, width = image.shape[:2]
    least = max(face.score for face in faces) - _AS_CERTAIN

    def prominence(face: AnalyzedFace) -> float:
        left, top, across, down = face.box_px
        beside, above = left + across / 2 - width / 2, top + down / 2 - height / 2
        return float(across * down - 2 * (beside * beside + above * above))

    def beaten(face: AnalyzedFace) -> bool:
        return any(
            other.score > face.score
            and intersection(face.box_px, other.box_px)
            > _OVERLAPS * min(face.box_px[2] * face.box_px[3], other.box_px[2] * other.box_px[3])
            for other in faces
        )

    return max((face for face in faces if face.score >= least and not beaten(face)), key=prominence)
