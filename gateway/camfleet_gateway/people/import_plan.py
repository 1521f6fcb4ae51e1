"""What an archive, or a table alone, asks for: people and their pictures."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from camfleet_gateway.people.archive import Archive, bad_archive
from camfleet_gateway.people.csv_table import MAX_BYTES, TableRow, read_table
from camfleet_gateway.people.export_format import MANIFEST
from camfleet_gateway.people.problems import RefusedError

TABLE = "people.csv"
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")

Format = Literal["folders", "table", "export"]


@dataclass(frozen=True, slots=True)
class Wish:
    """A person to be enrolled, with the paths of their pictures."""

    row: TableRow
    pictures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that was asked for."""

    format: Format
    wishes: list[Wish]


def open_upload(path: Path) -> Archive | None:
    """The archive that was sent; None for a table alone.

    Raises:
        RefusedError: It is an archive that is not taken.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(b"PK") or zipfile.is_zipfile(path):
        return Archive(path)
    return None


def plan_table(path: Path, group: str) -> Plan:
    """A table without pictures.

    Raises:
        RefusedError: It is neither that nor an archive.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    try:
        rows = read_table(data)
    except RefusedError as error:
        if error.code == "BadTable" and "UTF-8" in str(error):
            raise bad_archive("this is neither a ZIP archive nor a table in UTF-8") from None
        raise
    return Plan("table", [Wish(_in_group(row, group)) for row in rows])


def plan_archive(archive: Archive, group: str) -> Plan:
    """People by `people.csv`, by folders, or an export of ours.

    A folder belongs to the line with its name or external id; folders without a line are people of their own
    as long as there is no table.

    Raises:
        RefusedError: Nothing in it says who is meant.
    """
    names = archive.names
    if MANIFEST in archive:
        return Plan("export", [])
    root = _root(names)
    folders = _folders(names, root)
    table = next((name for name in names if name.lower() == f"{root}{TABLE}".lower()), None)
    if table is not None:
        rows = read_table(archive.read(table, most=MAX_BYTES))
        return Plan(
            "table", [Wish(_in_group(row, group), _pictures(row, root, folders, archive)) for row in rows]
        )
    wishes = [
        Wish(TableRow(number, {"name": folder, **({"group": group} if group else {})}), pictures)
        for number, (folder, pictures) in enumerate(sorted(folders.items()), 1)
    ]
    if not wishes:
        raise bad_archive("it holds neither people.csv nor a folder with pictures for each person")
    return Plan("folders", wishes)


def _root(names: list[str]) -> str:
    """The one folder that everything is in, where people pack that; with its slash."""
    paths = [PurePosixPath(name).parts for name in names]
    if len({parts[0] for parts in paths}) != 1:
        return ""
    if any(len(parts) == 2 and parts[1].lower() == TABLE for parts in paths):
        return f"{paths[0][0]}/"
    pictures = [parts for parts, name in zip(paths, names, strict=True) if name.lower().endswith(_PICTURES)]
    return f"{paths[0][0]}/" if pictures and all(len(parts) >= 3 for parts in pictures) else ""


def _folders(names: list[str], root: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        parts = PurePosixPath(name.removeprefix(root)).parts
        if len(parts) >= 2 and name.lower().endswith(_PICTURES):
            found.setdefault(parts[0], []).append(name)
    return found


def _pictures(row: TableRow, root: str, folders: dict[str, list[str]], archive: Archive) -> list[str]:
    def paths() -> Iterator[str]:
        for path in row.pictures:
            yield f"{root}{path}" if f"{root}{path}" in archive else path
        for key in (row.fields.get("external_id", ""), row.name):
            yield from folders.get(key, ())

    return list(dict.fromkeys(paths()))


def _in_group(row: TableRow, group: str) -> TableRow:
    if not group or row.fields.get("group"):
        return row
    return TableRow(row.number, {**row.fields, "group": group})
