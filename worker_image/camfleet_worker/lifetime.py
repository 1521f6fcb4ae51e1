"""When the process ends, and with which exit code: a signal, the end of its parent, fencing, a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from types import TracebackType

from camfleet_worker.log import get_logger
from camfleet_worker.watchdog import EXIT_CODE as CRASHED

logger = get_logger(__name__)

STOP_SECONDS = 4.0
"""Whatever hangs while the process stops does not keep it longer than this."""


class Lifetime:
    """From `begin` to `end`, on the event loop; the first to ask for the end gives the exit code."""

    def __init__(self) -> None:
        self.exit_code = 0
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._previous_hook = threading.excepthook

    def begin(self, *, with_parent: bool) -> None:
        """Listen to signals and crashes of threads; `with_parent`, to the end of standard input too."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled, number)
        self._previous_hook, threading.excepthook = threading.excepthook, self._thread_crashed
        if with_parent:
            threading.Thread(target=self._wait_for_parent, name="parent", daemon=True).start()

    def end(self) -> None:
        """Leave crashes of threads to whoever had them before."""
        threading.excepthook = self._previous_hook

    async def over(self) -> None:
        """Wait until the process is to end."""
        await self._stopping.wait()

    def watch(self, task: asyncio.Task[None]) -> None:
        """End the process if the task crashes."""
        task.add_done_callback(self._task_done)

    def stop(self, code: int) -> None:
        """Begin to end; whatever hangs then does not keep the process. Runs on the event loop."""
        if self._stopping.is_set():
            return
        self.exit_code = code
        _exit_in_time(code)
        self._stopping.set()

    def _stop_soon(self, code: int) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.stop, code)

    def _signalled(self, number: signal.Signals) -> None:
        logger.info("stopping: %s", number.name)
        self.stop(0)

    def _wait_for_parent(self) -> None:
        while True:
            try:
                if not os.read(0, 4096):
                    break
            except OSError:
                break
        logger.info("stopping: the parent is gone")
        # Also if the event loop hangs.
        _exit_in_time(0)
        self._stop_soon(0)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical(
                "task %s has crashed; ending the process with exit code %d",
                task.get_name(),
                CRASHED,
                exc_info=error,
            )
            self.stop(CRASHED)

    def _thread_crashed(self, args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else "?"
        info: tuple[type[BaseException], BaseException, TracebackType | None] | None = None
        if args.exc_value is not None:
            info = (args.exc_type, args.exc_value, args.exc_traceback)
        logger.critical(
            "thread %s has crashed; ending the process with exit code %d", name, CRASHED, exc_info=info
        )
        self._stop_soon(CRASHED)


def _exit_in_time(code: int) -> None:
    last = threading.Timer(STOP_SECONDS, os._exit, (code,))
    last.daemon = True
    last.start()
