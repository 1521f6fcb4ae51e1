"""Judging thousands of Cameras, and moving those of twenty nodes that are lost at once.

    python -m bench.scale.moves [--cameras 5000] [--nodes 200] [--lost 20] [--json FILE]

etcd, kube-apiserver, scheduler and controller-manager (their rates raised) and a Prometheus server that
scrapes every ten seconds are real. kwok plays the nodes, in two processes: one of them is stopped, and with
it the Leases of the nodes that are lost. A small server plays the gateway's page: a camera whose pod is on a
lost node has no worker from then on. The operator's budgets are the defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from bench.measuring import machine
from bench.scale.audit import Write
from bench.scale.cluster import Cluster
from bench.scale.operators import OperatorProcess
from bench.scale.processes import ForeignLoad
from tests.testbed.control_plane import ControlPlane
from tests.testbed.processes import free_port, wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from camfleet_operator.cluster.health.prometheus import Prometheus
from camfleet_operator.cluster.health.prometheus_source import PrometheusSource
from camfleet_operator.cluster.health.signals import Signals
from support.prometheus_process import PrometheusProcess

NODES_PER_SECOND = 0.1
SCRAPE_SECONDS = 10
REST_SECONDS = 60
TICKS = 6
_FAMILY = "camfleet_camera_"
_ONE = ("source_connected",)
_NOW = ("last_frame_timestamp_seconds", "last_inference_timestamp_seconds")


@dataclass
class Found:
    """What was seen; goals in the names of `goals`."""

    cameras: int
    nodes: int
    lost: int
    tick_wall_s: list[float] = field(default_factory=list)
    """A whole tick in a process of its own: queries, answers, verdicts."""
    tick_cpu_s: list[float] = field(default_factory=list)
    rest_cpu_per_tick_s: float = 0.0
    """All that the operator does in the time of a scrape, at rest."""
    judging_s: float = 0.0
    """What the operator itself says that judging takes."""
    hit: int = 0
    """Cameras on the lost nodes."""
    moved: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first_move_s: float = 0.0
    """After the loss."""
    last_move_s: float = 0.0
    running_s: float = 0.0
    """After the loss, all cameras run elsewhere."""
    node_starts_s: list[float] = field(default_factory=list)
    """When it was decided to move the first camera of each lost node."""
    most_per_second: int = 0
    """Decisions; Kubernetes' own evictions, at the same pace of nodes but a minute later, come on top."""
    over_budget: int = 0
    """Nodes that were begun before their turn."""
    mixed: int = 0
    """How often a node was begun while another was not done."""
    others_touched: int = 0
    doubled: int = 0
    operator_cpu_s: float = 0.0
    foreign_cores: float = 0.0


