"""Which camera leaves a loaded node, and why none does."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from tests.operator_cluster.load_cluster import Node, cluster, settled

from camfleet_operator.cluster.balance.eligibility import Constraints, Taint, read_constraints
from camfleet_operator.cluster.balance.load import LoadBook, NodeLoad, Resource
from camfleet_operator.cluster.balance.relief import COOLDOWN_SECONDS, LOADED_SECONDS, Relief
from camfleet_operator.cluster.balance.relief_simulation import SETTLED_SECONDS, CameraLoad, ReliefProposal

GPU = read_constraints({"containers": [{"name": "w", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}, "w")


def cameras(*placed: tuple[str, str, float], **options: Any) -> list[CameraLoad]:
    """Cameras as (key, node, cores)."""
    return [CameraLoad(key, node, cpu, **options) for key, node, cpu in placed]


def propose(loads: dict[str, Any], on: list[CameraLoad], **options: Any) -> tuple[str, str] | str:
    """Camera and target of the proposal, or why there is none. Nodes have 16 cores."""
    relief = Relief()
    nodes = options.pop("nodes", cluster(*loads))
    found = relief.relieve(0.0, nodes, settled(**loads), on, **options)
    return relief.why if found is None else (found.camera, found.target)


BUSY = {"a": 0.95, "b": 0.4, "c": 0.3}
THREE = cameras(("n.one", "a", 0.8), ("n.two", "a", 2.4), ("n.three", "a", 4.0))
"""5, 15 and 25 % of a node."""


@pytest.mark.parametrize(
    ("loads", "on", "options", "expected"),
    [
        (BUSY, THREE, {}, ("n.two", "c")),  # 80 %: enough, and no more than that
        (BUSY, cameras(("n.one", "a", 0.8), ("n.big", "a", 4.8)), {}, ("n.big", "c")),
        (BUSY, cameras(("n.one", "a", 1.0)), {}, ("n.one", "c")),  # 89 %: below the mark
        (BUSY, cameras(*((f"n.{i}", "a", 0.32) for i in range(9))), {}, ("n.0", "c")),  # the first of three
        (BUSY, cameras(("n.one", "a", 0.32)), {}, "a: moving 1 of its cameras would not be enough"),
        (BUSY, cameras(*((f"n.{i:02d}", "a", 0.016) for i in range(90))), {},
         "a: even 12 moves would not be enough"),
        (BUSY, [], {}, "a: there is no camera on it"),
        (BUSY, cameras(("n.one", "a", 8.0)), {},
         "a: none of its cameras can go: 1 without a node that has room"),
        (BUSY, THREE, {"avoid": {"c"}}, ("n.two", "b")),
        (BUSY, THREE, {"avoid": {"b", "c"}}, "a: no other node is free"),
        (BUSY, THREE, {"avoid": {"a"}}, "no node is loaded"),
        (BUSY, THREE, {"extra": {"c": 0.3}}, ("n.two", "b")),  # others are on their way there
        (BUSY, [replace(camera, healthy=camera.key != "n.two") for camera in THREE], {}, ("n.three", "c")),
        (BUSY, [replace(camera, movable=camera.key == "n.one") for camera in THREE], {}, ("n.one", "c")),
        (BUSY, [replace(camera, cpu=None) for camera in THREE], {},
         "a: none of its cameras can go: 3 of unknown cost"),
        (BUSY, [replace(camera, since_move=SETTLED_SECONDS - 1) for camera in THREE], {},
         "a: none of its cameras can go: 3 moved lately"),
        (BUSY, [replace(camera, since_move=SETTLED_SECONDS, from_node="c") for camera in THREE], {},
         ("n.two", "b")),
        (BUSY, [replace(camera, since_move=9 * 3600, from_node="c") for camera in THREE], {}, ("n.two", "c")),
        ({"a": 0.95, "b": 0.92}, THREE, {}, "a: no other node is free; b: no other node is free"),
        ({"a": 0.95, "b": 0.66}, THREE, {},
         "a: none of its cameras can go: 3 without a node that has room"),
        (BUSY, [replace(THREE[0], healthy=False), replace(THREE[1], movable=False)], {},
         "a: none of its cameras can go: 1 may not be moved, 1 not well"),
        ({"a": 0.95}, THREE, {}, "a: no other node is free"),
        ({"a": 0.85, "b": 0.1}, THREE, {}, "no node is loaded"),
        ({}, THREE, {}, "no node is loaded"),
        ({"a": NodeLoad(gpu=0.95), "b": 0.1}, THREE, {},
         "a: none of its cameras can go: 3 of unknown cost"),  # none of them is on a GPU
    ],
)  # fmt: skip
def test_proposals(
    loads: dict[str, Any], on: list[CameraLoad], options: dict[str, Any], expected: tuple[str, str] | str
) -> None:
    assert propose(loads, on, **options) == expected
    assert propose(loads, on[::-1], **options) == expected  # whatever the order


@pytest.mark.parametrize(
    ("ticks", "why"),
    [(2, "no node is loaded"), (3, "a: loaded for 0 s only"), (8, "a: loaded for 150 s only")],
)
def test_nothing_is_done_in_haste(ticks: int, why: str) -> None:
    relief = Relief()
    assert relief.relieve(0.0, cluster(*BUSY), settled(ticks, **BUSY), THREE) is None
    assert relief.why == why
    assert relief.relieve(0.0, cluster(*BUSY), settled(9, **BUSY), THREE) is not None
    assert LOADED_SECONDS == 180


def test_a_node_that_recovers_by_itself_is_left_alone() -> None:
    book = LoadBook()
    for number, value in enumerate([0.95] * 12 + [0.85] * 3):
        book.observe(30.0 * number, {"a": NodeLoad(cpu=value), "b": NodeLoad(cpu=0.1)})
    relief = Relief()
    assert relief.relieve(420.0, cluster("a", "b"), book.states(420.0), THREE) is None
    assert relief.why == "a: CPU 85 % is below the high mark again"


def test_what_is_promised_is_said() -> None:
    relief = Relief()
    found = relief.relieve(0.0, cluster(*BUSY), settled(**BUSY), THREE)
    assert found is not None
    assert found.message == "a is loaded (CPU 95 %); without n.two it would be at 80 %, and c at 45 %"
    assert (found.source_before, found.target_before) == (0.95, 0.3)
    assert relief.why == found.message
    several = relief.relieve(
        0.0, cluster(*BUSY), settled(**BUSY), cameras(*((f"n.{i}", "a", 0.32) for i in range(9)))
    )
    assert several is not None
    assert several.message.endswith(", the first of 3 moves")


@pytest.mark.parametrize(
    ("constraints", "target", "expected"),
    [
        (Constraints(), Node("b"), True),
        (Constraints(), Node("b", taints=(Taint("control-plane", "NoSchedule"),)), False),
        (read_constraints({"nodeSelector": {"zone": "x"}}, "w"), Node("b"), False),
        (read_constraints({"nodeSelector": {"zone": "x"}}, "w"), Node("b", labels={"zone": "x"}), True),
        (GPU, Node("b", resources={"nvidia.com/gpu": 2}), True),
        (GPU, Node("b", resources={"nvidia.com/gpu": 1}), False),  # taken by n.other
        (GPU, Node("b"), False),
    ],
)
def test_a_target_has_to_be_possible(constraints: Constraints, target: Node, expected: bool) -> None:
    on = [
        CameraLoad("n.one", "a", 2.4, constraints),
        *([CameraLoad("n.other", "b", 0.1, constraints)] if constraints.gpu else []),
    ]
    loads = {"a": NodeLoad(cpu=0.95, gpu=0.3), "b": NodeLoad(cpu=0.2, gpu=0.3)}
    found = propose(loads, on, nodes=cluster("a", target))
    assert (found == ("n.one", "b")) is expected


def test_a_shared_gpu_is_relieved_as_well() -> None:
    nodes = cluster(*(Node(name, resources={"nvidia.com/gpu": 8}) for name in "ab"))
    on = cameras(*((f"n.{i}", "a", 0.1) for i in range(4)), constraints=GPU)
    loads = {"a": NodeLoad(cpu=0.2, gpu=0.96), "b": NodeLoad(cpu=0.2, gpu=0.3)}
    relief = Relief()
    found = relief.relieve(0.0, nodes, settled(**loads), on)
    assert found is not None
    assert (found.camera, found.target, found.resource) == ("n.0", "b", Resource.GPU)
    assert found.source_after == pytest.approx(0.72)
    assert found.target_after == pytest.approx(0.54)


# ── What becomes of it ──────────────────────────────────────────────────────────────────────────────────


@dataclass
class Story:
    """One relief and what follows; readings say what the test says."""

    loads: dict[str, float]
    on: list[CameraLoad]
    now: float = 0.0
    relief: Relief = field(default_factory=Relief)
    book: LoadBook = field(default_factory=LoadBook)

    def wait(self, seconds: float) -> ReliefProposal | None:
        """Half a minute after the other; the last proposal."""
        found = None
        for _ in range(int(seconds / 30)):
            self.now += 30.0
            self.book.observe(self.now, {name: NodeLoad(cpu=load) for name, load in self.loads.items()})
            found = self.relief.relieve(self.now, cluster(*self.loads), self.book.states(self.now), self.on)
        return found

    def move(self, proposal: ReliefProposal, node: str | None = None) -> None:
        """Carry it out at once; the camera's pod is on `node` now, the target if not said."""
        self.relief.moved(self.now, proposal)
        self.put(proposal.camera, node=node or proposal.target, age=0.0, since_move=0.0)

    def put(self, key: str, **changes: Any) -> None:
        self.on = [replace(camera, **changes) if camera.key == key else camera for camera in self.on]


