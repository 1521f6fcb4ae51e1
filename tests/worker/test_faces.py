"""Faces of single pictures: found, measured, turned upright, embedded."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from camfleet_protocol.settings import Settings
from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError
from camfleet_worker.picture import Picture
from camfleet_worker.recognition.align import SIZE, TEMPLATE, align_face, similarity
from camfleet_worker.recognition.embedder import load_embedder
from camfleet_worker.recognition.faces import AnalyzedFace, FaceAnalyzer, looks
from camfleet_worker.recognition.gallery import GalleryStore
from camfleet_worker.recognition.quality import ENROLMENT_LIMITS, FaceQuality, measure, refuse
from camfleet_worker.recognition.recognizer import Recognizer
from camfleet_worker.recognition.refine import FoundFace, LandmarkRefiner, find_faces
from camfleet_worker.tracking.tracker import Track
from support.require import model_dir, sample

PICTURES = ("obama.jpg", "obama1.jpg", "obama2.jpg", "biden.jpg", "biden2.jpg")


@cache
def analyzer() -> FaceAnalyzer:
    return FaceAnalyzer(DetectorContext(model_dir()))


@cache
def picture(name: str) -> np.ndarray:
    image = cv2.imread(str(sample(f"people/{name}")))
    assert image is not None
    return image


@cache
def face(name: str) -> AnalyzedFace:
    (found,) = analyzer().analyze(picture(name))
    return found


def scaled(image: np.ndarray, width: int) -> np.ndarray:
    size = (width, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("degrees", [0, 30, -170])
def test_a_similarity_is_found_again_and_no_mirror_image(degrees: float) -> None:
    turn = np.radians(degrees)
    matrix = 1.7 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    target = TEMPLATE @ matrix.T + (12.0, -7.0)
    found = similarity(TEMPLATE, target)
    assert np.allclose(found, np.column_stack((matrix, (12.0, -7.0))))
    mirrored = similarity(TEMPLATE * (-1, 1), TEMPLATE)
    assert np.linalg.det(mirrored[:, :2]) >= 0


@pytest.mark.parametrize("scale", [0.3, 1.0, 6.0])
def test_an_aligned_face_has_its_landmarks_where_the_template_says(scale: float) -> None:
    image = np.zeros((1400, 1400, 3), np.uint8)
    marks = (TEMPLATE - 56) * scale * 0.97 + (700, 640)
    turned = (marks - 700) @ cv2.getRotationMatrix2D((0, 0), 20, 1)[:, :2].T + 700
    for x, y in turned:
        cv2.circle(
            image, (round(x * 16), round(y * 16)), round(max(1.5, 3 * scale) * 16), (255,) * 3, -1, 4, 4
        )
    aligned = align_face(image, turned.astype(np.float32))
    assert aligned.shape == (SIZE, SIZE, 3)
    count, _, stats, centres = cv2.connectedComponentsWithStats((aligned[..., 0] > 60).astype(np.uint8))
    assert count == 6 and stats.shape[0] == 6
    for mark in TEMPLATE:
        assert np.abs(centres[1:] - mark).sum(axis=1).min() < 2.2


@pytest.mark.parametrize(
    "landmarks", [np.zeros((5, 2)), np.full((5, 2), 1e7), TEMPLATE * 1e-3, TEMPLATE * 1e4]
)
def test_nonsense_landmarks_give_a_picture_and_are_refused(landmarks: np.ndarray) -> None:
    image = np.full((90, 120, 3), 100, np.uint8)
    marks = landmarks.astype(np.float32)
    assert align_face(image, marks).shape == (SIZE, SIZE, 3)
    assert refuse(measure(image, (0, 0, 50, 60), marks)) in ("TurnedAway", "Blurred")


def test_people_are_told_apart_by_the_models_own_threshold() -> None:
    vectors = np.array([face(name).embedding for name in PICTURES])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    same = np.array([[one[:3] == other[:3] for other in PICTURES] for one in PICTURES])
    similar = vectors @ vectors.T
    threshold, margin = analyzer().embedder.threshold, analyzer().embedder.margin
    assert similar[same].min() > threshold + margin
    assert similar[~same].max() < threshold - 0.2


def test_the_weights_are_named_by_their_hash() -> None:
    digest = hashlib.sha256((model_dir() / "mobilefacenet.onnx").read_bytes()).hexdigest()
    assert analyzer().embedder.identity == f"mobilefacenet@{digest[:12]}"
    assert analyzer().embedder.dimensions == 128
    assert analyzer().embedder.embed([]).shape == (0, 128)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tight", lambda image, box: image[box[1] : box[1] + box[3], box[0] : box[0] + box[2]]),
        (
            "small and grey",
            lambda image, box: cv2.merge([cv2.cvtColor(scaled(image, 160), cv2.COLOR_BGR2GRAY)] * 3),
        ),
        ("dark", lambda image, box: (image * 0.25).astype(np.uint8)),
        ("tilted", lambda image, box: cv2.warpAffine(image, turn(image, 30), image.shape[1::-1])),
        ("enlarged", lambda image, box: cv2.resize(image, None, fx=2, fy=2)),
    ],
)
def test_a_face_is_found_and_recognised_however_it_is_shown(name: str, change: object) -> None:
    assert callable(change)
    for portrait in ("obama.jpg", "biden2.jpg"):
        good = face(portrait)
        changed = np.ascontiguousarray(change(picture(portrait), [round(value) for value in good.box_px]))
        found = analyzer().analyze(changed)
        assert len(found) == 1, (name, portrait)
        similarity_to_good = float(found[0].embedding @ good.embedding)
        assert similarity_to_good > analyzer().embedder.threshold, (name, portrait, similarity_to_good)


def turn(image: np.ndarray, degrees: float) -> np.ndarray:
    return cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), degrees, 0.8)


def test_raised_hands_are_no_faces() -> None:
    found = analyzer().analyze(picture("obama_and_biden.jpg"))
    assert len(found) == 3  # a girl stands at the edge
    areas = [one.box_px[2] * one.box_px[3] for one in found]
    assert areas == sorted(areas, reverse=True)
    names = [max(PICTURES, key=lambda name: float(face(name).embedding @ one.embedding)) for one in found[:2]]
    assert {name[:5] for name in names} == {"biden", "obama"}
    assert analyzer().finder.find(picture("obama_and_biden.jpg"), max_faces=1)[0].box_px == found[0].box_px


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (700, 3), (25, 25)])
def test_pictures_of_any_shape_are_looked_at(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 255, (*shape, 3)).astype(np.uint8)
    assert analyzer().analyze(image) == []


def test_what_is_looked_at_is_bounded_however_large_the_picture() -> None:
    seen = list(looks(np.zeros((6000, 8000, 3), np.uint8)))
    assert max(max(image.shape[:2]) for image, _, _ in seen) <= 1280
    assert len(seen) <= 3 + 16


def test_small_pictures_are_looked_at_in_their_own_size_too() -> None:
    small = np.zeros((250, 250, 3), np.uint8)
    assert [seen.shape[:2] for seen, scale, _ in looks(small) if scale == 1] == [(250, 250)]
    for image, scale, offset in looks(small):
        where = np.array(offset) + np.array(image.shape[1::-1]) / scale / 2
        assert where == pytest.approx((125, 125), abs=1)


def test_landmarks_of_one_bad_look_are_outvoted() -> None:
    image, good = picture("obama.jpg"), face("obama.jpg")
    found = FoundFace(good.box_px, good.landmarks_px, good.score)
    refiner = analyzer().finder._refiner
    bad = replace(found, landmarks_px=found.landmarks_px + np.float32(good.box_px[3] / 3))
    again = refiner.look_again(image, found)
    assert again is not None
    settled = refiner.settled(image, found, (bad, again))
    assert np.abs(settled - good.landmarks_px).max() < good.box_px[3] / 20


def test_quality_tells_small_blurred_and_turned_faces() -> None:
    image, good = picture("obama.jpg"), face("obama.jpg")
    assert refuse(good.quality, ENROLMENT_LIMITS) is None and good.quality.score > 0.8
    blurred = cv2.GaussianBlur(image, (0, 0), good.box_px[3] / 18)
    quality = measure(blurred, good.box_px, good.landmarks_px)
    assert refuse(quality) == "Blurred" and quality.score < good.quality.score / 3
    factor = 30 / good.box_px[3]
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    box = tuple(value * factor for value in good.box_px)
    quality = measure(small, (box[0], box[1], box[2], box[3]), good.landmarks_px * np.float32(factor))
    assert refuse(quality) == "TooSmall"
    assert refuse(FaceQuality(100, 0.2, 70, 0, 0, 0.3)) == "TurnedAway"


def test_pose_follows_the_face() -> None:
    image, good = picture("obama1.jpg"), face("obama1.jpg")
    mirrored = good.landmarks_px[[1, 0, 2, 4, 3]] * (-1, 1) + (image.shape[1] - 1, 0)
    other = measure(image[:, ::-1], good.box_px, mirrored.astype(np.float32))
    assert abs(good.quality.yaw) > 15 and other.yaw == pytest.approx(-good.quality.yaw, abs=1.5)
    matrix = cv2.getRotationMatrix2D((500.0, 400.0), -25, 1)
    tilted = cv2.transform(good.landmarks_px[np.newaxis], matrix)[0]
    assert measure(image, good.box_px, tilted).roll == pytest.approx(good.quality.roll + 25, abs=0.5)


def test_a_second_look_makes_landmarks_of_small_faces_better() -> None:
    context = DetectorContext(model_dir())
    refiner = LandmarkRefiner(context)
    from camfleet_worker.detectors.yunet import YuNetDetector

    detector, embedder = YuNetDetector(context), analyzer().embedder
    gains = []
    for name in ("obama.jpg", "biden.jpg", "obama2.jpg"):
        image, good = picture(name), face(name)
        factor = 20 / good.box_px[3]
        seen = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        (first,) = find_faces(detector, seen, confidence=0.6)
        box = tuple(value / factor for value in first.box_px)
        first = type(first)(
            (box[0], box[1], box[2], box[3]), first.landmarks_px / np.float32(factor), first.score
        )
        second = refiner.refine(image, first, seen_height=20)
        assert second.score == first.score
        before, after = embedder.embed([align_face(image, one.landmarks_px) for one in (first, second)])
        gains.append(float(good.embedding @ after - good.embedding @ before))
        assert refiner.refine(image, first, seen_height=200) is first
    assert np.mean(gains) > 0.02 and min(gains) > -0.01


class _Still(Picture):
    """A picture that is there already."""

    def __init__(self, image: np.ndarray) -> None:
        super().__init__(
            number=1, captured_ns=1, width=image.shape[1], height=image.shape[0], discontinuity=False
        )
        self._image = image

    def _convert(self, width: int, height: int) -> np.ndarray:
        return cv2.resize(self._image, (width, height), interpolation=cv2.INTER_AREA)


def test_a_stream_looks_again_at_small_faces_before_it_compares_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portraits with faces of 48 pixels in a picture that the detector sees a third as large."""
    context = DetectorContext(model_dir())
    from camfleet_worker.detectors.yunet import YuNetDetector

    detector = YuNetDetector(context)
    settings = Settings.model_validate(
        {
            "inference": {"faceRecognition": {"enabled": True, "minFacePixels": 30}},
            "privacy": {"retentionDays": 7},
        }
    )

    def likeness(name: str, height: float) -> tuple[float, float]:
        """To the portrait at full size: of what the stream embeds, and with landmarks of the first look."""
        image, good = picture(name), face(name)
        factor = height / good.box_px[3]
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        wall = np.full((1080, 1920, 3), 90, np.uint8)
        wall[100 : 100 + small.shape[0], 300 : 300 + small.shape[1]] = small
        still = _Still(wall)
        (found,) = detector.detect(still.bgr(640), confidence=0.5)
        recognizer = Recognizer(context, GalleryStore())
        assert recognizer.prepare(settings, 0.0)
        recognizer.observe(still, [Track(1, "face", "face", found, 1.0, 1.0)], settings, 1.0)
        state = recognizer.state(1)
        assert state is not None and state.best is not None, state and state.refused
        landmarks = np.asarray(found.landmarks, np.float32) * np.float32((1920, 1080))
        (first,) = analyzer().embedder.embed([align_face(wall, landmarks)])
        return float(state.best @ good.embedding), float(first @ good.embedding)

    both = [likeness(name, 48) for name in ("obama.jpg", "biden.jpg", "obama2.jpg")]
    assert all(stream > 0.85 for stream, _ in both), both
    assert np.mean([stream - first for stream, first in both]) > 0.05, both
    stream, first = likeness("biden.jpg", 100)
    assert stream == pytest.approx(first, abs=0.01), "large enough as it is"
    monkeypatch.setattr(LandmarkRefiner, "look_again", lambda *arguments: 1 / 0)
    stream, first = likeness("biden.jpg", 48)
    assert stream == pytest.approx(first, abs=0.01), "what fails costs its gain and nothing else"


