"""A disk of a given size that can be filled and emptied: a tmpfs, mounted for the time of a test."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.require import need


class SmallDisk:
    """A folder that is a disk of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @property
    def free(self) -> int:
        """Bytes."""
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Leave no more than so many bytes free."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while self.free > leave:
                    file.write(bytes(min(1024 * 1024, self.free - leave)))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def clear(self) -> None:
        """Take away what `fill` has put there."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, size_kib: int) -> Iterator[SmallDisk]:
    """Mount one at `path`, which is made; skips where that is not allowed."""
    need(os.geteuid() == 0, "mounting a small disk: needs root")
    path.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k,mode=700", "camfleet-test", path],
        check=False,
        capture_output=True,
        text=True,
    )
    need(mounted.returncode == 0, f"mounting a small disk: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
