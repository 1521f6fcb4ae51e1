"""Boxes and labels drawn into a picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import cv2

from camfleet_protocol.detections import Detection
from camfleet_worker.picture import Image

_COLOURS = {"face": (96, 220, 80), "motion": (60, 180, 250), "object": (240, 170, 60)}
_OTHER = (220, 120, 220)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


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
        _label(image, f"{_ascii(detection.label)} {detection.score:.0%}", left, top, colour, scale)
    return image


def _label(image: Image, text: str, left: int, top: int, colour: tuple[int, int, int], scale: float) -> None:
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    bottom = max(top, height + baseline + 2)
    cv2.rectangle(image, (left, bottom - height - baseline - 2), (left + width + 4, bottom), colour, -1)
    cv2.putText(image, text, (left + 2, bottom - baseline), _FONT, scale, (20, 20, 20), 1, cv2.LINE_AA)


def _ascii(text: str) -> str:
    """OpenCV draws ASCII only: accents are left out, other letters become question marks."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode()[:32]