def test_a_model_is_used_as_its_card_says(tmp_path: Path) -> None:
    shutil.copy(model_dir() / "mobilefacenet.onnx", tmp_path / "mine.onnx")
    card = {
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "threshold": 0.5,
        "margin": 0.1,
    }
    (tmp_path / "mine.json").write_text(json.dumps(card))
    mine = load_embedder("mine", DetectorContext(tmp_path))
    aligned = [face(name).aligned for name in PICTURES]
    assert np.allclose(mine.embed(aligned), analyzer().embedder.embed(aligned), atol=1e-5)
    assert (mine.threshold, mine.margin) == (0.5, 0.1)
    assert mine.identity == analyzer().embedder.identity.replace("mobilefacenet", "mine")
    (tmp_path / "mine.json").write_text(json.dumps({**card, "color": "bgr"}))
    other = load_embedder("mine", DetectorContext(tmp_path)).embed(aligned)
    assert not np.allclose(other, mine.embed(aligned), atol=0.05)


@pytest.mark.parametrize(
    "card", ["{", '{"std": 0}', '{"mean": [1, 2]}', '{"threshold": 2}', '{"colour": "rgb"}']
)
def test_a_wrong_card_is_named(card: str, tmp_path: Path) -> None:
    shutil.copy(model_dir() / "mobilefacenet.onnx", tmp_path / "mine.onnx")
    (tmp_path / "mine.json").write_text(card)
    with pytest.raises(InferenceUnavailableError, match=r"mine\.json") as caught:
        load_embedder("mine", DetectorContext(tmp_path))
    assert caught.value.reason == "ModelInvalid"


