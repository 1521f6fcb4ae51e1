"""A port of a pod on this machine's loopback, by `kubectl port-forward`.

kubectl is there, for this is its plugin; it knows every way to log in, and speaks to API servers old and new.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections import deque
from types import TracebackType
from typing import Self

from camfleet.kubectl.errors import Problem, Unreachable
from camfleet.kubectl.target import Target
from camfleet_protocol.redaction import redact

_START_SECONDS = 30.0
_READY = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")


class PortForward:
    """Forwards while it is entered.

    Attributes:
        port: Port of this machine.
        ended: Set when kubectl has ended, whatever the reason.
    """

    def __init__(self, target: Target, namespace: str, pod: str, port: int) -> None:
        self._command = [
            "port-forward",
            "--address=127.0.0.1",
            f"--namespace={namespace}",
            *([f"--kubeconfig={target.kubeconfig}"] if target.kubeconfig else []),
            *([f"--context={target.context}"] if target.context else []),
            f"pod/{pod}",
            f":{port}",
        ]
        self._pod = f"{namespace}/{pod}"
        self._process: subprocess.Popen[str] | None = None
        self._said: deque[str] = deque(maxlen=20)
        self._ready = threading.Event()
        self.ended = threading.Event()
        self.port = 0

    def __enter__(self) -> Self:
        program = shutil.which("kubectl")
        if program is None:
            raise Problem("kubectl is not on the PATH", "or name the gateway's address with --gateway")
        self._process = subprocess.Popen(
            [program, *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, name="port-forward", daemon=True).start()
        self._ready.wait(_START_SECONDS)
        if not self.port:
            self._stop()
            raise Unreachable(f"no port-forward to pod {self._pod}: {self.problem}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def problem(self) -> str:
        """What kubectl said last."""
        return redact(self._said[-1]) if self._said else f"kubectl said nothing for {_START_SECONDS:g} s"

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line.strip())
            if not self.port and (match := _READY.search(line)):
                self.port = int(match[1])
                self._ready.set()
        self.ended.set()
        self._ready.set()

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.ended.wait(5)
        if process.stdout is not None:
            process.stdout.close()
