"""Times that are promised, measured so that a crowded machine breaks none of them.

The kernel counts the time in which anything at all waited for a core (`/proc/pressure/cpu`). On a machine
with a core to spare that is next to nothing, and a promise is held to the clock on the wall; so it is where
the kernel does not say.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

_PRESSURE = Path("/proc/pressure/cpu")


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._began, self._waited = time.monotonic(), waited()

    @property
    def wall(self) -> float:
        """Seconds by the clock on the wall."""
        return time.monotonic() - self._began

    @property
    def seconds(self) -> float:
        """Seconds, without those in which something waited for a core."""
        return max(0.0, self.wall - (waited() - self._waited))


def waited() -> float:
    """Seconds since the machine has started in which something waited for a core; 0 if nobody counts them."""
    try:
        found = re.search(r"^some .*total=(\d+)$", _PRESSURE.read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1e6 if found else 0.0
