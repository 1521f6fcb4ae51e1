"""Faces of single pictures: what enrolment, search by picture and `camfleet eval` use.

Detectors, alignment and embedding are those of a stream. What differs is that nothing is known about a
single picture: a portrait may fill it, a group photo may have faces of 15 pixels in 12 megapixels. So it is
looked at in several sizes, with a border around it, and where nothing is found a weaker finding will do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from camfleet_worker.detectors.base import DetectorContext, load_detector
from camfleet_worker.picture import Image
from camfleet_worker.recognition.align import align_face
from camfleet_worker.recognition.embedder import load_embedder
from camfleet_worker.recognition.quality import Box, FaceQuality, measure
from camfleet_worker.recognition.refine import (
    WORTH_IT_BELOW,
    FoundFace,
    LandmarkRefiner,
    find_faces,
    intersection,
    overlap,
    placed,
)

MAX_FACES = 20
CONFIDENCE = 0.6
_WEAK = 0.35
"""At the first look; enough for a picture in which nothing better is found."""
_AGAIN = 0.5
"""At the second look; what was no face in the sample pictures was mostly not found again, or with less."""
_MAX_CANDIDATES = 200
_TINY_SEEN = 16
_TINY_CONFIDENCE = 0.75
"""What is seen this small is as easily a dot of a tie's pattern."""
_SIZES = (320, 640)
"""Pixels of the longer side; the smaller one with a border, for faces that fill the picture."""
_BORDER = 0.25
_WHOLE = 1280
"""Pixels of the longer side up to which a picture is looked at as a whole; beyond, in tiles."""
_TILED = 3840
_TILE = 1280
_TILE_OVERLAP = 160
_FINER = 1.25
"""A size is worth a look if it is so many times the one before."""
_SAME_IOU = 0.4
_NESTED = 0.75


@dataclass(frozen=True, slots=True)
class AnalyzedFace:
    """A face with all that is known about it.

    Attributes:
        box_px: Left, top, width, height in pixels of the picture.
        landmarks_px: 5 x 2, float32: right eye, left eye, nose, right and left corner of the mouth.
        score: The detector's, 0 to 1.
        quality: Size, sharpness and pose.
        embedding: float32, of length 1.
        aligned: 112 x 112 x 3, uint8, BGR; what was embedded.
    """

    box_px: Box
    landmarks_px: NDArray[np.float32]
    score: float
    quality: FaceQuality
    embedding: NDArray[np.float32]
    aligned: Image


class FaceFinder:
    """Finds the faces of a picture. One thread uses it."""

    def __init__(
        self, context: DetectorContext, *, detector: str = "yunet", confidence: float = CONFIDENCE
    ) -> None:
        self._detector = load_detector(detector, context)
        self._refiner = LandmarkRefiner(context, detector=detector)
        self._confidence = confidence

    def find(self, image: Image, *, max_faces: int | None = None, weaker: bool = True) -> list[FoundFace]:
        """All faces, the largest first.

        What is as certain as `confidence` is looked at again, alone, and counts if it is found there too; its
        score is the mean of both, its landmarks are the median of several looks.

        Args:
            image: height x width x 3, uint8, BGR.
            max_faces: So many at most.
            weaker: Where there is none, the most certain one that was found twice will do.
        """
        candidates = [
            (placed(face, np.full(2, 1 / scale), offset), face.box_px[3])
            for seen, scale, offset in looks(image)
            for face in find_faces(self._detector, seen, confidence=min(_WEAK, self._confidence))
        ]
        candidates.sort(key=lambda item: item[0].score, reverse=True)
        certain: list[_Twice] = []
        weak: list[_Twice] = []
        for face, seen_height in _distinct(candidates)[:_MAX_CANDIDATES]:
            again = self._refiner.look_again(image, face)
            if again is None:
                continue
            needed = max(self._confidence, _TINY_CONFIDENCE) if seen_height < _TINY_SEEN else self._confidence
            found = certain if face.score >= needed and again.score >= _AGAIN else weak
            found.append(_Twice(face, again, seen_height >= WORTH_IT_BELOW))
        if weaker and not certain:
            certain = sorted(weak, key=lambda twice: twice.score, reverse=True)[:1]
        certain.sort(key=lambda twice: twice.box_px[2] * twice.box_px[3], reverse=True)
        return [self._settled(image, twice) for twice in certain[:max_faces]]

    def _settled(self, image: Image, twice: _Twice) -> FoundFace:
        looks = (twice.first, twice.second) if twice.first_is_fine else (twice.second,)
        landmarks = self._refiner.settled(image, twice.first, looks)
        return FoundFace(twice.box_px, landmarks, twice.score)


