"""A tar.gz of texts, bounded in size, with a manifest that says what is in it and what is not."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from camfleet.kubectl.clean import clean, clean_line, clean_text
from camfleet_protocol import __version__

_CUT = "\n… cut off: the file would have been larger than the bundle allows\n"


class Bundle:
    """Takes texts and objects, cleans each, and writes them to one archive.

    Args:
        path: The archive; it must not exist yet.
        most: Bytes of all files together, uncompressed.
        most_each: Bytes of one file.

    Raises:
        OSError: The archive cannot be made.
    """

    def __init__(self, path: Path, *, most: int, most_each: int) -> None:
        self._path = path
        self._left = most
        self._most_each = most_each
        self._root = path.name.removesuffix(".gz").removesuffix(".tar")
        self._files: list[dict[str, Any]] = []
        self._missing: list[dict[str, str]] = []
        self._about: dict[str, Any] = {}
        # Not for others: what it says of the network is nobody's business but the one's it is sent to.
        self._raw = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._tar = tarfile.open(fileobj=self._raw, mode="w:gz")

    @property
    def files(self) -> int:
        """How many files are in it."""
        return len(self._files)

    @property
    def missing(self) -> list[dict[str, str]]:
        """What could not be had, and why."""
        return list(self._missing)

    def about(self, **facts: Any) -> None:
        """Say something in the manifest."""
        self._about |= facts

    def lack(self, what: str, why: str) -> None:
        """Something could not be had."""
        self._missing.append({"what": what, "why": clean_text(why)})

    def add_json(self, name: str, what: str, value: Any) -> None:
        """Put in an object; a list that is too long loses its end."""
        value = clean(value)
        text = json.dumps(value, indent=1, ensure_ascii=False)
        room = min(self._left, self._most_each)
        dropped = 0
        while isinstance(value, list) and value and len(text) > room:
            keep = max(0, min(len(value) - 1, int(len(value) * room / len(text))))
            dropped += len(value) - keep
            value = value[:keep]
            text = json.dumps(value, indent=1, ensure_ascii=False)
        self._write(name, what, text, **({"dropped": dropped} if dropped else {}))

    def add_lines(self, name: str, what: str, lines: Iterable[str]) -> None:
        """Put in a log; of one that is too long the end counts."""
        kept = [clean_line(line) for line in lines]
        room = min(self._left, self._most_each)
        size = 0
        for number in range(len(kept) - 1, -1, -1):
            size += len(kept[number].encode()) + 1
            if size > room:
                self._write(name, what, "\n".join(kept[number + 1 :]) + "\n", dropped=number + 1)
                return
        self._write(name, what, "\n".join(kept) + "\n")

    def add_text(self, name: str, what: str, text: str) -> None:
        """Put in a text."""
        self._write(name, what, "\n".join(map(clean_text, text.split("\n"))))

    def close(self) -> None:
        """Write the manifest and finish the archive."""
        manifest = {
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "by": f"kubectl camfleet {__version__}",
            **self._about,
            "files": self._files,
            "missing": self._missing,
            "left out on purpose": [
                "Secrets: none was read",
                "user, password and query of every URL",
                "values of annotations and environment variables that are not Camfleet's own",
            ],
        }
        self._left = self._most_each
        self._write("manifest.json", "this list", json.dumps(manifest, indent=1, ensure_ascii=False))
        self._tar.close()
        self._raw.close()

    def abandon(self) -> None:
        """Remove what has been written."""
        self._tar.close()
        self._raw.close()
        self._path.unlink(missing_ok=True)

    def _write(self, name: str, what: str, text: str, **more: Any) -> None:
        data = text.encode(errors="replace")
        room = min(self._left, self._most_each)
        if len(data) > room:
            data = data[: max(0, room - len(_CUT.encode()))] + _CUT.encode()
            more["cut"] = True
        self._left = max(0, self._left - len(data))
        info = tarfile.TarInfo(f"{self._root}/{name}")
        info.size, info.mtime, info.mode = len(data), int(time.time()), 0o600
        self._tar.addfile(info, io.BytesIO(data))
        self._files.append({"name": name, "what": what, "bytes": len(data), **more})
