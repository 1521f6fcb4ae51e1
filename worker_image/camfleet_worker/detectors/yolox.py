"""YOLOX object detection (Ge et al.: "YOLOX: Exceeding YOLO Series in 2021"): the 80 classes of COCO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from camfleet_protocol.detections import MAX_DETECTIONS, Detection
from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError, unit_box
from camfleet_worker.detectors.coco import COCO_CLASSES
from camfleet_worker.detectors.letterbox import Letterbox
from camfleet_worker.detectors.session import make_session
from camfleet_worker.detectors.weights import find_weights, identity_of
from camfleet_worker.picture import Image

WEIGHTS = ("yolox_nano.onnx", "yolox*.onnx")
STRIDES = (8, 16, 32)
NMS_IOU = 0.45
"""As in YOLOX's own ONNX demo."""
FILL = 114
"""Grey of what the picture does not fill, as in training."""
_SHARED_WIDTH = 640
"""As wide as other detectors and most streams take a picture: then it is converted for all of them once."""
_MAX_CANDIDATES = 1000
_LEAST_CONFIDENCE = 0.05

Rows = NDArray[np.float32]
"""n x 6: left, top, right, bottom in pixels of the model's input, score, number of the class."""


class YoloxDetector:
    """Finds objects of COCO's classes; the label is the class.

    Any YOLOX model exported without decoding in it, of any size, does; YOLOX-nano is the default.
    """

    kind = "object"

    def __init__(self, context: DetectorContext) -> None:
        path = find_weights(context, WEIGHTS, "object detector")
        self._session = make_session(path, context)
        self._input = self._session.get_inputs()[0].name
        width, height = _input_size(self._session.get_inputs()[0].shape, path.name)
        self._letterbox = Letterbox(width, height, FILL)
        self._cells, self._strides = grid(width, height)
        _check_output(self._session.get_outputs(), len(self._cells), path.name)
        self.identity = identity_of(path.stem, path)
        self.input_width = max(_SHARED_WIDTH, width)

    def detect(self, image: Image, *, confidence: float) -> Sequence[Detection]:
        """Find objects."""
        height, width = image.shape[:2]
        filled, scale = self._letterbox.fit(image)
        (output,) = self._session.run(None, {self._input: cv2.dnn.blobFromImage(filled)})
        rows = suppress(
            decode(output[0], self._cells, self._strides, max(confidence, _LEAST_CONFIDENCE)), NMS_IOU
        )
        found: list[Detection] = []
        for left, top, right, bottom, score, number in rows[:MAX_DETECTIONS].tolist():
            box = unit_box(
                left / scale / width, top / scale / height, right / scale / width, bottom / scale / height
            )
            if box is not None:
                label = COCO_CLASSES[int(number)]
                found.append(Detection(kind=self.kind, label=label, score=min(1.0, score), box=box))
        return found


def grid(width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each cell, in the model's order: left upper corner in cells (n x 2), stride in pixels (n x 1)."""
    cells: list[Any] = []
    strides: list[Any] = []
    for stride in STRIDES:
        down, across = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack((across.reshape(-1), down.reshape(-1)), axis=1))
        strides.append(np.full((across.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def decode(
    output: NDArray[np.float32],
    cells: NDArray[np.float32],
    strides: NDArray[np.float32],
    confidence: float,
) -> Rows:
    """Candidates of one picture, each with the class that it is most like.

    Args:
        output: n x 85: centre as an offset in cells, log of the size in cells, whether there is anything,
            and how likely each class is.
        cells: As `grid` makes them.
        strides: The same.
        confidence: Lowest score, which is the product of the last two.
    """
    likely = np.flatnonzero(output[:, 4] >= confidence)  # no class is likelier than that there is anything
    classes = output[likely, 5:]
    numbers = classes.argmax(axis=1)
    scores = output[likely, 4] * classes[np.arange(len(likely)), numbers]
    counts = scores >= confidence
    kept = likely[counts]
    rows = np.empty((len(kept), 6), np.float32)
    centre = (output[kept, 0:2] + cells[kept]) * strides[kept]
    half = np.exp(np.minimum(output[kept, 2:4], 10)) * strides[kept] / 2
    rows[:, 0:2] = centre - half
    rows[:, 2:4] = centre + half
    rows[:, 4] = scores[counts]
    rows[:, 5] = numbers[counts]
    return rows[np.argsort(-rows[:, 4])[:_MAX_CANDIDATES]]


def suppress(rows: Rows, overlap: float) -> Rows:
    """Leave out what overlaps more likely things of its own class by more than `overlap` (IoU)."""
    if not len(rows):
        return rows
    boxes = np.concatenate((rows[:, :2], rows[:, 2:4] - rows[:, :2]), axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        boxes.tolist(), rows[:, 4].tolist(), rows[:, 5].astype(int).tolist(), 0.0, overlap
    )
    chosen = rows[np.asarray(kept, dtype=np.intp).reshape(-1)]
    return chosen[np.argsort(-chosen[:, 4], kind="stable")]


def _input_size(shape: Sequence[Any], name: str) -> tuple[int, int]:
    fits = len(shape) == 4 and shape[1] == 3 and all(isinstance(side, int) for side in shape[2:])
    if not fits or any(side < 64 or side > 4096 or side % max(STRIDES) for side in shape[2:]):
        raise InferenceUnavailableError(
            "ModelInvalid",
            f"{name} takes {list(shape)}, not one picture 3 x HEIGHT x WIDTH in multiples of {max(STRIDES)}",
        )
    return shape[3], shape[2]


def _check_output(outputs: Sequence[Any], cells: int, name: str) -> None:
    wanted = [cells, 5 + len(COCO_CLASSES)]
    shape = list(outputs[0].shape)
    if len(outputs) != 1 or shape[1:] != wanted:
        raise InferenceUnavailableError(
            "ModelInvalid",
            f"{name} gives {shape}, not [1, {wanted[0]}, {wanted[1]}] as YOLOX with COCO's classes",
        )
