"""What stands at a box in an annotated picture."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from camfleet_protocol.detections import Detection
from camfleet_worker import draw


@pytest.fixture(autouse=True)
def _every_sign_is_tried_anew() -> Iterator[None]:
    draw._can_be_drawn.cache_clear()
    yield
    draw._can_be_drawn.cache_clear()


def _ascii_only(text: str) -> np.ndarray:
    """As OpenCV 4 draws: a question mark for each byte of what is not ASCII."""
    image = np.zeros((32, 96), np.uint8)
    text = "".join(c if c.isascii() else "?" * len(c.encode()) for c in text)
    return cv2.putText(image, text, (2, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)


@pytest.mark.parametrize(
    ("label", "drawn"),
    [
        ("Anna", "Anna"),
        ("Zoë Ångström", "Zoe Angstrom"),
        ("Łukasz O\u2019Neill", "Lukasz O'Neill"),
        ("Zoe\u0308", "Zoe"),
        ("\ufb01nn 🙂", "finn"),
        ("two\nlines\x07", "two lines"),
        ("Анна", ""),
        ("Anna Иванова", ""),
        ("李小龍", ""),
        ("🙂", ""),
        ("who?", "who?"),
        ("x" * 63, "x" * 32),
    ],
)
def test_a_font_without_a_letter_draws_no_question_marks(
    label: str, drawn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "_drawn", _ascii_only)
    assert draw.readable(label) == drawn


def test_who_cannot_be_written_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "_drawn", _ascii_only)
    face = Detection(kind="face", label="Анна", score=0.93, box=(0.1, 0.1, 0.2, 0.2), track_id=7)
    assert draw.text_of(face) == "#7 93%"
    assert draw.text_of(face.model_copy(update={"track_id": None})) == "93%"
    assert draw.text_of(face.model_copy(update={"label": "Zoé"})) == "Zoe 93%"


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason="OpenCV 4 draws ASCII only")
@pytest.mark.parametrize(
    ("name", "drawn"), [("Анна", "Анна"), ("Zoë", "Zoë"), ("李小龍", "李小龍"), ("አበበ", "")]
)
def test_opencv_5_draws_most_scripts(name: str, drawn: str) -> None:
    assert draw.readable(name) == drawn
