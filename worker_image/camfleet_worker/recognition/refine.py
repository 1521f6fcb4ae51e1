"""Landmarks once more, from the face alone and at the size at which they are best.

A detector that looks at a whole picture sees a face in few pixels, and what it says of eyes and mouth is as
coarse. Similarity of the sample portraits of one person, by the height of the face in the picture that YuNet
looked at; that of two persons is 0.03 to 0.1 on average:

| height, pixels | 15   | 25   | 40   | 60   | 90   | 120  | 220  | 480  |
|----------------|------|------|------|------|------|------|------|------|
| mean           | 0.34 | 0.61 | 0.67 | 0.69 | 0.73 | 0.75 | 0.74 | 0.75 |
| worst          | 0    | 0.36 | 0.47 | 0.60 | 0.62 | 0.63 | 0.63 | 0.68 |

A face of 130 pixels in a 1080p picture is one of 43 in the 640 pixels that detectors get. Looking again at
that face costs a third of the first look. And what was no face at the first look, a hand or gravel, mostly
is not found at the second.

In a stream (`SecondLook`) it is for faces that are small in the source. Similarity of the sample portraits to
themselves at full size, shrunk and then seen as in a 1080p picture, mean and worst:

| height in the source, pixels | 45          | 60          | 75          |
|------------------------------|-------------|-------------|-------------|
| landmarks of the first look  | 0.66   0.44 | 0.91   0.88 | 0.88   0.76 |
| of the second                | 0.91   0.87 | 0.94   0.92 | 0.95   0.93 |

Of a single picture, the median of several looks (`settled`) is better than any of them where heads are bowed
or turned. 237 faces of 50 people, cut out 250 x 250, one person's pairs accepted at 1 in 1000 false accepts:

| landmarks of | first look | second, 120 | 96   | 80   | median of these |
|--------------|------------|-------------|------|------|-----------------|
| accepted     | 82 %       | 87 %        | 88 % | 89 % | 88 %            |

Of good portraits the first look's are as good as the median, and those of a small second look alone are not.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from camfleet_worker.detectors.base import (
    Detector,
    DetectorContext,
    InferenceUnavailableError,
    load_detector,
)
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Image
from camfleet_worker.recognition.quality import Box

logger = get_logger(__name__)

GOOD_HEIGHT = 120
"""Pixels; of the face, as it is looked at again."""
_STREAM_HEIGHT, _STREAM_MARGIN = 96, 0.3
"""The same where time counts: half the cost, and as good for faces that are small in the source."""
WORTH_IT_BELOW = 80
"""Pixels; a face that was seen larger than this has good landmarks already."""
_MARGIN = 0.5
"""Of the box, on each side; what is looked at again."""
_SETTLING_HEIGHTS = (96, 80)
"""Pixels; of the face, where it is looked at yet again."""
_CONFIDENCE = 0.3
_SAME_FACE_IOU = 0.4


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A face in a picture: box and landmarks (5 x 2, as for `align_face`) in pixels, score 0 to 1."""

    box_px: Box
    landmarks_px: NDArray[np.float32]
    score: float


