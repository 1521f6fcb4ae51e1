"""YOLOX and SCRFD decode as their authors' code does, find what is there, and share one decoded picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from camfleet_worker.detectors import scrfd, yolox
from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError, load_detector
from camfleet_worker.detectors.coco import COCO_CLASSES
from camfleet_worker.detectors.letterbox import Letterbox
from camfleet_worker.sources.video import VideoPicture
from camfleet_worker.watchdog import EXIT_CODE
from support.fake_gateway import fake_gateway
from support.require import model_dir, sample
from support.worker_process import worker_process

Array = NDArray[np.float32]


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """IoU of two boxes given by their edges."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, across) * max(0.0, down)
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return both / (areas - both)


def _greedy(
    rows: list[list[float]], score: int, overlap: float, classes: int | None = None
) -> list[list[float]]:
    """Suppression as in the books."""
    kept: list[list[float]] = []
    for row in sorted(rows, key=lambda row: -row[score]):
        rivals = [k for k in kept if classes is None or k[classes] == row[classes]]
        if all(_overlap(row, rival) <= overlap for rival in rivals):
            kept.append(row)
    return kept


def _save(path: Path, nodes: Sequence[Any], shape: Sequence[Any], outputs: Sequence[tuple[str, Any]]) -> None:
    graph = helper.make_graph(
        list(nodes),
        "made_by_a_test",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, form) for name, form in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _constant(name: str, value: Any) -> Any:
    tensor = numpy_helper.from_array(np.asarray(value))
    return helper.make_node("Constant", [], [name], value=tensor)


# ── Letterbox ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("shape", "inside", "scale"),
    [
        ((432, 768), (234, 416), 416 / 768),
        ((768, 432), (416, 234), 416 / 768),
        ((416, 416), (416, 416), 1.0),
        ((104, 208), (208, 416), 2.0),
        ((2, 2000), (1, 416), 0.208),
    ],
)
def test_letterbox(shape: tuple[int, int], inside: tuple[int, int], scale: float) -> None:
    box = Letterbox(416, 416, fill=114)
    box.fit(np.zeros((416, 416, 3), np.uint8))  # what was there before must be gone
    filled, found = box.fit(np.full((*shape, 3), 200, np.uint8))
    assert found == pytest.approx(scale)
    assert (filled[: inside[0], : inside[1]] == 200).all()
    assert (filled[inside[0] :] == 114).all() and (filled[:, inside[1] :] == 114).all()


# ── YOLOX ───────────────────────────────────────────────────────────────────────────────────────────


def test_coco() -> None:
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES)) == 80
    assert (COCO_CLASSES[0], COCO_CLASSES[2], COCO_CLASSES[62], COCO_CLASSES[79]) == (
        "person",
        "car",
        "tv",
        "toothbrush",
    )


