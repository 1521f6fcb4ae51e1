"""When what was deleted must be gone from the disk, too: a small file that outlives a crash.

Deleting only marks rows; they are gone when the collection is made anew. That is done soon for people who
were erased, and once a day for events whose time was over.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from camfleet_protocol.local import write_atomic

SOON_SECONDS = 30.0
"""Longer than the transaction that deletes can still take."""
LATER_SECONDS = 24 * 3600.0


class PurgeMark:
    """When the next purge is due, in a file. Blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def due(self) -> float:
        """Unix seconds; infinite if nothing was deleted since the last one."""
        try:
            value = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return math.inf
        except (OSError, ValueError):
            return 0.0  # better once too often
        return float(value) if isinstance(value, (int, float)) else 0.0

    def ask(self, time: float) -> None:
        """Have one done at a time, or earlier if that is due already.

        Raises:
            OSError: It cannot be written.
        """
        if time < self.due():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(self._path, json.dumps(time).encode())

    def done(self) -> None:
        """It was done."""
        self._path.unlink(missing_ok=True)
