"""Ends the process when one of its stages is late, and tells the outside that none is.

A stage says how long it may take until it speaks again: a second while it works, the timeout of a call that
may hang, the length of a wait it has declared (reconnecting, auth stop). So a dead camera never looks like
a dead worker, and a hanging FFmpeg or GPU call always does. Beside this thread, `faulthandler`'s own timer
ends a process whose interpreter lock is never given back.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from camfleet_worker.log import get_logger

logger = get_logger(__name__)

EXIT_CODE = 70
INTERPRETER_EXIT_CODE = 1
"""Of `faulthandler`."""
TICK_SECONDS = 1.0
INTERPRETER_STUCK_SECONDS = 45.0
_PAUSE_SECONDS = 5.0
"""A tick later than this means that the whole process was stopped or starved, so nobody is to blame."""


class Stage:
    """One thread or loop, as the watchdog sees it. `expect` is called by the stage itself."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._deadline: float | None = None
        self._doing = "starting"

    def expect(self, seconds: float, doing: str = "working") -> None:
        """Promise to speak again within so many seconds."""
        self._doing = doing
        self._deadline = self._clock() + seconds

    def rest(self) -> None:
        """Promise nothing: the stage has ended, or not begun."""
        self._deadline = None

    def late(self, now: float) -> float:
        """Seconds past the deadline; 0 or less if it is not late."""
        return 0.0 if self._deadline is None else now - self._deadline

    def excuse(self, seconds: float) -> None:
        """Move the deadline by time in which the process could not run."""
        if self._deadline is not None:
            self._deadline += seconds

    @property
    def doing(self) -> str:
        """What it said it would do."""
        return self._doing


class Watchdog:
    """A thread that checks all stages once a second."""

    def __init__(
        self,
        stages: list[Stage],
        heartbeat: Path | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._stages = stages
        self._heartbeat = heartbeat
        self._heartbeat_lost = False
        self._clock = clock
        self._end = end
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._last_check = clock()

    def start(self) -> None:
        """Begin to watch."""
        self._last_check = self._clock()
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)
        faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        while True:
            faulthandler.dump_traceback_later(INTERPRETER_STUCK_SECONDS, exit=True)
            if self.check() and self._heartbeat is not None:
                self._touch(self._heartbeat)
            if self._stop.wait(TICK_SECONDS):
                return

    def check(self) -> bool:
        """Look at every stage once; end the process if one is late."""
        now = self._clock()
        paused = now - self._last_check - TICK_SECONDS
        self._last_check = now
        if paused > _PAUSE_SECONDS:
            for stage in self._stages:
                stage.excuse(paused)
        late = [stage for stage in self._stages if stage.late(now) > 0]
        if not late:
            return True
        for stage in late:
            logger.critical(
                "stage %s is %.1f s late while %s; ending the process with exit code %d",
                stage.name,
                stage.late(now),
                stage.doing,
                EXIT_CODE,
            )
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        sys.stderr.flush()
        self._end(EXIT_CODE)
        return False

    def _touch(self, path: Path) -> None:
        try:
            path.touch()
        except OSError as error:
            if not self._heartbeat_lost:
                logger.warning("the heartbeat cannot be written: %s", error.strerror)
            self._heartbeat_lost = True
        else:
            self._heartbeat_lost = False
