"""One look of the operator at 5,000 cameras: through a real Prometheus, against the gateways' own pages.

Gateways' pages are served by processes of their own and scraped by Prometheus every two seconds. Each look
reads everything that was scraped and judges all cameras. CPU is what this process, standing for the operator,
and Prometheus use from the beginning of a look to its end; a scrape that falls into it counts for Prometheus.
The ratio is that of the medians, to the source that reads the pages itself.

    python bench/bench_signals.py [--cameras 5000] [--gateways 1] [--looks 10]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from measuring import cpu_seconds, line, machine, part

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from camfleet_operator.cluster.health.gateways import Gateways  # noqa: E402
from camfleet_operator.cluster.health.prometheus import Prometheus  # noqa: E402
from camfleet_operator.cluster.health.prometheus_source import PrometheusSource  # noqa: E402
from camfleet_operator.cluster.health.signals import Signals, SignalSource  # noqa: E402
from support.gateway_board import GONE, Cam, GatewayBoard  # noqa: E402
from support.prometheus_process import PrometheusProcess  # noqa: E402

SCRAPE_SECONDS = 2
Look = tuple[float, float, float, float]
"""Seconds on the clock, of CPU, of judging alone, and of Prometheus' CPU."""


def serve(number: int, gateways: int, cameras: int) -> None:
    """Be a gateway that holds its share of the cameras, until standard input ends."""
    with GatewayBoard() as board:
        held = Cam(errors={"source_lost": 3})
        board.cameras = {f"cam-{n:05}": held if n % gateways == number else GONE for n in range(cameras)}
        print(board.url, flush=True)
        sys.stdin.read()


async def measure(source: SignalSource, cameras: int, looks: int, prometheus: int) -> list[Look]:
    """Look again and again."""
    judged: list[float] = []
    names = [f"n.cam-{n:05}" for n in range(cameras)]
    signals = Signals(source, lambda _: None, on_tick=judged.append, cameras=lambda: names)
    found: list[Look] = []
    async with source.open():
        while signals.counts()["Healthy"] < cameras:
            await signals.tick()
            await asyncio.sleep(0.25)
        while len(found) < looks:
            await asyncio.sleep(SCRAPE_SECONDS / 8)
            count, wall, used, other = (
                len(judged),
                time.perf_counter(),
                time.process_time(),
                cpu_seconds(prometheus),
            )
            await signals.tick()
            if len(judged) > count:
                spent = time.perf_counter() - wall, time.process_time() - used
                found.append((*spent, judged[-1], cpu_seconds(prometheus) - other))
    assert signals.counts()["Healthy"] == cameras, signals.problems
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cameras", type=int, default=5000)
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--looks", type=int, default=10)
    parser.add_argument("--serve", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    with ExitStack() as stack:
        urls = [
            line(stack.enter_context(part("--serve", number, options.gateways, options.cameras)))
            for number in range(options.gateways)
        ]
        server = stack.enter_context(PrometheusProcess(urls, scrape_interval=f"{SCRAPE_SECONDS}s"))
        server.until("count(camfleet_gateway_time_seconds)")
        pid = server.pid
        results = {
            source.kind: asyncio.run(measure(source, options.cameras, options.looks, pid))
            for source in (
                Gateways(urls, timeout=30.0),
                PrometheusSource(Prometheus(server.url, timeout=30.0), scrape=SCRAPE_SECONDS),
            )
        }
    print(f"{options.cameras} cameras, {options.gateways} gateways; {machine()}")
    print("| source | seconds, median | longest | operator's CPU s | of it judging | Prometheus' CPU s |")
    print("|---|---|---|---|---|---|")
    medians: dict[str, float] = {}
    for kind, looks in results.items():
        wall, used, judging, other = (list(column) for column in zip(*looks, strict=True))
        medians[kind] = statistics.median(used)
        print(f"| {kind} | {statistics.median(wall):.3f} | {max(wall):.3f} | {medians[kind]:.3f} | "
              f"{statistics.median(judging):.3f} | {statistics.median(other):.2f} |")  # fmt: skip
    print(f"| **ratio** | | | {medians['prometheus'] / medians['direct']:.2f} | | |")


if __name__ == "__main__":
    main()
