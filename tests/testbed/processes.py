"""Child processes of a testbed: started with a log file, ended with their parent whatever happens to it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.testbed.namespaces import Namespaces

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """A component did not come up; the text holds the end of its log."""


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free right now."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


class Startable(ABC):
    """A context manager of what is started and closed; a start that fails is closed as well."""

    @abstractmethod
    def start(self) -> None:
        """Start everything."""

    @abstractmethod
    def stop(self) -> None:
        """End everything that has been started."""

    def close(self) -> None:
        """End it for good."""
        self.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Process:
    """One component of the cluster."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        die_with_parent: bool = True,
        inside: Namespaces | None = None,
    ) -> None:
        self.name = Path(str(arguments[0])).name
        self.log = log

        def before_exec() -> None:
            if die_with_parent:
                _die_with_parent()
            if inside is not None:
                inside.enter()

        births = contextlib.nullcontext() if inside is None else inside.births()
        with log.open("ab") as output, births:
            self._child = subprocess.Popen(
                [str(part) for part in arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=before_exec,
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._child.poll()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal and wait for the end of the process."""
        if self.running:
            self._child.send_signal(number)
            self._child.wait(20)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal and go on."""
        self._child.send_signal(number)

    def stop(self, seconds: float = 10) -> None:
        """Ask it to end; end it if it does not."""
        if not self.running:
            return
        self._child.terminate()
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(seconds)

    def tail(self, size: int = 2000) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-size:].decode(errors="replace")


def started_at(pid: int) -> int:
    """When a process has started, in ticks; 0 if there is none. With the pid it names a process for ever."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text[text.rindex(")") + 2 :].split()
    return 0 if fields[0] == "Z" else int(fields[19])


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def wait_until(
    check: Callable[[], object], what: str, *, seconds: float = 120, process: Process | None = None
) -> None:
    """Poll until `check` is true.

    Raises:
        StartError: It is not true in time, or `process` has ended.
    """
    deadline = time.monotonic() + seconds
    while not check():
        if process is not None and not process.running:
            raise StartError(f"{process.name} ended while waiting for {what}:\n{process.tail()}")
        if time.monotonic() > deadline:
            tail = f"\n{process.tail()}" if process is not None else ""
            raise StartError(f"{what}: not within {seconds:g} s{tail}")
        time.sleep(0.05)
