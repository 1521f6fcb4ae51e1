"""A real worker in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from camfleet_worker.settings import WorkerSettings


class WorkerProcess:
    """Runs `python -m camfleet_worker` and keeps what it says."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, output: Path, started: float) -> None:
        self.process = process
        self.log_path = log
        self.output_path = output
        self.started = started
        """Monotonic seconds just before the process was made."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """What it has written to standard error so far."""
        return self.log_path.read_text(errors="replace")

    def output(self) -> str:
        """What it has written to standard output so far."""
        return self.output_path.read_text(errors="replace")

    async def wait(self, seconds: float = 60.0) -> int:
        """Its exit code."""
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def logs(self, text: str, seconds: float = 60.0) -> None:
        """Wait until it has written `text` to standard error."""
        deadline = time.monotonic() + seconds
        while text not in self.log():
            if time.monotonic() > deadline:
                raise AssertionError(f"not logged within {seconds} s: {text}\n{self.log()}")
            await asyncio.sleep(0.05)

    def maps(self) -> str:
        """Which libraries it has loaded, as the kernel lists them."""
        return Path(f"/proc/{self.pid}/maps").read_text()

    def resident_bytes(self) -> int:
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def worker_process(
    folder: Path,
    *,
    environment: dict[str, str] | None = None,
    stdin: int | None = None,
    patch: str = "",
    **settings: Any,
) -> AsyncIterator[WorkerProcess]:
    """Start a worker; it is killed at the end if it still runs. `patch` is code that runs in it before."""
    os.makedirs(folder, exist_ok=True)
    settings.setdefault("work_dir", folder / "work")
    settings.setdefault("camera", "cam")
    document = WorkerSettings(**settings).model_dump_json()
    log, output = folder / "worker.log", folder / "worker.out"
    with log.open("ab") as errors, output.open("ab") as out:
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(("-c", f"{patch}\nimport camfleet_worker.__main__") if patch else ("-m", "camfleet_worker")),
            stdin=stdin if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            env={**os.environ, "CAMFLEET_WORKER_SETTINGS": document, **(environment or {})},
        )
    worker = WorkerProcess(process, log, output, started)
    try:
        yield worker
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