class Page:
    """A gateway's page: a camera has a worker if its newest pod runs, and not on a lost node."""

    def __init__(self) -> None:
        self.url = ""
        self.lost: set[str] = set()
        """Pods."""
        self._pods: dict[str, str] = {}

    @classmethod
    @asynccontextmanager
    async def serve(cls) -> AsyncIterator[Self]:
        """Listen on loopback."""
        page = cls()
        app = web.Application()
        app.router.add_get("/metrics", page._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            page.url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
            yield page
        finally:
            await runner.cleanup()

    @property
    def pods(self) -> set[str]:
        """The pods that have run, `namespace.name`; of each camera the newest."""
        return set(self._pods.values())

    def saw(self, write: Write) -> None:
        """Learn from kwok's status that a pod runs."""
        if write.who == "kwok" and write.resource == "pods/status" and write.code < 300:
            self._pods[write.object.rpartition("-")[0]] = write.object

    async def _answer(self, request: web.Request) -> web.Response:
        now = f"{time.time():.3f}"
        labels = {
            'namespace="{}",camera="{}"'.format(*camera.split(".", 1)): pod not in self.lost
            for camera, pod in self._pods.items()
        }
        lines = [f"camfleet_gateway_time_seconds {now}"]
        lines += [f"{_FAMILY}worker_connected{{{text}}} {int(has)}" for text, has in labels.items()]
        present = [text for text, has in labels.items() if has]
        for names, value in ((_ONE, "1"), (_NOW, now)):
            lines += [f"{_FAMILY}{name}{{{text}}} {value}" for name in names for text in present]
        return web.Response(text="\n".join(lines) + "\n", content_type="text/plain")


def furnish_nodes(plane: ControlPlane, count: int, lost: int) -> None:
    """Two kwoks; the nodes of the second are those that will be lost."""
    for group in ("stays", "goes"):
        plane.run(
            f"kwok-{group}",
            f"--kubeconfig={plane.kubeconfig}",
            f"--manage-nodes-with-label-selector=group={group}",
            f"--server-address=127.0.0.1:{free_port()}",
            "--node-lease-duration-seconds=40",
            program=_kwok(),
        )
    for number in range(count):
        name = f"node-{number}"
        plane.create_node(name)
        group = "goes" if number < lost else "stays"
        plane.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": {"group": group}}})

    def ready() -> bool:
        nodes = plane.items("/api/v1/nodes")
        return sum(not node["spec"].get("taints") for node in nodes) == count

    wait_until(ready, "the nodes", process=plane.processes["kwok-stays"], seconds=180)


def _kwok() -> Path:
    from tests.testbed.components import find

    return find("kwok")


async def judge(url: str, cameras: int, found: Found) -> None:
    """Whole ticks, by the operator's own parts, in this process."""
    source = PrometheusSource(Prometheus(url), scrape=SCRAPE_SECONDS)
    signals = Signals(source, lambda _: None)
    async with source.open():
        while len(found.tick_wall_s) < TICKS:
            wall, cpu = time.perf_counter(), time.process_time()
            before = signals.describe()["sampledAt"]
            await signals.tick()
            if signals.describe()["sampledAt"] != before:
                if signals.counts()["Healthy"] == cameras:
                    found.tick_wall_s.append(time.perf_counter() - wall)
                    found.tick_cpu_s.append(time.process_time() - cpu)
            await asyncio.sleep(1.0)


async def measure(cameras: int, nodes: int, lost: int, *, judging: bool = True) -> Found:
    """All of it."""
    found = Found(cameras, nodes, lost)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="camfleet-moves-"))
        cluster = await stack.enter_async_context(
            Cluster.fresh(Path(folder), nodes=lambda plane: furnish_nodes(plane, nodes, lost))
        )
        page = await stack.enter_async_context(Page.serve())
        cluster.trail.on_write = page.saw
        prometheus = PrometheusProcess([page.url], scrape_interval=f"{SCRAPE_SECONDS}s")
        await asyncio.to_thread(prometheus.start)
        stack.callback(prometheus.close)
        await cluster.create_cameras(cameras)
        plane = cluster.plane
        operator = OperatorProcess.camfleet(
            plane.kubeconfig,
            plane.folder / "operator.log",
            "--write-rate=0",
            f"--prometheus-url={prometheus.url}",
            f"--scrape-seconds={SCRAPE_SECONDS}",
        )
        stack.push_async_callback(operator.stop)
        try:
            await cluster.until(lambda: len(page.pods) >= cameras, seconds=120 + cameras / 5, what="pods run")
            await _ready(cluster, cameras)
            await asyncio.sleep(REST_SECONDS)  # the minute of hurry after a start is over
            if judging:
                await _rest(cluster, operator, found)
                await judge(prometheus.url, cameras, found)
            await _lose(cluster, page, operator, found)
        finally:
            operator.check()
            log = (plane.folder / "operator.log").read_text(errors="replace")
            # Without the creations there is what was decided.
            print(
                "\n".join(line for line in log.splitlines() if "created pod" not in line)[-20000:],
                file=sys.stderr,
            )
    return found


async def _ready(cluster: Cluster, cameras: int) -> None:
    deadline = time.monotonic() + 300
    while await cluster.ready_cameras() < cameras:
        cluster.trail.read()
        if time.monotonic() > deadline:
            raise TimeoutError("cameras are not Ready")
        await asyncio.sleep(2)


async def _rest(cluster: Cluster, operator: OperatorProcess, found: Found) -> None:
    before, cpu, begin = await operator.metrics(), operator.cpu(), time.monotonic()
    while time.monotonic() < begin + REST_SECONDS:
        await asyncio.sleep(1)
        cluster.trail.read()
    found.rest_cpu_per_tick_s = (operator.cpu() - cpu) / (time.monotonic() - begin) * SCRAPE_SECONDS
    after = await operator.metrics()
    name = "camfleet_operator_tick_seconds"
    ticks = after[f"{name}_count"] - before[f"{name}_count"]
    found.judging_s = (after[f"{name}_sum"] - before[f"{name}_sum"]) / max(ticks, 1)


