"""Both back ends of YuNet find the same faces, and the right ones."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from camfleet_protocol.detections import Detection
from camfleet_worker.detectors.base import (
    DetectorContext,
    InferenceUnavailableError,
    load_detector,
    load_engine,
)
from camfleet_worker.detectors.yunet import YuNetDetector
from support.require import model_dir, sample

PORTRAITS = {
    "obama.jpg": 1,
    "obama1.jpg": 1,
    "obama2.jpg": 1,
    "biden.jpg": 1,
    "biden2.jpg": 1,
    "obama_and_biden.jpg": 3,  # two in front, one behind
}


def iou(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    return across * down / (one[2] * one[3] + other[2] * other[3] - across * down)


def _detect(image: np.ndarray, backend: str) -> Sequence[Detection]:
    detector = YuNetDetector(DetectorContext(model_dir(), backend=backend))  # type: ignore[arg-type]
    return sorted(detector.detect(image, confidence=0.7), key=lambda face: face.box)


@pytest.mark.parametrize("width", [320, 640, 637])
@pytest.mark.parametrize("name", PORTRAITS)
def test_back_ends_agree(name: str, width: int) -> None:
    image = cv2.imread(str(sample(f"people/{name}")))
    assert image is not None
    image = cv2.resize(image, (width, round(image.shape[0] * width / image.shape[1])))
    ours, theirs = _detect(image, "onnxruntime"), _detect(image, "opencv")
    assert len(ours) == len(theirs) == PORTRAITS[name]
    for one, other in zip(ours, theirs, strict=True):
        assert iou(one.box, other.box) > 0.95
        assert one.score == pytest.approx(other.score, abs=0.02)
        assert np.allclose(one.landmarks, other.landmarks, atol=0.01)


def test_landmarks_are_where_a_face_has_them() -> None:
    image = cv2.imread(str(sample("people/obama.jpg")))
    assert image is not None
    (face,) = _detect(cv2.resize(image, (640, 640 * image.shape[0] // image.shape[1])), "auto")
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    assert face.kind == "face" and len(face.landmarks) == 5
    assert right_eye[0] < nose[0] < left_eye[0] and right_mouth[0] < left_mouth[0]
    assert right_eye[1] < nose[1] < right_mouth[1]
    left, top, across, down = face.box
    assert all(left < x < left + across and top < y < top + down for x, y in face.landmarks)


def test_boxes_at_the_edge_are_clipped_into_the_picture() -> None:
    image = cv2.imread(str(sample("people/obama.jpg")))
    assert image is not None
    image = cv2.resize(image, (640, 640 * image.shape[0] // image.shape[1]))
    (face,) = _detect(image, "auto")
    cut = round((face.box[0] + face.box[2] / 4) * 640)
    for found in _detect(image[:, cut:], "auto"):
        assert 0 <= found.box[0] and found.box[0] + found.box[2] <= 1 + 1e-9


def test_missing_weights_are_named(tmp_path: object) -> None:
    for folder in (None, tmp_path):
        with pytest.raises(InferenceUnavailableError, match=r"yunet_n_dynamic\.onnx") as caught:
            load_detector("yunet", DetectorContext(folder))  # type: ignore[arg-type]
        assert caught.value.reason == "ModelMissing"


def test_broken_weights_are_an_error_not_a_crash(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "yunet_n_dynamic.onnx").write_bytes(b"not a model")
    with pytest.raises(InferenceUnavailableError) as caught:
        load_detector("yunet", DetectorContext(folder))
    assert caught.value.reason == "ModelInvalid"


def test_a_missing_gpu_is_an_error_not_a_slow_worker() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(InferenceUnavailableError) as caught:
        load_detector("yunet", DetectorContext(model_dir(), provider="cuda"))
    assert caught.value.reason == "ProviderMissing"


def test_a_gpu_that_is_only_preferred_may_be_missing(caplog: pytest.LogCaptureFixture) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    load_detector("yunet", DetectorContext(model_dir(), provider="auto"))
    assert "runs on the CPU" in caplog.text


def test_unknown_plugins_are_named() -> None:
    with pytest.raises(InferenceUnavailableError, match="no detector named nonsense"):
        load_detector("nonsense", DetectorContext())
    with pytest.raises(InferenceUnavailableError, match="no engine named nonsense"):
        load_engine("nonsense")
