"""Creation, rest, restart and latency of the operator with thousands of Cameras, on a real control plane.

    python -m bench.scale [--sizes 500,2000,5000] [--naive] [--paced] [--without-gateway] [--json FILE]

etcd, kube-apiserver, scheduler and controller-manager (their rates raised) are real, kwok plays 200 nodes.
For each size, DIRECT comes first: the same pods, created by an asyncio client. Then Camfleet's operator with
pacing off; the Cameras exist before it starts. A small HTTP server plays the gateways, so that cameras become
Ready. Everything runs on this machine and shares its cores: compare ratios and CPU seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from bench.measuring import machine
from bench.scale import measure
from bench.scale.measure import Latency, Result
from bench.scale.report import goals, tables

UNPACED = ("--write-rate=0",)


async def run(options: argparse.Namespace, results: list[Result], latencies: list[Latency]) -> None:
    for size in options.sizes:
        systems = [measure.direct(size)] if not options.skip_direct else []
        if not options.only_direct:
            systems.append(
                measure.camfleet(size, *UNPACED, name="camfleet", with_gateway=True, rest=options.rest)
            )
        if options.without_gateway:
            systems.append(
                measure.camfleet(
                    size, *UNPACED, name="camfleet, no gateway", with_gateway=False, rest=options.rest
                )
            )
        if options.paced:
            systems.append(
                measure.camfleet(size, name="camfleet, paced", with_gateway=True, rest=0, restart=False)
            )
        if options.naive:
            systems.append(measure.naive(size, rest=options.rest))
        for system in systems:
            result = await system
            results.append(result)
            print(json.dumps(asdict(result)), file=sys.stderr, flush=True)
    if options.changes:
        latencies.extend(await measure.latency(options.changes))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="500,2000,5000", help="numbers of Cameras")
    parser.add_argument("--naive", action="store_true", help="measure a plain kopf operator too (slow)")
    parser.add_argument("--paced", action="store_true", help="measure with the default write rate too")
    parser.add_argument("--without-gateway", action="store_true", help="measure without metrics too")
    parser.add_argument("--only-direct", action="store_true", help="leave out Camfleet's operator")
    parser.add_argument("--skip-direct", action="store_true", help="no reference, and so no ratio")
    parser.add_argument(
        "--rest", type=float, default=120, metavar="SECONDS", help="how long to watch it rest"
    )
    parser.add_argument("--changes", type=int, default=200, help="single changes for the latency; 0 for none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    options = parser.parse_args()
    options.sizes = [int(size) for size in options.sizes.split(",") if size]
    # Ended from outside, it takes its cluster with it all the same.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    where = machine()
    results: list[Result] = []
    latencies: list[Latency] = []
    try:
        asyncio.run(run(options, results, latencies))
    finally:
        print(f"{where}\n\n{tables(results, latencies)}")
        if options.json is not None:
            document = {
                "machine": where,
                "results": [asdict(r) for r in results],
                "latencies": [asdict(item) for item in latencies],
            }
            options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(goal.kept for goal in goals(results, latencies)) else 1


if __name__ == "__main__":
    sys.exit(main())
