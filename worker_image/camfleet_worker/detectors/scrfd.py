"""SCRFD face detection (Guo et al.: "Sample and Computation Redistribution for Efficient Face Detection").

Its published weights, by the makers of insightface, are for non-commercial research only: they are never
fetched, and used only where somebody has put them into the model folder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from camfleet_protocol.detections import MAX_DETECTIONS, Detection
from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError, unit_box
from camfleet_worker.detectors.letterbox import Letterbox
from camfleet_worker.detectors.session import make_session
from camfleet_worker.detectors.weights import find_weights, identity_of
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Image

logger = get_logger(__name__)

WEIGHTS = ("scrfd*.onnx", "det_*.onnx")
STRIDES = (8, 16, 32)
ANCHORS = 2
"""A cell."""
NMS_IOU = 0.4
"""This, mean and deviation as in insightface's own SCRFD."""
_MEAN, _DEVIATION = 127.5, 128.0
_WIDTH = 640
_ALIGN = max(STRIDES)
_MAX_CANDIDATES = 1000
_LEAST_CONFIDENCE = 0.05

Rows = NDArray[np.float32]
"""n x 15: left, top, right, bottom, score, five landmarks (x, y); pixels of the model's input."""


@dataclass(frozen=True, slots=True)
class _Heads:
    """Positions of a model's outputs, by stride."""

    scores: tuple[int, ...]
    boxes: tuple[int, ...]
    landmarks: tuple[int, ...]


class ScrfdDetector:
    """Finds faces, with five landmarks where the model gives them."""

    kind = "face"
    input_width = _WIDTH

    def __init__(self, context: DetectorContext) -> None:
        path = find_weights(context, WEIGHTS, "face detector")
        self._session = make_session(path, context)
        self._input = self._session.get_inputs()[0].name
        self._heads = _heads(len(self._session.get_outputs()), path.name)
        self._fixed = _fixed_size(self._session.get_inputs()[0].shape, path.name)
        self._letterbox: Letterbox | None = None
        if self._fixed is not None:
            self.input_width = max(_WIDTH, self._fixed[0])
        self.identity = identity_of(path.stem, path)
        logger.warning("%s: weights by insightface are licensed for non-commercial research only", path.name)

    def detect(self, image: Image, *, confidence: float) -> Sequence[Detection]:
        """Find faces."""
        height, width = image.shape[:2]
        filled, scale = self._fit(image)
        blob = cv2.dnn.blobFromImage(filled, 1 / _DEVIATION, mean=(_MEAN, _MEAN, _MEAN), swapRB=True)
        outputs = self._session.run(None, {self._input: blob})
        rows = suppress(self._decode(outputs, filled, max(confidence, _LEAST_CONFIDENCE)))
        rows[:, [0, 2, *range(5, 15, 2)]] /= scale * width
        rows[:, [1, 3, *range(6, 15, 2)]] /= scale * height
        return [found for row in rows[:MAX_DETECTIONS] if (found := self._detection(row)) is not None]

    def _fit(self, image: Image) -> tuple[Image, float]:
        """The picture as the model takes it; one that takes any size gets no more than needs be."""
        height, width = image.shape[:2]
        size = self._fixed or (math.ceil(width / _ALIGN) * _ALIGN, math.ceil(height / _ALIGN) * _ALIGN)
        box = self._letterbox
        if box is None or (box.width, box.height) != size:
            box = self._letterbox = Letterbox(size[0], size[1], fill=0)
        if self._fixed is not None:
            return box.fit(image)
        return box.place(image), 1.0

    def _decode(self, outputs: Sequence[Any], filled: Image, confidence: float) -> Rows:
        height, width = filled.shape[:2]
        flat = [np.asarray(output).reshape(-1, np.shape(output)[-1]) for output in outputs]
        found: list[Rows] = []
        for index, stride in enumerate(STRIDES):
            landmarks = flat[self._heads.landmarks[index]] if self._heads.landmarks else None
            scores, boxes = flat[self._heads.scores[index]], flat[self._heads.boxes[index]]
            found.append(decode(stride, (height, width), scores, boxes, landmarks, confidence))
        return np.concatenate(found)

    def _detection(self, row: NDArray[np.float32]) -> Detection | None:
        left, top, right, bottom, score, *points = (float(value) for value in row)
        box = unit_box(left, top, right, bottom)
        if box is None:
            return None
        inside = [min(1.0, max(0.0, value)) for value in points] if self._heads.landmarks else []
        return Detection(
            kind=self.kind,
            label="face",
            score=min(1.0, score),
            box=box,
            landmarks=tuple(zip(inside[0::2], inside[1::2], strict=True)),
        )


def decode(
    stride: int,
    size: tuple[int, int],
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    landmarks: NDArray[np.float32] | None,
    confidence: float,
) -> Rows:
    """Candidates of one stride: distances in strides from the cell's corner, a cell's anchors in succession.

    Args:
        stride: Pixels a cell.
        size: Height and width of the model's input, pixels.
        scores: n x 1.
        boxes: n x 4, to the left, up, right and down.
        landmarks: n x 10, offsets x and y of five points; None if the model has none.
        confidence: Lowest score.
    """
    kept = np.flatnonzero(scores[:, 0] >= confidence)
    cell = kept // ANCHORS
    columns = math.ceil(size[1] / stride)
    corner = np.stack((cell % columns, cell // columns), axis=1).astype(np.float32) * stride
    rows = np.zeros((len(kept), 15), np.float32)
    rows[:, 0:2] = corner - boxes[kept, 0:2] * stride
    rows[:, 2:4] = corner + boxes[kept, 2:4] * stride
    rows[:, 4] = scores[kept, 0]
    if landmarks is not None:
        rows[:, 5:15] = landmarks[kept] * stride + np.tile(corner, 5)
    return rows


def suppress(rows: Rows) -> Rows:
    """The likeliest first, without what overlaps likelier ones."""
    rows = rows[np.argsort(-rows[:, 4], kind="stable")[:_MAX_CANDIDATES]]
    if not len(rows):
        return rows
    boxes = np.concatenate((rows[:, :2], rows[:, 2:4] - rows[:, :2]), axis=1)
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), rows[:, 4].tolist(), 0.0, NMS_IOU)
    return rows[np.asarray(kept, dtype=np.intp).reshape(-1)]


def _heads(count: int, name: str) -> _Heads:
    """Outputs are scores, then boxes, then landmarks if there are any, each by rising stride."""
    if count not in (2 * len(STRIDES), 3 * len(STRIDES)):
        raise InferenceUnavailableError(
            "ModelInvalid", f"{name} has {count} outputs, not 6 or 9 as SCRFD with strides of 8, 16 and 32"
        )
    parts = [tuple(range(start, start + len(STRIDES))) for start in range(0, count, len(STRIDES))]
    return _Heads(parts[0], parts[1], parts[2] if len(parts) == 3 else ())


def _fixed_size(shape: Sequence[Any], name: str) -> tuple[int, int] | None:
    if len(shape) != 4 or shape[1] not in (3, "3"):
        raise InferenceUnavailableError(
            "ModelInvalid", f"{name} takes {list(shape)}, not pictures of 3 colours"
        )
    height, width = shape[2], shape[3]
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    if any(side < _ALIGN or side > 4096 or side % _ALIGN for side in (height, width)):
        raise InferenceUnavailableError(
            "ModelInvalid", f"{name} takes pictures of {width} x {height}, which are no multiples of {_ALIGN}"
        )
    return width, height
