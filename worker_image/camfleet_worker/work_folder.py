"""Where a worker keeps what must outlast a crash: the one given, or one that lasts as long as the process."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class WorkFolder:
    """The work folder: the one given, or one that lasts as long as the process."""

    path: Path
    temporary: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def make(cls, given: Path | None) -> WorkFolder:
        """Use the folder, creating it if need be.

        Raises:
            OSError: It cannot be made or written to.
        """
        if given is None:
            temporary = tempfile.TemporaryDirectory(prefix="camfleet-worker-")
            return cls(Path(temporary.name), temporary)
        given.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(given)

    def close(self) -> None:
        """Remove it if it is a temporary one."""
        if self.temporary is not None:
            self.temporary.cleanup()
