"""A state that must last before it counts and that has an end. Pure: the time is given."""

from __future__ import annotations

from enum import Enum, auto

ENDS_AFTER_SECONDS = 5.0
"""How long the contrary must last for an episode to have ended."""


class Turn(Enum):
    """What an observation has changed."""

    RAISE = auto()
    """It has lasted: tell it, and say `told` if that was done. Repeated until then."""
    END = auto()
    """What was told has ended: tell that, and say `over` if that was done. Repeated until then."""


class Episode:
    """One lasting rule of one camera."""

    def __init__(self, *, told: str = "") -> None:
        """Begin to watch.

        Args:
            told: Id of an alert that was raised before, by an earlier process, and has not ended.
        """
        self.alert = told
        """Id of the alert that is on; empty if none is."""
        self.since: float | None = None
        """When it began, by the clock that `observe` is given; None while it is not so."""
        self._contrary: float | None = None

    def observe(self, active: bool | None, now: float, *, lasts: float) -> Turn | None:
        """Take how it is now.

        Args:
            active: Whether it is so; None if nobody knows, which begins the waiting anew and ends nothing.
            now: Seconds; the pace of the clock alone matters.
            lasts: Seconds for which it must last.
        """
        if active is None:
            self.since = self._contrary = None
            return None
        if active:
            self._contrary = None
            if self.since is None:
                self.since = now
            return Turn.RAISE if not self.alert and now - self.since >= lasts else None
        self.since = None
        if not self.alert:
            return None
        if self._contrary is None:
            self._contrary = now
        return Turn.END if now - self._contrary >= ENDS_AFTER_SECONDS else None

    def told(self, alert: str) -> None:
        """An alert was raised."""
        self.alert = alert

    def over(self) -> None:
        """Its end was told."""
        self.alert = ""
        self._contrary = None
