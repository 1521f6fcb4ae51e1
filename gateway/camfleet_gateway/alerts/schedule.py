"""When a rule applies: times of day of a time zone, from the weekday on which they begin."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from camfleet_protocol.vision import Schedule

logger = logging.getLogger(__name__)

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_MINUTES = 24 * 60


def applies(schedule: Schedule | None, at: float) -> bool:
    """Whether a rule applies at a moment.

    The clock on the wall of that time zone decides: where clocks are put forward, a time that is skipped
    counts as the next one that exists, and where they are put back, an hour that comes twice counts twice.

    Args:
        schedule: The rule's schedule; None is always.
        at: Unix seconds.
    """
    if schedule is None:
        return True
    local = datetime.fromtimestamp(at, zone_of(schedule.timezone))
    now = local.hour * 60 + local.minute
    start = _minutes(schedule.start or "00:00")
    end = _DAY_MINUTES if schedule.end is None else _minutes(schedule.end)
    days = schedule.days or DAYS
    today = DAYS[local.weekday()] in days
    if start < end:
        return today and start <= now < end
    yesterday = DAYS[(local - timedelta(days=1)).weekday()] in days
    return (today and now >= start) or (yesterday and now < end)


@lru_cache(maxsize=256)
def zone_of(name: str | None) -> tzinfo:
    """A time zone by its IANA name; UTC for none, and, with a warning, for one that nobody knows."""
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        logger.warning("there is no time zone %r: UTC is taken for it", name)
        return UTC


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
