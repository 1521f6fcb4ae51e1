"""What detectors cost: each alone on a picture, and two at once in one worker against the sum of their parts.

    CAMFLEET_MODEL_DIR=… CAMFLEET_SAMPLE_DIR=… python bench/bench_detectors.py [--seconds 10]

The parts, measured in the same run: a worker that only decodes, and what yunet and yolox each add to it. Two
detectors in one worker share the decoded picture and its conversion, so together they must not cost more than
decoding once and the two additions; two workers, one for each, decode twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench_worker import row, steady
from measuring import clip_and_models, machine

WANTED: dict[str, tuple[str, ...]] = {
    "decode only": (),
    "yunet": ("yunet",),
    "yolox": ("yolox",),
    "yunet and yolox": ("yunet", "yolox"),
}
ALONE = """
import resource, sys, time
from pathlib import Path
import av
from camfleet_worker.detectors.base import DetectorContext, load_detector
from camfleet_worker.sources.video import VideoPicture
from camfleet_worker.vision import prepare_opencv
prepare_opencv(1)
name, clip, models, provider = sys.argv[1:5]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
with av.open(clip) as container:
    container.streams.video[0].codec_context.thread_count = 1
    pictures = [
        VideoPicture(frame, number=n, captured_ns=0, discontinuity=False)
        for n, frame in enumerate(container.decode(video=0)) if n % 5 == 0
    ]
import cv2, numpy, onnxruntime
images = {width: [picture.bgr(width) for picture in pictures] for width in (640, 1920)}
before = resident()
detector = load_detector(name, DetectorContext(Path(models), provider=provider))
images = images.get(detector.input_width) or [picture.bgr(detector.input_width) for picture in pictures]
for image in images[:3]: detector.detect(image, confidence=0.5)
cpu, wall, found = [], [], 0
for image in images * 4:
    began, clock = time.process_time(), time.perf_counter()
    found += len(detector.detect(image, confidence=0.5))
    cpu.append(time.process_time() - began)
    wall.append(time.perf_counter() - clock)
cpu.sort(), wall.sort()
print(cpu[len(cpu) // 2], wall[len(wall) // 2], found / len(cpu), resident() - before)
"""


def alone(name: str, clip: Path, models: str, provider: str = "cpu") -> tuple[float, float, float, float]:
    """Median CPU and wall seconds a picture, finds a picture, and bytes that the detector adds."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, name, str(clip), models, provider],
        capture_output=True,
        text=True,
        check=True,
    )
    cpu, wall, found, resident = (float(value) for value in done.stdout.split())
    return cpu, wall, found, resident


def worker_settings(detectors: tuple[str, ...], clip: Path, models: str) -> dict[str, Any]:
    """A worker with these detectors, five times a second each; none means that inference is off."""
    inference: dict[str, Any] = {"enabled": bool(detectors), "fps": 5, "confidence": 0.5}
    if detectors:
        inference["detectors"] = detectors
    return {
        "source": str(clip),
        "model_dir": models,
        "settings_json": json.dumps({"inference": inference}),
    }


async def measure(clip: Path, models: str, seconds: float) -> None:
    print(f"{machine()}; one thread a detector\n")
    row("detector", "CPU ms a picture", "finds a picture", "adds RSS MB")
    row(*["---"] * 4)
    for name in ("yunet", "yolox"):
        cpu, _, found, resident = await asyncio.to_thread(alone, name, clip, models)
        row(name, f"{cpu * 1e3:.1f}", f"{found:.1f}", f"{resident / 1e6:.0f}")
    print("\n1080p25 H.264 at its own pace, each detector at 5/s, nobody watches\n")
    row("worker with", "CPU s per s", "adds to decoding", "RSS MB", "inferred/s")
    row(*["---"] * 5)
    found_cpu: dict[str, float] = {}
    for name, detectors in WANTED.items():
        result = await steady(None, seconds, **worker_settings(detectors, clip, models))
        found_cpu[name] = result["cpu"]
        added = result["cpu"] - found_cpu["decode only"]
        row(
            name,
            f"{result['cpu']:.3f}",
            f"{added:.3f}",
            f"{result['rss'] / 1e6:.0f}",
            f"{result['inferred']:.1f}",
        )
    decode, both = found_cpu["decode only"], found_cpu["yunet and yolox"]
    parts = found_cpu["yunet"] + found_cpu["yolox"] - decode
    print(f"\nboth / (decoding once + what each adds): {both / parts:.2f}")
    print(f"both / two workers, which decode twice: {both / (found_cpu['yunet'] + found_cpu['yolox']):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="cost of detectors, alone and together")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    arguments = parser.parse_args()
    asyncio.run(measure(*clip_and_models(), arguments.seconds))


if __name__ == "__main__":
    main()
