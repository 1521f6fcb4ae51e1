"""How many 1080p cameras one GPU serves at five detections a second, and what a worker takes of its memory.

    CAMFLEET_MODEL_DIR=… CAMFLEET_SAMPLE_DIR=… python bench/bench_gpu.py [--cameras 1,2,4,8] [--seconds 10]

Real workers, each decoding the 1080p clip at its own pace and running yunet and yolox on five pictures a
second. Their number rises until one of them falls behind; each provider (CPU, CUDA, TensorRT) is measured in
the same run. Beside it, each detector alone, which says what the GPU could do if decoding, which is the
CPU's, cost nothing. Without a GPU only the CPU's part is run.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import subprocess
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_detectors import alone, worker_settings
from bench_worker import WARM_UP, row
from measuring import clip_and_models, machine

from support.fake_gateway import FakeGateway, fake_gateway
from support.worker_process import worker_process

DETECTIONS = 5.0
DETECTORS = ("yunet", "yolox")
ENOUGH = 0.95
"""Of the wanted rate, for the camera that gets the least."""
LONGEST_SECONDS = 0.2
"""An inference that takes longer than the time between two is late, whatever the rate says."""
START_SECONDS = 900.0
"""TensorRT builds its engines at the first start."""


@dataclass(frozen=True, slots=True)
class Load:
    """So many cameras at once.

    Attributes:
        cameras: How many.
        least: Inferences per second of the worker that got the fewest.
        seconds: Mean duration of an inference.
        cpu: CPU seconds per second, a worker.
        resident: Bytes, a worker.
        gpu_mib: GPU memory, a worker; None where there is no GPU.
    """

    cameras: int
    least: float
    seconds: float
    cpu: float
    resident: float
    gpu_mib: float | None

    @property
    def enough(self) -> bool:
        """Whether every camera got what it should."""
        return self.least >= ENOUGH * DETECTIONS and self.seconds <= LONGEST_SECONDS


def gpu() -> str:
    """Name, memory and driver of the GPU; empty if there is none."""
    if shutil.which("nvidia-smi") is None:
        return ""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else ""


def gpu_used_mib() -> float:
    """Memory in use on the first GPU: of all processes, since a container does not see their numbers."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0])


