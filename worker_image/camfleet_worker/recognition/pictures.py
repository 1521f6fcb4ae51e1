"""Pictures that somebody sent: told what they are by their first bytes, and decoded only if that is sane.

Nothing is decoded before its size is known: 20 KB of PNG may say that they are a picture of 60,000 x 60,000.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from camfleet_worker.picture import Image

MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 50_000_000
_MAX_SIDE = 32768
_MAX_SCANS = 32
"""Of a progressive JPEG; each costs as much as decoding it once, and takes a few bytes."""
_REDUCE_ABOVE = 12_500_000
"""Pixels beyond which a JPEG is decoded at half its size: a face is large enough then, and memory is not."""
_MAX_SEGMENTS = 4096
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset(range(0xD0, 0xD9)) | {0x01}


class PictureError(Exception):
    """A picture that is not taken; `code` is CamelCase, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself; width and height in pixels, before it is turned."""

    kind: Literal["jpeg", "png", "webp"]
    width: int
    height: int


def decode(data: bytes) -> Image:
    """Decode a JPEG, PNG or WebP, turned upright as its EXIF says.

    Returns:
        height x width x 3, uint8, BGR; at half its size if it is a JPEG of more than 12.5 megapixels.

    Raises:
        PictureError: `NotAPicture`, `Truncated`, `Animated` or `TooLarge`.
    """
    header = inspect(data)
    reduced = header.kind == "jpeg" and header.width * header.height > _REDUCE_ABOVE
    flags = cv2.IMREAD_REDUCED_COLOR_2 if reduced else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise PictureError("NotAPicture", f"the {header.kind} cannot be decoded") from error
    if image is None or image.ndim != 3 or image.dtype != np.uint8 or not image.size:
        raise PictureError("NotAPicture", f"the {header.kind} cannot be decoded")
    return image


def inspect(data: bytes) -> Header:
    """Read what a file says of itself, and refuse what is not worth decoding.

    Raises:
        PictureError: `NotAPicture`, `Truncated`, `Animated` or `TooLarge`.
    """
    if len(data) > MAX_BYTES:
        raise PictureError("TooLarge", f"{len(data)} bytes, at most {MAX_BYTES} are taken")
    try:
        if data[:2] == b"\xff\xd8":
            header = _jpeg(data)
        elif data[:8] == b"\x89PNG\r\n\x1a\n":
            header = _png(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            header = _webp(data)
        else:
            raise PictureError("NotAPicture", "not a JPEG, PNG or WebP")
    except (struct.error, IndexError):
        raise PictureError("Truncated", "the picture ends too early") from None
    if header.width < 1 or header.height < 1:
        raise PictureError("NotAPicture", f"{header.width} x {header.height} pixels")
    if header.width * header.height > MAX_PIXELS or max(header.width, header.height) > _MAX_SIDE:
        raise PictureError(
            "TooLarge", f"{header.width} x {header.height} pixels, at most {MAX_PIXELS // 1_000_000} million"
        )
    return header


def _jpeg(data: bytes) -> Header:
    """Walk the segments to the frame's header; count scans and look for the end."""
    at, header = 2, None
    for _ in range(_MAX_SEGMENTS):
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        if data[at] != 0xFF:
            raise PictureError("NotAPicture", "the JPEG is damaged")
        marker = data[at + 1]
        at += 2
        if marker in _STANDALONE:
            continue
        if marker == 0xD9:
            break
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _FRAME_MARKERS and header is None:
            height, width = struct.unpack_from(">HH", data, at + 3)
            header = Header("jpeg", width, height)
        at += max(2, length)
        if marker == 0xDA:
            break
    if header is None:
        raise PictureError("NotAPicture", "the JPEG has no picture")
    if data.rfind(b"\xff\xd9") < at:
        raise PictureError("Truncated", "the JPEG ends too early")
    if data.count(b"\xff\xda", at) >= _MAX_SCANS:
        raise PictureError("TooLarge", f"a JPEG of more than {_MAX_SCANS} scans")
    return header


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise PictureError("NotAPicture", "the PNG has no header")
    width, height = struct.unpack_from(">II", data, 16)
    at = 8
    for _ in range(len(data) // 12):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"acTL":
            raise PictureError("Animated", "an animated picture: send one picture of it")
        if kind == b"IEND":
            return Header("png", width, height)
        at += length + 12
    raise PictureError("Truncated", "the PNG ends too early")


def _webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data) + (size & 1):
        raise PictureError("Truncated", "the WebP ends too early")
    kind = data[12:16]
    if kind == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise PictureError("NotAPicture", "the WebP is damaged")
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("webp", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        if data[20] & 0x02:
            raise PictureError("Animated", "an animated picture: send one picture of it")
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return Header("webp", width, height)
    raise PictureError("NotAPicture", "the WebP has no picture")