def begun() -> tuple[Story, ReliefProposal]:
    story = Story(dict(BUSY), list(THREE))
    found = story.wait(300)
    assert found is not None
    return story, found


def test_one_at_a_time_until_it_streams_again() -> None:
    story, found = begun()
    story.relief.moved(story.now, found)  # its old pod is still there
    assert story.wait(30) is None
    assert story.relief.why == "n.two is on its way"
    story.put(found.camera, node="")
    story.wait(30)
    assert story.relief.in_flight("n.two") is not None
    story.put(found.camera, node="c", age=5.0, healthy=False)
    story.wait(30)
    assert story.relief.why == "n.two is on its way"
    story.put(found.camera, healthy=True, age=35.0)
    story.wait(30)
    assert story.relief.why == "a: rests after the last move"
    assert story.relief.in_flight("n.two") is None


def test_a_camera_that_never_arrives_does_not_block_for_ever() -> None:
    story, found = begun()
    story.relief.moved(story.now, found)
    story.put(found.camera, node="")
    assert story.wait(300) is not None


def test_another_replica_knows_of_a_move_by_its_status() -> None:
    story, found = begun()
    story.put(found.camera, node="c", age=30.0, since_move=40.0, from_node="a", relieved=True, healthy=False)
    story.relief = Relief()
    assert story.wait(30) is None
    assert story.relief.why == "n.two is on its way"
    story.put(found.camera, healthy=True)
    assert story.wait(30) is None
    assert story.relief.why == "a: rests after the last move"


