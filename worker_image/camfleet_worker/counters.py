"""What the worker counts, from several threads, and the rate of what happened lately."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

MAX_LABELS = 16


class Counters:
    """Totals since the start. Every method may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: Counter[str] = Counter()
        self._labelled: dict[str, Counter[str]] = {}
        self.inference_seconds = 0.0

    def add(self, name: str, amount: int = 1) -> None:
        """Count one thing."""
        with self._lock:
            self._totals[name] += amount

    def add_labelled(self, name: str, label: str, amount: int = 1) -> None:
        """Count by label; past `MAX_LABELS` labels the rest is counted as `other`."""
        with self._lock:
            counts = self._labelled.setdefault(name, Counter())
            if label not in counts and len(counts) >= MAX_LABELS - 1:
                label = "other"
            counts[label] += amount

    def add_inference(self, seconds: float) -> None:
        """Count one inference and its duration."""
        with self._lock:
            self._totals["inferred"] += 1
            self.inference_seconds += seconds

    def get(self, name: str) -> int:
        """One total."""
        with self._lock:
            return self._totals[name]

    def labelled(self, name: str) -> dict[str, int]:
        """Totals by label."""
        with self._lock:
            return dict(self._labelled.get(name, {}))


class Rate:
    """Events per second over the last few seconds."""

    def __init__(self, window_seconds: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._times: deque[float] = deque(maxlen=1024)

    def tick(self) -> None:
        """One event, now."""
        with self._lock:
            self._times.append(self._clock())

    def reset(self) -> None:
        """Forget what was."""
        with self._lock:
            self._times.clear()

    def value(self) -> float:
        """Events per second; 0 when the last one is longer ago than the window."""
        now = self._clock()
        with self._lock:
            while self._times and now - self._times[0] > self._window:
                self._times.popleft()
            if len(self._times) < 2:
                return 0.0
            # Measured to `now` once the next event is overdue, so that the rate falls when they stop coming.
            span = self._times[-1] - self._times[0]
            per_event = span / (len(self._times) - 1)
            since = now - self._times[-1]
            return (len(self._times) - 1) / (span + max(0.0, since - per_event)) if span > 0 else 0.0