def _yolox_reference(output: Array, size: int, confidence: float) -> list[list[float]]:
    """As `demo_postprocess` and the class-aware suppression of YOLOX's ONNX demo, cell by cell."""
    rows: list[list[float]] = []
    cell = 0
    for stride in (8, 16, 32):
        for y in range(size // stride):
            for x in range(size // stride):
                row = output[cell]
                cell += 1
                score = float(row[4] * row[5:].max())
                if score < confidence:
                    continue
                centre_x, centre_y = (float(row[0]) + x) * stride, (float(row[1]) + y) * stride
                width, height = np.exp(row[2]) * stride, np.exp(row[3]) * stride
                left, top = centre_x - width / 2, centre_y - height / 2
                rows.append([left, top, left + width, top + height, score, int(row[5:].argmax())])
    return _greedy(rows, 4, yolox.NMS_IOU, classes=5)


def test_yolox_decodes_as_its_authors_do() -> None:
    size = 96
    cells, strides = yolox.grid(size, size)
    random = np.random.default_rng(6)
    output = random.uniform(0, 1, (len(cells), 85)).astype(np.float32)
    output[:, 2:4] = random.uniform(-0.5, 1.5, (len(cells), 2))
    output[:, 4] **= 3  # few are sure
    ours = yolox.suppress(yolox.decode(output, cells, strides, 0.4), yolox.NMS_IOU)
    theirs = np.asarray(_yolox_reference(output, size, 0.4))
    assert 10 < len(theirs) < len(cells) / 2
    assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-3)


def _yolox_model(
    folder: Path,
    things: Sequence[tuple[int, str, float]],
    size: tuple[int, int] = (64, 128),
    classes: int = 80,
) -> Path:
    """A YOLOX of `size` (height, width) that finds these things (cell, class, score), 2 x 2 cells each."""
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    output = np.zeros((1, cells, 5 + classes), np.float32)
    for cell, label, score in things:
        output[0, cell, :5] = 0.5, 0.5, np.log(2), np.log(2), 1
        output[0, cell, 5 + COCO_CLASSES.index(label)] = score
    nodes = [_constant("output", output)]
    _save(folder / "yolox_made.onnx", nodes, [1, 3, *size], [("output", list(output.shape))])
    return folder


def test_yolox_of_another_size_and_suppression_by_class(tmp_path: Path) -> None:
    # 8 x 16 cells of 8 pixels: 35 is the cell 3, 2, its neighbour 36 overlaps; then 4 x 8 cells of 16 pixels.
    things = [(35, "person", 0.9), (36, "person", 0.8), (35 + 16, "dog", 0.7), (128 + 12, "car", 0.6)]
    detector = load_detector("yolox", DetectorContext(_yolox_model(tmp_path, things)))
    assert detector.input_width == 640
    found = detector.detect(np.zeros((128, 256, 3), np.uint8), confidence=0.5)
    assert [(thing.label, round(thing.score, 3)) for thing in found] == [
        ("person", 0.9),
        ("person", 0.8),
        ("dog", 0.7),
        ("car", 0.6),
    ]
    assert found[0].kind == "object" and not found[0].landmarks
    # Centre 3.5, 2.5 cells of 8 of 128 x 64 pixels, 16 wide and high.
    assert found[0].box == pytest.approx((20 / 128, 12 / 64, 16 / 128, 16 / 64))
    assert found[3].box == pytest.approx((56 / 128, 8 / 64, 32 / 128, 32 / 64))
    rows = np.asarray([[0, 0, 10, 10, 0.9, 0], [1, 0, 10, 10, 0.8, 0], [1, 0, 10, 10, 0.7, 16]], np.float32)
    assert yolox.suppress(rows, yolox.NMS_IOU)[:, 5].tolist() == [0, 16]
    assert not len(yolox.suppress(rows[:0], yolox.NMS_IOU))


def test_what_is_no_yolox_is_refused(tmp_path: Path) -> None:
    def reason(folder: Path | None) -> str:
        with pytest.raises(InferenceUnavailableError) as caught:
            load_detector("yolox", DetectorContext(folder))
        return f"{caught.value.reason}: {caught.value}"

    assert "ModelMissing" in reason(None) and "yolox_nano.onnx" in reason(tmp_path)
    assert "not [1, 168, 85]" in reason(_yolox_model(tmp_path, [], classes=3))
    assert "multiples of 32" in reason(_yolox_model(tmp_path, [], size=(72, 64)))
    (tmp_path / "yolox_nano.onnx").write_bytes(b"not a model")
    assert "ModelInvalid: yolox_nano.onnx" in reason(tmp_path)


def test_yolox_finds_each_person_of_the_clip_and_nobody_else() -> None:
    detector = load_detector("yolox", DetectorContext(model_dir()))
    assert detector.identity == "yolox_nano@695e750a5d57"  # type: ignore[attr-defined]
    there: list[bool] = []
    with av.open(str(sample("one-by-one-person-detection.mp4"))) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % 12 == 0:
                picture = VideoPicture(frame, number=number, captured_ns=0, discontinuity=False)
                found = detector.detect(picture.bgr(detector.input_width), confidence=0.5)
                people = [thing for thing in found if thing.label == "person"]
                assert len(people) <= 1, number
                there.append(bool(people))
    # Six people come and go, one by one, 10 pictures a second.
    arrivals = [n * 12 for n in range(1, len(there)) if there[n] and not there[n - 1]]
    assert len(arrivals) == 6, arrivals
    for arrived, seen in zip(arrivals, (64, 228, 506, 746, 932, 1238), strict=True):
        assert 0 <= arrived - seen < 24
    assert sum(there) / len(there) == pytest.approx(0.74, abs=0.03)


# ── SCRFD ───────────────────────────────────────────────────────────────────────────────────────────

_DISTANCES = np.asarray([[1.0, 0.5, 2.0, 1.5]], np.float32)
_POINTS = np.asarray([[-0.5, 0, 1.5, 0, 0.5, 0.5, -0.25, 1, 1.25, 1]], np.float32)


def _scrfd_model(path: Path, size: tuple[int, int] | None, landmarks: bool = True, heads: int = 3) -> None:
    """An SCRFD that sees a face where the picture is red, in the second anchor of each cell of 8 pixels.

    Scores are the red of a cell as it comes in, so colours, mean and deviation show in them.
    """
    nodes: list[Any] = [
        _constant("zero", np.float32(0)),
        _constant("one", np.float32(1)),
        _constant("column", np.asarray([-1, 1], np.int64)),
        _constant("first", np.asarray([0], np.int64)),
        _constant("second", np.asarray([1], np.int64)),
        _constant("channels", np.asarray([1], np.int64)),
        _constant("distances", _DISTANCES),
        _constant("points", _POINTS),
        helper.make_node("Slice", ["images", "first", "second", "channels"], ["red"]),
    ]
    outputs: dict[str, list[str]] = {"score": [], "bbox": [], "kps": []}
    for stride in (8, 16, 32)[:heads]:
        s = str(stride)
        strength = "one" if stride == 8 else "zero"
        nodes += [
            helper.make_node(
                "AveragePool", ["red"], [f"mean{s}"], kernel_shape=[stride, stride], strides=[stride, stride]
            ),
            helper.make_node("Mul", [f"mean{s}", strength], [f"other{s}"]),
            helper.make_node("Mul", [f"mean{s}", "zero"], [f"none{s}"]),
            helper.make_node("Concat", [f"none{s}", f"other{s}"], [f"both{s}"], axis=1),
            helper.make_node("Transpose", [f"both{s}"], [f"turned{s}"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [f"turned{s}", "column"], [f"raw{s}"]),
            helper.make_node("Clip", [f"raw{s}", "zero", "one"], [f"score_{s}"]),
            helper.make_node("Mul", [f"raw{s}", "zero"], [f"zeros{s}"]),
            helper.make_node("Add", [f"zeros{s}", "one"], [f"ones{s}"]),
            helper.make_node("MatMul", [f"ones{s}", "distances"], [f"bbox_{s}"]),
            helper.make_node("MatMul", [f"ones{s}", "points"], [f"kps_{s}"]),
        ]
        for head, names in outputs.items():
            names.append(f"{head}_{s}")
    widths = {"score": 1, "bbox": 4, "kps": 10}
    told = [
        (name, [None, widths[head]])
        for head, names in outputs.items()
        if landmarks or head != "kps"
        for name in names
    ]
    _save(path, nodes, [1, 3, *(size or ("height", "width"))], told)


@pytest.mark.parametrize(
    ("name", "size", "landmarks", "shape", "scale"),
    [
        ("scrfd_made.onnx", None, True, (90, 150), 1.0),  # any size: only filled up to multiples of 32
        ("scrfd_made.onnx", (96, 96), True, (48, 96), 1.0),
        ("det_made.onnx", (96, 96), False, (192, 192), 0.5),
    ],
)
def test_scrfd_finds_what_is_red(
    tmp_path: Path,
    name: str,
    size: tuple[int, int] | None,
    landmarks: bool,
    shape: tuple[int, int],
    scale: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _scrfd_model(tmp_path / name, size, landmarks)
    detector = load_detector("scrfd", DetectorContext(tmp_path))
    assert "non-commercial" in caplog.text
    image = np.zeros((*shape, 3), np.uint8)
    image[..., 0] = 255  # blue is not red
    cell = round(8 / scale)
    image[2 * cell : 3 * cell, 4 * cell : 5 * cell] = (0, 0, 255)
    (face,) = detector.detect(image, confidence=0.9)
    assert (face.kind, face.label) == ("face", "face")
    assert face.score == pytest.approx((255 - 127.5) / 128)
    height, width = shape[0] * scale, shape[1] * scale
    x, y = 4 * 8, 2 * 8
    left, top, right, bottom = (v * 8 for v in _DISTANCES[0].tolist())
    assert face.box == pytest.approx(
        ((x - left) / width, (y - top) / height, (left + right) / width, (top + bottom) / height)
    )
    expected = [
        ((x + 8 * dx) / width, (y + 8 * dy) / height)
        for dx, dy in zip(_POINTS[0, 0::2], _POINTS[0, 1::2], strict=True)
    ]
    assert np.allclose(face.landmarks, expected if landmarks else ())
    assert len(face.landmarks) == (5 if landmarks else 0)
    assert detector.identity.startswith(f"{name.removesuffix('.onnx')}@")  # type: ignore[attr-defined]
    assert not detector.detect(np.zeros((*shape, 3), np.uint8), confidence=0.3)


def _scrfd_reference(stride: int, size: tuple[int, int], heads: tuple[Array, ...], least: float) -> list[Any]:
    """As insightface's own: `anchor_centers`, `distance2bbox`, `distance2kps`."""
    scores, boxes, points = heads
    height, width = size[0] // stride, size[1] // stride
    centres = np.stack(np.mgrid[:height, :width][::-1], axis=-1).astype(np.float32)
    centres = (centres * stride).reshape((-1, 2))
    centres = np.stack([centres] * 2, axis=1).reshape((-1, 2))
    chosen = np.where(scores >= least)[0]
    boxes, points = boxes * stride, points * stride
    corners = np.stack(
        [
            centres[:, 0] - boxes[:, 0],
            centres[:, 1] - boxes[:, 1],
            centres[:, 0] + boxes[:, 2],
            centres[:, 1] + boxes[:, 3],
        ],
        axis=-1,
    )
    marks = [centres[:, i % 2] + points[:, i] for i in range(10)]
    rows = np.concatenate([corners, scores, np.stack(marks, axis=-1)], axis=1)
    return list(rows[chosen].tolist())


def test_scrfd_decodes_as_its_authors_do() -> None:
    random, size = np.random.default_rng(7), (96, 160)
    ours: list[Array] = []
    theirs: list[Any] = []
    for stride in (8, 16, 32):
        count = 2 * (size[0] // stride) * (size[1] // stride)
        scores = (random.uniform(0, 1, (count, 1)) ** 2).astype(np.float32)
        boxes = random.uniform(0.2, 3, (count, 4)).astype(np.float32)
        points = random.uniform(-2, 2, (count, 10)).astype(np.float32)
        ours.append(scrfd.decode(stride, size, scores, boxes, points, 0.5))
        theirs += _scrfd_reference(stride, size, (scores, boxes, points), 0.5)
    suppressed = _greedy(theirs, 4, scrfd.NMS_IOU)
    assert 10 < len(suppressed) < len(theirs)
    assert np.allclose(scrfd.suppress(np.concatenate(ours)), suppressed, rtol=1e-4, atol=1e-3)


def test_what_is_no_scrfd_is_refused(tmp_path: Path) -> None:
    def reason() -> str:
        with pytest.raises(InferenceUnavailableError) as caught:
            load_detector("scrfd", DetectorContext(tmp_path))
        return f"{caught.value.reason}: {caught.value}"

    assert reason().startswith("ModelMissing") and "scrfd*.onnx" in reason()
    _scrfd_model(tmp_path / "det_made.onnx", (96, 96), heads=1)
    assert "has 3 outputs" in reason()
    _scrfd_model(tmp_path / "det_made.onnx", (80, 96))
    assert "no multiples of 32" in reason()


# ── In a worker ─────────────────────────────────────────────────────────────────────────────────────

_TAKE_NOTES = """
import json, pathlib
from camfleet_worker.detectors import yolox, yunet
from camfleet_worker.sources import video
notes = pathlib.Path({path!r}).open("a", buffering=1)
def note(kind, name, what):
    whole = getattr(kind, name)
    def noted(self, *arguments, **more):
        result = whole(self, *arguments, **more)
        notes.write(json.dumps([kind.__name__, *what(self, arguments)]) + "\\n")
        return result
    setattr(kind, name, noted)
note(video.VideoPicture, "_convert", lambda picture, size: [picture.captured_ns, size[0]])
note(yunet.YuNetDetector, "detect", lambda detector, image: [id(image[0])])
note(yolox.YoloxDetector, "detect", lambda detector, image: [id(image[0])])
"""


async def test_two_detectors_at_once_cost_one_decode(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    settings = {
        "inference": {
            "detectors": ["yunet", "yolox"],
            "detectorOptions": [
                {"name": "yunet", "confidence": 0.7},
                {"name": "yolox", "confidence": 0.5, "fps": 2, "classes": ["person"]},
            ],
        }
    }
    async with (
        fake_gateway() as gateway,
        worker_process(
            tmp_path,
            gateway_url=gateway.url,
            source=str(sample("people_walking_1080p.mp4")),
            settings_json=json.dumps(settings),
            model_dir=model_dir(),
            patch=_TAKE_NOTES.format(path=str(notes)),
        ),
    ):
        await gateway.until(
            lambda: gateway.stats and gateway.stats[-1].frames.inferred >= 20, "inferences", 60
        )
        before = gateway.stats[-1]
        noted = [json.loads(line) for line in notes.read_text().splitlines()]
        after = await gateway.until(
            lambda: gateway.stats[-1] if gateway.stats[-1].uptime_seconds > before.uptime_seconds else None
        )
        converted = [(captured, width) for what, captured, width in (n for n in noted if len(n) == 3)]
        # Of 25 pictures a second that are decoded, 5 are taken; each is converted once, for both detectors.
        assert {width for _, width in converted} == {640}
        assert len({captured for captured, _ in converted}) == len(converted)
        assert before.frames.inferred <= len(converted) <= after.frames.inferred + 1
        assert len(converted) <= after.frames.captured / 3
        order = [what for what, *_ in noted]
        assert order.count("YuNetDetector") >= len(converted) - 1
        assert order.count("YoloxDetector") == pytest.approx(0.4 * len(converted), abs=3)
        # Who runs on a picture that another one has had gets the very same pixels.
        runs = [(one, other) for one, other in pairwise(noted) if other[0] == "YoloxDetector"]
        assert runs and all(one == ["YuNetDetector", *other[1:]] for one, other in runs)
        assert set(after.detections) == {"face", "object"} and after.inference_reason == ""


_LOSE_THE_GPU = """
from camfleet_worker.detectors.mock import MockDetector
whole = MockDetector.detect
def detect(self, image, *, confidence):
    if self._calls > 3: raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")
    return whole(self, image, confidence=confidence)
MockDetector.detect = detect
"""


async def test_a_worker_that_has_lost_its_gpu_ends_itself(tmp_path: Path) -> None:
    async with (
        fake_gateway() as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, mock=True, patch=_LOSE_THE_GPU) as lost,
    ):
        assert await lost.wait(30) == EXIT_CODE
        assert "mock has lost the GPU" in lost.log() and "CUDA failure 700" in lost.log()


async def test_a_missing_detector_leaves_the_other_one_running(tmp_path: Path) -> None:
    async with (
        fake_gateway() as gateway,
        worker_process(
            tmp_path, gateway_url=gateway.url, source="test", detector=("scrfd", "mock"), model_dir=tmp_path
        ) as worker,
    ):
        await gateway.until(lambda: gateway.stats and gateway.stats[-1].detections.get("object"), "boxes")
        assert gateway.stats[-1].inference_reason == "ModelMissing"
        assert "scrfd*.onnx" in gateway.stats[-1].inference_message
        assert "no inference by scrfd" in worker.log()