def test_both_ends_rest_and_the_next_move_follows_if_it_has_to() -> None:
    story, found = begun()
    story.move(found)
    story.loads["a"] = 0.91
    assert story.wait(COOLDOWN_SECONDS - 30) is None
    again = story.wait(60)
    assert again is not None
    assert again.source == "a"


def test_a_move_that_did_not_help_is_not_repeated_for_long() -> None:
    story, found = begun()
    story.move(found)
    story.loads["a"] = 0.94  # 15 % were promised
    assert story.wait(600) is None
    assert story.relief.why.startswith("a: left alone for 2")
    assert story.relief.why.endswith("that n.two left did not help")
    assert story.wait(1800) is not None


def test_a_node_that_is_used_up_is_relieved_on() -> None:
    """Whoever gets all of it wants more than that: a load that does not fall is no sign of failure."""
    story, found = begun()
    story.loads["a"] = 1.0
    story.move(found)
    assert story.wait(COOLDOWN_SECONDS + 30) is not None


def test_a_camera_that_is_put_back_ends_it_for_longer_and_longer() -> None:
    story = Story(dict(BUSY), list(THREE))
    at: list[float] = []
    for _ in range(8 * 120):  # eight hours
        if (found := story.wait(30)) is not None:
            at.append(story.now)
            story.move(found, node="a")
            for camera in story.on:
                story.put(camera.key, since_move=99_999.0, age=0.0)
    assert 3 <= len(at) <= 6
    gaps = [later - sooner for sooner, later in pairwise(at)]
    assert gaps == sorted(gaps)
    assert gaps[0] >= 1800


# ── Hours of a fleet ────────────────────────────────────────────────────────────────────────────────────


