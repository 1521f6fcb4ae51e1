"""people.csv: a line for each person."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from camfleet_gateway.people.problems import RefusedError
from camfleet_gateway.people.views import PersonIn
from camfleet_protocol.camera import problem_lines

COLUMNS = ("name", "group", "external_id", "valid_from", "valid_until", "note", "pictures")
EXPORT_COLUMNS = ("id", *COLUMNS)
MAX_ROWS = 10_000
MAX_BYTES = 16 * 1024 * 1024
_PICTURE_SEPARATOR = ";"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes what begins so for a formula and runs it, unless an apostrophe stands before it."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line."""

    number: int
    """Line of the file, from 1; the header is line 1."""
    fields: dict[str, str]
    """What its columns say, empty values among it."""

    @property
    def name(self) -> str:
        """The name as it was given."""
        return self.fields.get("name", "")[:128]

    @property
    def pictures(self) -> list[str]:
        """Paths in the archive."""
        named = self.fields.get("pictures", "").split(_PICTURE_SEPARATOR)
        return [path.strip().removeprefix("./") for path in named if path.strip()]

    def person(self) -> PersonIn:
        """Who it is.

        Raises:
            RefusedError: With every mistake of the line.
        """
        given: dict[str, Any] = {
            name: self.fields[name]
            for name in ("name", "group", "external_id", "valid_from", "valid_until", "note")
            if self.fields.get(name)
        }
        return person_of(given)

    def changes(self, person: PersonIn) -> dict[str, Any]:
        """What the line says of somebody who is enrolled: a column that is there and empty empties it."""
        return {
            name: getattr(person, name)
            for name in ("name", "group", "external_id", "valid_from", "valid_until", "note")
            if name in self.fields and not (name == "group" and not self.fields[name])
        }


def person_of(given: dict[str, Any]) -> PersonIn:
    """A checked person.

    Raises:
        RefusedError: With every mistake.
    """
    try:
        return PersonIn.model_validate(given)
    except ValidationError as error:
        raise RefusedError("invalid", "; ".join(problem_lines(error))) from None


def read_table(data: bytes) -> list[TableRow]:
    """Read the lines.

    Raises:
        RefusedError: It is no such table.
    """
    if len(data) > MAX_BYTES:
        raise RefusedError("TooLarge", f"people.csv has more than {MAX_BYTES // 2**20} MiB", status=413)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _bad("it is not text in UTF-8") from None
    if "\0" in text:
        raise _bad("it is not text in UTF-8")
    first = text.split("\n", 1)[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[TableRow] = []
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(header)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(rows) == MAX_ROWS:
                raise _bad(f"it has more than {MAX_ROWS} lines")
            if len(cells) > len(header):
                raise _bad(f"line {reader.line_num} has more cells than the header")
            rows.append(TableRow(reader.line_num, {n: _cell(c) for n, c in zip(header, cells, strict=False)}))
    except csv.Error as error:
        raise _bad(f"line {reader.line_num}: {error}") from None
    return rows


def _cell(text: str) -> str:
    text = text.strip()
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _check_header(header: list[str]) -> None:
    known = ", ".join(COLUMNS)
    if "name" not in header:
        raise _bad(f"its first line must name the columns, name among them: {known}")
    if len(set(header)) < len(header):
        raise _bad("a column is named twice")
    if unknown := [name for name in header if name not in EXPORT_COLUMNS]:
        raise _bad(f"unknown column {unknown[0][:63]!r}; there are {known}")


def write_table(rows: list[dict[str, str]]) -> bytes:
    """The lines of an export."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, EXPORT_COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _bad(message: str) -> RefusedError:
    return RefusedError("BadTable", f"people.csv: {message}")
