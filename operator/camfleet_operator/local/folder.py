"""Cameras and profiles from the YAML files of a folder.

A document that is wrong is refused as an API server would refuse it: the problem is told with file and line
or field, the object it would have replaced stays as it was, and everything else is taken. Objects of
Kubernetes' own that stand in the same file, such as a Secret, are left alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from camfleet_operator.local.secrets import SECRETS_FOLDER
from camfleet_protocol.camera import Camera, CameraProfile, InvalidObjectError, parse_object
from camfleet_protocol.cluster import GROUP

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 1024 * 1024
MAX_FILES = 10_000
_SUFFIXES = (".yaml", ".yml")

Object = Camera | CameraProfile


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a file that was refused."""

    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class FileContent:
    """What one file holds."""

    digest: str
    objects: tuple[Object, ...] = ()
    refused: tuple[str, ...] = ()
    """`Kind/id` of the objects that were named but not acceptable, and `*` if that cannot be known."""
    problems: tuple[Problem, ...] = ()
    foreign: int = 0
    """How many objects are none of ours."""


@dataclass(frozen=True, slots=True)
class FolderContent:
    """What the whole folder holds: objects by id, and what was refused."""

    cameras: Mapping[str, Camera] = field(default_factory=dict)
    profiles: Mapping[str, CameraProfile] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    foreign: int = 0
    """How many objects are none of ours."""


class CameraFolder:
    """Reads a folder again and again, parsing only files that changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[Path, FileContent] = {}

    def read(self) -> FolderContent:
        """Read what changed since the last time.

        Raises:
            OSError: The folder itself cannot be listed.
        """
        seen: dict[Path, FileContent] = {}
        for path in self._paths():
            try:
                seen[path] = self._read_file(path)
            except FileNotFoundError:
                continue  # deleted since it was listed
        self._files = seen
        return self._merge()

    def _paths(self) -> list[Path]:
        self.root.stat()
        found = sorted(
            path
            for suffix in _SUFFIXES
            for path in self.root.rglob(f"*{suffix}")
            if not any(part.startswith(".") for part in path.relative_to(self.root).parts)
            and path.relative_to(self.root).parts[0] != SECRETS_FOLDER
        )
        if len(found) > MAX_FILES:
            logger.error("%d YAML files in %s, only the first %d are read", len(found), self.root, MAX_FILES)
        return found[:MAX_FILES]

    def _read_file(self, path: Path) -> FileContent:
        before = self._files.get(path)
        name = str(path.relative_to(self.root))
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise _RefusedError(f"larger than {MAX_FILE_BYTES} bytes")
            raw = path.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            return _kept(before, "", Problem(name, f"cannot be read: {error.strerror}"))
        except _RefusedError as error:
            return _kept(before, "", Problem(name, str(error)))
        digest = hashlib.sha256(raw).hexdigest()
        if before is not None and before.digest == digest:
            return before
        try:
            documents = list(_documents(raw))
        except _RefusedError as error:
            return _kept(before, digest, Problem(name, str(error)))
        return _parse(name, digest, documents, before)

    def _merge(self) -> FolderContent:
        cameras: dict[str, Camera] = {}
        profiles: dict[str, CameraProfile] = {}
        problems: list[Problem] = []
        for path, content in self._files.items():
            problems.extend(content.problems)
            for item in content.objects:
                target: dict[str, Camera] | dict[str, CameraProfile]
                target = cameras if isinstance(item, Camera) else profiles
                if item.id in target:
                    name = str(path.relative_to(self.root))
                    problems.append(
                        Problem(name, f"{item.kind} {item.id} is defined twice; the first one counts")
                    )
                else:
                    target[item.id] = item  # type: ignore[assignment]
        foreign = sum(content.foreign for content in self._files.values())
        return FolderContent(cameras, profiles, tuple(problems), foreign)


class _RefusedError(Exception):
    """A file that cannot be taken as a whole."""


def _documents(raw: bytes) -> Iterator[object]:
    try:
        for document in yaml.load_all(raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if document is not None:
                yield document
    except yaml.MarkedYAMLError as error:
        # The error's own text quotes the file, which may hold a secret: only the place and the kind are told.
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _RefusedError(f"{where}this is not YAML ({error.problem or 'malformed'})") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise _RefusedError("this is not YAML") from None


def _parse(name: str, digest: str, documents: list[object], before: FileContent | None) -> FileContent:
    objects: list[Object] = []
    refused: list[str] = []
    problems: list[Problem] = []
    ours = [document for document in documents if not _is_foreign(document)]
    for document in ours:
        try:
            objects.append(parse_object(document))
        except InvalidObjectError as error:
            problems.extend(Problem(name, f"{error.name}: {line}") for line in error.problems)
            refused.append(_key_of(document))
    if before is not None and refused:
        present = {f"{item.kind}/{item.id}" for item in objects}
        objects.extend(
            old
            for old in before.objects
            if f"{old.kind}/{old.id}" in refused and f"{old.kind}/{old.id}" not in present
        )
    return FileContent(
        digest, tuple(objects), tuple(refused), tuple(problems), foreign=len(documents) - len(ours)
    )


def _is_foreign(document: object) -> bool:
    """Whether this is an object of another API. A Camera with a wrong apiVersion is a mistake instead."""
    if not isinstance(document, Mapping):
        return False
    version, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        return False
    return kind not in ("Camera", "CameraProfile") and version.partition("/")[0] != GROUP


def _key_of(document: object) -> str:
    if isinstance(document, Mapping) and isinstance(metadata := document.get("metadata"), Mapping):
        return f"{document.get('kind')}/{metadata.get('namespace', 'default')}.{metadata.get('name')}"
    return "*"


def _kept(before: FileContent | None, digest: str, problem: Problem) -> FileContent:
    """The file's last good content, with the problem that keeps the new one out."""
    return FileContent(digest, before.objects if before else (), ("*",), (problem,))
