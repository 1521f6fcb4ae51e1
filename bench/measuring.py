"""What benchmarks share: the machine in words, a process's CPU, their parts as processes, their samples."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CLIP = "people_walking_1080p.mp4"


def machine(*packages: str) -> str:
    """The machine, and the versions of the packages that the result depends on."""
    texts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((t.partition(":")[2].strip() for t in texts if "model name" in t), platform.machine())
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    load = f"load average {os.getloadavg()[0]:.1f}"
    return ", ".join([model, f"{os.cpu_count()} cores", system, *versions, load])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def clip_and_models() -> tuple[Path, str]:
    """The sample clip of people, and the folder of models; ends the program where they are not set."""
    models, samples = os.environ.get("CAMFLEET_MODEL_DIR"), os.environ.get("CAMFLEET_SAMPLE_DIR")
    if not models or not samples:
        raise SystemExit("set CAMFLEET_MODEL_DIR and CAMFLEET_SAMPLE_DIR")
    return Path(samples) / CLIP, models


@contextmanager
def part(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The running benchmark's script once more, as a process of its own that ends here."""
    process = subprocess.Popen(
        [sys.executable, sys.argv[0], *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def line(process: subprocess.Popen[str]) -> str:
    """What a part says next."""
    assert process.stdout is not None
    text = process.stdout.readline().strip()
    if not text:
        raise RuntimeError("a part of the benchmark has ended")
    return text


def poke(process: subprocess.Popen[str]) -> None:
    """Let a part go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