@pytest.mark.parametrize("name", ["nothing", "../mobilefacenet", "", ".", "a/b"])
def test_an_embedder_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(InferenceUnavailableError) as caught:
        load_embedder(name, DetectorContext(model_dir()))
    assert caught.value.reason == "ModelMissing"


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    shutil.copy(model_dir() / "yolox_nano.onnx", tmp_path / "objects.onnx")
    with pytest.raises(InferenceUnavailableError, match="not one picture 3 x 112 x 112"):
        load_embedder("objects", DetectorContext(tmp_path))


def test_a_pack_is_loaded_by_insightface_and_its_licence_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("insightface")
    (tmp_path / "pack").mkdir()
    shutil.copy(model_dir() / "yunet_n_dynamic.onnx", tmp_path / "pack" / "a.onnx")
    shutil.copy(model_dir() / "mobilefacenet.onnx", tmp_path / "pack" / "w.onnx")
    pack = load_embedder("pack", DetectorContext(tmp_path))
    assert caplog.text.count("non-commercial research") == 1
    shutil.copy(model_dir() / "mobilefacenet.onnx", tmp_path / "plain.onnx")
    plain = load_embedder("plain", DetectorContext(tmp_path))
    aligned = [face(name).aligned for name in PICTURES]
    assert np.allclose(pack.embed(aligned), plain.embed(aligned), atol=1e-5)
    assert pack.identity == plain.identity.replace("plain", "pack")