class Fleet:
    """A cluster whose load is what its cameras and others take, and whose scheduler may do as it likes."""

    def __init__(self, seed: int, *, nodes: int = 20, per_node: int = 6) -> None:
        self.random = random.Random(seed)
        self.nodes = cluster(*(Node(f"n{i:02d}", hostname=f"n{i:02d}") for i in range(nodes)))
        self.cpu = {f"c{i:03d}": self.random.uniform(0.1, 1.6) for i in range(nodes * per_node)}
        self.place = {key: self.random.choice(list(self.nodes)) for key in self.cpu}
        self.others = dict.fromkeys(self.nodes, 0.1)
        self.noise = 0.0
        self.moved_at: dict[str, float] = {}
        self.came_from: dict[str, str] = {}
        self.moves: list[tuple[float, str, str, str]] = []
        """When, which camera, from where, where to."""
        self.now = 0.0
        self.relief, self.book = Relief(), LoadBook()
        self.shown: list[dict[str, float]] = []

    def load(self, name: str) -> float:
        taken = sum(self.cpu[key] for key, node in self.place.items() if node == name)
        return min(1.0, taken / self.nodes[name].cpu_cores + self.others[name])

    def crowd(self, name: str, load: float) -> None:
        """Put more cameras on a node until it is loaded so much, and other things too."""
        self.others[name] = 0.5
        while self.load(name) < load:
            free = sorted(key for key, node in self.place.items() if self.others[node] < 0.5)
            self.place[self.random.choice(free)] = name

    def run(self, hours: float) -> None:
        """Readings lag two minutes behind, and are noisy."""
        for _ in range(int(hours * 120)):
            self.now += 30.0
            self.shown.append({name: self.load(name) for name in self.nodes})
            recent = self.shown[-4:]
            readings = {
                name: NodeLoad(cpu=self._blur(sum(then[name] for then in recent) / len(recent)))
                for name in self.nodes
            }
            self.book.observe(self.now, readings)
            found = self.relief.relieve(
                self.now, self.nodes, self.book.states(self.now), map(self._camera, self.cpu)
            )
            if found is not None:
                self._carry_out(found)

    def overloaded(self) -> set[str]:
        return {name for name in self.nodes if self.load(name) >= 0.9}

    def check(self) -> None:
        """What must hold whatever happens."""
        last: dict[str, tuple[float, str]] = {}
        ends: dict[str, float] = {}
        for at, key, source, target in self.moves:
            if key in last:
                assert at - last[key][0] >= SETTLED_SECONDS, f"{key} was moved twice within half an hour"
                assert target != last[key][1], f"{key} went back to where it came from"
            for node in (source, target):
                assert at - ends.get(node, -1e9) >= COOLDOWN_SECONDS, f"{node} got no rest"
                ends[node] = at
            last[key] = (at, source)

    def _blur(self, value: float) -> float:
        return min(1.0, max(0.0, value + self.random.uniform(-self.noise, self.noise)))

    def _camera(self, key: str) -> CameraLoad:
        since = self.now - self.moved_at.get(key, -1e9)
        return CameraLoad(
            key,
            self.place[key],
            self.cpu[key],
            age=since,
            since_move=since,
            from_node=self.came_from.get(key, ""),
        )

    def _carry_out(self, proposal: ReliefProposal) -> None:
        self.relief.moved(self.now, proposal)
        key = proposal.camera
        assert self.place[key] == proposal.source
        self.moves.append((self.now, key, proposal.source, proposal.target))
        self.place[key], self.moved_at[key] = proposal.target, self.now
        self.came_from[key] = proposal.source


@pytest.mark.parametrize("seed", range(4))
def test_a_fleet_comes_to_rest(seed: int) -> None:
    fleet = Fleet(seed)
    fleet.noise = 0.03
    for name in fleet.random.sample(sorted(fleet.nodes), 4):
        fleet.crowd(name, 0.92)
    assert len(fleet.overloaded()) == 4
    fleet.run(3)
    before = len(fleet.moves)
    assert 4 <= before <= 16
    fleet.run(1)
    fleet.check()
    assert fleet.overloaded() == set()
    assert len(fleet.moves) == before


def test_loads_that_wander_for_hours_move_little() -> None:
    fleet = Fleet(7)
    fleet.noise = 0.05
    for _ in range(12):  # every half hour other nodes are busy
        for name in fleet.nodes:
            fleet.others[name] = fleet.random.choice([0.05, 0.1, 0.2, 0.4, 0.6])
        fleet.run(0.5)
    fleet.check()
    assert 5 <= len(fleet.moves) <= 60


def test_where_all_is_full_nothing_moves() -> None:
    fleet = Fleet(3)
    fleet.others = dict.fromkeys(fleet.nodes, 0.9)
    fleet.run(2)
    assert fleet.overloaded() == set(fleet.nodes)
    assert fleet.moves == []


@pytest.mark.parametrize("seed", range(3))
def test_noise_around_the_mark_moves_next_to_nothing(seed: int) -> None:
    fleet = Fleet(seed)
    fleet.noise = 0.08
    name = sorted(fleet.nodes)[0]
    fleet.others[name] += 0.9 - fleet.load(name)
    fleet.run(3)
    fleet.check()
    assert len(fleet.moves) <= 3


def test_the_same_fleet_moves_the_same_cameras() -> None:
    runs = []
    for _ in range(2):
        fleet = Fleet(11)
        fleet.others = {name: 0.5 if number < 5 else 0.1 for number, name in enumerate(fleet.nodes)}
        fleet.run(2)
        runs.append(fleet.moves)
    assert runs[0] == runs[1]
    assert runs[0]
