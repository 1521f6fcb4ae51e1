"""Frame number and clock burnt into the test pattern, so that a program can measure how old a picture is.

Two rows of square blocks across the top, `COLUMNS` to a row, each as wide as the picture's width / `COLUMNS`;
black is 0, white is 1, most significant bit first, row by row: the marker 1010, a 64-bit Unix time in ns, a
32-bit frame number, a 16-bit checksum, the marker 0101. Everything is relative to the width, so the strip
survives scaling, and a block's mean survives JPEG.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = 60
ROWS = 2
MIN_WIDTH = 240
"""Narrower pictures have blocks of less than 4 pixels, which JPEG may smear."""
_HEAD = 0b1010
_TAIL = 0b0101
_BITS = ROWS * COLUMNS
_MIN_CONTRAST = 40.0


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is burnt in: Unix time in ns, and the frame number modulo 2³²."""

    time_ns: int
    number: int


def burn_stamp(image: NDArray[np.uint8], stamp: Stamp) -> None:
    """Draw the strip into a BGR picture, in place.

    Args:
        image: height x width x 3, uint8.
        stamp: What to write.
    """
    width = image.shape[1]
    body = stamp.time_ns.to_bytes(8) + (stamp.number & 0xFFFFFFFF).to_bytes(4)
    value = (_HEAD << 116) | (int.from_bytes(body) << 20) | (_checksum(body) << 4) | _TAIL
    packed = np.frombuffer(value.to_bytes(_BITS // 8), np.uint8)
    bits = np.unpackbits(packed).reshape(ROWS, COLUMNS) * np.uint8(255)
    edges = np.arange(width) * COLUMNS // width
    for row in range(ROWS):
        top, bottom = (round((row + step) * width / COLUMNS) for step in (0, 1))
        image[top:bottom] = bits[row][edges][np.newaxis, :, np.newaxis]


def read_stamp(image: NDArray[np.uint8]) -> Stamp | None:
    """Read the strip.

    Args:
        image: height x width x 3 (BGR) or height x width, uint8, at any scale.

    Returns:
        None if there is no strip, or it is not readable.
    """
    height, width = image.shape[:2]
    block = width / COLUMNS
    if block < 2 or height < ROWS * block:
        return None
    means = np.empty(_BITS)
    for index in range(_BITS):
        row, column = divmod(index, COLUMNS)
        top, bottom = _middle(row, block)
        left, right = _middle(column, block)
        means[index] = image[top:bottom, left:right].mean()
    low, high = float(means.min()), float(means.max())
    if high - low < _MIN_CONTRAST:
        return None
    value = int.from_bytes(np.packbits(means > (low + high) / 2).tobytes())
    if value >> 116 != _HEAD or value & 0xF != _TAIL:
        return None
    body = ((value >> 20) & ((1 << 96) - 1)).to_bytes(12)
    if _checksum(body) != (value >> 4) & 0xFFFF:
        return None
    return Stamp(int.from_bytes(body[:8]), int.from_bytes(body[8:]))


def _middle(index: int, block: float) -> tuple[int, int]:
    """The pixels of a block's middle half, at least one."""
    start = int((index + 0.25) * block + 0.5)
    return start, max(start + 1, int((index + 0.75) * block + 0.5))


def _checksum(body: bytes) -> int:
    return binascii.crc_hqx(body, 0xFFFF)
