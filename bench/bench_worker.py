"""What one worker costs: start, memory, and CPU per second of video, against decoding alone in the same run.

    CAMFLEET_MODEL_DIR=… CAMFLEET_SAMPLE_DIR=… python bench/bench_worker.py [--seconds 10]

`decode` and `floor` are the least that any program could do with this clip: PyAV decoding every picture at
the clip's pace, and the same with YuNet five times a second (ONNX Runtime, one thread, no spinning).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import clip_and_models, machine

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from camfleet_protocol.messages import Demand  # noqa: E402
from support.fake_gateway import fake_gateway  # noqa: E402
from support.worker_process import worker_process  # noqa: E402

WARM_UP = 3.0
STARTS = 5
REFERENCE = """
import os, sys, time
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
from pathlib import Path
import av
clip, seconds, detect = sys.argv[1], float(sys.argv[2]), sys.argv[3]
if detect:
    from camfleet_worker.detectors.base import DetectorContext
    from camfleet_worker.detectors.yunet import YuNetDetector
    from camfleet_worker.vision import prepare_opencv
    from av.video.reformatter import VideoReformatter
    prepare_opencv(1)
    detector, reformatter = YuNetDetector(DetectorContext(Path(detect))), VideoReformatter()
number, began, cpu = 0, time.monotonic(), None
while True:
    with av.open(clip) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            number += 1
            if detect and number % 5 == 0:
                size = {"width": 640, "height": 360, "format": "bgr24", "interpolation": "AREA", "threads": 1}
                detector.detect(reformatter.reformat(frame, **size).to_ndarray(), confidence=0.7)
            time.sleep(max(0.0, began + number / 25 - time.monotonic()))
            if cpu is None and number > 50:
                cpu, since = time.process_time(), time.monotonic()
            elif cpu is not None and time.monotonic() - since > seconds:
                rss = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
                print((time.process_time() - cpu) / (time.monotonic() - since), rss)
                sys.exit()
"""


def reference(clip: Path, seconds: float, models: str) -> tuple[float, float]:
    """CPU per second of video and resident bytes of a bare loop."""
    done = subprocess.run(
        [sys.executable, "-c", REFERENCE, str(clip), str(seconds), models],
        capture_output=True,
        text=True,
        check=True,
    )
    cpu, resident = done.stdout.split()
    return float(cpu), float(resident)


async def steady(demand: Demand | None, seconds: float, **settings: Any) -> dict[str, float]:
    """CPU per second and memory of a worker that has settled."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            fake_gateway(demand=demand) as gateway,
            worker_process(Path(folder), gateway_url=gateway.url, **settings) as worker,
        ):
            await gateway.until(lambda: gateway.stats and gateway.stats[-1].uptime_seconds > WARM_UP)
            first = gateway.stats[-1]
            await gateway.until(
                lambda: gateway.stats[-1].uptime_seconds > first.uptime_seconds + seconds, "", seconds + 20
            )
            last = gateway.stats[-1]
            span = last.uptime_seconds - first.uptime_seconds
            ages = [(f.at_ns - f.frame.captured_ns) / 1e6 for f in gateway.frames[5:]]
            return {
                "cpu": (last.cpu_seconds - first.cpu_seconds) / span,
                "rss": float(worker.resident_bytes()),
                "captured": (last.frames.captured - first.frames.captured) / span,
                "inferred": (last.frames.inferred - first.frames.inferred) / span,
                "encoded": (last.frames.encoded - first.frames.encoded) / span,
                "age": statistics.median(ages) if ages else 0.0,
            }


async def start(**settings: Any) -> tuple[float, float]:
    """Seconds from starting the process to its first picture, and to its first boxes, at the gateway."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            fake_gateway(demand=Demand(plain=True)) as gateway,
            worker_process(Path(folder), gateway_url=gateway.url, **settings) as worker,
        ):
            await gateway.until(lambda: gateway.frames, "a picture")
            picture = time.monotonic() - worker.started
            await gateway.until(lambda: any(f.meta.detections for f in gateway.frames), "boxes")
            return picture, time.monotonic() - worker.started


LOOK = """
import statistics, sys, time
import av
from camfleet_worker.freeze import Freeze
from camfleet_worker.sources.video import VideoPicture
freeze, took = Freeze(), []
with av.open(sys.argv[1]) as container:
    for number, frame in enumerate(container.decode(container.streams.video[0])):
        picture = VideoPicture(frame, number=number, captured_ns=0, discontinuity=False)
        began = time.thread_time()
        freeze.look(picture.fingerprint(), float(number), 60)
        took.append(time.thread_time() - began)
print(statistics.mean(took))
"""


def look(clip: Path) -> float:
    """CPU seconds of one look whether the picture is frozen, which a worker takes once a second."""
    done = subprocess.run([sys.executable, "-c", LOOK, str(clip)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def row(*cells: str) -> None:
    """One row of a table."""
    print(f"| {' | '.join(cells)} |")


async def measure(clip: Path, models: str, seconds: float) -> None:
    faces: dict[str, Any] = {"source": str(clip), "detector": ("yunet",), "model_dir": models}
    pattern: dict[str, Any] = {"source": "test", "detector": ("mock",)}
    decode, decode_rss = await asyncio.to_thread(reference, clip, seconds, "")
    floor, floor_rss = await asyncio.to_thread(reference, clip, seconds, models)
    print(f"{machine()}\n")
    print(
        f"1080p25 H.264 at its own pace, YuNet at 5/s, live pictures 640 wide at 10/s; {seconds:.0f} s each\n"
    )
    heads = (
        "what",
        "CPU s per s",
        "of decode",
        "of floor",
        "RSS MB",
        "captured/s",
        "inferred/s",
        "encoded/s",
    )
    row(*heads, "age ms")
    row(*["---"] * 9)

    def costs(name: str, cpu: float, rss: float, *rates: float) -> None:
        ratios = (f"{cpu:.3f}", f"{cpu / decode:.2f}", f"{cpu / floor:.2f}", f"{rss / 1e6:.0f}")
        row(name, *ratios, *(f"{rate:.1f}" for rate in rates))

    costs("decode: PyAV alone", decode, decode_rss, 25, 0, 0, 0)
    costs("floor: decode + YuNet", floor, floor_rss, 25, 5, 0, 0)
    looking = await asyncio.to_thread(look, clip)
    least = float("inf")
    for name, demand in (
        ("worker, nobody watches", None),
        ("worker, plain pictures", Demand(plain=True)),
        ("worker, plain and annotated", Demand(plain=True, annotated=True)),
    ):
        r = await steady(demand, seconds, **faces)
        costs(name, r["cpu"], r["rss"], r["captured"], r["inferred"], r["encoded"], r["age"])
        least = min(least, r["cpu"])
    print(
        f"\nLooking once a second whether the picture is frozen: {looking * 1e6:.0f} us of CPU, "
        f"{looking / least:.2%} of the cheapest of these workers"
    )
    print(f"\nStart of the process to the gateway's first picture / boxes, median and worst of {STARTS}\n")
    row("source", "first picture s", "first boxes s")
    row("---", "---", "---")
    for name, settings in (("test pattern, mock detector", pattern), ("1080p file, YuNet", faces)):
        runs = [await start(**settings) for _ in range(STARTS)]
        columns = (f"{statistics.median(c):.2f} / {max(c):.2f}" for c in zip(*runs, strict=True))
        row(name, *columns)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU, memory and start of one worker")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    arguments = parser.parse_args()
    asyncio.run(measure(*clip_and_models(), arguments.seconds))


if __name__ == "__main__":
    main()
