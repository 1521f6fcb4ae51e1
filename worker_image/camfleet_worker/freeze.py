"""Pictures that keep coming and never change: a camera, encoder or proxy that hangs unawares. Pure.

The noise of a sensor makes each picture differ from all before it, somewhere. So a source whose pictures are
bit for bit ones that were seen before, for the whole of the timeout, shows a frozen picture. Several are
remembered, because an encoder that is fed one picture over and over gives a few different ones: another at
each key frame. Opening the source anew is tried once; what is frozen after that is said to be frozen.
"""

from __future__ import annotations

from collections import deque

LOOK_SECONDS = 1.0
"""A picture is looked at no more often: that costs 0.2 ms at 1080p."""
NETWORK_MEMORY = 32
"""Pictures remembered of a live source."""
FILE_MEMORY = 1
"""Of a file that is played over and over, whose pictures all come again."""
_LEAST_LOOKS = 5
"""Unchanged pictures that it takes: a snapshot every half minute is not frozen after two."""
_SURE = 3
"""Pictures in a row that it takes to believe that the picture moves again, or does not even when the source
was opened anew: a proxy may begin with the last key frame that it had."""
_REOPEN_AGAIN_SECONDS = 600.0
"""Between two times, whatever the picture does: a freeze is opened anew once, and none is a storm."""


class Freeze:
    """Watches the fingerprints of one source's pictures, over all its connections."""

    def __init__(self) -> None:
        self.frozen = False
        """Whether the picture is frozen, as far as is known."""
        self._known: deque[int] = deque(maxlen=NETWORK_MEMORY)
        self._looked: float | None = None
        self._changed = 0.0
        self._same = 0
        self._fresh = 0
        self._reopened: float | None = None
        self._doubted = False
        """Whether the source was opened anew because of us, and has not moved since."""

    def opened(self, now: float, memory: int) -> None:
        """The source was opened; time without one does not count."""
        if memory != self._known.maxlen:
            self._known = deque(self._known, maxlen=memory)
        self._changed, self._same, self._fresh, self._looked = now, 0, 0, None

    def due(self, now: float) -> bool:
        """Whether to look at the picture that has just come."""
        return self._looked is None or now - self._looked >= LOOK_SECONDS

    def look(self, fingerprint: int | None, now: float, timeout: float) -> bool:
        """Take the fingerprint of a picture; returns whether to open the source anew.

        Args:
            fingerprint: Of the picture's content; None if it cannot be told.
            now: Monotonic seconds.
            timeout: Seconds; 0 switches it off.
        """
        self._looked = now
        if fingerprint is None or timeout <= 0:
            self.frozen = self._doubted = False
            self._changed, self._same = now, 0
            return False
        if fingerprint not in self._known:
            self._known.append(fingerprint)
            self._changed, self._same = now, 0
            self._fresh += 1
            if self._fresh >= _SURE:
                self.frozen = self._doubted = False
            return False
        self._same += 1
        self._fresh = 0
        if self._doubted:
            self.frozen |= self._same >= _SURE
            return False
        if self._same < _LEAST_LOOKS or now - self._changed < timeout:
            return False
        if self._reopened is None or now - self._reopened >= _REOPEN_AGAIN_SECONDS:
            self._reopened, self._doubted = now, True
            return True
        self.frozen = True
        return False
