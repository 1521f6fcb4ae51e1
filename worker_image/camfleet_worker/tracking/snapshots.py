"""The picture of a thing that its event carries: the thing itself, and the scene around it."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from camfleet_worker.boxes import Box
from camfleet_worker.picture import Image, Picture
from camfleet_worker.privacy import WHOLE, Face, pixelated

MAX_CROP_BYTES = 60 * 1024
MAX_SCENE_BYTES = 80 * 1024
_SCENE_WIDTH = 640
_CROP_SIDE = 320
_QUALITIES = (85, 75, 60, 45, 30, 15)
_MARGINS = {"face": 0.45}
_MARGIN = 0.1
"""Around anything else than a face, of the larger side of its box."""
_UNENCODED_BYTES = 8 * 1024 * 1024
"""Of pixels: eleven scenes, or the crops of a crowd."""


class Jpeg:
    """A picture that is encoded when it is asked for."""

    __slots__ = ("__weakref__", "_image", "_jpeg", "_limit")

    def __init__(self, image: Image, limit: int) -> None:
        self._image: Image | None = image
        self._limit = limit
        self._jpeg = b""

    @property
    def pixel_bytes(self) -> int:
        """Memory of what is not encoded yet."""
        return 0 if self._image is None else int(self._image.nbytes)

    def encoded(self) -> bytes:
        """The JPEG; empty if it cannot be made as small as it must be."""
        if self._image is not None:
            self._jpeg, self._image = encode(self._image, self._limit), None
        return self._jpeg


class Unencoded:
    """Bounds the memory of pictures that are not encoded yet. One thread uses it.

    Many pictures of things are replaced by better ones before anybody is told of them, and never encoded.
    """

    def __init__(self, limit: int = _UNENCODED_BYTES) -> None:
        self._limit = limit
        self._oldest_first: list[weakref.ref[Jpeg]] = []
        self._bytes = 0
        """At most so many wait."""

    def keep(self, image: Image, limit: int) -> Jpeg:
        """Take a picture, whose JPEG may have so many bytes."""
        jpeg = Jpeg(image, limit)
        self._oldest_first.append(weakref.ref(jpeg))
        self._bytes += jpeg.pixel_bytes
        if self._bytes > self._limit:
            self._encode_oldest()
        return jpeg

    def _encode_oldest(self) -> None:
        """Down to half of the limit, for it costs a look at all of them."""
        waiting = deque(one for ref in self._oldest_first if (one := ref()) is not None and one.pixel_bytes)
        self._bytes = sum(one.pixel_bytes for one in waiting)
        while self._bytes > self._limit // 2:
            oldest = waiting.popleft()
            self._bytes -= oldest.pixel_bytes
            oldest.encoded()
        self._oldest_first = [weakref.ref(one) for one in waiting]


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole picture.

    Attributes:
        jpeg: It, with every face as it is.
        faces: Faces in it; None if they were not looked for.
    """

    jpeg: Jpeg
    faces: tuple[Face, ...] | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A thing's picture, kept here with every face as it is; what leaves the worker is made by `rendered`.

    Attributes:
        crop: JPEG of the thing with a margin.
        area: Where the crop lies in the scene, in fractions of it.
        scene: What it was cut from.
        embedding: Of its face, float16; empty if there is none.
    """

    crop: Jpeg
    area: Box
    scene: Scene
    embedding: bytes = b""

    def rendered(self, hidden: Callable[[Face], bool] | None) -> tuple[bytes, bytes]:
        """The crop and the scene as they may leave the worker.

        Args:
            hidden: Whether a face must not be recognisable; None if none need be hidden.
        """
        crop, scene = self.crop.encoded(), self.scene.jpeg.encoded()
        if hidden is None:
            return crop, scene
        faces = self.scene.faces
        areas = WHOLE if faces is None else tuple(face.box for face in faces if hidden(face))
        if not areas:
            return crop, scene
        inside = [_within(area, self.area) for area in areas]
        return (
            _covered(crop, [area for area in inside if area is not None], MAX_CROP_BYTES),
            _covered(scene, areas, MAX_SCENE_BYTES),
        )


def take_scene(picture: Picture, faces: tuple[Face, ...] | None, unencoded: Unencoded) -> Scene:
    """Keep the whole picture, scaled down."""
    return Scene(unencoded.keep(picture.bgr(_SCENE_WIDTH), MAX_SCENE_BYTES), faces)


def take(
    picture: Picture, kind: str, box: Box, scene: Scene, unencoded: Unencoded, embedding: bytes = b""
) -> Snapshot:
    """Keep a thing's picture, cut out at the source's resolution."""
    width, height = box[2] * picture.width, box[3] * picture.height
    margin = _MARGINS.get(kind, _MARGIN) * max(width, height)
    image, (x, y) = picture.crop(
        box[0] * picture.width - margin,
        box[1] * picture.height - margin,
        width + 2 * margin,
        height + 2 * margin,
    )
    area = (
        x / picture.width,
        y / picture.height,
        image.shape[1] / picture.width,
        image.shape[0] / picture.height,
    )
    shrink = _CROP_SIDE / max(image.shape[:2])
    if shrink < 1:
        size = max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    elif image.base is not None:
        image = image.copy()  # or all of the picture would be kept
    return Snapshot(unencoded.keep(image, MAX_CROP_BYTES), area, scene, embedding)


def encode(image: Image, limit: int) -> bytes:
    """A JPEG of at most so many bytes; empty if it cannot be made that small."""
    for quality in _QUALITIES:
        done, buffer = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if done and len(buffer) <= limit:
            return bytes(buffer)
    return b""


def _covered(jpeg: bytes, areas: Sequence[Box], limit: int) -> bytes:
    if not jpeg or not areas:
        return jpeg
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return b""
    return encode(pixelated(image, areas), limit)


def _within(box: Box, area: Box) -> Box | None:
    """A box of the scene as fractions of a part of it; None if it is outside."""
    left, top = max(box[0], area[0]), max(box[1], area[1])
    right = min(box[0] + box[2], area[0] + area[2])
    bottom = min(box[1] + box[3], area[1] + area[3])
    if left >= right or top >= bottom:
        return None
    return (
        (left - area[0]) / area[2],
        (top - area[1]) / area[3],
        (right - left) / area[2],
        (bottom - top) / area[3],
    )
