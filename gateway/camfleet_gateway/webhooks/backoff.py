"""When a message that was not taken is tried again, and when it is given up. Pure."""

from __future__ import annotations

import random

FIRST_SECONDS, LONGEST_SECONDS = 10.0, 3600.0
GIVE_UP_SECONDS = 24 * 3600.0
MAX_ATTEMPTS = 20
_JITTER = 0.2


def pause(attempts: int, *, asked: float | None = None, chance: random.Random) -> float:
    """Seconds until the next attempt: 10 doubling to an hour, a fifth more or less.

    Args:
        attempts: How many have failed, at least 1.
        asked: What the receiver asks for (Retry-After), in seconds; never more than an hour is given.
        chance: Source of the jitter.
    """
    base = min(FIRST_SECONDS * 2.0 ** min(attempts - 1, 16), LONGEST_SECONDS)
    if asked is not None:
        base = max(base, min(asked, LONGEST_SECONDS))
    return base * chance.uniform(1 - _JITTER, 1 + _JITTER)


def given_up(attempts: int, age: float) -> bool:
    """Whether a message is not tried again.

    Args:
        attempts: How many have failed.
        age: Seconds since the message was made.
    """
    return attempts >= MAX_ATTEMPTS or age >= GIVE_UP_SECONDS
