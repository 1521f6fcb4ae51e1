"""The burnt-in clock survives what happens to a picture on its way."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from camfleet_protocol.camera import TestPatternSource
from camfleet_worker.sources.base import SourceContext
from camfleet_worker.sources.pattern import PatternPicture, PatternSource
from camfleet_worker.stamp import MIN_WIDTH, Stamp, burn_stamp, read_stamp

TIME = 1_795_241_219_728_338_230


def _picture(width: int, height: int, number: int = 0xDEADBEEF) -> np.ndarray:
    picture = PatternPicture(number=number, captured_ns=TIME, width=width, height=height, discontinuity=False)
    image: np.ndarray = picture.bgr()
    return image


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    done, buffer = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    decoded: np.ndarray = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    return decoded


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080), (640, 480), (MIN_WIDTH, 180)])
@pytest.mark.parametrize("quality", [40, 80, 100])
def test_survives_jpeg(width: int, height: int, quality: int) -> None:
    assert read_stamp(_jpeg(_picture(width, height), quality)) == Stamp(TIME, 0xDEADBEEF)


@pytest.mark.parametrize("quality", [40, 80])
@pytest.mark.parametrize("method", [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST])
@pytest.mark.parametrize("size", [(640, 360), (800, 450), (480, 270)])
def test_survives_scaling_and_jpeg(quality: int, method: int, size: tuple[int, int]) -> None:
    scaled = cv2.resize(_picture(1280, 720), size, interpolation=method)
    assert read_stamp(_jpeg(scaled, quality)) == Stamp(TIME, 0xDEADBEEF)


def test_grey_pictures_can_be_read() -> None:
    grey = cv2.cvtColor(_picture(640, 360), cv2.COLOR_BGR2GRAY)
    assert read_stamp(grey) == Stamp(TIME, 0xDEADBEEF)


def test_no_stamp_is_none() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (360, 640, 3)).astype(np.uint8)
    assert read_stamp(noise) is None
    assert read_stamp(np.zeros((360, 640, 3), np.uint8)) is None
    assert read_stamp(np.zeros((10, 10, 3), np.uint8)) is None


def test_a_wrong_bit_is_noticed() -> None:
    image = np.zeros((360, 640, 3), np.uint8)
    burn_stamp(image, Stamp(TIME, 7))
    block = 640 / 60
    image[2:8, round(20 * block) : round(21 * block)] ^= 255
    assert read_stamp(image) is None


def test_pattern_comes_at_its_rate_and_moves() -> None:
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return True

    source = PatternSource(TestPatternSource(width=320, height=240, fps=10), SourceContext(wait=wait))
    source.open()
    pictures = [source.read() for _ in range(5)]
    images = [picture.bgr() for picture in pictures if picture is not None]
    assert len(images) == 5 and sum(waited) == pytest.approx(0.1 + 0.2 + 0.3 + 0.4, abs=0.1)
    assert all((one != other).mean() > 0.005 for one, other in pairwise(images))


def test_pixels_are_made_once_per_size() -> None:
    picture = PatternPicture(number=1, captured_ns=TIME, width=1280, height=720, discontinuity=False)
    assert picture.bgr(640) is picture.bgr(640)
    assert picture.bgr(640).shape == (360, 640, 3)
    assert picture.bgr(5000).shape == (720, 1280, 3)
