"""How old a picture is when a viewer has it, from the clock burnt into the test pattern.

Starts a real fleet (local runtime, gateway, one worker per camera) and one viewer over one WebSocket, and
compares the age with the pause between two pictures: below 1.0 the newest picture is on the screen before the
next one is made.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from camfleet_worker.stamp import read_stamp
from support.fleet import running_fleet
from support.viewer import viewing

_FPS = 10.0
_WARM_UP_SECONDS = 3.0


async def ages(url: str, cameras: list[str], seconds: float) -> list[float]:
    """Seconds from the stamp to reception, of every picture."""
    found: list[float] = []
    async with viewing(url, *cameras) as viewer:
        await viewer.collect(_WARM_UP_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                async for seen in viewer.frames():
                    image = cv2.imdecode(np.frombuffer(seen.frame.payload, np.uint8), cv2.IMREAD_COLOR)
                    if image is not None and (stamp := read_stamp(np.asarray(image, np.uint8))):
                        found.append(seen.wall - stamp.time_ns / 1e9)
        except TimeoutError:
            pass
    return found


def measure(cameras: int, seconds: float) -> None:
    """One row of the table."""
    spec = {
        "source": {"testPattern": {"width": 1280, "height": 720, "fps": _FPS}},
        "inference": {"detectors": ["motion"]},
        "stream": {"fps": _FPS},
    }
    names = [f"cam-{number}" for number in range(cameras)]
    with (
        tempfile.TemporaryDirectory() as base,
        running_fleet(Path(base), cameras={name: spec for name in names}) as fleet,
    ):
        for name in names:
            fleet.wait_state(name, "live", within=60)
        found = asyncio.run(ages(fleet.url, [f"default.{name}" for name in names], seconds))
    p50, p99 = statistics.median(found), statistics.quantiles(found, n=100)[98]
    rate = len(found) / seconds / cameras
    print(
        f"{cameras:>7}  {rate:>8.1f}  {p50 * 1e3:>7.0f}  {p99 * 1e3:>7.0f}  {p50 * _FPS:>20.2f}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--cameras", type=int, nargs="*", default=[1, 4, 8])
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores; 1280x720 test pattern, 10 fps, sent 640 wide, motion detection")
    print("cameras  fps each   p50 ms   p99 ms  p50 / frame interval")
    for cameras in options.cameras:
        measure(cameras, options.seconds)


if __name__ == "__main__":
    main()
