"""Child processes that end with their parent.

A child's standard input is a pipe whose other end only the parent holds: when the parent is gone, however it
went, the child reads EOF and leaves. Each child has a session of its own, so a Ctrl-C in the terminal reaches
the parent alone, which stops the children in order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

STOP_GRACE_SECONDS = 5.0
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_CACHE_HOME", "VIRTUAL_ENV", "PYTHONPATH")
_INHERITED_PREFIXES = ("NVIDIA_", "CUDA_", "LD_", "SSL_", "COVERAGE_")


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a `camfleet` subcommand: arguments that may be read in `ps`, and environment."""

    arguments: Sequence[str]
    environment: Mapping[str, str]


class Child:
    """One running child process."""

    def __init__(self, process: asyncio.subprocess.Process, waiter: asyncio.Task[int]) -> None:
        self._process = process
        self._waiter = waiter
        self.stopping = False

    @classmethod
    async def spawn(cls, command: Command, on_exit: Callable[[int], None]) -> Child:
        """Start the child; `on_exit` gets its exit code (negative: the signal that ended it)."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "camfleet",
            *command.arguments,
            stdin=asyncio.subprocess.PIPE,
            env={**_base_environment(), **command.environment},
            start_new_session=True,
        )

        async def wait() -> int:
            code = await process.wait()
            on_exit(code)
            return code

        return cls(process, asyncio.create_task(wait(), name=f"wait-{process.pid}"))

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    def terminate(self) -> None:
        """Ask it to stop, and end it after `STOP_GRACE_SECONDS` plus a second if it does not."""
        if self.exit_code is not None or self.stopping:
            return
        self.stopping = True
        self._signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(STOP_GRACE_SECONDS + 1, self.kill)

    def kill(self) -> None:
        """End it now."""
        self.stopping = True
        self._signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end and return its exit code."""
        return await asyncio.shield(self._waiter)

    def _signal(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            try:
                os.kill(self._process.pid, number)
            except ProcessLookupError:
                return  # it ended a moment ago; the waiter will say so


def _base_environment() -> dict[str, str]:
    """What a child may see of our environment: no option of another program, and no stray credential."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
