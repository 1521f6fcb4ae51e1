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
        self._since = math.inf
        """The earliest that was asked for since the purge under way has begun."""

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
        self._since = min(time, self._since)
        if time < self.due():
            self._write(time)

    def begin(self) -> None:
        """A purge begins: what is deleted from now on may outlast it."""
        self._since = math.inf

    def done(self) -> None:
        """It was done."""
        if self._since < math.inf:
            self._write(self._since)
        else:
            self._path.unlink(missing_ok=True)

    def _write(self, time: float) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self._path, json.dumps(time).encode())
