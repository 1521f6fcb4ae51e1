"""Faces made unrecognisable in pictures that leave the worker.

A picture may leave once its own faces were looked for: since the last one somebody may have come into view.
What the detector misses for a moment is known from shortly before. Where no faces can be looked for, all of
the picture is made unrecognisable.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from camfleet_protocol.vision import BlurFaces
from camfleet_worker.boxes import Box, overlap
from camfleet_worker.picture import Image

HOLD_SECONDS = 1.0
"""A face that is not found any more is covered for so long."""
STALE_SECONDS = 2.0
"""Faces that were not looked for in so long are not looked for any more."""
_MARGIN = 0.2
"""Of the box, on each side; hair and chin say a lot, too."""
_HELD_MARGIN = 0.5
"""The same for a face that was there shortly before: it moves."""
_UNTRACKED_SECONDS = 0.5
"""Instead of `HOLD_SECONDS` for what may be a face that is found again elsewhere."""
_SAME_FACE = 0.5
"""Overlap (intersection over union) with a followed face, from which on it is that one, seen before."""
_BLIND_SECONDS = 3.0
_BLOCKS = 8
_MAX_FACES = 1024
"""Where there are more, all of the picture is covered."""

WHOLE: tuple[Box, ...] = ((0.0, 0.0, 1.0, 1.0),)


class Wait(Enum):
    """Instead of what is to be covered."""

    WAIT = "wait"
    """This picture's faces are not known, those of the next one will be."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a picture: which track it is of, if any, and whether it was recognised then."""

    box: Box
    track: int | None = None
    known: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    captured_ns: int
    faces: tuple[Face, ...]


class FaceCover:
    """Where faces are. The inference thread tells it, the stream thread asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: list[_Look] = []
        self._blind_since = self._blind_at = float("-inf")

    @property
    def blind(self) -> bool:
        """Whether pictures have to be covered as a whole, and not only while detectors are loaded."""
        now = time.monotonic()
        return now - self._blind_at < _BLIND_SECONDS < now - self._blind_since

    def saw(self, captured_ns: int, faces: Sequence[Face]) -> None:
        """Faces were looked for in this picture, and these found."""
        with self._lock:
            oldest = captured_ns - round(STALE_SECONDS * 1e9)
            self._looks = [look for look in self._looks if oldest <= look.captured_ns < captured_ns]
            self._looks.append(_Look(captured_ns, _bounded(faces)))

    def forget(self) -> None:
        """Faces are not looked for any more."""
        with self._lock:
            self._looks = []

    def faces(self, captured_ns: int) -> tuple[Face, ...] | None:
        """The faces of a picture and those of shortly before; None if they were not looked for in it."""
        with self._lock:
            looks = [look for look in self._looks if look.captured_ns <= captured_ns]
        if not looks or looks[-1].captured_ns != captured_ns:
            return None
        own = looks[-1].faces
        found = [Face(enlarged(face.box, _MARGIN), face.track, face.known) for face in own]
        seen = {face.track for face in own if face.track is not None}
        for look in reversed(looks[:-1]):
            age = (captured_ns - look.captured_ns) / 1e9
            for face in look.faces:
                if face.track is None:
                    held = age <= _UNTRACKED_SECONDS and not any(
                        overlap(face.box, other.box) >= _SAME_FACE for other in own if other.track is not None
                    )
                else:
                    held = age <= HOLD_SECONDS and face.track not in seen
                    seen.add(face.track)
                if held:
                    found.append(Face(enlarged(face.box, _HELD_MARGIN), face.track, face.known))
        return _bounded(found)

    def areas(self, captured_ns: int, mode: BlurFaces) -> tuple[Box, ...] | Wait:
        """What to cover in a picture; `WHOLE` if its faces cannot be told, `WAIT` if the next ones' can."""
        if mode is BlurFaces.NEVER:
            return ()
        faces = self.faces(captured_ns)
        if faces is None:
            with self._lock:
                newest = self._looks[-1].captured_ns if self._looks else 0
            if abs(captured_ns - newest) <= STALE_SECONDS * 1e9:
                return Wait.WAIT
            now = time.monotonic()
            if now - self._blind_at >= _BLIND_SECONDS:
                self._blind_since = now
            self._blind_at = now
            return WHOLE
        return tuple(face.box for face in faces if mode is BlurFaces.ALWAYS or not face.known)


def _bounded(faces: Sequence[Face]) -> tuple[Face, ...]:
    return tuple(faces) if len(faces) <= _MAX_FACES else (Face(WHOLE[0]),)


def enlarged(box: Box, margin: float) -> Box:
    """A box with so much of its size more on each side, cut off at the edges of the picture."""
    left, top, width, height = box
    right, bottom = min(1.0, left + width * (1 + margin)), min(1.0, top + height * (1 + margin))
    left, top = max(0.0, left - width * margin), max(0.0, top - height * margin)
    return left, top, max(0.0, right - left), max(0.0, bottom - top)


def pixelated(image: Image, areas: Sequence[Box]) -> Image:
    """A copy of a picture with areas reduced to a few flat blocks each: there is nothing left to restore.

    Args:
        image: height x width x 3, uint8, BGR.
        areas: Fractions of the picture.
    """
    import cv2

    image = image.copy()
    height, width = image.shape[:2]
    for left, top, across, down in areas:
        x, y = int(left * width), int(top * height)
        right = min(width, max(x + 1, round((left + across) * width)))
        bottom = min(height, max(y + 1, round((top + down) * height)))
        part = image[y:bottom, x:right]
        if part.size:
            blocks = min(_BLOCKS, part.shape[1]), min(_BLOCKS, part.shape[0])
            small = cv2.resize(part, blocks, interpolation=cv2.INTER_AREA)
            part[:] = cv2.resize(small, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_NEAREST)
    return image
