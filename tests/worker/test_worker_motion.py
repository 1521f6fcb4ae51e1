"""Motion detection is calibrated: quiet on noise, awake when people walk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import av
import cv2
import numpy as np
import pytest

from camfleet_worker.detectors.base import DetectorContext
from camfleet_worker.detectors.motion import MotionDetector
from support.require import sample

CONFIDENCE = 0.7


def _flags(pictures: Iterable[np.ndarray]) -> list[bool]:
    detector = MotionDetector(DetectorContext())
    return [bool(detector.detect(picture, confidence=CONFIDENCE)) for picture in pictures]


def _scene(
    count: int,
    *,
    noise: float,
    jpeg: int | None = None,
    drift: float = 0.0,
    flicker: float = 0.0,
    ball: bool = False,
    switch_at: int | None = None,
) -> Iterator[np.ndarray]:
    random = np.random.default_rng(1)
    base = cv2.GaussianBlur(random.integers(0, 255, (360, 640, 3)).astype(np.uint8), (0, 0), 8)
    scene = (base.astype(np.float32) - base.mean()) * 4 + 120
    for number in range(count):
        light = drift * number + flicker * (number % 2)
        if switch_at is not None and number >= switch_at:
            light += 60
        grain = random.standard_normal((360, 640, 1), np.float32) * noise
        image = np.clip(scene + light + grain, 0, 255).astype(np.uint8)
        if ball:
            cv2.circle(image, (100 + number * 4 % 440, 180), 25, (200, 200, 200), -1)
        if jpeg is not None:
            image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, jpeg])[1], 1)
        yield image


@pytest.mark.parametrize(
    "scene",
    [
        {"noise": 0},
        {"noise": 3},
        {"noise": 8},
        {"noise": 15},
        {"noise": 25},
        {"noise": 8, "jpeg": 20},
        {"noise": 5, "drift": 0.3},
        {"noise": 5, "flicker": 6},
        {"noise": 5, "switch_at": 60},
    ],
    ids=str,
)
def test_a_static_scene_has_no_motion(scene: dict[str, float]) -> None:
    assert sum(_flags(_scene(120, **scene))) == 0  # type: ignore[arg-type]


def test_a_small_ball_moving_through_noise_is_seen() -> None:
    flags = _flags(_scene(120, noise=8, ball=True))
    assert sum(flags[10:]) / len(flags[10:]) > 0.9


def _clip(name: str, step: int) -> Iterator[np.ndarray]:
    with av.open(str(sample(name))) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % step == 0:
                height = frame.height * 640 // frame.width
                yield frame.reformat(width=640, height=height, format="bgr24").to_ndarray()


def test_people_walking_are_seen() -> None:
    flags = _flags(_clip("people_walking_1080p.mp4", 5))
    assert all(flags[6:])


def test_persons_one_by_one_are_seen_and_their_ghosts_are_not() -> None:
    flags = _flags(_clip("one-by-one-person-detection.mp4", 2))
    # 5 pictures a second. Nobody is there in the first 30; then somebody walks in. From 230 to 250 and from
    # 530 to 580 nothing moves: an empty scene where somebody had stood for 20 s, and a person who stands
    # like a statue.
    assert not any(flags[:30])
    assert all(flags[33:75])
    assert not any(flags[230:250])
    assert not any(flags[530:580])
    assert 0.5 < sum(flags) / len(flags) < 0.8
