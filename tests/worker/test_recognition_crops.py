"""A part of a picture at full size is the same whether all of it was converted or not."""

from __future__ import annotations

import av
import numpy as np
import pytest

from camfleet_worker.sources.video import VideoPicture

FULL_RANGE = 2


def frame(width: int, height: int, form: str) -> av.VideoFrame:
    """Soft colours: what differs is the conversion, not how edges are sampled."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack((x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)), axis=2)
    made = av.VideoFrame.from_ndarray(image.astype(np.uint8), format="bgr24").reformat(format=form)
    if form == "yuvj420p":
        made.color_range = FULL_RANGE
    return made


def picture(source: av.VideoFrame) -> VideoPicture:
    return VideoPicture(source, number=1, captured_ns=1, discontinuity=False)


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "yuv422p", "bgr24"])
@pytest.mark.parametrize("size", [(320, 240), (333, 251)])
@pytest.mark.parametrize(
    "box", [(50.5, 40.2, 61, 33), (-20, -20, 60, 60), (300, 200, 100, 100), (0, 0, 999, 999)]
)
def test_a_part_is_what_the_whole_picture_has_there(
    form: str, size: tuple[int, int], box: tuple[float, float, float, float]
) -> None:
    source = frame(*size, form)
    part, (left, top) = picture(source).crop(*box)
    height, width = part.shape[:2]
    assert left <= max(0, box[0]) and top <= max(0, box[1])
    assert left + width >= min(size[0], box[0] + box[2]) and top + height >= min(size[1], box[1] + box[3])
    whole = picture(source).bgr()[top : top + height, left : left + width]
    assert whole.shape == part.shape
    assert np.abs(whole.astype(int) - part).mean() < 3, "colours are off"


def test_a_part_of_a_converted_picture_costs_nothing() -> None:
    converted = picture(frame(320, 240, "yuv420p"))
    whole = converted.bgr()
    part, _ = converted.crop(50, 50, 20, 20)
    assert np.shares_memory(whole, part)
