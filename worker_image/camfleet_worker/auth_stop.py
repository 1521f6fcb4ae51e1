"""Remembers that a camera refused the credentials, so that no restart tries them again too soon.

Cameras lock an account after a few wrong passwords; a worker that restarts in a loop must not do that to
them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from camfleet_protocol.local import write_atomic
from camfleet_worker.faults import SourceError
from camfleet_worker.log import get_logger
from camfleet_worker.sources.credentials import read_credentials

logger = get_logger(__name__)

RETRY_SECONDS = 30 * 60.0
_FILE = "auth_stop.json"


@dataclass(frozen=True, slots=True)
class _Record:
    salt: str
    digest: str
    until: float


class AuthStop:
    """The stop of one source; `subject` is what the credentials are for: a new address starts anew."""

    def __init__(
        self, work_dir: Path | None, credentials_dir: Path | None, subject: str, *, now: Callable[[], float]
    ) -> None:
        self._file = work_dir / _FILE if work_dir is not None else None
        self._credentials_dir = credentials_dir
        self._subject = subject
        self._now = now
        self._record = self._load()

    def begin(self) -> None:
        """The credentials were refused just now."""
        salt = os.urandom(16)
        self._record = _Record(salt.hex(), self._digest(salt), self._now() + RETRY_SECONDS)
        if self._file is not None:
            content = {"salt": self._record.salt, "digest": self._record.digest, "until": self._record.until}
            try:
                write_atomic(self._file, json.dumps(content).encode())
            except OSError as error:
                logger.warning("the auth stop cannot be remembered: %s", error.strerror)

    def end(self) -> None:
        """The credentials were accepted."""
        if self._record is not None:
            self._record = None
            if self._file is not None:
                self._file.unlink(missing_ok=True)

    def remaining(self) -> float:
        """Seconds until the next try is allowed; 0 if it is now, as when the credentials have changed."""
        record = self._record
        if record is None:
            return 0.0
        remaining = min(record.until - self._now(), RETRY_SECONDS)
        if remaining <= 0 or self._digest(bytes.fromhex(record.salt)) != record.digest:
            return 0.0
        return remaining

    def _digest(self, salt: bytes) -> str:
        try:
            return read_credentials(self._credentials_dir).digest(salt, self._subject)
        except SourceError as error:
            return error.fault.reason

    def _load(self) -> _Record | None:
        if self._file is None:
            return None
        try:
            content = json.loads(self._file.read_bytes())
            record = _Record(str(content["salt"]), str(content["digest"]), float(content["until"]))
            bytes.fromhex(record.salt)
            return record
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            logger.warning("the remembered auth stop is not readable; starting without it")
            return None
