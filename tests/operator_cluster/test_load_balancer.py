"""The balancer with a Prometheus that says what a test says: good news, bad news and none."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.operator_cluster.load_cluster import Node, cluster

from camfleet_operator.cluster.balance.balancer import Balancer
from camfleet_operator.cluster.balance.eligibility import Taint
from camfleet_operator.cluster.balance.node_load import (
    CAMERA_CPU,
    NODE_CPU,
    NODE_GPU,
    NodeNames,
    camera_cores,
    load_queries,
    node_shares,
)
from camfleet_operator.cluster.balance.placement import ANYWHERE
from camfleet_operator.cluster.balance.relief_simulation import CameraLoad
from camfleet_operator.cluster.health.prometheus import TIMEOUT, WARNINGS, PrometheusError, Vector

CPU_POD: dict[str, Any] = {"containers": [{"name": "worker", "resources": {"limits": {"memory": "1Gi"}}}]}
GPU_POD: dict[str, Any] = {
    "containers": [{"name": "worker", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]
}


@dataclass
class FakeServer:
    """Answers by the query's name."""

    answers: dict[str, Mapping[str, float | str] | PrometheusError] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    async def query(self, expression: str, time: float | None = None) -> Vector:
        (name,) = (name for name, text in load_queries().items() if text == expression)
        self.asked[name] += 1
        answer = self.answers.get(name, {})
        if isinstance(answer, PrometheusError):
            raise answer
        samples = [(_labels(name, key), str(value)) for key, value in answer.items()]
        return Vector(samples, 1.0 if samples else None)


def _labels(query: str, key: str) -> dict[str, str]:
    if query != CAMERA_CPU:
        return {"node": key}
    namespace, _, camera = key.partition(".")
    return {"namespace": namespace, "camera": camera}


class World:
    """A balancer, its server and its clock."""

    def __init__(self, nodes: Mapping[str, Node], cameras: Sequence[CameraLoad] = (), **options: Any) -> None:
        self.now = 1000.0
        self.server = FakeServer()
        self.nodes = dict(nodes)
        self.cameras = list(cameras)
        self.balancer = Balancer(
            self.server,
            nodes=lambda: self.nodes,
            cameras=lambda: self.cameras,
            clock=lambda: self.now,
            **options,
        )

    async def read(self, ticks: int = 10, **answers: Mapping[str, float | str] | PrometheusError) -> None:
        self.server.answers.update(answers)
        for _ in range(ticks):
            self.now += 30.0
            await self.balancer.tick()


def loaded_world(**options: Any) -> World:
    cameras = [CameraLoad("n.one", "a"), CameraLoad("n.two", "a"), CameraLoad("n.three", "b")]
    return World(cluster("a", "b"), cameras, **options)


NEWS: dict[str, Mapping[str, float | str]] = {
    NODE_CPU: {"a": 0.95, "b": 0.2},
    CAMERA_CPU: {"n.one": 2.4, "n.two": 1.6, "n.three": 0.1},
}


async def test_a_loaded_node_is_avoided_and_relieved() -> None:
    world = loaded_world()
    await world.read(**NEWS)
    placement = world.balancer.placement_for("n.new", CPU_POD)
    assert placement.reason == "avoids a (CPU 95 %); prefers b (CPU 20 %)"
    proposal = world.balancer.proposal()
    assert proposal is not None
    assert (proposal.camera, proposal.target) == ("n.one", "b")
    assert world.balancer.describe()["proposal"] == proposal.message
    assert world.balancer.loads() == {"a": {"cpu": 0.95, "gpu": None}, "b": {"cpu": 0.2, "gpu": None}}
    world.balancer.moved("n.somebody")
    assert world.balancer.proposal() is proposal
    world.balancer.moved(proposal.camera)
    assert world.balancer.proposal() is None
    placement = world.balancer.placement_for(proposal.camera, CPU_POD, failed={"a": "left for its load"})
    assert placement.reason == "avoids a (CPU 95 %); prefers b (CPU 20 %)"
    await world.read(1)
    assert world.balancer.describe()["why"] == f"{proposal.camera} is on its way"


async def test_a_proposal_says_the_same_while_it_is_the_same_and_may_be_late() -> None:
    world = loaded_world()
    await world.read(**NEWS)
    first = world.balancer.proposal()
    await world.read(2, node_cpu={"a": 0.97, "b": 0.23})
    assert world.balancer.proposal() is first
    assert first is not None
    world.balancer.avoid({"b"})
    await world.read(1)
    assert world.balancer.proposal() is None
    world.balancer.moved(first.camera)  # it was on its way already
    world.cameras = [camera for camera in world.cameras if camera.key != first.camera]
    await world.read(1)
    assert world.balancer.describe()["why"] == f"{first.camera} is on its way"


