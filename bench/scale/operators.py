"""The operators that are measured, as processes."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp
from bench.scale.processes import cpu_seconds, peak_mib, resident_mib
from tests.testbed.processes import Process, free_port


class OperatorProcess:
    """One replica.

    Attributes:
        started: Unix seconds.
    """

    def __init__(
        self, arguments: list[str], log: Path, environment: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self.started = time.time()
        self._port = port
        self._process = Process(arguments, log, environment=environment)

    @classmethod
    def camfleet(cls, kubeconfig: Path, log: Path, *options: str) -> OperatorProcess:
        """Camfleet's."""
        port = free_port()
        # Another build, or one with a profiler in it, can be named instead.
        program = os.environ.get("BENCH_OPERATOR", "-m camfleet").split()
        command = [
            *(sys.executable, *program, "operator"),
            *(f"--kubeconfig={kubeconfig}", "--probe-host=127.0.0.1", f"--probe-port={port}", *options),
        ]
        return cls(command, log, port=port)

    @classmethod
    def naive(cls, kubeconfig: Path, log: Path, pod: Path) -> OperatorProcess:
        """The plain kopf operator."""
        script = Path(__file__).with_name("naive_kopf.py")
        command = [sys.executable, "-m", "kopf", "run", "--standalone", "-A", "-q", str(script)]
        return cls(command, log, {"KUBECONFIG": str(kubeconfig), "NAIVE_POD": str(pod)})

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.time() - self.started

    def check(self) -> None:
        """Raise if it has ended."""
        if not self._process.running:
            raise RuntimeError(f"the operator has ended:\n{self._process.tail(4000)}")

    def cpu(self) -> float:
        """CPU seconds so far."""
        return cpu_seconds(self.pid)

    def resident(self) -> float:
        """Resident MiB now."""
        return resident_mib(self.pid)

    def peak(self) -> float:
        """Most resident MiB so far."""
        return peak_mib(self.pid)

    async def stop(self, seconds: float = 30) -> float:
        """Ask it to end; how long that took."""
        before = time.monotonic()
        await asyncio.to_thread(self._process.stop, seconds)
        return time.monotonic() - before

    async def ready(self, seconds: float) -> float:
        """Wait until `/readyz` says so; its age then."""
        deadline = time.monotonic() + seconds
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                self.check()
                try:
                    async with session.get(f"http://127.0.0.1:{self._port}/readyz") as answer:
                        if answer.status == 200:
                            return self.age
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        raise TimeoutError(f"the operator is not ready after {seconds:.0f} s")

    async def looked_at(self, cameras: int, seconds: float) -> float:
        """Wait until so many reconciles are done and none waits; its age then."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            page = await self.metrics()
            done = sum(v for k, v in page.items() if k.startswith("camfleet_operator_reconciles_total"))
            if done >= cameras and page.get("camfleet_operator_queue_depth", 1) == 0:
                return self.age
            await asyncio.sleep(0.1)
        raise TimeoutError(f"the operator has not looked at {cameras} cameras within {seconds:.0f} s")

    async def metrics(self) -> dict[str, float]:
        """Its metrics page."""
        url = f"http://127.0.0.1:{self._port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            lines = (await answer.text()).splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}
