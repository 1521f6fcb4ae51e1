"""The interface of all sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from camfleet_worker.picture import Picture

OPEN_TIMEOUT = 10.0
READ_TIMEOUT = 10.0


class CaptureSource(Protocol):
    """Opened, read and closed by the capture thread alone."""

    codec: str
    """Name of the codec, after `open`."""
    network: bool
    """Whether silence means that something is wrong; a file waits for its own time stamps."""

    def open(self) -> None:
        """Open it.

        Raises:
            SourceError: It cannot be opened.
        """

    def read(self) -> Picture | None:
        """The next picture, or None if there was progress but no picture, or the wait was interrupted.

        Raises:
            SourceError: It cannot be read, or is at its end.
        """

    def close(self) -> None:
        """Let go of everything; may be called twice."""


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a source needs from its surroundings.

    Attributes:
        wait: Sleeps for so many seconds, less if the capture must stop or reopen: then it returns False.
        media_root: If not empty, a file must lie in one of these folders.
        credentials_dir: Folder with the files `username` and `password`.
        threads: For decoding.
        read_timeout: Seconds without a byte after which a network source counts as silent.
    """

    wait: Callable[[float], bool]
    media_root: tuple[Path, ...] = ()
    credentials_dir: Path | None = None
    threads: int = 1
    read_timeout: float = READ_TIMEOUT