async def _lose(cluster: Cluster, page: Page, operator: OperatorProcess, found: Found) -> None:
    placed: dict[str, str] = {}
    async for pod in cluster.list_all("/api/v1/pods"):
        placed[f"{pod['metadata']['namespace']}.{pod['metadata']['name']}"] = pod["spec"]["nodeName"]
    gone = {f"node-{number}" for number in range(found.lost)}
    hit = {pod.rpartition("-")[0]: pod for pod, node in placed.items() if node in gone}
    found.hit = len(hit)
    load, cpu, lost_at = ForeignLoad(), operator.cpu(), time.time()
    cluster.plane.processes["kwok-goes"].signal(signal.SIGSTOP)
    page.lost = set(hit.values())

    elsewhere = lambda: not page.pods & page.lost  # noqa: E731
    await cluster.until(elsewhere, seconds=60 + 3 * found.lost / NODES_PER_SECOND, what="all run elsewhere")
    found.running_s = time.time() - lost_at
    await asyncio.sleep(2 * SCRAPE_SECONDS)
    cluster.trail.read()
    found.operator_cpu_s = operator.cpu() - cpu
    found.foreign_cores = load.cores()

    creations: dict[str, list[float]] = collections.defaultdict(list)
    for write in cluster.trail.since(lost_at):
        if write.resource == "pods" and write.verb == "create" and write.code < 300:
            creations[write.object.rpartition("-")[0]].append(write.at - lost_at)
    found.moved = len(creations.keys() & hit.keys())
    found.others_touched = len(creations.keys() - hit.keys())
    again = {camera: [round(at, 1) for at in times] for camera, times in creations.items() if len(times) > 1}
    found.doubled = len(again)
    if again:
        print(f"more than one new pod: {again}", file=sys.stderr)
    times = {camera: min(creations[camera]) for camera in hit if camera in creations}
    found.first_move_s, found.last_move_s = min(times.values()), max(times.values())
    decided: dict[str, float] = {}
    reasons: collections.Counter[str] = collections.Counter()
    async for camera in cluster.list_all("/apis/camfleet.io/v1alpha1/cameras"):
        key = f"{camera['metadata']['namespace']}.{camera['metadata']['name']}"
        if key not in hit:
            continue
        last = camera["status"].get("lastReassignment") or {}
        at = datetime.fromisoformat(last["time"]).timestamp() - lost_at if last else -1.0
        reasons[last["reason"] if at >= 0 else "pod evicted by Kubernetes"] += 1
        if at >= 0:
            decided[key] = at
    found.reasons = dict(reasons)
    found.most_per_second = max(collections.Counter(decided.values()).values(), default=0)
    _pace(found, {camera: placed[pod] for camera, pod in hit.items()}, decided)


def _pace(found: Found, node_of: dict[str, str], times: dict[str, float]) -> None:
    """Compare the order with the budget: one node at once, then another every ten seconds."""
    by_node: dict[str, list[float]] = collections.defaultdict(list)
    for camera, at in times.items():
        by_node[node_of[camera]].append(at)
    spans = sorted((min(at), max(at)) for at in by_node.values())
    found.node_starts_s = [round(begin, 1) for begin, _ in spans]
    first = spans[0][0]
    slack = 1.0  # times in a status are whole seconds
    for number, (begin, _) in enumerate(spans):
        found.over_budget += begin - first + slack < number / NODES_PER_SECOND
    found.mixed = sum(begin < end for (_, end), (begin, _) in pairwise(spans))


def goals(found: Found) -> list[tuple[str, float, float]]:
    """What was promised: text, figure, bound."""
    judging = [
        ("one tick, wall seconds (median)", statistics.median(found.tick_wall_s or [0.0]), 2.0),
        ("one tick, CPU seconds (median)", statistics.median(found.tick_cpu_s or [0.0]), 1.0),
        ("all that the operator does per tick at rest, CPU seconds", found.rest_cpu_per_tick_s, 1.0),
    ]
    return [
        *(judging if found.tick_wall_s else ()),
        ("cameras of lost nodes that were not moved", found.hit - found.moved, 0),
        ("cameras of other nodes that were touched", found.others_touched, 0),
        ("cameras with two new pods", found.doubled, 0),
        ("nodes begun before their turn", found.over_budget, 0),
        ("most decisions in a second", found.most_per_second, 10),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale.moves", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--cameras", type=int, default=5000)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--lost", type=int, default=20)
    parser.add_argument("--only-moves", action="store_true", help="leave out what judging costs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    where = machine()
    found = asyncio.run(measure(options.cameras, options.nodes, options.lost, judging=not options.only_moves))
    document: dict[str, Any] = {"machine": where, **asdict(found)}
    print(json.dumps(document, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    kept = True
    print(f"\n{where}\n\n| goal | found | bound | |\n|---|---|---|---|")
    for text, value, bound in goals(found):
        kept &= value <= bound
        print(f"| {text} | {value:.3g} | ≤ {bound:g} | {'ok' if value <= bound else '**missed**'} |")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
