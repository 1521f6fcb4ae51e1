"""ZIP archives from outside: everything about them is checked before anything is unpacked.

Nothing is ever written under a name from an archive; pictures are read into memory one at a time.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from camfleet_gateway.people.problems import RefusedError

MAX_ENTRIES = 10_000
MAX_ENTRY_BYTES = 20 * 1024 * 1024
MAX_TEXT_BYTES = 64 * 1024 * 1024
"""Of the tables in it, such as people.csv."""
MAX_TOTAL_BYTES = 1024 * 1024 * 1024
MAX_RATIO = 200
"""Pictures hardly compress and text does tenfold: what grows by more is a bomb."""
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 8
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_LONG_LOCATOR = b"PK\x06\x07"
_LONG_LOCATOR_BYTES = 20
_MAX_COMMENT = 65_535
_ENCRYPTED = 0x1
_JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")


def bad_archive(message: str) -> RefusedError:
    """The whole archive is not taken."""
    return RefusedError("BadArchive", message)


class Archive:
    """A checked archive; `names` are its files, by their normal path."""

    def __init__(self, path: Path) -> None:
        """Open and check it.

        Raises:
            RefusedError: It is no ZIP archive, or one that nobody packs by accident.
        """
        self._file = path.open("rb")
        try:
            _check_directory(self._file, path.stat().st_size)
            try:
                self._zip = zipfile.ZipFile(self._file)
                self._entries = _checked(self._zip.infolist())
            except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError) as error:
                raise bad_archive("this is not a ZIP archive that can be read") from error
        except BaseException:
            self._file.close()
            raise

    @property
    def names(self) -> list[str]:
        """Paths of its files, junk of file managers left out."""
        return list(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str, *, most: int = MAX_ENTRY_BYTES) -> bytes:
        """One file of it.

        Raises:
            RefusedError: It is damaged or larger than `most`.
        """
        entry = self._entries[name]
        if entry.file_size > most:
            raise RefusedError("TooLarge", f"at most {most // (1024 * 1024)} MiB are taken", status=413)
        try:
            with self._zip.open(entry) as stream:
                data = stream.read(most + 1)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, RuntimeError):
            raise RefusedError("Damaged", "this file of the archive is damaged") from None
        if len(data) > most:
            raise RefusedError("TooLarge", f"at most {most // (1024 * 1024)} MiB are taken", status=413)
        return data

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_directory(file: BinaryIO, size: int) -> None:
    """Look at the directory's own figures first: reading a directory of millions takes gigabytes."""
    tail_bytes = min(size, _END.size + _MAX_COMMENT + _LONG_LOCATOR_BYTES)
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    file.seek(0)
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END.size:
        raise bad_archive("this is not a ZIP archive that can be read")
    if tail.endswith(b"\0\0") and tail[-_END.size :].startswith(_END_SIGNATURE):
        at = len(tail) - _END.size  # where zipfile looks first
    if tail[max(at - _LONG_LOCATOR_BYTES, 0) : at].startswith(_LONG_LOCATOR):
        raise bad_archive("ZIP64 archives are not taken; pack the pictures in smaller archives")
    _, _, _, _, entries, directory_bytes, _, _ = _END.unpack_from(tail, at)
    if entries > MAX_ENTRIES:
        raise bad_archive(f"at most {MAX_ENTRIES} files are taken in one archive")
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise bad_archive("the archive's list of files is too long")


def _checked(entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    if len(entries) > MAX_ENTRIES:
        raise bad_archive(f"at most {MAX_ENTRIES} files are taken in one archive")
    found: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for entry in entries:
        path = _path(entry.filename)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise bad_archive("the archive holds a link or a special file")
        if entry.is_dir():
            continue
        if entry.flag_bits & _ENCRYPTED:
            raise bad_archive("the archive is encrypted")
        if entry.file_size > MAX_RATIO * max(entry.compress_size, 1) and entry.file_size > 1024 * 1024:
            raise bad_archive("a file of the archive is packed too tightly to be a picture")
        total += entry.file_size
        if total > MAX_TOTAL_BYTES:
            raise bad_archive(f"the archive unpacks to more than {MAX_TOTAL_BYTES // 2**20} MiB")
        if _junk(path):
            continue
        if str(path) in found:
            raise bad_archive("the archive holds a file twice")
        found[str(path)] = entry
    return found


def _path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if (
        not name
        or "\\" in name
        or "\0" in name
        or path.is_absolute()
        or ".." in path.parts
        or len(path.parts) > MAX_DEPTH
        or (path.parts and path.parts[0].endswith(":"))
    ):
        raise bad_archive("a file of the archive has a name that leads out of it")
    return path


def _junk(path: PurePosixPath) -> bool:
    return any(part in _JUNK or part.startswith(".") for part in path.parts)
