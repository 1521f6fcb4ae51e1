"""Boxes and labels drawn into a picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from camfleet_protocol.detections import Detection
from camfleet_worker.picture import Image

_COLOURS = {"face": (96, 220, 80), "motion": (60, 180, 250), "object": (240, 170, 60)}
_OTHER = (220, 120, 220)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MAX_LABEL = 32
_LATIN = {
    **{"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "\u0131": "i"},
    **{"Æ": "AE", "Œ": "OE", "Ø": "O", "Ł": "L", "Đ": "D", "Ð": "D", "Þ": "Th"},
    **{"\u2018": "'", "\u2019": "'", "\u2013": "-", "\u2014": "-"},
}
"""Letters and signs that Unicode does not take apart."""


def draw_detections(image: Image, detections: Sequence[Detection]) -> Image:
    """A copy of the picture with the detections drawn in.

    Args:
        image: height x width x 3, uint8, BGR.
        detections: What to draw.
    """
    image = image.copy()
    height, width = image.shape[:2]
    line = max(1, round(width / 480))
    scale = max(0.35, width / 1600)
    for detection in detections:
        colour = _COLOURS.get(detection.kind, _OTHER)
        left, top = round(detection.box[0] * width), round(detection.box[1] * height)
        right = round((detection.box[0] + detection.box[2]) * width)
        bottom = round((detection.box[1] + detection.box[3]) * height)
        cv2.rectangle(image, (left, top), (right, bottom), colour, line)
        for x, y in detection.landmarks:
            cv2.circle(image, (round(x * width), round(y * height)), line, colour, -1)
        _label(image, text_of(detection), left, top, colour, scale)
    return image


def text_of(detection: Detection) -> str:
    """What stands at a box: label and score; the track's number where the label cannot be drawn."""
    number = f"#{detection.track_id}" if detection.track_id is not None else ""
    return f"{readable(detection.label) or number} {detection.score:.0%}".lstrip()


def readable(label: str) -> str:
    """A label in signs that can be drawn; empty if that would leave out letters of it.

    OpenCV 5 has letters of many scripts, OpenCV 4 has ASCII only; both draw question marks for the rest. An
    accent goes with which a letter cannot be drawn.
    """
    parts: list[str] = []
    for sign in unicodedata.normalize("NFC", " ".join(label.split())):
        plain = sign if _can_be_drawn(sign) else _plain(sign)
        if not plain and unicodedata.category(sign)[0] in "LMN":
            return ""
        parts.append(plain)
    return " ".join("".join(parts).split())[:_MAX_LABEL]


def _plain(sign: str) -> str:
    """A sign in ASCII; empty if it is none of the Latin script."""
    apart = _LATIN.get(sign) or "".join(
        c for c in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(c)
    )
    return apart if apart.isascii() and apart.isprintable() else ""


@lru_cache(4096)
def _can_be_drawn(sign: str) -> bool:
    if sign.isascii():
        return sign.isprintable()
    if not sign.isprintable():
        return False
    # OpenCV 4 draws one question mark for each byte.
    unknown = (_drawn("?"), _drawn("?" * len(sign.encode())))
    return not any(np.array_equal(_drawn(sign), image) for image in unknown)


def _drawn(text: str) -> Image:
    image = np.zeros((32, 96), np.uint8)
    cv2.putText(image, text, (2, 24), _FONT, 0.6, 255, 1)
    return image


def _label(image: Image, text: str, left: int, top: int, colour: tuple[int, int, int], scale: float) -> None:
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    bottom = max(top, height + baseline + 2)
    cv2.rectangle(image, (left, bottom - height - baseline - 2), (left + width + 4, bottom), colour, -1)
    cv2.putText(image, text, (left + 2, bottom - baseline), _FONT, scale, (20, 20, 20), 1, cv2.LINE_AA)