@dataclass(frozen=True, slots=True)
class _Twice:
    """A face that was found at both looks; where the first one was coarse, its box is the second's."""

    first: FoundFace
    second: FoundFace
    first_is_fine: bool

    @property
    def score(self) -> float:
        return (self.first.score + self.second.score) / 2

    @property
    def box_px(self) -> Box:
        return (self.first if self.first_is_fine else self.second).box_px


class FaceAnalyzer:
    """Finds and embeds the faces of a picture. One thread uses it.

    Attributes:
        embedder: The model of the vectors.

    Raises:
        InferenceUnavailableError: Weights are missing or cannot be used.
    """

    def __init__(
        self,
        context: DetectorContext,
        embedder: str = "mobilefacenet",
        *,
        detector: str = "yunet",
        confidence: float = CONFIDENCE,
    ) -> None:
        self.embedder = load_embedder(embedder, context)
        self.finder = FaceFinder(context, detector=detector, confidence=confidence)

    def analyze(self, image: Image, *, max_faces: int = MAX_FACES) -> list[AnalyzedFace]:
        """All faces, the largest first.

        Args:
            image: height x width x 3, uint8, BGR.
            max_faces: So many at most.
        """
        found = self.finder.find(image, max_faces=max_faces)
        aligned = [align_face(image, face.landmarks_px) for face in found]
        embeddings = self.embedder.embed(aligned)
        return [
            AnalyzedFace(
                box_px=face.box_px,
                landmarks_px=face.landmarks_px,
                score=face.score,
                quality=measure(image, face.box_px, face.landmarks_px, aligned=cut),
                embedding=embedding,
                aligned=cut,
            )
            for face, cut, embedding in zip(found, aligned, embeddings, strict=True)
        ]


def looks(image: Image) -> Iterator[tuple[Image, float, tuple[float, float]]]:
    """Pictures to look for faces in: pixels, their scale to `image`, and where in `image` they begin.

    Every picture is bounded to about 1280 x 1280, so that memory is; their number is, too.
    """
    whole, shrunk = _scaled(image, min(1.0, _TILED / max(image.shape[:2])))
    longer = max(whole.shape[:2])
    for size in _SIZES:
        seen, scale = _scaled(whole, size / longer)
        border = round(size * _BORDER) if size == _SIZES[0] else 0
        if border:
            seen = cv2.copyMakeBorder(seen, border, border, border, border, cv2.BORDER_CONSTANT)
        scale *= shrunk
        yield seen, scale, (-border / scale, -border / scale)
    if longer * _FINER <= _SIZES[-1]:
        yield whole, shrunk, (0.0, 0.0)
    if longer >= _SIZES[-1] * _FINER:
        seen, scale = _scaled(whole, min(1.0, _WHOLE / longer))
        yield seen, scale * shrunk, (0.0, 0.0)
    if longer >= _WHOLE * _FINER:
        for top in _starts(whole.shape[0]):
            for left in _starts(whole.shape[1]):
                tile = np.ascontiguousarray(whole[top : top + _TILE, left : left + _TILE])
                yield tile, shrunk, (left / shrunk, top / shrunk)


def _scaled(image: Image, scale: float) -> tuple[Image, float]:
    if scale == 1:
        return image, 1.0
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), scale


def _starts(length: int) -> Sequence[int]:
    """Where tiles begin, so that they overlap and none is smaller than it must be."""
    count = max(1, math.ceil((length - _TILE_OVERLAP) / (_TILE - _TILE_OVERLAP)))
    last = max(0, length - _TILE)
    return [round(last * index / max(1, count - 1)) for index in range(count)]


def _distinct(candidates: Sequence[tuple[FoundFace, float]]) -> list[tuple[FoundFace, float]]:
    """One finding of each face: of several, also of one within another, the most certain."""
    kept: list[tuple[FoundFace, float]] = []
    for face, seen in candidates:
        if not any(_same(face.box_px, other.box_px) for other, _ in kept):
            kept.append((face, seen))
    return kept


def _same(one: Box, other: Box) -> bool:
    smaller = min(one[2] * one[3], other[2] * other[3])
    return overlap(one, other) > _SAME_IOU or intersection(one, other) > _NESTED * smaller