def providers(device: str) -> list[str]:
    """Which can be measured here."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    found = ["cpu"]
    if device and "CUDAExecutionProvider" in available:
        found.append("cuda")
    if device and "TensorrtExecutionProvider" in available:
        found.append("tensorrt")
    return found


async def load(cameras: int, seconds: float, on_gpu: bool, **settings: Any) -> Load:
    """Run so many workers at once, each with a gateway of its own that wants no pictures."""
    free = gpu_used_mib() if on_gpu else 0.0
    async with AsyncExitStack() as stack:
        gateways: list[FakeGateway] = []
        workers = []
        for number in range(cameras):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            gateway = await stack.enter_async_context(fake_gateway())
            workers.append(
                await stack.enter_async_context(
                    worker_process(folder, gateway_url=gateway.url, camera=f"cam-{number}", **settings)
                )
            )
            gateways.append(gateway)
        for gateway in gateways:
            await gateway.until(
                lambda g=gateway: g.stats and g.stats[-1].frames.inferred > DETECTIONS * WARM_UP,
                "a warm worker",
                START_SECONDS,
            )
        first = [gateway.stats[-1] for gateway in gateways]
        await asyncio.sleep(seconds)
        last = [gateway.stats[-1] for gateway in gateways]
        used = (gpu_used_mib() - free) / cameras if on_gpu else None
        resident = [worker.resident_bytes() for worker in workers]
    spans = [b.uptime_seconds - a.uptime_seconds for a, b in zip(first, last, strict=True)]
    runs = [b.frames.inferred - a.frames.inferred for a, b in zip(first, last, strict=True)]
    busy = [b.inference_seconds_sum - a.inference_seconds_sum for a, b in zip(first, last, strict=True)]
    cpu = [b.cpu_seconds - a.cpu_seconds for a, b in zip(first, last, strict=True)]
    return Load(
        cameras,
        min(run / span for run, span in zip(runs, spans, strict=True)),
        sum(busy) / max(1, sum(runs)),
        statistics.mean(c / span for c, span in zip(cpu, spans, strict=True)),
        statistics.mean(resident),
        used,
    )


def cells(provider: str, one: Load) -> tuple[str, ...]:
    """A row of the table."""
    memory = "" if one.gpu_mib is None else f"{one.gpu_mib:.0f}"
    figures = (f"{one.least:.2f}", f"{one.seconds * 1e3:.1f}", f"{one.cpu:.2f}", f"{one.resident / 1e6:.0f}")
    return (provider, str(one.cameras), *figures, memory, "yes" if one.enough else "no")


async def measure(arguments: argparse.Namespace, clip: Path, models: str) -> None:
    device = gpu()
    measured = providers(device)
    print(f"{machine()}; GPU: {device or 'none'}\n")
    if len(measured) == 1:
        why = "its ONNX Runtime has no GPU provider" if device else "it has no NVIDIA GPU"
        print(
            f"This machine cannot run the GPU's part: {why}. It would measure, for CUDA and for TensorRT: "
            "milliseconds a picture of each detector; the number of workers at which the first falls below "
            f"{ENOUGH:.0%} of {DETECTIONS:g} inferences a second or an inference takes more than "
            f"{LONGEST_SECONDS * 1e3:.0f} ms; GPU memory, CPU and RSS of each worker. "
            "Here is the CPU's part, which they are compared with.\n"
        )
    row("provider", "detector", "ms a picture", f"pictures/s / {DETECTIONS:g}")
    row(*["---"] * 4)
    for provider in measured:
        for name in DETECTORS:
            _, wall, _, _ = await asyncio.to_thread(alone, name, clip, models, provider)
            row(provider, name, f"{wall * 1e3:.1f}", f"{1 / wall / DETECTIONS:.0f}")
    print(f"\n1080p25, {' and '.join(DETECTORS)} at {DETECTIONS:g}/s each; {arguments.seconds:g} s each\n")
    row("provider", "cameras", "least inferred/s", "ms", "CPU s per s", "RSS MB", "GPU MiB", "enough")
    row(*["---"] * 8)
    best: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as engines:
        for provider in measured:
            more: dict[str, Any] = {"provider": provider}
            if provider != "cpu":
                more["gpu_memory_mib"] = arguments.gpu_memory_mib
            if provider == "tensorrt":
                more["engine_cache_dir"] = arguments.engine_cache_dir or Path(engines)
            for cameras in arguments.cameras:
                settings = worker_settings(DETECTORS, clip, models) | more
                one = await load(cameras, arguments.seconds, provider != "cpu", **settings)
                row(*cells(provider, one))
                if not one.enough:
                    break
                best[provider] = cameras
    for provider in measured:
        print(f"\n{provider}: {best.get(provider, 0)} of the tried numbers of cameras at once, none late")


def numbers(text: str) -> list[int]:
    """Rising numbers from a list with commas."""
    return sorted({int(part) for part in text.split(",")})


def main() -> None:
    parser = argparse.ArgumentParser(description="cameras per GPU, against the CPU")
    parser.add_argument("--cameras", type=numbers, default=None, help="numbers to try, such as 1,2,4,8")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement")
    parser.add_argument("--gpu-memory-mib", type=int, default=512, help="cap of each model")
    parser.add_argument("--engine-cache-dir", type=Path, help="where TensorRT's engines are kept")
    arguments = parser.parse_args()
    if arguments.cameras is None:
        arguments.cameras = [1, 2, 4, 8, 16, 32, 64] if gpu() else [1, 2, 4]
    asyncio.run(measure(arguments, *clip_and_models()))


if __name__ == "__main__":
    main()
