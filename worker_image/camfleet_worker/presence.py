"""When something began and ceased to be there, from detections that come and go. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

HITS_TO_START = 2
HIT_WINDOW_SECONDS = 2.0
HOLD_SECONDS = 5.0
MAX_HOLD_SECONDS = 60.0
CALM_SECONDS = 30.0


@dataclass(slots=True)
class _Kind:
    hits: int = 0
    first_hit: float = 0.0
    last_hit: float = 0.0
    since: float | None = None
    ended: float | None = None
    hold: float = HOLD_SECONDS


class Presence:
    """Turns detections per picture into `started` and `ended` per kind.

    A kind starts with two hits within two seconds and ends after `HOLD_SECONDS` without any. One that comes
    back soon after it ended is held twice as long, up to a minute: a flickering detection is one presence,
    not a flood of events.
    """

    def __init__(
        self,
        started: Callable[[str], None],
        ended: Callable[[str, float], None],
        clock: Callable[[], float],
    ) -> None:
        self._started = started
        self._ended = ended
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def observe(self, kinds: Collection[str]) -> None:
        """An inference found these kinds."""
        now = self._clock()
        for name in kinds:
            kind = self._kinds.setdefault(name, _Kind())
            if kind.hits == 0 or now - kind.first_hit > HIT_WINDOW_SECONDS:
                kind.hits, kind.first_hit = 0, now
            kind.hits += 1
            kind.last_hit = now
            if kind.since is None and kind.hits >= HITS_TO_START:
                self._start(name, kind, now)
        self.tick()

    def tick(self) -> None:
        """Let time pass; call about once a second, also when there is no inference."""
        now = self._clock()
        for name, kind in self._kinds.items():
            if kind.since is not None and now - kind.last_hit > kind.hold:
                self._end(name, kind)

    def end_all(self) -> None:
        """Nobody looks any more."""
        for name, kind in self._kinds.items():
            if kind.since is not None:
                self._end(name, kind)

    def _start(self, name: str, kind: _Kind, now: float) -> None:
        flickers = kind.ended is not None and now - kind.ended < CALM_SECONDS
        kind.hold = min(MAX_HOLD_SECONDS, kind.hold * 2) if flickers else HOLD_SECONDS
        kind.since = kind.first_hit
        self._started(name)

    def _end(self, name: str, kind: _Kind) -> None:
        since, kind.since, kind.ended, kind.hits = kind.since, None, self._clock(), 0
        if since is not None:
            self._ended(name, kind.last_hit - since)
