"""YuNet face detection (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", 2023).

Two back ends run the same weights, `yunet_n_dynamic.onnx`: ONNX Runtime with the decoding below, and OpenCV's
own `FaceDetectorYN`. `auto` is ONNX Runtime (figures in `YuNetDetector`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from camfleet_protocol.detections import MAX_DETECTIONS, Detection
from camfleet_worker.detectors.base import DetectorContext, unit_box
from camfleet_worker.detectors.session import make_session
from camfleet_worker.detectors.weights import find_weights, identity_of
from camfleet_worker.picture import Image

WEIGHTS = "yunet_n_dynamic.onnx"
STRIDES = (8, 16, 32)
NMS_IOU = 0.3
"""As in OpenCV's FaceDetectorYN."""
_MAX_CANDIDATES = 5000
_ALIGN = max(STRIDES)

Rows = NDArray[np.float32]
"""n x 15: left, top, width, height, five landmarks (x, y), score; pixels of the picture given."""


class _Backend(Protocol):
    def find(self, image: Image, confidence: float) -> Rows: ...


class YuNetDetector:
    """Finds faces with five landmarks.

    Milliseconds of CPU a picture (one thread, 2-core Xeon), and faces found a picture in a 1080p street view
    with 3 to 8 people, by the width that the picture is scaled to; both back ends find the same faces:

    | width | ONNX Runtime | OpenCV | faces |
    |-------|--------------|--------|-------|
    | 320   | 1.1          | 2.7    | 4.1   |
    | 640   | 4.1          | 10.0   | 6.6   |
    | 1280  | 22.6         | 46.1   | 6.8   |
    | 1920  | 63.8         | 117    | 7.3   |

    So `auto` is ONNX Runtime, and 640: twice the width costs five times as much for 2 % more faces.
    """

    kind = "face"
    input_width = 640

    def __init__(self, context: DetectorContext) -> None:
        path = find_weights(context, (WEIGHTS,), "face detector")
        self.identity = identity_of("yunet", path)
        self._backend: _Backend = (
            OpenCvYuNet(path) if context.backend == "opencv" else OnnxYuNet(path, context)
        )

    def detect(self, image: Image, *, confidence: float) -> Sequence[Detection]:
        """Find faces."""
        height, width = image.shape[:2]
        rows = self._backend.find(image, max(confidence, 0.02))
        found = (_detection(row, width, height) for row in rows[:MAX_DETECTIONS])
        return [detection for detection in found if detection is not None]


class OnnxYuNet:
    """YuNet on ONNX Runtime."""

    def __init__(self, path: Path, context: DetectorContext) -> None:
        self._session = make_session(path, context)
        self._outputs = [f"{head}_{stride}" for stride in STRIDES for head in ("cls", "obj", "bbox", "kps")]
        self._input = self._session.get_inputs()[0].name
        self._padded: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)

    def find(self, image: Image, confidence: float) -> Rows:
        """Run the model and decode its output."""
        height, width = image.shape[:2]
        padded_height, padded_width = (math.ceil(side / _ALIGN) * _ALIGN for side in (height, width))
        if (height, width) != (padded_height, padded_width):
            if self._padded.shape[:2] != (padded_height, padded_width):
                self._padded = np.zeros((padded_height, padded_width, 3), np.uint8)
            self._padded[:] = 0
            self._padded[:height, :width] = image
            image = self._padded
        blob = cv2.dnn.blobFromImage(image)
        outputs = self._session.run(self._outputs, {self._input: blob})
        found = [
            _decode(stride, padded_width // stride, confidence, *outputs[4 * index : 4 * index + 4])
            for index, stride in enumerate(STRIDES)
        ]
        return _suppress(np.concatenate(found), confidence)


class OpenCvYuNet:
    """YuNet by OpenCV's `FaceDetectorYN`."""

    def __init__(self, path: Path) -> None:
        self._detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), 0.7, NMS_IOU, _MAX_CANDIDATES)
        self._size = (320, 320)
        self._confidence = 0.7

    def find(self, image: Image, confidence: float) -> Rows:
        """Run the detector."""
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            self._detector.setInputSize(size)
            self._size = size
        if confidence != self._confidence:
            self._detector.setScoreThreshold(confidence)
            self._confidence = confidence
        _, rows = self._detector.detect(image)
        return np.zeros((0, 15), np.float32) if rows is None else np.asarray(rows, np.float32)


def _decode(stride: int, columns: int, confidence: float, cls: Any, obj: Any, bbox: Any, kps: Any) -> Rows:
    """Candidates of one stride: boxes are centre offset and log size in strides, from the cell's corner."""
    scores = np.sqrt(np.clip(cls[0, :, 0], 0, 1) * np.clip(obj[0, :, 0], 0, 1))
    kept = np.flatnonzero(scores >= confidence)
    if not kept.size:
        return np.zeros((0, 15), np.float32)
    rows = np.empty((kept.size, 15), np.float32)
    cell_y, cell_x = np.divmod(kept, columns)
    box = bbox[0, kept]
    size = np.exp(box[:, 2:4]) * stride
    centre = np.stack((cell_x, cell_y), axis=1) + box[:, 0:2]
    rows[:, 0:2] = centre * stride - size / 2
    rows[:, 2:4] = size
    rows[:, 4:14:2] = (kps[0, kept, 0::2] + cell_x[:, np.newaxis]) * stride
    rows[:, 5:14:2] = (kps[0, kept, 1::2] + cell_y[:, np.newaxis]) * stride
    rows[:, 14] = scores[kept]
    return rows


def _suppress(rows: Rows, confidence: float) -> Rows:
    if not len(rows):
        return rows
    kept = cv2.dnn.NMSBoxes(
        rows[:, :4].tolist(), rows[:, 14].tolist(), confidence, NMS_IOU, 1.0, _MAX_CANDIDATES
    )
    return rows[np.asarray(kept, dtype=np.intp).reshape(-1)]


def _detection(row: Any, width: int, height: int) -> Detection | None:
    left, top, across, down = (float(value) for value in row[:4])
    box = unit_box(left / width, top / height, (left + across) / width, (top + down) / height)
    if box is None:
        return None
    landmarks = tuple(
        (
            min(1.0, max(0.0, float(row[4 + 2 * index]) / width)),
            min(1.0, max(0.0, float(row[5 + 2 * index]) / height)),
        )
        for index in range(5)
    )
    return Detection(
        kind="face", label="face", score=min(1.0, max(0.0, float(row[14]))), box=box, landmarks=landmarks
    )