class LandmarkRefiner:
    """Looks again at faces that were found. One thread uses it."""

    def __init__(
        self,
        context: DetectorContext,
        *,
        detector: str = "yunet",
        height: int = GOOD_HEIGHT,
        margin: float = _MARGIN,
    ) -> None:
        self._detector = load_detector(detector, context)
        self._height = height
        self._margin = margin

    def refine(self, image: Image, face: FoundFace, *, seen_height: float) -> FoundFace:
        """The same face with better landmarks where they are worth it; its score stays.

        Args:
            image: height x width x 3, uint8, BGR, at its full size.
            face: As it was found.
            seen_height: Height of the face, in pixels, in the picture that it was found in.
        """
        again = self.look_again(image, face) if seen_height < WORTH_IT_BELOW else None
        return replace(again, score=face.score) if again is not None else face

    def settled(self, image: Image, face: FoundFace, looks: Sequence[FoundFace]) -> NDArray[np.float32]:
        """Landmarks that several looks at a face agree on: the median of those and of two more.

        Args:
            image: height x width x 3, uint8, BGR, at its full size.
            face: As it was found.
            looks: What is known of it so far, as far as it is worth it.
        """
        more = [self.look_again(image, face, height=height) for height in _SETTLING_HEIGHTS]
        known = [look.landmarks_px for look in (*looks, *more) if look is not None]
        return np.median(np.stack(known), axis=0).astype(np.float32)

    def look_again(self, image: Image, face: FoundFace, *, height: int | None = None) -> FoundFace | None:
        """The same face as it is found in its surroundings alone; None if it is not found there.

        Args:
            image: height x width x 3, uint8, BGR, at its full size.
            face: As it was found.
            height: That it is scaled to; this refiner's own unless given.
        """
        left, top, across, down = face.box_px
        x0, y0 = int(max(0, left - self._margin * across)), int(max(0, top - self._margin * down))
        x1, y1 = int(left + across * (1 + self._margin)) + 1, int(top + down * (1 + self._margin)) + 1
        crop = image[y0 : max(0, y1), x0 : max(0, x1)]
        if not crop.size or down < 1:
            return None
        factor = (height or self._height) / down
        size = (max(1, round(crop.shape[1] * factor)), max(1, round(crop.shape[0] * factor)))
        seen = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        scale = np.array([crop.shape[1] / size[0], crop.shape[0] / size[1]])
        again = [
            placed(other, scale, (x0, y0))
            for other in find_faces(self._detector, seen, confidence=_CONFIDENCE)
        ]
        best = max(again, key=lambda other: overlap(other.box_px, face.box_px), default=None)
        return best if best is not None and overlap(best.box_px, face.box_px) >= _SAME_FACE_IOU else None


class SecondLook:
    """Better landmarks for faces of a stream, small in the source, that are about to be embedded.

    It always runs on the CPU: each face is a picture of another size, for which a GPU prepares anew. Without
    YuNet's weights, or once it has failed, faces keep the landmarks they have. One thread uses it.
    """

    def __init__(self, context: DetectorContext) -> None:
        self._context = replace(context, provider="cpu")
        self._refiner: LandmarkRefiner | None = None
        self._works = True

    def landmarks(self, image: Image, box_px: Box, landmarks_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """The landmarks again where the face is small; those that were given where it is not, or not found.

        Args:
            image: The face with its surroundings, at the source's size.
            box_px: Of the face, pixels of `image`.
            landmarks_px: 5 x 2, as they were found.
        """
        if not self._works or box_px[3] >= WORTH_IT_BELOW:
            return landmarks_px
        face = FoundFace(box_px, landmarks_px, 1.0)
        try:
            if self._refiner is None:
                self._refiner = LandmarkRefiner(self._context, height=_STREAM_HEIGHT, margin=_STREAM_MARGIN)
            return self._refiner.refine(image, face, seen_height=box_px[3]).landmarks_px
        except Exception as error:  # a model may raise anything; the face is compared without it
            self._works, self._refiner = False, None
            missing = isinstance(error, InferenceUnavailableError)
            level = logging.INFO if missing else logging.ERROR
            logger.log(
                level, "small faces are compared as they are first seen: %s", error, exc_info=not missing
            )
            return landmarks_px


def find_faces(detector: Detector, image: Image, *, confidence: float) -> list[FoundFace]:
    """Faces with five landmarks, in pixels of `image`."""
    size = np.array([image.shape[1], image.shape[0]], np.float32)
    found = []
    for detection in detector.detect(image, confidence=confidence):
        if detection.kind == "face" and len(detection.landmarks) == 5:
            left, top, width, height = (
                float(value) for value in np.multiply(detection.box, np.tile(size, 2))
            )
            landmarks = np.asarray(detection.landmarks, np.float32) * size
            found.append(FoundFace((left, top, width, height), landmarks, detection.score))
    return found


def placed(face: FoundFace, scale: NDArray[np.float64], offset: tuple[float, float]) -> FoundFace:
    """A face found in a piece of a picture, in pixels of the whole."""
    left, top, width, height = face.box_px
    box = (left * scale[0] + offset[0], top * scale[1] + offset[1], width * scale[0], height * scale[1])
    landmarks = (face.landmarks_px * scale + offset).astype(np.float32)
    return FoundFace((float(box[0]), float(box[1]), float(box[2]), float(box[3])), landmarks, face.score)


def overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    shared = intersection(one, other)
    union = one[2] * one[3] + other[2] * other[3] - shared
    return shared / union if union > 0 else 0.0


def intersection(one: Box, other: Box) -> float:
    """Area that two boxes share."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, down)
