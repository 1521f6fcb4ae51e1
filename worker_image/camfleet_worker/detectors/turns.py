"""Which detectors run on a picture: each at its own rate, and none at the cost of the others. Pure.

One thread runs them all, in turn on the same picture, so the slowest would set the pace of all when it takes
longer than the time between two pictures. Such a one then rests for as long as it took, in which the quick
ones have the thread to themselves; of several slow ones, the one that has waited longest runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from camfleet_protocol.settings import InferenceSettings
from camfleet_worker.pacing import Pacer

_LEAST_PATIENCE = 1.0
_PATIENCE = 3
"""Turns that may be missed before what a detector found last is too old to be shown."""


def detector_fps(settings: InferenceSettings, name: str) -> float:
    """How often a detector is to run, per second."""
    for options in settings.detector_options:
        if options.name == name and options.fps is not None:
            return min(options.fps, settings.fps)
    return settings.fps


def needed_fps(settings: InferenceSettings) -> float:
    """How many pictures per second inference needs: as many as its most frequent detector."""
    if settings.engine or not settings.detectors or not settings.detector_options:
        return settings.fps
    return max(detector_fps(settings, name) for name in settings.detectors)


class Turns:
    """Says who is due. Ask for every picture that inference takes, and tell what each run took."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._pacers = {name: Pacer() for name in names}
        self._seconds = dict.fromkeys(names, 0.0)
        self._warm: set[str] = set()
        self._last = dict.fromkeys(names, float("-inf"))
        self._rests_until = float("-inf")

    def due(
        self, now: float, settings: InferenceSettings, always: frozenset[str] = frozenset()
    ) -> tuple[str, ...]:
        """Who runs on the picture that is taken at `now` (monotonic seconds), in the order of the names.

        `always` are those who run on every picture; then more pictures are taken than the others need.
        """
        pictures = needed_fps(settings)
        paced = math.inf if always else pictures
        due = [name for name in self._names if name in always or self._is_due(name, now, settings, paced)]
        slow = [name for name in self._names if self._seconds[name] > 1 / pictures]
        waiting = [name for name in due if name in slow]
        if len(self._names) < 2 or not waiting:
            return tuple(due)
        chosen = min(waiting, key=lambda name: self._last[name])
        if len(slow) < len(self._names) and now < self._rests_until:
            return tuple(name for name in due if name not in slow)
        return tuple(name for name in due if name not in slow or name == chosen)

    def took(self, name: str, now: float, seconds: float, settings: InferenceSettings) -> None:
        """A detector has run until `now`, for so many seconds."""
        fps = detector_fps(settings, name)
        self._pacers[name].taken(now - seconds, fps)
        self._last[name] = now
        if name not in self._warm:
            self._warm.add(name)  # a first run says nothing of the next ones: kernels are chosen in it
            return
        before = self._seconds[name]
        self._seconds[name] = seconds if before == 0 else 0.7 * before + 0.3 * seconds
        if seconds > 1 / needed_fps(settings):
            self._rests_until = now + seconds

    def patience(self, name: str, settings: InferenceSettings) -> float:
        """For how many seconds to go on showing what it found last."""
        # Who takes long rests as long, and may wait for one other's run as well.
        gap = max(1 / detector_fps(settings, name), 2 * self._seconds[name])
        return max(_LEAST_PATIENCE, _PATIENCE * gap)

    def _is_due(self, name: str, now: float, settings: InferenceSettings, pictures: float) -> bool:
        fps = detector_fps(settings, name)
        due = self._pacers[name].due(now, fps)
        return due or fps >= pictures  # the dispatcher has paced the pictures already
