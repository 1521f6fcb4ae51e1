"""Who may be among the nearest of very many vectors, from a quarter of their memory.

A product with vectors that do not fit into the processor's caches takes as long as it takes to read them. So
they are read as bytes first. What the bytes leave out is known of each vector, so each similarity is known to
lie within bounds, and only those whose upper bound reaches what so many others surely have need to be
compared exactly. The bounds hold for any vectors; where they leave too many, all are to be compared.
"""

from __future__ import annotations

import functools
import platform
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Indexes = NDArray[np.intp]

_WORTH_IT_BYTES = 8 * 1024 * 1024
"""Of the vectors; fewer are in the caches, where the plain product is as quick (bench/bench_gallery.py)."""
_MOST = 0.25
"""Of the vectors; to gather more and compare them costs as much as comparing all."""
_LEVELS, _QUERY_LEVELS = 127, 63
"""Processors without VNNI add two products of a byte of the one and a byte of the other in 16 bits."""
_MIDDLE = _QUERY_LEVELS + 1
"""A query's bytes have no sign."""
_ROUNDING = 2e-4
"""By which float32 products of 1536 numbers, of vectors no longer than 1, may be off."""
_TINY = 1e-12
_BLOCK = 1024
_INT32, _UINT8, _INT8 = 6, 2, 3
"""Types of ONNX."""


class Shortlist:
    """A copy of vectors, as bytes. Any thread may use it."""

    def __init__(self, vectors: Vectors) -> None:
        """Make one.

        Args:
            vectors: n x d, rows no longer than 1.
        """
        count, dimensions = vectors.shape
        self._bytes = np.empty((dimensions, count), np.int8)
        self._scales, self._kept, self._left_out = (np.empty(count, np.float32) for _ in range(3))
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            rows = vectors[block]
            scales = np.maximum(np.abs(rows).max(axis=1), _TINY) / _LEVELS
            levels = np.rint(rows / scales[:, np.newaxis])
            self._bytes[:, block] = levels.T
            levels *= scales[:, np.newaxis]
            self._scales[block] = scales
            self._kept[block] = np.linalg.norm(levels, axis=1)
            self._left_out[block] = np.linalg.norm(rows - levels, axis=1)
        self._shift = _MIDDLE * self._bytes.sum(axis=0, dtype=np.int32)

    @classmethod
    def of(cls, vectors: Vectors) -> Shortlist | None:
        """The shortlist of vectors, if one pays."""
        # Elsewhere ONNX Runtime would rearrange the bytes each time.
        fit = platform.machine().lower() in ("x86_64", "amd64")
        return cls(vectors) if fit and vectors.nbytes >= _WORTH_IT_BYTES else None

    @property
    def nbytes(self) -> int:
        """Memory."""
        arrays = (self._bytes, self._scales, self._kept, self._left_out, self._shift)
        return sum(array.nbytes for array in arrays)

    def around(self, query: Vectors, count: int, eligible: NDArray[np.bool_]) -> Indexes | None:
        """All vectors that may be among the `count` nearest of those that are eligible, in their order.

        None where there are so many that all should be compared instead.
        """
        scale = max(float(np.abs(query).max()), _TINY) / _QUERY_LEVELS
        levels = np.rint(query / scale)
        left_out = float(np.linalg.norm(query - scale * levels))
        feed = {"a": (levels + _MIDDLE).astype(np.uint8)[np.newaxis], "b": self._bytes}
        products = _product().run(None, feed)[0][0] - self._shift
        alike = products * (np.float32(scale) * self._scales)
        within = self._left_out * float(np.linalg.norm(query)) + self._kept * left_out + _ROUNDING
        surely = np.where(eligible, alike - within, -np.inf)
        if count < len(surely):
            enough = np.partition(surely, -count)[-count]
            found = np.flatnonzero(eligible & (alike + within >= enough))
        else:
            found = np.flatnonzero(eligible)
        return found if len(found) <= _MOST * len(surely) else None


@functools.cache
def _product() -> Any:
    """ONNX Runtime with nothing but a product of bytes in it; any thread may run it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(_model(), options, providers=["CPUExecutionProvider"])


def _model() -> bytes:
    """`y = MatMulInteger(a, b)` as an ONNX file, which is a protocol buffer."""
    node = _field(1, b"a") + _field(1, b"b") + _field(2, b"y") + _field(4, b"MatMulInteger")
    values = _value(11, "a", _UINT8) + _value(11, "b", _INT8) + _value(12, "y", _INT32)
    graph = _field(1, node) + _field(2, b"product") + values
    opset = bytes((2 << 3, 10))
    return bytes((1 << 3, 5)) + _field(7, graph) + _field(8, opset)


def _value(number: int, name: str, kind: int) -> bytes:
    """A matrix that goes in or comes out; its sizes are open."""
    tensor = bytes((1 << 3, kind)) + _field(2, _field(1, b"") * 2)
    return _field(number, _field(1, name.encode()) + _field(2, _field(1, tensor)))


def _field(number: int, content: bytes) -> bytes:
    """A field with its length, which is below 16 KiB."""
    size = len(content)
    return bytes((number << 3 | 2, size & 0x7F | 0x80, size >> 7)) + content
