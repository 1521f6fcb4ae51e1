"""How many values the vectors of a model have. A worker may say anything, and must not decide that."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from camfleet_gateway.clock import Clock
from camfleet_gateway.vectors.rows import KeptVectors

AGAIN_SECONDS = 60.0
"""Between two looks at the database because of vectors that do not fit."""

SizeOf = Callable[[str], Awaitable[int | None]]
"""How many values a model's vectors have; None if that is not known."""


async def not_known(_: str) -> int | None:
    """Where nobody knows any model."""
    return None


class Sizes:
    """What is known of each model; where nobody knows it is what most vectors in the database have."""

    def __init__(self, kept: KeptVectors, size_of: SizeOf, clock: Clock) -> None:
        self._kept = kept
        self._size_of = size_of
        self._clock = clock
        self._found: dict[str, int] = {}
        self._doubted: dict[str, float] = {}

    def known(self, embedder: str) -> int | None:
        """What was found last."""
        return self._found.get(embedder)

    async def look(self, embedder: str) -> int | None:
        """Find it out; None if there is no vector.

        Raises:
            UnavailableError: The database is away.
        """
        size = await self._size_of(embedder) or await self._kept.usual_size(embedder)
        if size is not None:
            self._found[embedder] = size
        return size

    async def doubt(self, embedder: str) -> bool:
        """Vectors came that do not fit: look again, if that is not long ago; tells whether it was wrong.

        Raises:
            UnavailableError: The database is away.
        """
        now, before = self._clock.monotonic(), self.known(embedder)
        if now - self._doubted.get(embedder, -math.inf) < AGAIN_SECONDS:
            return False
        self._doubted[embedder] = now
        return await self.look(embedder) != before