def test_of_a_pack_only_the_recognition_model_is_made_ready_and_only_where_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("insightface")
    import onnxruntime

    (tmp_path / "pack").mkdir()
    shutil.copy(model_dir() / "yolox_nano.onnx", tmp_path / "pack" / "1k3d68.onnx")
    shutil.copy(model_dir() / "yunet_n_dynamic.onnx", tmp_path / "pack" / "det_10g.onnx")
    shutil.copy(model_dir() / "mobilefacenet.onnx", tmp_path / "pack" / "w600k_mbf.onnx")
    made: list[str] = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str, *arguments: Any, **options: Any) -> None:
            made.append(Path(path).name)
            super().__init__(path, *arguments, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    load_embedder("pack", DetectorContext(tmp_path))
    assert made == ["w600k_mbf.onnx"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InferenceUnavailableError) as caught:
        load_embedder("pack", DetectorContext(tmp_path, provider="cuda"))
    assert caught.value.reason == "ProviderMissing"
    (tmp_path / "pack" / "w600k_mbf.onnx").unlink()
    with pytest.raises(InferenceUnavailableError, match="no file of the pack"):
        load_embedder("pack", DetectorContext(tmp_path))


def test_insightface_is_not_imported_unless_it_is_asked_for() -> None:
    script = """
import sys
from pathlib import Path
from camfleet_worker.detectors.base import DetectorContext
from camfleet_worker.recognition.faces import FaceAnalyzer
FaceAnalyzer(DetectorContext(Path(sys.argv[1])))
sys.exit(bool({"insightface", "onnx", "skimage", "scipy"} & sys.modules.keys()))
"""
    assert subprocess.run([sys.executable, "-c", script, str(model_dir())], check=False).returncode == 0
