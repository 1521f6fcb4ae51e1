"""Values of query parameters."""

from __future__ import annotations

import math

MAX_FPS = 120.0


def flag(text: str | None, *, default: bool) -> bool:
    """`0`, `false`, `no`, `off` are false, other texts true.

    Args:
        text: The value, None if it was not given.
        default: What holds then.
    """
    if text is None:
        return default
    return text.strip().lower() not in ("0", "false", "no", "off")


def rate(text: str | None) -> float | None:
    """Pictures per second, None if not given.

    Raises:
        ValueError: It is no number above 0 and at most 120.
    """
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= MAX_FPS:
        raise ValueError(f"fps must be a number above 0 and at most {MAX_FPS:g}")
    return value
