"""What the kernel counts for a process: CPU seconds, children included, and resident memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

MIB = 1 << 20


def cpu_seconds(*pids: int) -> float:
    """User and system time of processes and all their children, ended ones included."""
    total = 0.0
    for pid in pids:
        for process in (first := psutil.Process(pid), *first.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_mib(pid: int) -> float:
    """Resident memory now."""
    return float(psutil.Process(pid).memory_info().rss) / MIB


def peak_mib(pid: int) -> float:
    """The most that was ever resident, as the kernel saw it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


class ForeignLoad:
    """How many cores are busy with what is not ours: on a shared machine a reason to measure again."""

    def __init__(self) -> None:
        self._before = self._now()

    def cores(self) -> float:
        """Since this was made."""
        wall, busy, ours = (now - then for now, then in zip(self._now(), self._before, strict=True))
        return max(0.0, busy - ours) / max(wall, 0.01)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = psutil.cpu_times()
        busy = times.user + times.nice + times.system + times.irq + times.softirq
        return time.monotonic(), busy, cpu_seconds(os.getpid())