@pytest.mark.parametrize(
    "bad",
    [
        {NODE_CPU: PrometheusError(TIMEOUT, "no answer within 5 s")},
        {NODE_CPU: PrometheusError(WARNINGS, "one store is away")},
        {NODE_CPU: {}},
        {NODE_CPU: {"a": "NaN", "b": "NaN"}},
        {NODE_CPU: {"a": "+Inf", "b": "-Inf"}},
        {NODE_CPU: {"a": 95, "b": -3}},
        {NODE_CPU: {"a": "much", "b": ""}},
        {NODE_CPU: {"elsewhere": 0.95, "nowhere": 0.1}},
        {CAMERA_CPU: PrometheusError(TIMEOUT, "no answer within 5 s")},
        {CAMERA_CPU: {}},
        {CAMERA_CPU: {"n.one": "NaN", "n.two": "-1", "n.three": "x"}},
    ],
    ids=lambda bad: str(next(iter(bad.items())))[:60],
)
async def test_bad_news_moves_nothing(bad: dict[str, Any]) -> None:
    world = loaded_world()
    await world.read(8, **NEWS)
    assert world.balancer.proposal() is None  # not for long enough
    for _ in range(20):
        await world.read(1, **bad)
        assert world.balancer.proposal() is None
    if NODE_CPU in bad:
        assert world.balancer.placement_for("n.new", CPU_POD) == ANYWHERE
        assert world.balancer.describe()["why"] == "the load of no node is known"
    await world.read(10, **NEWS)  # and afterwards it goes on
    assert world.balancer.proposal() is not None


async def test_what_was_proposed_is_taken_back_when_there_is_no_news() -> None:
    world = loaded_world()
    await world.read(**NEWS)
    assert world.balancer.proposal() is not None
    await world.read(1, node_cpu=PrometheusError(TIMEOUT, "no answer within 5 s"))
    assert world.balancer.proposal() is None
    assert world.balancer.describe()["problems"] == {"node_cpu": "PrometheusTimeout: no answer within 5 s"}
    await world.read(1, **NEWS)
    assert world.balancer.describe()["problems"] == {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda world: world.nodes.clear(), "nodes are not known"),
        (lambda world: world.balancer.avoid({"a"}), "no node is loaded"),
        (lambda world: world.balancer.avoid({"b"}), "a: no other node is free"),
    ],
)
async def test_why_nothing_is_proposed(change: Callable[[World], object], why: str) -> None:
    world = loaded_world()
    change(world)
    await world.read(**NEWS)
    assert world.balancer.proposal() is None
    assert world.balancer.describe()["why"] == why


async def test_without_a_server_it_does_nothing() -> None:
    balancer = Balancer(None, nodes=lambda: cluster("a"), cameras=lambda: [])
    await balancer.tick()
    assert balancer.placement_for("n.new", CPU_POD) == ANYWHERE
    assert balancer.describe()["why"] == "no Prometheus server is configured"
    assert balancer.loads() == {}


async def test_relief_can_be_off_while_preferences_are_on() -> None:
    world = loaded_world(relief=False)
    await world.read(**NEWS)
    assert world.balancer.proposal() is None
    assert world.balancer.placement_for("n.new", CPU_POD).avoid_loaded == ("host-a",)
    assert world.balancer.describe()["why"] == "relief is off"


async def test_one_query_per_resource_and_reading() -> None:
    world = loaded_world()
    await world.read(5, **NEWS)
    assert set(world.server.asked.values()) == {5}
    assert len(world.server.asked) == 4


# ── Many at once ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_crowd_of_new_cameras_does_not_run_to_one_node() -> None:
    """Readings are half a minute old: what was placed since then counts as well."""
    nodes = cluster(*(f"n{i}" for i in range(6)))
    world = World(nodes)
    shares = {"n0": 0.1, "n1": 0.2, "n2": 0.25, "n3": 0.5, "n4": 0.6, "n5": 0.7}
    await world.read(3, node_cpu=shares, camera_cpu={"n.old": 1.0})
    first: list[str] = []
    for number in range(60):
        placement = world.balancer.placement_for(f"n.c{number}", CPU_POD)
        first.append(placement.prefer[0] if placement.prefer else "")
    named = Counter(filter(None, first))
    assert first[0] == "host-n0"
    assert set(named) == {"host-n0", "host-n1", "host-n2"}
    assert max(named.values()) < 10
    assert not any(first[30:])  # in the end one is as good as another
    # They are placed, the reading does not show them yet, and the next one does not go where they are.
    world.cameras = [CameraLoad(f"n.c{number}", "n0", age=10.0) for number in range(8)]
    await world.read(1)
    assert "host-n0" not in world.balancer.placement_for("n.next", CPU_POD).prefer
    # A minute later nobody knows where the others went: they do not count any more.
    world.cameras = []
    await world.read(6)
    assert world.balancer.placement_for("n.next", CPU_POD).prefer[0] == "host-n0"


