"""Network, mount and process namespaces of a testbed's own: what `docker run --privileged` is to kind.

One process holds them. When it ends, by whatever cause, the kernel ends everything that runs in them and
takes interfaces, packet filter rules and mounts away; nothing of that can be left behind or be met by another
testbed. Files and control groups are not covered by that: see `tests.testbed.machine`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_CLONE_NEWPID = 0x20000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """The namespaces that a process holds.

    Args:
        holder: Pid, as seen from here, of the first process in the PID namespace.
    """

    def __init__(self, holder: int) -> None:
        self.holder = holder

    @staticmethod
    def command(first: Path) -> list[str]:
        """The command that makes namespaces; `first` becomes their first process and must reap orphans."""
        return [
            "unshare",
            *("--net", "--mount", "--pid", "--ipc"),
            *("--mount-proc", "--propagation=private"),
            *("--fork", "--kill-child=SIGKILL"),
            str(first),
        ]

    @classmethod
    def made_by(cls, pid: int) -> Namespaces | None:
        """The namespaces that the process `pid`, running `command`, has made; None if it is not so far."""
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return cls(int(children[0])) if children else None

    @property
    def network(self) -> Path:
        """File that names the network namespace."""
        return Path(f"/proc/{self.holder}/ns/net")

    @property
    def alive(self) -> bool:
        """Whether anything may still run in them."""
        return Path(f"/proc/{self.holder}").exists()

    @contextlib.contextmanager
    def births(self) -> Iterator[None]:
        """While in this context, the children of this thread are born in the PID namespace."""
        _set_namespace(f"/proc/{self.holder}/ns/pid", _CLONE_NEWPID)
        try:
            yield
        finally:
            _set_namespace("/proc/self/ns/pid", _CLONE_NEWPID)

    def enter(self) -> None:
        """Enter the network and mount namespaces; for a child between fork and exec."""
        for kind in ("ipc", "net", "mnt"):  # mnt last: afterwards /proc shows other processes
            _set_namespace(f"/proc/{self.holder}/ns/{kind}")

    def popen(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
        """`subprocess.Popen` of a program in the namespaces."""
        with self.births():
            return subprocess.Popen([str(part) for part in command], preexec_fn=self.enter, **options)

    def run(
        self, *command: str | Path, stdin: str | None = None, environment: Mapping[str, str] | None = None
    ) -> str:
        """Run a program in the namespaces to its end, and return what it prints.

        Raises:
            RuntimeError: It fails.
        """
        process = self.popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        output, errors = process.communicate(stdin)
        if process.returncode != 0:
            raise RuntimeError(
                f"{' '.join(str(part) for part in command)}: {errors.strip() or output.strip()}"
            )
        return output


def _set_namespace(path: str, kind: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(descriptor, kind) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")
    finally:
        os.close(descriptor)
