"""Dates as people write them, and as files carry them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

LATEST = 253_402_300_799.0
"""The end of the year 9999."""


def moment(value: Any, *, end_of_day: bool = False) -> float | None:
    """Unix seconds from a number or from ISO 8601; without a zone it is UTC.

    Args:
        value: What was given; None and the empty text mean no limit.
        end_of_day: Whether a date without a time means the last second of that day.

    Raises:
        ValueError: It is no time.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        raise ValueError("must be a time")
    if isinstance(value, int | float):
        seconds = float(value)
    elif isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        seconds = _parse(text, end_of_day=end_of_day)
    else:
        raise ValueError("must be a time")
    if not math.isfinite(seconds) or not 0 <= seconds <= LATEST:
        raise ValueError("must be a time from 1970 on")
    return seconds


def _parse(text: str, *, end_of_day: bool) -> float:
    if len(text) > 40:
        raise ValueError("must be a time")
    try:
        return float(text)
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a date such as 2026-05-31, or Unix seconds") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    if end_of_day and len(text) == len("2026-05-31"):
        when += timedelta(days=1, seconds=-1)
    return when.timestamp()


def written(seconds: float | None) -> str:
    """A time for a CSV file, exact; empty for none."""
    if seconds is None:
        return ""
    if seconds == int(seconds):
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return repr(seconds)


From = Annotated[
    float | None,
    BeforeValidator(moment),
    Field(description="Unix seconds, or ISO 8601; a date alone is its first second in UTC"),
]
Until = Annotated[
    float | None,
    BeforeValidator(lambda value: moment(value, end_of_day=True)),
    Field(description="Unix seconds, or ISO 8601; a date alone is its last second in UTC"),
]
