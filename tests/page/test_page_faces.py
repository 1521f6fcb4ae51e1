"""The whole way: a clip with faces, a real worker with YuNet, a real gateway, and the page in a browser."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from page_probe import tile, wait_drawn
from page_site import Pages

from camfleet.demo_media import PhotoMissingError, make_faces_clip
from support.fleet import running_fleet
from support.require import model_dir, need, sample

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

Box = tuple[float, float, float, float]
_BOTH = """
(selector) => ["frame", "overlay"].map((name) =>
  document.querySelector(selector).querySelector(`canvas.${name}`).toDataURL("image/png"))
"""
LEAST_FACE = 48
"""Pixels; smaller faces are not asked for, since their boxes are hardly larger than the lines around them."""


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes (left, top, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def decode(url: str) -> NDArray[Any]:
    picture = cv2.imdecode(
        np.frombuffer(base64.b64decode(url.split(",", 1)[1]), np.uint8), cv2.IMREAD_UNCHANGED
    )
    assert picture is not None
    return picture


def drawn_boxes(overlay: NDArray[Any], scale_x: float, scale_y: float) -> list[Box]:
    """The boxes drawn on an overlay, in pixels of the picture: what its lines enclose."""
    clear = (overlay[:, :, 3] < 32).astype(np.uint8)
    # Paper around it, so that a box at the edge of the picture is closed only by its own lines.
    _, _, stats, _ = cv2.connectedComponentsWithStats(clear, connectivity=4)
    largest = int(stats[1:, cv2.CC_STAT_AREA].argmax()) + 1
    return [
        (left / scale_x, top / scale_y, width / scale_x, height / scale_y)
        for index, (left, top, width, height, area) in enumerate(stats.tolist())
        if index not in (0, largest) and area > 200
    ]


def found_faces(picture: NDArray[Any], weights: Path) -> list[Box]:
    """Faces that stand clear of the edges, found by the same network run by other code."""
    height, width = picture.shape[:2]
    detector = cv2.FaceDetectorYN.create(str(weights), "", (width, height), 0.8)
    _, faces = detector.detect(np.ascontiguousarray(picture[:, :, :3]))
    return [
        (left, top, wide, high)
        for left, top, wide, high in (() if faces is None else faces[:, :4].tolist())
        if min(wide, high) >= LEAST_FACE
        and left > 4
        and top > 30
        and left + wide < width - 4
        and top + high < height - 4
    ]


def clip(source: str, folder: Path) -> Path:
    if source == "sample":
        return sample("people_walking_1080p.mp4")
    path = folder / "faces.mp4"
    try:
        make_faces_clip(path)
    except PhotoMissingError as error:
        need(False, f"the photo for the clip with faces: {error}")
    return path


@pytest.mark.parametrize("source", ["made", "sample"])
def test_boxes_stand_on_faces(tmp_path: Path, pages: Pages, source: str) -> None:
    weights = model_dir() / "yunet_n_dynamic.onnx"
    need(weights.is_file(), f"{weights.name} in CAMFLEET_MODEL_DIR")
    spec = {
        "source": {"file": {"path": str(clip(source, tmp_path))}},
        "inference": {"detectors": ["yunet"], "fps": 10},
        "stream": {"fps": 10, "width": 0},
    }
    folder = tmp_path / "fleet"
    arguments = (f"--model-dir={model_dir()}", f"--media-root={Path(spec['source']['file']['path']).parent}")
    with running_fleet(folder, *arguments, cameras={"lobby": spec}) as fleet:
        wide = {"width": 1920, "height": 1200}
        page = pages.open(f"{fleet.url}/#/camera/default.lobby", viewport=wide)
        wait_drawn(page, ".view-picture", 10)
        overlaps: list[float] = []
        deadline = time.monotonic() + 60
        while len(overlaps) < 12 and time.monotonic() < deadline:
            wait_drawn(page, ".view-picture")
            frame, overlay = (decode(url) for url in page.evaluate(_BOTH, ".view-picture"))
            scale_x, scale_y = overlay.shape[1] / frame.shape[1], overlay.shape[0] / frame.shape[0]
            boxes = drawn_boxes(overlay, scale_x, scale_y)
            overlaps += [
                max((overlap(face, box) for box in boxes), default=0.0)
                for face in found_faces(frame, weights)
            ]
        assert len(overlaps) >= 12, "faces to compare with"
        # A picture between two inferences carries the boxes of the one before, so not every single one fits,
        # and fewer do on a slow machine. Half of the union is what detections are usually counted by.
        assert float(np.median(overlaps)) > 0.5, overlaps
        page.goto(f"{fleet.url}/#/")
        wait_drawn(page, tile("lobby"), 2)