async def test_asking_twice_for_one_camera_counts_once() -> None:
    world = World(cluster("a", "b"))
    await world.read(3, node_cpu={"a": 0.1, "b": 0.5})
    answers = {world.balancer.placement_for("n.same", CPU_POD).reason for _ in range(50)}
    assert len(answers) <= 2


async def test_nodes_that_the_pod_cannot_run_on_are_not_preferred() -> None:
    taint = (Taint("node-role.kubernetes.io/control-plane", "NoSchedule"),)
    world = World(cluster(Node("master", hostname="master", taints=taint), "a", "b"))
    await world.read(3, node_cpu={"master": 0.01, "a": 0.3, "b": 0.6})
    assert world.balancer.placement_for("n.new", CPU_POD).prefer == ("host-a",)


async def test_a_gpu_is_looked_for_where_one_is() -> None:
    gpus = {"nvidia.com/gpu": 4}
    world = World(
        cluster(Node("g1", hostname="g1", resources=gpus), Node("g2", hostname="g2", resources=gpus), "a")
    )
    await world.read(3, node_cpu={"g1": 0.2, "g2": 0.3, "a": 0.1}, node_gpu={"g1": 0.95, "g2": 0.2})
    on_gpu = world.balancer.placement_for("n.new", GPU_POD)
    assert on_gpu.reason == "avoids g1 (CPU 20 %, GPU 95 %); prefers g2 (CPU 30 %, GPU 20 %)"
    assert world.balancer.loads()["g1"] == {"cpu": 0.2, "gpu": 0.95}


# ── Whose series is it? ─────────────────────────────────────────────────────────────────────────────────

NAMED = NodeNames(
    cluster(
        Node("ip-10-0-0-1.internal", hostname="ip-10-0-0-1", addresses=("10.0.0.1", "fd00::1")),
        Node("b", hostname="twin", addresses=("10.0.0.2",)),
        Node("c", hostname="twin", addresses=("10.0.0.3",)),
    )
)


@pytest.mark.parametrize(
    ("labels", "node"),
    [
        ({"node": "b"}, "b"),
        ({"node": "ip-10-0-0-1"}, "ip-10-0-0-1.internal"),
        ({"Hostname": "c", "instance": "10.1.0.9:9400"}, "c"),
        ({"kubernetes_node": "b"}, "b"),
        ({"nodename": "b"}, "b"),
        ({"instance": "10.0.0.1:9100"}, "ip-10-0-0-1.internal"),
        ({"instance": "10.0.0.1"}, "ip-10-0-0-1.internal"),
        ({"instance": "[fd00::1]:9100"}, "ip-10-0-0-1.internal"),
        ({"instance": "fd00::1"}, "ip-10-0-0-1.internal"),
        ({"instance": "b:9100"}, "b"),
        ({"node": "unknown", "instance": "10.0.0.2:9100"}, "b"),
        ({"node": "b", "instance": "10.0.0.3:9100"}, "b"),  # the surest label counts
        ({"node": "twin"}, None),  # of two
        ({"instance": "10.0.0.9:9100"}, None),
        ({"instance": ""}, None),
        ({}, None),
    ],
)
def test_the_node_of_a_series(labels: dict[str, str], node: str | None) -> None:
    assert NAMED.of(labels) == node


@pytest.mark.parametrize(
    ("values", "share"),
    [
        (["0.5"], 0.5),
        (["0.5", "0.55"], 0.55),  # two exporters
        (["0.5", "0.9"], None),  # not of one node
        (["0.5", "NaN"], 0.5),
        (["1.02"], 1.0),
        (["-0.005"], 0.0),
        (["1.5"], None),
        (["42"], None),
        (["-0.5"], None),
        (["Inf"], None),
        (["many"], None),
    ],
)
def test_shares(values: list[str], share: float | None) -> None:
    found = node_shares([({"node": "b"}, value) for value in values], NAMED)
    assert found == ({} if share is None else {"b": share})


def test_cores_of_cameras() -> None:
    assert camera_cores(
        [
            ({"namespace": "n", "camera": "a"}, "0.5"),
            ({"namespace": "camfleet", "exported_namespace": "n", "camera": "b"}, "0.25"),
            ({"namespace": "n", "camera": "a"}, "0.75"),
            ({"namespace": "n"}, "1"),
            ({"camera": "a"}, "1"),
            ({"namespace": "n", "camera": "c"}, "NaN"),
        ]
    ) == {"n.a": 0.75, "n.b": 0.25}


def test_every_default_query_is_sound() -> None:
    for selector in ("", 'cluster="east"'):
        for query in load_queries({"selector": selector}).values():
            assert query.count("(") == query.count(")")
            assert "%s" not in query and "{}" not in query and "{," not in query and ",," not in query
            assert query.count(selector) >= 1
    assert load_queries({"node_gpu": "mine"})[NODE_GPU] == "mine"
