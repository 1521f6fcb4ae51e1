"""Embeddings as bytes and as rows: little-endian float16, each of length 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""n x d, each row of length 1."""

_WIRE = np.dtype("<f2")
MAX_BYTES = 1536 * 2


def to_bytes(rows: Rows) -> bytes:
    """Rows one after the other."""
    return bytes(np.ascontiguousarray(rows, dtype=_WIRE).tobytes())


def from_bytes(data: bytes) -> NDArray[np.float32]:
    """One embedding, d values, made exactly of length 1 again.

    Raises:
        ValueError: It is none: an odd length, not finite, or no direction.
    """
    if not data or len(data) > MAX_BYTES or len(data) % _WIRE.itemsize:
        raise ValueError("not an embedding")
    values = np.frombuffer(data, dtype=_WIRE).astype(np.float32)
    length = float(np.linalg.norm(values))
    if not np.isfinite(length) or not 0.5 < length < 2.0:
        raise ValueError("not an embedding")
    return np.asarray(values / np.float32(length), dtype=np.float32)


def many_from_bytes(data: Sequence[bytes], dimensions: int) -> tuple[Rows, NDArray[np.bool_]]:
    """Those of many embeddings that are ones with so many values, and which of them are."""
    good = np.array([len(each) == dimensions * _WIRE.itemsize for each in data], np.bool_)
    fitting = [each for each, fits in zip(data, good, strict=True) if fits]
    rows = np.frombuffer(b"".join(fitting), _WIRE).astype(np.float32).reshape(-1, dimensions)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(rows, axis=1)
        sound = np.isfinite(lengths) & (lengths > 0.5) & (lengths < 2.0)
    good[np.flatnonzero(good)[~sound]] = False
    return np.asarray(rows[sound] / lengths[sound][:, None], np.float32), good


def centroid(rows: Rows) -> NDArray[np.float32]:
    """The mean direction of rows; the first one where they cancel each other out."""
    mean = rows.mean(axis=0)
    length = float(np.linalg.norm(mean))
    return np.asarray(mean / np.float32(length) if length > 1e-3 else rows[0], dtype=np.float32)


def most_different(rows: Rows, count: int, start: NDArray[np.float32]) -> list[int]:
    """Which rows say most besides `start`: each next one is the least like all that are chosen already.

    Args:
        rows: n x d.
        count: How many at most.
        start: What is chosen already, d values.
    """
    nearest = rows @ start
    chosen: list[int] = []
    for _ in range(min(count, len(rows))):
        index = int(np.argmin(nearest))
        chosen.append(index)
        nearest = np.maximum(nearest, rows @ rows[index])
        nearest[chosen] = 2.0
    return chosen


def representatives(rows: Rows, most: int) -> Rows:
    """Up to `most` rows that stand for all: the centroid, then the most different faces.

    Args:
        rows: Faces of one person, n x d, n at least 1.
        most: Rows wanted, at least 1.
    """
    if len(rows) == 1:
        return rows
    middle = centroid(rows)
    others = most_different(rows, most - 1, middle)
    return np.concatenate([middle[None, :], rows[others]]).astype(np.float32)
