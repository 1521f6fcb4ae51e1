"""Pictures whose faces are known, as dlib's imglab writes them, against the faces that were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

from camfleet.evaluation.gather import FoundBoxes
from camfleet_worker.recognition.quality import Box
from camfleet_worker.recognition.refine import intersection, overlap

IOUS = (0.5, 0.35)
_MOSTLY = 0.5
_MAX_PIXELS = 1e6
_TRUE = frozenset(("1", "true", "yes"))


class BoxTableError(Exception):
    """A document that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """A picture and its faces: left, top, width, height in pixels, and whether each is to be ignored.

    Attributes:
        empty: Boxes that have no area; no face can be in them.
    """

    file: Path
    name: str
    boxes: tuple[tuple[Box, bool], ...]
    empty: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Matched:
    """How found and known faces agree, at one overlap.

    Attributes:
        iou: Intersection over union from which a found box is that of a known face.
        known: Faces that count.
        right: Of them found.
        false: Boxes found that are of no known face.
        misses: Known faces that were not found, with their picture.
        false_boxes: Found boxes that are none, with their score.
    """

    iou: float
    known: int
    right: int
    false: int
    misses: tuple[tuple[str, Box], ...]
    false_boxes: tuple[tuple[str, Box, float], ...]

    @property
    def recall(self) -> float | None:
        """Share of known faces that were found."""
        return self.right / self.known if self.known else None

    @property
    def precision(self) -> float | None:
        """Share of found boxes that are known faces."""
        return self.right / (self.right + self.false) if self.right + self.false else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pictures; those that could not be read are left out of the figures."""

    pictures: int
    problems: tuple[tuple[str, str], ...]
    empty: tuple[tuple[str, Box], ...]
    matched: tuple[Matched, ...]


def read(document: Path) -> list[KnownPicture]:
    """Read images/image[@file]/box[@top,@left,@width,@height,@ignore].

    Raises:
        BoxTableError: It cannot be read, or has no images.
    """
    try:
        root = ElementTree.parse(document).getroot()
    except OSError as error:
        raise BoxTableError(f"{document.name} cannot be read: {error.strerror}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BoxTableError(f"{document.name} is not XML: {error}") from None
    pictures = []
    for image in root.iter("image"):
        name = (image.get("file") or "").strip()
        if not name:
            raise BoxTableError(f"{document.name}: an image without file")
        try:
            boxes = tuple(_box(box) for box in image.iter("box"))
        except (TypeError, ValueError):
            raise BoxTableError(f"{document.name}: {name} has a box that is none") from None
        given = tuple(item for item in boxes if item[0][2] > 0 and item[0][3] > 0)
        empty = tuple(item[0] for item in boxes if item not in given)
        pictures.append(KnownPicture(_file(document.parent, name), name, given, empty))
    if not pictures:
        raise BoxTableError(f"{document.name} has no images")
    return pictures


def compare(pictures: Sequence[KnownPicture], found: Sequence[FoundBoxes]) -> Comparison:
    """Match found boxes with known ones, the most certain first, each with the one it overlaps most.

    What is beyond the edges of the picture is left out of both.
    """
    problems = tuple(
        (picture.name, item.problem) for picture, item in zip(pictures, found, strict=True) if item.problem
    )
    readable = [(p, item) for p, item in zip(pictures, found, strict=True) if not item.problem]
    empty = tuple((picture.name, box) for picture in pictures for box in picture.empty)
    return Comparison(len(pictures), problems, empty, tuple(_match(readable, iou) for iou in IOUS))


def _match(pictures: Sequence[tuple[KnownPicture, FoundBoxes]], iou: float) -> Matched:
    right = 0
    misses: list[tuple[str, Box]] = []
    false: list[tuple[str, Box, float]] = []
    for picture, found in pictures:
        open_boxes = [box for box, ignored in picture.boxes if not ignored]
        ignored_boxes = [_inside(box, found.size) for box, ignored in picture.boxes if ignored]
        for box, score in sorted(found.boxes, key=lambda item: item[1], reverse=True):
            visible = _inside(box, found.size)
            overlaps = [overlap(_inside(known, found.size), visible) for known in open_boxes]
            if overlaps and max(overlaps) >= iou:
                open_boxes.pop(overlaps.index(max(overlaps)))
                right += 1
            elif not any(_of_ignored(visible, other, iou) for other in ignored_boxes):
                false.append((picture.name, box, score))
        misses.extend((picture.name, box) for box in open_boxes)
    false.sort(key=lambda item: item[2], reverse=True)
    return Matched(iou, right + len(misses), right, len(false), tuple(misses), tuple(false))


def _file(folder: Path, name: str) -> Path:
    """Where a picture is, also if its name was written on Windows."""
    as_written = folder / name
    try:
        return as_written if as_written.exists() else folder.joinpath(*PureWindowsPath(name).parts)
    except OSError:  # as of a name that is too long to be one; reading it will say so
        return as_written


def _inside(box: Box, size: tuple[float, float]) -> Box:
    """What of a box is in the picture: where a face goes on beyond its edge, boxes are drawn in two ways."""
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(size[0], box[0] + box[2]), min(size[1], box[1] + box[3])
    return (left, top, right - left, bottom - top) if right > left and bottom > top else box


def _of_ignored(box: Box, ignored: Box, iou: float) -> bool:
    return overlap(box, ignored) >= iou or intersection(box, ignored) >= _MOSTLY * box[2] * box[3]


def _box(element: ElementTree.Element) -> tuple[Box, bool]:
    left, top, width, height = (
        float(element.get(name, "none")) for name in ("left", "top", "width", "height")
    )
    if not all(abs(value) <= _MAX_PIXELS for value in (left, top, width, height)):
        raise ValueError("no number of pixels")
    return (left, top, width, height), (element.get("ignore") or "").lower() in _TRUE
