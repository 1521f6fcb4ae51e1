"""How late the event loop is: the worst of the last ten seconds."""

from __future__ import annotations

import asyncio
import time

_INTERVAL = 0.1
_HALF_WINDOW = 5.0


class LagMeter:
    """Sleeps short times and measures by how much each was overslept."""

    def __init__(self) -> None:
        self._now = 0.0
        self._before = 0.0
        self._turned_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """The worst lag of the last five to ten seconds."""
        return max(self._now, self._before)

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            start = time.monotonic()
            await asyncio.sleep(_INTERVAL)
            end = time.monotonic()
            self._now = max(self._now, end - start - _INTERVAL)
            if end - self._turned_at >= _HALF_WINDOW:
                self._before, self._now, self._turned_at = self._now, 0.0, end
