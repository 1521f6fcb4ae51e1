"""How long to wait before a worker that keeps ending is started again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The first restart is at once; then `first_delay` doubling to `max_delay`, in seconds.

    A worker that has run for `healthy_after` seconds has earned a clean slate.
    """

    first_delay: float = 10.0
    max_delay: float = 300.0
    healthy_after: float = 600.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after the `failures`-th end in a row (1 is the first)."""
        if failures <= 1:
            return 0.0
        # The exponent is capped before the power: a worker that failed 5,000 times must not overflow.
        return float(min(self.max_delay, self.first_delay * 2 ** min(failures - 2, 32)))
