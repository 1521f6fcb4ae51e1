"""Pictures as files, in the data folder.

```
pictures/YYYY/MM/DD/EVENT.crop.jpg    of events, by the day (UTC) of their time
pictures/YYYY/MM/DD/EVENT.scene.jpg
people/PERSON/FACE.jpg                of enrolled people
```

All methods block: call them in a thread. A file is replaced whole; what a loss of power takes of it is not
waited for, for its event is in the database and says what happened.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time as clock
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from camfleet_protocol.local import write_atomic

Picture = Literal["crop", "scene"]
PICTURES: tuple[Picture, ...] = ("crop", "scene")
_JPEG = b"\xff\xd8\xff"
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LAST_TIME = 253402300799.0
"""The end of the year 9999."""


def is_jpeg(picture: bytes) -> bool:
    """Whether bytes begin as a JPEG does."""
    return picture.startswith(_JPEG)


def stem(name: str) -> str:
    """An id as part of a file name: itself, or a hash where it might lead elsewhere."""
    if _PLAIN.fullmatch(name):
        return name
    return "~" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()


def day_of(time: float) -> str:
    """The day of a time in UTC, as it stands in paths."""
    return datetime.fromtimestamp(min(max(time, 0.0), _LAST_TIME), UTC).strftime("%Y/%m/%d")


def day_start(day: str) -> float | None:
    """The first second of a day as it stands in paths; None if it is none."""
    try:
        return datetime.strptime(day, "%Y/%m/%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


class Snapshots:
    """The pictures below one folder."""

    def __init__(self, root: Path) -> None:
        self.pictures = root / "pictures"
        self.people = root / "people"

    # ── Events ─────────────────────────────────────────────────────────────────────────────────────

    def event_path(self, event_id: str, time: float, picture: Picture) -> Path:
        """Where a picture of an event is, or would be."""
        return self.pictures / day_of(time) / f"{stem(event_id)}.{picture}.jpg"

    def write_event(self, event_id: str, time: float, *, crop: bytes = b"", scene: bytes = b"") -> int:
        """Write what is given of an event's pictures; returns the bytes of all there are now.

        Raises:
            OSError: They cannot be written: a full disk, say.
        """
        total = 0
        for name, content in zip(PICTURES, (crop, scene), strict=True):
            path = self.event_path(event_id, time, name)
            if content:
                _write(path, content)
                total += len(content)
            else:
                total += _size(path)
        return total

    def read_event(self, event_id: str, time: float, picture: Picture) -> bytes | None:
        """A picture of an event; None if there is none."""
        return _read(self.event_path(event_id, time, picture))

    def remove_event(self, event_id: str, time: float) -> int:
        """Remove the pictures of an event; returns how many there were."""
        return sum(_remove(self.event_path(event_id, time, picture)) for picture in PICTURES)

    # ── People ─────────────────────────────────────────────────────────────────────────────────────

    def face_path(self, person_id: str, face_id: str) -> Path:
        """Where a face's picture is, or would be."""
        return self.people / stem(person_id) / f"{stem(face_id)}.jpg"

    def write_face(self, person_id: str, face_id: str, picture: bytes) -> None:
        """Keep the picture of a face.

        Raises:
            OSError: It cannot be written.
        """
        _write(self.face_path(person_id, face_id), picture)

    def read_face(self, person_id: str, face_id: str) -> bytes | None:
        """The picture of a face; None if there is none."""
        return _read(self.face_path(person_id, face_id))

    def remove_face(self, person_id: str, face_id: str) -> int:
        """Remove the picture of a face; returns how many there were."""
        return int(_remove(self.face_path(person_id, face_id)))

    def remove_person(self, person_id: str) -> int:
        """Remove all pictures of a person; returns how many there were."""
        folder = self.people / stem(person_id)
        count = sum(1 for _ in folder.glob("*.jpg"))
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        return count

    def belong_to(self, database: str) -> bool:
        """Whether these are the pictures of a database, by its id; a folder without one becomes so.

        Raises:
            OSError: The folder cannot be used.
        """
        path = self.pictures / "database"
        if not path.exists():
            _write(path, database.encode())
        return path.read_bytes().decode(errors="replace") == database

    # ── What has been left behind ──────────────────────────────────────────────────────────────────

    def days(self) -> Iterator[str]:
        """The days of which there are pictures, oldest first."""
        for folder in sorted(self.pictures.glob("*/*/*")):
            if folder.is_dir():
                yield folder.relative_to(self.pictures).as_posix()

    def sweep_day(self, day: str, known: set[str], *, older_than: float) -> int:
        """Remove a day's files that belong to no event, and empty folders.

        Args:
            day: As `days` gives it.
            known: Stems of the day's events.
            older_than: Seconds; younger files may belong to an event that is being stored.

        Returns:
            How many files were removed.
        """
        folder = self.pictures / day
        removed = _sweep(folder, known, older_than)
        for empty in (folder, folder.parent, folder.parent.parent):
            with suppress(OSError):
                empty.rmdir()
        return removed

    def person_folders(self) -> list[str]:
        """Stems of the people of whom there are pictures."""
        return sorted(folder.name for folder in self.people.glob("*") if folder.is_dir())

    def sweep_person(self, folder: str, known: set[str], *, older_than: float) -> int:
        """Remove pictures of a person that belong to no face; returns how many."""
        removed = _sweep(self.people / folder, known, older_than)
        with suppress(OSError):
            (self.people / folder).rmdir()
        return removed


def _sweep(folder: Path, known: set[str], older_than: float) -> int:
    newest = clock.time() - older_than
    removed = 0
    for path in folder.glob("*"):
        if path.name.partition(".")[0] in known:  # a file that was never finished begins with a dot
            continue
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < newest:
                path.unlink()
                removed += 1
    return removed


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomic(path, content)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, content)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes() or None
    except FileNotFoundError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
