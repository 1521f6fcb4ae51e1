"""Tables, ages and times for people."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

_GAP = "  "
_WIDEST = 200
"""Characters of a line where there is no terminal whose width it could have."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, indent: str = "") -> list[str]:
    """Lines of a table as kubectl prints them; the last column takes what is left of the line."""
    body = [[_clean(cell) for cell in row] for row in rows]
    widths = [max((len(row[i]) for row in (list(header), *body)), default=0) for i in range(len(header))]
    lines = []
    for row in (list(header), *body):
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append(shorten(indent + _GAP.join((*cells, row[-1])).rstrip()))
    return lines


def shorten(line: str) -> str:
    """A line that fits the terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDEST
    return line if len(line) <= width else line[: width - 1] + "…"


def duration(seconds: float) -> str:
    """`42s`, `3m12s`, `5h7m`, `2d3h`."""
    whole = max(0, int(seconds))
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size}{unit}{rest}{smaller}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def parse_time(value: object) -> datetime | None:
    """An RFC 3339 time, or None for whatever is none."""
    if not isinstance(value, str) or not value:
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def age(value: object, now: datetime) -> str:
    """How long ago a time was, or `?`."""
    parsed = parse_time(value)
    return "?" if parsed is None else duration((now - parsed).total_seconds())


def clock(value: object, now: datetime) -> str:
    """`12:03:04Z (in 20s)` or `12:03:04Z (3m ago)`."""
    parsed = parse_time(value)
    if parsed is None:
        return "?"
    ahead = (parsed - now).total_seconds()
    when = f"in {duration(ahead)}" if ahead > 0 else f"{duration(-ahead)} ago"
    form = "%H:%M:%SZ" if abs(ahead) < 43200 else "%Y-%m-%d %H:%M:%SZ"
    return f"{parsed.astimezone(UTC).strftime(form)} ({when})"


def counted(number: int, noun: str) -> str:
    """`1 camera`, `2 cameras`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _clean(cell: str) -> str:
    # What a camera or a node says of itself must not move the cursor.
    return "".join(c if c.isprintable() else " " for c in cell)
