"""The default queries, asked of a real Prometheus that holds what the usual exporters give."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from tests.operator_cluster.load_cluster import Node, cluster

from camfleet_operator.cluster.balance.balancer import Balancer
from camfleet_operator.cluster.balance.node_load import (
    CAMERA_CPU,
    NODE_CPU,
    NODE_GPU,
    NODE_GPU_MEMORY,
    NodeNames,
    camera_cores,
    load_queries,
    node_shares,
)
from camfleet_operator.cluster.balance.relief_simulation import CameraLoad
from camfleet_operator.cluster.health.prometheus import Prometheus
from support.prometheus_history import STEP, History, cadvisor, dcgm, node_exporter, worker
from support.prometheus_process import PrometheusProcess
from support.require import ROOT

NODES = cluster(
    Node("plain", hostname="plain", addresses=("10.0.0.1", "plain.example")),
    Node("labelled", hostname="labelled", addresses=("10.0.0.2",)),
    Node("bare", hostname="bare", addresses=("10.0.0.3",)),
    Node("gpu", hostname="gpu-host", addresses=("10.0.0.4",)),
    Node("young", hostname="young", addresses=("10.0.0.5",)),
)


@pytest.fixture(scope="module")
def server() -> Iterator[PrometheusProcess]:
    """Prometheus with a quarter of an hour behind it."""
    history = History()
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
    history.write(process.folder)
    with process:
        yield process


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


def test_the_docs_name_the_default_queries() -> None:
    text = (ROOT / "docs" / "balancing.md").read_text()
    block = text.partition("<!-- queries -->\n```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(block) == load_queries()
