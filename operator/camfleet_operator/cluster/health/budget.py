"""A token bucket whose clock is handed in. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class TokenBucket:
    """At most `burst` at once and `rate` per second in the long run.

    Args:
        rate: Tokens per second; 0 gives none but the burst.
        burst: Tokens that gather at most.
        now: When it is full; seconds.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def tokens(self, now: float) -> float:
        """What there is."""
        return min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take that much, or nothing."""
        tokens = self.tokens(now)
        if tokens + 1e-9 < amount:
            return False
        self._tokens, self._at = tokens - amount, max(self._at, now)
        return True

    def replay(self, spent: Iterable[float], now: float) -> None:
        """Be as if one token had been taken at each of these times, all of them in the past.

        Not all may be known (of several by the same taker only the last one), so no more is left than has
        come since the last one.
        """
        times = sorted(at for at in spent if at <= now)
        if not times:
            self._tokens, self._at = self._burst, now
            return
        self._tokens, self._at = 0.0, times[-1]
