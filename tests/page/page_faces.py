"""Appearances as a worker tells of them; real faces are found and embedded by its own code."""

from __future__ import annotations

import base64
import time
from functools import cache
from typing import Any

import cv2
import numpy as np

from camfleet_protocol.appearance import Appearance
from camfleet_worker.detectors.base import DetectorContext
from camfleet_worker.recognition.embedder import load_embedder
from camfleet_worker.recognition.faces import AnalyzedFace, FaceAnalyzer
from support.require import model_dir, sample

DETECTOR = "yunet@000000000000"


@cache
def _analyzer() -> FaceAnalyzer:
    return FaceAnalyzer(DetectorContext(model_dir=model_dir()), "mobilefacenet")


@cache
def embedder() -> str:
    """Identity of the model."""
    return load_embedder("mobilefacenet", DetectorContext(model_dir=model_dir())).identity


@cache
def _face(portrait: str) -> tuple[Any, AnalyzedFace]:
    picture = cv2.imread(str(sample(f"people/{portrait}")))
    assert picture is not None
    scale = 640 / max(picture.shape[:2])
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return picture, _analyzer().analyze(picture)[0]


def seen(camera: str, number: int, portrait: str, **known: Any) -> dict[str, Any]:
    """An appearance of the first face of a portrait, with its pictures and vector.

    Args:
        camera: Id of the camera.
        number: Makes the id and the order; a higher one is newer.
        portrait: File below `people/` of the samples.
        known: Fields of `Appearance` that differ from those of an unknown face.
    """
    picture, face = _face(portrait)
    height, width = picture.shape[:2]
    left, top, wide, high = face.box_px
    margin = 0.3 * high
    crop = picture[
        max(0, int(top - margin)) : int(top + high + margin),
        max(0, int(left - margin)) : int(left + wide + margin),
    ]
    now = time.time() - 1 + number / 1000
    appearance = Appearance.model_validate(
        {
            "kind": "face",
            "label": "face",
            "track": number,
            "started": now,
            "seen": now + 0.5,
            "pictures": 12,
            "score": face.score,
            "box": (left / width, top / height, wide / width, high / height),
            "quality": face.quality.score,
            "identity": "unknown",
            "detector": DETECTOR,
            "embedder": embedder(),
            **known,
        }
    )
    return {
        "id": f"seen-{number}",
        "time": now,
        "camera": camera,
        "type": "appearance",
        "data": appearance.model_dump(mode="json", exclude_none=True),
        "order": number,
        "with": {
            "crop": _jpeg(crop),
            "scene": _jpeg(picture),
            "embedding": base64.b64encode(face.embedding.astype("<f2").tobytes()).decode(),
            "embedder": embedder(),
        },
    }


def thing(
    camera: str, number: int, *, label: str = "person", age: float = 0.0, **more: Any
) -> dict[str, Any]:
    """An appearance of something that needs no model: its crop is of one colour.

    Args:
        camera: Id of the camera.
        number: Makes the id and the order.
        label: The class.
        age: Seconds since it began.
        more: Fields of `Appearance`, and `revision`.
    """
    revision = more.pop("revision", 0)
    began = time.time() - age
    seen_at = began + min(age, 2.0)
    appearance = Appearance.model_validate(
        {
            "kind": "object",
            "label": label,
            "track": number,
            "started": began,
            "seen": seen_at,
            "score": 0.9,
            **more,
        }
    )
    picture = np.full((96, 96, 3), (40 * (number % 6), 120, 200), np.uint8)
    return {
        "id": f"thing-{number}",
        "time": began,
        "camera": camera,
        "type": "appearance",
        "data": appearance.model_dump(mode="json", exclude_none=True),
        "order": number,
        "revision": revision,
        "with": {"crop": _jpeg(picture)},
    }


def _jpeg(picture: Any) -> str:
    done, coded = cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert done
    return base64.b64encode(coded.tobytes()).decode()
