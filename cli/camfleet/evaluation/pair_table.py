"""Pairs of pictures from a CSV, and which pictures are of one person."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PureWindowsPath

import numpy as np

from camfleet.evaluation.pair_set import PairSet

_COLUMNS = ("file_x", "file_y", "same")
_YES = frozenset(("1", "1.0", "true", "yes", "y", "t", "same"))
_NO = frozenset(("0", "0.0", "-1", "-1.0", "false", "no", "n", "f", "different", "diff"))
_MAX_BYTES = 256 * 1024 * 1024
_NUMBER_AT_END = re.compile(r"[\s_.()-]*\d*[)\s]*$")


class PairTableError(Exception):
    """A table that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class PairTable:
    """What a CSV gave: pairs whose files exist, and the names of those that do not."""

    pairs: PairSet
    missing: tuple[str, ...]
    left_out: int


_Row = tuple[Path, Path, bool]


def read(table: Path, images: Path) -> PairTable:
    """Read a CSV with the columns file_x, file_y, same; names are relative to `images`.

    A name that is not there is looked for elsewhere, see `_Files`, but never taken for another one.

    Raises:
        PairTableError: It cannot be read, lacks a column, has a value that is none, or no pair is left.
    """
    rows = _rows(table)
    where = _Files(images, [row[column] for _, row in rows for column in _COLUMNS[:2]])
    pairs: list[_Row] = []
    missing: dict[str, None] = {}
    for number, row in rows:
        same = row["same"].strip().lower()
        if same not in _YES | _NO:
            raise PairTableError(f"{table.name}, line {number}: same is {row['same']!r}, neither 1 nor 0")
        x, y = (where.find(row[column]) for column in _COLUMNS[:2])
        if x is None or y is None:
            missing.update(
                {row[name].strip(): None for name, at in zip(_COLUMNS, (x, y), strict=False) if at is None}
            )
        else:
            pairs.append((x, y, same in _YES))
    if not pairs:
        reason = f"none of its pictures is in {images}" if missing else "it has no rows"
        raise PairTableError(f"{table.name} has no pair to compare: {reason}")
    files = {file: place for place, file in enumerate(dict.fromkeys(f for pair in pairs for f in pair[:2]))}
    labels = list(_people(pairs, files).values())
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    made = PairSet(
        files=tuple(files),
        people=np.array([numbers[label] for label in labels], np.intp),
        x=np.array([files[x] for x, _, _ in pairs], np.intp),
        y=np.array([files[y] for _, y, _ in pairs], np.intp),
        same=np.array([same for _, _, same in pairs], np.bool_),
    )
    return PairTable(made, tuple(missing), len(rows) - len(pairs))


def _people(pairs: list[_Row], files: Iterable[Path]) -> dict[Path, Hashable]:
    """Who the pictures are of, as far as the pairs say it.

    Pictures of pairs that are the same are of one person. Folders or names without their number
    (`Ada_0003.jpg`) say more, and are believed if they contradict no pair.
    """
    groups = _Groups()
    for x, y, same in pairs:
        if same:
            groups.join(x, y)
    for label in (_folder, _name):
        if all((label(x) == label(y)) == same for x, y, same in pairs):
            by_label: dict[Hashable, Path] = {}
            for file in files:
                groups.join(file, by_label.setdefault(label(file), file))
    return {file: groups.find(file) for file in files}


def _folder(file: Path) -> Hashable:
    return file.parent


def _name(file: Path) -> Hashable:
    return file.parent, _NUMBER_AT_END.sub("", file.stem).lower()


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        if table.stat().st_size > _MAX_BYTES:
            raise PairTableError(f"{table.name} is larger than 256 MiB")
        text = _text(table.read_bytes())
    except OSError as error:
        raise PairTableError(f"{table.name} cannot be read: {error.strerror}") from None
    header, _, _ = text.lstrip().partition("\n")
    delimiter = max(",;\t", key=header.count)
    try:
        lines = list(csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise PairTableError(f"{table.name} is no table: {error}") from None
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    names = [name.strip().lower() for name in lines[0]] if lines else []
    first = 2
    if len(names) == len(_COLUMNS) and names[-1] in (_YES | _NO) - {_COLUMNS[-1]}:  # a pair, no header
        names, first = list(_COLUMNS), 1
        lines.insert(0, names)
    lacking = [column for column in _COLUMNS if column not in names]
    if lacking:
        raise PairTableError(
            f"{table.name} has no column {', '.join(lacking)}: its first line must name them"
        )
    places = {column: names.index(column) for column in _COLUMNS}
    rows = []
    for number, line in enumerate(lines[1:], start=first):
        if len(line) <= max(places.values()):
            raise PairTableError(f"{table.name}, line {number}: {len(line)} columns are too few")
        rows.append((number, {column: line[place] for column, place in places.items()}))
    return rows


def _text(data: bytes) -> str:
    """Text of whatever encoding a spreadsheet writes."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


class _Files:
    """Finds files by the names that a table gives them.

    Relative to the folder; or anywhere below it, if one file alone ends in that name, folders and all; or
    relative to the folder but without the folders that all names of the table begin with. So two names are
    never one file, unless one of them is the end of the other: where people's pictures are numbered, one that
    is gone is not another person's.
    """

    def __init__(self, images: Path, names: Iterable[str]) -> None:
        self._images = images
        self._by_name: dict[str, list[Path]] | None = None
        folders = {_parts(name)[:-1] for name in names}
        shortest, longest = min(folders, default=()), max(folders, default=())
        pairs = zip(shortest, longest, strict=False)
        self._shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def find(self, name: str) -> Path | None:
        name = name.strip()
        if not name or "\0" in name:
            return None
        parts = _parts(name)
        for path in (Path(name), Path(*parts)):
            if _is_file(self._images / path):
                return self._images / path
        named = [path for path in self._names().get(parts[-1], []) if path.parts[-len(parts) :] == parts]
        if len(named) == 1:
            return named[0]
        path = self._images.joinpath(*parts[self._shared :])
        return path if self._shared and not named and _is_file(path) else None

    def _names(self) -> dict[str, list[Path]]:
        if self._by_name is None:
            self._by_name = {}
            for path in sorted(self._images.absolute().rglob("*")):
                if path.is_file():
                    self._by_name.setdefault(path.name, []).append(path)
        return self._by_name


def _parts(name: str) -> tuple[str, ...]:
    """Folders and name, as written on any system."""
    parts = PureWindowsPath(name.strip()).parts
    return tuple(part for part in parts if part != ".") or ("",)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # as of a name that is too long to be one
        return False


class _Groups:
    """Union-find."""

    def __init__(self) -> None:
        self._parents: dict[Path, Path] = {}

    def find(self, item: Path) -> Path:
        self._parents.setdefault(item, item)
        while self._parents[item] != item:
            self._parents[item] = self._parents[self._parents[item]]
            item = self._parents[item]
        return item

    def join(self, one: Path, other: Path) -> None:
        self._parents[self.find(one)] = self.find(other)
