"""The default queries, asked of a real Prometheus that holds what the usual exporters give."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.operator_cluster.load_cluster import Node, cluster

from camfleet_operator.cluster.balancer import Balancer
from camfleet_operator.cluster.node_load import (
    CAMERA_CPU,
    NODE_CPU,
    NODE_GPU,
    NODE_GPU_MEMORY,
    NodeNames,
    camera_cores,
    load_queries,
    node_shares,
)
from camfleet_operator.cluster.prometheus import Prometheus
from camfleet_operator.cluster.relief_simulation import CameraLoad
from support.prometheus_process import PrometheusProcess
from support.require import need

STEP, HISTORY = 15, 900
"""Seconds between two scrapes, and since the first."""

NODES = cluster(
    Node("plain", hostname="plain", addresses=("10.0.0.1", "plain.example")),
    Node("labelled", hostname="labelled", addresses=("10.0.0.2",)),
    Node("bare", hostname="bare", addresses=("10.0.0.3",)),
    Node("gpu", hostname="gpu-host", addresses=("10.0.0.4",)),
    Node("young", hostname="young", addresses=("10.0.0.5",)),
)


class History:
    """Series as OpenMetrics text: counters grow by `rate` per second, gauges stand still."""

    def __init__(self, now: int) -> None:
        self.now = now
        self._families: dict[str, list[str]] = {}

    def counter(self, series: str, rate: float, since: int = HISTORY) -> None:
        times = range(self.now - since, self.now + 1, STEP)
        self._add(series, [f"{series} {1000 + rate * (at - times[0])} {at}" for at in times])

    def gauge(self, series: str, value: float) -> None:
        times = range(self.now - HISTORY, self.now + 1, STEP)
        self._add(series, [f"{series} {value} {at}" for at in times])

    def _add(self, series: str, lines: list[str]) -> None:
        self._families.setdefault(series.partition("{")[0], []).extend(lines)

    def text(self) -> str:
        parts = []
        for name, lines in self._families.items():
            kind, family = ("counter", name.removesuffix("_total")) if "_total" in name else ("gauge", name)
            parts += [f"# TYPE {family} {kind}", *lines]
        return "\n".join([*parts, "# EOF", ""])


def node_exporter(history: History, labels: str, busy: float, since: int = HISTORY) -> None:
    """Two CPUs, a tenth of whose time is spent waiting for disks."""
    for cpu in range(2):
        for mode, share in {
            "idle": 0.9 - busy,
            "iowait": 0.1,
            "user": busy * 0.7,
            "system": busy * 0.3,
        }.items():
            series = f'node_cpu_seconds_total{{cpu="{cpu}",mode="{mode}",job="node-exporter",{labels}}}'
            history.counter(series, share, since)


def cadvisor(history: History, labels: str, cores: int, busy: float) -> None:
    common = f'job="kubelet",metrics_path="/metrics/cadvisor",{labels}'
    history.counter(f'container_cpu_usage_seconds_total{{id="/",cpu="total",{common}}}', busy * cores)
    history.counter(
        f'container_cpu_usage_seconds_total{{id="/kubepods/pod1/c1",cpu="total",pod="a",{common}}}', 0.1
    )
    history.gauge(f'machine_cpu_cores{{boot_id="b",machine_id="m",{common}}}', cores)


def dcgm(history: History, labels: str, *used: tuple[float, float]) -> None:
    """One GPU for each pair of a share of its time and one of its memory."""
    for number, (share, memory) in enumerate(used):
        common = f'gpu="{number}",UUID="GPU-{number}",modelName="T4",job="dcgm",pod="nvidia-dcgm-x",{labels}'
        history.gauge(f"DCGM_FI_DEV_GPU_UTIL{{{common}}}", 100 * share)
        history.gauge(f"DCGM_FI_DEV_FB_USED{{{common}}}", 16000 * memory)
        history.gauge(f"DCGM_FI_DEV_FB_FREE{{{common}}}", 16000 * (1 - memory))


def worker(history: History, labels: str, cores: float) -> None:
    history.counter(f"camfleet_camera_worker_cpu_seconds_total{{{labels}}}", cores)


@pytest.fixture(scope="module")
def server() -> Iterator[PrometheusProcess]:
    """Prometheus with a quarter of an hour behind it."""
    need(shutil.which("promtool"), "the program promtool")
    history = History(int(time.time()) - 1)
    # kube-prometheus-stack: the node's address is the instance.
    node_exporter(history, 'instance="10.0.0.1:9100",pod="node-exporter-1",cluster="east"', 0.25)
    # The community's Prometheus chart: the node's name is a label. cAdvisor is there as well.
    node_exporter(history, 'instance="10.9.9.9:9100",node="labelled",cluster="east"', 0.60)
    cadvisor(history, 'instance="10.0.0.2:10250",node="labelled",cluster="east"', 4, 0.58)
    # Nothing but cAdvisor.
    cadvisor(history, 'instance="10.0.0.3:10250",node="bare",cluster="east"', 8, 0.75)
    # A node that came half a minute ago, and one of another cluster.
    node_exporter(history, 'instance="10.0.0.5:9100",cluster="east"', 0.10, since=2 * STEP)
    node_exporter(history, 'instance="10.77.0.1:9100",cluster="west"', 0.99)
    dcgm(history, 'Hostname="gpu-host",instance="10.1.2.3:9400",cluster="east"', (0.9, 0.5), (0.3, 0.25))
    worker(history, 'namespace="north",camera="door",instance="10.2.0.1:8081"', 0.4)
    worker(history, 'namespace="north",camera="hall",instance="10.2.0.1:8081"', 1.5)
    worker(history, 'namespace="camfleet",exported_namespace="north",camera="yard",instance="g:1"', 0.2)
    process = PrometheusProcess()
    file, data = process.folder / "history.txt", process.folder / "data"
    file.write_text(history.text())
    backfill(file, data)
    with process:
        yield process


def backfill(file: Path, data: Path) -> None:
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(file), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


async def asked(server: PrometheusProcess, name: str, **overrides: str) -> dict[str, float]:
    client = Prometheus(server.url)
    async with client.open():
        samples = (await client.query(load_queries(overrides)[name])).samples
    return camera_cores(samples) if name == CAMERA_CPU else node_shares(samples, NodeNames(NODES))


async def test_cpu_of_node_exporter_and_cadvisor(server: PrometheusProcess) -> None:
    assert await asked(server, NODE_CPU) == {
        "plain": pytest.approx(0.25, abs=0.01),
        "labelled": pytest.approx(0.60, abs=0.01),
        "bare": pytest.approx(0.75, abs=0.01),
        "young": pytest.approx(0.10, abs=0.01),  # though a rate over three minutes has seen little of it
    }


async def test_gpus_of_dcgm(server: PrometheusProcess) -> None:
    assert await asked(server, NODE_GPU) == {"gpu": pytest.approx(0.6)}
    assert await asked(server, NODE_GPU_MEMORY) == {"gpu": pytest.approx(0.375)}


async def test_cpu_of_cameras(server: PrometheusProcess) -> None:
    assert await asked(server, CAMERA_CPU) == {
        "north.door": pytest.approx(0.4, abs=0.01),
        "north.hall": pytest.approx(1.5, abs=0.02),
        "north.yard": pytest.approx(0.2, abs=0.01),
    }


async def test_a_selector_and_a_query_of_ones_own(server: PrometheusProcess) -> None:
    assert await asked(server, NODE_CPU, selector='cluster="west"') == {}
    assert len(await asked(server, NODE_CPU, selector='cluster="east"')) == 4
    assert len(await asked(server, NODE_CPU, selector='namespace="x"', node_selector='cluster="east"')) == 4
    assert await asked(server, NODE_GPU, selector='cluster="west",') == {}
    assert await asked(server, NODE_GPU, node_gpu='label_replace(vector(0.5), "node", "gpu", "", "")') == {
        "gpu": 0.5
    }


async def test_a_reading_of_the_whole_fleet(server: PrometheusProcess) -> None:
    now = 0.0
    balancer = Balancer(
        client := Prometheus(server.url),
        nodes=lambda: NODES,
        cameras=lambda: [CameraLoad("north.door", "bare"), CameraLoad("north.hall", "bare")],
        high=0.7,
        low=0.5,
        clock=lambda: now,
    )
    async with client.open():
        for _ in range(9):
            now += 30.0
            await balancer.tick()
    assert balancer.loads()["gpu"] == {"cpu": None, "gpu": 0.6}
    assert balancer.loads()["bare"]["cpu"] == pytest.approx(0.75, abs=0.01)
    assert balancer.describe()["loaded"] == {"bare": ["cpu"]}
    assert balancer.describe()["problems"] == {}
    found = balancer.proposal()
    assert found is not None, balancer.describe()
    assert (found.camera, found.source, found.target) == ("north.hall", "bare", "young")
    placement = balancer.placement_for("north.new", {"containers": []})
    assert placement.avoid_loaded == ("bare",)
    assert placement.reason == "avoids bare (CPU 75 %); prefers young (CPU 10 %)"
