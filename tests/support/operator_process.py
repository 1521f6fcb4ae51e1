"""A real operator in a process of its own."""

from __future__ import annotations

import signal
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.testbed.processes import Process, free_port, wait_until


class OperatorProcess:
    """Runs `camfleet operator` on a kubeconfig; a context manager."""

    def __init__(self, kubeconfig: Path, log: Path, *arguments: str) -> None:
        self._arguments = (
            f"--kubeconfig={kubeconfig}",
            "--probe-host=127.0.0.1",
            "--health-seconds=1",
            *arguments,
        )
        self._log = log
        self._process: Process | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, ready: bool = True) -> None:
        """Start it (again); wait until it is ready."""
        self.port = free_port()
        self._process = Process(
            [sys.executable, "-m", "camfleet", "operator", *self._arguments, f"--probe-port={self.port}"],
            self._log,
        )
        if ready:
            wait_until(self.ready, "the operator to be ready", process=self._process, seconds=90)

    def stop(self) -> None:
        """Ask it to stop."""
        if self._process is not None:
            self._process.stop(20)
            self._process = None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it without a word."""
        assert self._process is not None
        self._process.kill(number)
        self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP, and go on."""
        assert self._process is not None
        self._process.signal(number)

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def ready(self) -> bool:
        """Whether `/readyz` says so."""
        return self.get("/readyz")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """Ask its probe server; 0 if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def leads(self) -> bool:
        """Whether this replica acts."""
        return "camfleet_operator_leader 1.0" in self.get("/metrics")[1]

    def log(self) -> str:
        """Everything it has said."""
        return self._log.read_text(errors="replace")
