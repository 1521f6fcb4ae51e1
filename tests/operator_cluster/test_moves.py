"""What is moved and when: tables of single decisions, then half hours on a simulated clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from camfleet_operator.cluster.health.budget import TokenBucket
from camfleet_operator.cluster.health.faults import CameraFacts, Fault, NodeFacts, NodeState, attribute
from camfleet_operator.cluster.health.moves import Mover
from camfleet_operator.cluster.health.orders import Act, Moved, MoveFacts, Order, Policy, Relief
from camfleet_operator.cluster.health.verdicts import Evidence, Health, Verdict

WELL = Health(Verdict.HEALTHY, True, True, 0.1, True, "Streaming")
GONE = Health(Verdict.UNHEALTHY, False, None, None, False, "WorkerNotConnected", "the worker is gone")
HUNG = Health(Verdict.UNHEALTHY, True, True, 0.1, True, "InferenceStalled", "it hangs")
STALLED = Health(Verdict.UNHEALTHY, True, True, 30.0, False, "Stalled")
REFUSED = Health(Verdict.UNHEALTHY, True, False, None, False, "SourceRefused")
WAITING = Health(Verdict.UNHEALTHY, True, False, None, False, "WaitingForFirstFrame")
UNKNOWN = Health(Verdict.UNKNOWN, None, None, None, None, "GatewayUnreachable")
T0 = 1_000_000.0


# ── Whose fault ─────────────────────────────────────────────────────────────────────────────────────────


def seen(
    key: str, node: str, health: Health | None, readings: int = 3, established: bool = True
) -> CameraFacts:
    evidence = (
        Evidence(health, readings if health.verdict is Verdict.UNHEALTHY else 0, 0.0, 20.0)
        if health
        else None
    )
    return CameraFacts(key, node, evidence, established)


@pytest.mark.parametrize(
    ("health", "established", "fault"),
    [
        (WELL, True, Fault.NONE),
        (None, True, Fault.STARTING),
        (UNKNOWN, True, Fault.BLIND),
        (REFUSED, True, Fault.SOURCE),
        (STALLED, True, Fault.SOURCE),
        (WAITING, True, Fault.STARTING),
        (GONE, False, Fault.STARTING),
        (GONE, True, Fault.WORKER),
        (HUNG, True, Fault.WORKER),
    ],
)
def test_a_single_camera(health: Health | None, established: bool, fault: Fault) -> None:
    others = [seen(f"ns.well-{n}", "a", WELL) for n in range(3)]
    found = attribute([seen("ns.x", "a", health, established=established), *others], {})
    assert found.faults["ns.x"] is fault
    assert {found.faults[other.key] for other in others} == {Fault.NONE}


@pytest.mark.parametrize(
    ("healths", "late", "state", "faults"),
    [
        # All gone and the Lease late: dead, at the first reading.
        ([GONE, GONE], True, NodeState.DEAD, [Fault.NODE, Fault.NODE]),
        ([GONE], True, NodeState.DEAD, [Fault.NODE]),
        # A worker that streams, or of which nothing is known, contradicts that.
        ([GONE, WELL], True, NodeState.SUSPECT, [Fault.WORKER, Fault.NONE]),
        ([GONE, UNKNOWN], True, NodeState.SUSPECT, [Fault.WORKER, Fault.BLIND]),
        ([GONE, REFUSED], True, NodeState.SUSPECT, [Fault.WORKER, Fault.SOURCE]),
        # A late Lease alone, or one that cannot be read, is nothing.
        ([WELL, WELL], True, NodeState.SUSPECT, [Fault.NONE, Fault.NONE]),
        ([GONE], None, NodeState.HEALTHY, [Fault.WORKER]),
        # Several bad together are the node's fault even if the kubelet answers.
        ([GONE, GONE], False, NodeState.FAULTY, [Fault.NODE, Fault.NODE]),
        ([HUNG, HUNG, HUNG, WELL, WELL], False, NodeState.FAULTY, [Fault.NODE] * 3 + [Fault.NONE] * 2),
        ([HUNG, HUNG, WELL], False, NodeState.HEALTHY, [Fault.WORKER, Fault.WORKER, Fault.NONE]),
        ([HUNG, HUNG, HUNG, *[WELL] * 4], False, NodeState.HEALTHY, [Fault.WORKER] * 3 + [Fault.NONE] * 4),
        # Sources that fail are no fault of the node's, however many.
        ([REFUSED, STALLED, REFUSED], False, NodeState.HEALTHY, [Fault.SOURCE] * 3),
    ],
)
def test_a_node(healths: list[Health], late: bool | None, state: NodeState, faults: list[Fault]) -> None:
    cameras = [seen(f"ns.c{n}", "a", health) for n, health in enumerate(healths)]
    found = attribute(cameras, {"a": NodeFacts("a", lease_late=late)})
    assert found.nodes["a"].state is state
    assert [found.faults[camera.key] for camera in cameras] == faults


def test_several_must_be_sure_before_it_is_the_node() -> None:
    cameras = [seen(f"ns.c{n}", "a", GONE, readings=2) for n in range(3)]
    found = attribute(cameras, {"a": NodeFacts("a", lease_late=False)})
    assert found.nodes["a"].state is NodeState.SUSPECT
    assert set(found.faults.values()) == {Fault.WORKER}


def test_what_starts_on_a_dead_node_is_moved_with_the_rest() -> None:
    cameras = [seen("ns.old", "a", GONE), seen("ns.new", "a", None)]
    found = attribute(cameras, {"a": NodeFacts("a", lease_late=True)})
    assert found.faults == {"ns.old": Fault.NODE, "ns.new": Fault.NODE}


# ── The bucket ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_bucket_remembers_what_was_spent_before_a_restart() -> None:
    bucket = TokenBucket(1.0, 10, now=100.0)
    bucket.replay([40.0, 98.0, 96.0], now=100.0)
    assert bucket.tokens(100.0) == pytest.approx(2.0)
    assert bucket.take(100.0, 2.0)
    assert not bucket.take(100.0)
    assert bucket.take(101.0)
    bucket.replay([], now=200.0)
    assert bucket.tokens(200.0) == 10
    bucket.replay([150.0], now=200.0)
    assert bucket.tokens(200.0) == 10


# ── A fleet on a simulated clock ────────────────────────────────────────────────────────────────────────


@dataclass
class Fleet:
    """Cameras with pods on nodes; a move puts the camera on the next node that is not avoided."""

    policy: Policy = field(default_factory=Policy)
    now: float = 0.0
    facts: dict[str, MoveFacts] = field(default_factory=dict)
    nodes: dict[str, NodeFacts] = field(default_factory=dict)
    sick: dict[str, Health] = field(default_factory=dict)
    """What is read of a camera that is not well."""
    bad_since: dict[str, float] = field(default_factory=dict)
    readings: dict[str, int] = field(default_factory=dict)
    clock_step: float = 0.0
    """By how much the wall clock was set."""
    moves: list[tuple[float, Order]] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    """Cameras that no gateway has that answers."""
    blind: tuple[str, str] | None = None
    paused: str = ""
    relief: Relief | None = None
    pods: int = 0
    carry_out: bool = True

    def __post_init__(self) -> None:
        self.mover = Mover(self.policy, self.now)

    @property
    def wall(self) -> float:
        return T0 + self.now + self.clock_step

    def add_nodes(self, *names: str, zone: str = "") -> None:
        for name in names:
            self.nodes[name] = NodeFacts(name, zone, lease_late=False)

    def add(self, key: str, node: str, **facts: object) -> None:
        made = MoveFacts(key, node, f"{key}-0", True, None, ready_since=self.wall, created_at=self.wall)
        self.facts[key] = replace(made, **facts)  # type: ignore[arg-type]

    def kill(self, node: str) -> None:
        """Its workers are gone, and its Lease is late."""
        self.nodes[node] = replace(self.nodes[node], lease_late=True)
        for camera in self.facts.values():
            if camera.node == node:
                self.sick[camera.key] = GONE

    def read(self) -> None:
        """Take a reading of all cameras."""
        for key, camera in self.facts.items():
            health = self.sick.get(key, WELL)
            if health.verdict is Verdict.UNHEALTHY:
                self.readings[key] = self.readings.get(key, 0) + 1
                self.bad_since.setdefault(key, self.now)
            else:
                self.readings[key] = 0
                self.bad_since.pop(key, None)
            since = self.bad_since.get(key, self.now)
            evidence = Evidence(health, self.readings[key], since, self.now, absent=key in self.absent)
            self.facts[key] = replace(camera, evidence=evidence)

    def tick(self) -> list[Order]:
        outcome = self.mover.tick(
            self.now,
            self.wall,
            list(self.facts.values()),
            self.nodes,
            blind=self.blind,
            paused=self.paused,
            relief=self.relief,
        )
        if self.carry_out:
            for order in outcome.orders:
                self._carry_out(order)
        return list(outcome.orders)

    def _carry_out(self, order: Order) -> None:
        self.moves.append((self.now, order))
        self.mover.carried_out(order.key, order)
        avoided = self.mover.avoid(order.key, self.wall)
        here = self.facts[order.key]
        alive = [name for name in sorted(self.nodes) if not self.nodes[name].lease_late]
        target = next((name for name in alive if name not in avoided), alive[0] if alive else here.node)
        self.pods += 1
        last = Moved(order.at, order.reason.value, order.from_node, order.count, order.request)
        self.facts[order.key] = replace(
            here,
            node=target,
            pod_uid=f"{order.key}-{self.pods}",
            last=last,
            evidence=None,
            ready_since=0.0,
            created_at=self.wall,
            running=True,
        )
        self.readings[order.key] = 0
        self.bad_since.pop(order.key, None)
        if self.nodes[order.from_node].lease_late:
            self.sick.pop(order.key, None)
            self.absent.discard(order.key)

    def run(self, seconds: float, *, every: float = 10.0) -> None:
        """Read every ten seconds, decide every second."""
        end = self.now + seconds
        while self.now < end:
            if self.now % every == 0:
                self.read()
            self.tick()
            self.now += 1.0

    def restart(self) -> None:
        """Another process decides from now on: it has the statuses, and nothing else."""
        self.mover = Mover(self.policy, self.now)

    def moved(self, key: str) -> list[str]:
        return [order.reason.value for _, order in self.moves if order.key == key]


def fleet_of(nodes: int, cameras: int, **policy: object) -> Fleet:
    fleet = Fleet(policy=Policy(**policy))  # type: ignore[arg-type]
    names = [f"n{n:03}" for n in range(nodes)]
    fleet.add_nodes(*names)
    for n in range(cameras):
        fleet.add(f"ns.c{n:04}", names[n % nodes])
    fleet.run(20)
    assert fleet.moves == []
    return fleet


def test_a_wedged_worker_is_moved_after_three_bad_readings_and_not_before() -> None:
    fleet = fleet_of(4, 8)
    fleet.sick["ns.c0001"] = GONE
    fleet.run(20)
    assert fleet.moves == []
    assert fleet.mover.decision("ns.c0001").act is Act.WAIT
    fleet.run(2)
    ((_, order),) = fleet.moves
    assert (order.reason.value, order.from_node, order.count, order.graceful) == (
        "WorkerFault",
        "n001",
        1,
        False,
    )
    assert fleet.facts["ns.c0001"].node != "n001"


def test_a_reading_in_between_begins_the_count_anew() -> None:
    fleet = fleet_of(4, 8)
    for _ in range(6):
        fleet.sick["ns.c0001"] = GONE
        fleet.run(20)
        del fleet.sick["ns.c0001"]
        fleet.run(10)
    assert fleet.moves == []


def test_quick_readings_do_not_hurry_a_move() -> None:
    fleet = fleet_of(4, 8)
    fleet.sick["ns.c0001"] = GONE
    fleet.run(14, every=2.0)
    assert fleet.moves == []
    fleet.run(6, every=2.0)
    assert len(fleet.moves) == 1


@pytest.mark.parametrize("health", [REFUSED, STALLED, UNKNOWN, WAITING])
def test_ten_minutes_without_a_source_or_without_knowledge_move_nothing(health: Health) -> None:
    fleet = fleet_of(4, 8)
    fleet.sick["ns.c0001"] = health
    fleet.run(600)
    assert fleet.moves == []


def test_a_dead_node_is_emptied_at_once_and_the_others_wait_for_their_token() -> None:
    fleet = fleet_of(20, 100)
    died = fleet.now
    for node in ("n000", "n001", "n002"):
        fleet.kill(node)
    fleet.run(60)
    assert {order.reason.value for _, order in fleet.moves} == {"NodeLost"}
    assert len(fleet.moves) == 15
    began = {}
    for at, order in fleet.moves:
        began.setdefault(order.from_node, at)
    starts = sorted(began.values())
    assert starts[0] - died <= 1
    assert [later - earlier >= 10 for earlier, later in pairwise(starts)] == [True, True]


def test_twenty_of_two_hundred_nodes_are_emptied_one_after_the_other_within_their_budget() -> None:
    fleet = fleet_of(200, 1000)
    lost = [f"n{n:03}" for n in range(20)]
    for node in lost:
        fleet.kill(node)
    died = fleet.now
    fleet.run(230)
    assert len(fleet.moves) == 100
    spans = {node: [at for at, order in fleet.moves if order.from_node == node] for node in lost}
    order_of_nodes = sorted(lost, key=lambda node: spans[node][0])
    for earlier, later in pairwise(order_of_nodes):
        assert spans[later][0] >= spans[earlier][0] + 10
        assert spans[earlier][-1] <= spans[later][0]
    assert max(at for at, _ in fleet.moves) - died <= 200 + 5
    assert all(fleet.facts[order.key].node not in lost for _, order in fleet.moves)
    per_second = max(sum(int(at) == second for at, _ in fleet.moves) for second in range(int(fleet.now)))
    assert per_second <= 10


def test_single_moves_keep_to_burst_and_rate() -> None:
    fleet = fleet_of(100, 300)
    for n in range(0, 100, 2):
        fleet.sick[f"ns.c{n:04}"] = HUNG  # one on each of fifty nodes
    fleet.run(22)
    assert len(fleet.moves) <= 12
    fleet.run(60)
    assert len({order.key for _, order in fleet.moves}) == 50
    times = [at for at, _ in fleet.moves]
    for start in range(int(fleet.now)):
        assert sum(start <= at < start + 10 for at in times) <= 20


def test_most_of_the_fleet_bad_at_once_moves_nothing_and_says_why() -> None:
    fleet = fleet_of(10, 50)
    for n in range(30):
        fleet.sick[f"ns.c{n:04}"] = GONE
    fleet.run(600)
    assert fleet.moves == []
    decision = fleet.mover.decision("ns.c0000")
    assert (decision.act, decision.cause) == (Act.HELD, "Frozen")
    assert "55%" in decision.message
    (frozen,) = fleet.mover.frozen()
    assert (frozen.scope, frozen.reason) == ("fleet", "FleetDisrupted")


def test_one_bad_node_of_two_or_one_that_is_its_zone_is_no_disaster() -> None:
    two = fleet_of(2, 8)
    zones = Fleet()
    for zone in ("east", "west", "north"):
        zones.add_nodes(f"{zone}0", zone=zone)
        for n in range(4):
            zones.add(f"ns.{zone}{n}", f"{zone}0")
    zones.run(20)
    for fleet, sick in ((two, "n000"), (zones, "east0")):
        for camera in fleet.facts.values():
            if camera.node == sick:
                fleet.sick[camera.key] = HUNG
        fleet.run(25)
        assert fleet.mover.frozen() == []
        assert {order.reason.value for _, order in fleet.moves} == {"NodeFault"}
        assert len({order.key for _, order in fleet.moves}) == 4


@pytest.mark.parametrize("sick", [6, 10])
def test_most_nodes_hanging_together_is_a_disaster_though_their_workers_are_connected(sick: int) -> None:
    fleet = fleet_of(10, 50)
    for camera in fleet.facts.values():
        if int(camera.node[1:]) < sick:
            fleet.sick[camera.key] = HUNG
    fleet.run(300)
    assert fleet.moves == []
    assert [frozen.scope for frozen in fleet.mover.frozen()] == ["fleet"]


def test_restarts_in_a_long_row_of_single_moves_give_none_for_nothing() -> None:
    fleet = fleet_of(60, 120)
    for n in range(60):
        fleet.sick[f"ns.c{n:04}"] = HUNG
    fleet.run(25)
    for _ in range(6):
        fleet.restart()
        fleet.run(5)
    times = [at for at, _ in fleet.moves]
    for start in range(int(fleet.now)):
        assert sum(start <= at < start + 10 for at in times) <= 20
    assert len(times) <= 10 + fleet.now - 40 + 1


def test_both_nodes_of_two_bad_is_one() -> None:
    fleet = fleet_of(2, 8)
    fleet.sick = dict.fromkeys(fleet.facts, GONE)
    fleet.run(120)
    assert fleet.moves == []
    assert [frozen.scope for frozen in fleet.mover.frozen()] == ["fleet"]


def test_where_no_node_is_alive_there_is_none_to_move_to() -> None:
    for count in (1, 10):
        fleet = fleet_of(count, 30)
        for node in list(fleet.nodes):
            fleet.kill(node)
        fleet.run(300)
        assert fleet.moves == []
        assert [frozen.reason for frozen in fleet.mover.frozen()] == ["AllNodesLost"]


def test_a_worker_that_keeps_ending_is_moved_though_it_never_came() -> None:
    fleet = fleet_of(4, 8)
    fleet.add("ns.new", "n000", ready_since=0.0, created_at=fleet.wall)
    fleet.sick["ns.new"] = GONE
    for _ in range(6):
        fleet.facts["ns.new"] = replace(fleet.facts["ns.new"], running=not fleet.facts["ns.new"].running)
        fleet.run(20)
    assert "WorkerFault" in fleet.moved("ns.new")
    looping = fleet_of(4, 8)
    looping.facts["ns.c0001"] = replace(looping.facts["ns.c0001"], running=False, crashing=True)
    looping.sick["ns.c0001"] = GONE
    looping.run(15)
    assert looping.moves == [], "the kubelet tries first"
    looping.run(5)
    assert looping.moved("ns.c0001") == ["WorkerFault"]


@pytest.mark.parametrize("before", [WELL, HUNG])
def test_while_its_image_is_pulled_a_worker_is_not_judged_by_the_one_before_it(before: Health) -> None:
    fleet = fleet_of(6, 12, start_grace=60.0)
    if before is not WELL:
        fleet.sick["ns.c0001"] = before
    fleet.read()
    new = replace(fleet.facts["ns.c0001"], pod_uid="new", running=False, created_at=fleet.wall)
    fleet.facts["ns.c0001"] = new
    fleet.tick()  # what was read last is of the worker before
    fleet.sick["ns.c0001"] = GONE
    fleet.run(300)
    assert fleet.moves == []
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], running=True)
    fleet.run(50)
    assert fleet.moves == [], "it has a minute to come"
    fleet.run(20)
    assert fleet.moved("ns.c0001") == ["WorkerFault"]


def test_what_arrives_on_a_node_that_is_dead_already_leaves_it_again() -> None:
    fleet = fleet_of(4, 8)
    fleet.kill("n000")
    fleet.run(20)
    fleet.add("ns.late", "n000", running=False, ready_since=0.0, created_at=fleet.wall)
    fleet.sick["ns.late"] = GONE
    fleet.run(20)
    assert fleet.moved("ns.late") == ["NodeLost"]


def test_a_gateway_that_died_with_the_node_does_not_hide_it() -> None:
    fleet = fleet_of(4, 12)
    fleet.kill("n001")
    for camera in fleet.facts.values():
        if camera.node == "n001":
            fleet.sick[camera.key] = UNKNOWN
            fleet.absent.add(camera.key)
    fleet.add("ns.new", "n001", running=False, ready_since=0.0, created_at=fleet.wall)
    fleet.sick["ns.new"] = UNKNOWN
    fleet.absent.add("ns.new")
    fleet.run(12)
    assert fleet.moves == [], "its workers may be on their way to another gateway"
    fleet.run(8)
    assert len(fleet.moves) == 4
    assert {order.reason.value for _, order in fleet.moves} == {"NodeLost"}


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_wall_clock_that_is_set_does_not_stop_moves_for_an_hour(step: float) -> None:
    fleet = fleet_of(6, 12)
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], request="now")
    fleet.run(30)
    fleet.clock_step = step
    fleet.sick["ns.c0001"] = HUNG
    fleet.run(60)
    assert fleet.moved("ns.c0001")[:2] == ["Requested", "WorkerFault"]
    future = Moved(fleet.wall + 10_000_000.0, "WorkerFault", "n000", 1)
    fleet.add("ns.odd", "n002", last=future)
    fleet.sick["ns.odd"] = HUNG
    fleet.run(60)
    assert "WorkerFault" in fleet.moved("ns.odd")


def test_one_more_bad_worker_elsewhere_does_not_hide_a_bad_node_of_two() -> None:
    fleet = fleet_of(2, 8)
    for camera in fleet.facts.values():
        if camera.node == "n000":
            fleet.sick[camera.key] = HUNG
    fleet.sick["ns.c0001"] = GONE
    fleet.run(50)
    assert fleet.mover.frozen() == []
    assert len({order.key for _, order in fleet.moves}) == 5


def test_where_no_worker_could_follow_the_old_one_stays() -> None:
    fleet = fleet_of(4, 8)
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], obstructed=True, request="now")
    fleet.sick["ns.c0001"] = GONE
    fleet.run(120)
    assert fleet.moves == []
    assert fleet.mover.decision("ns.c0001").cause == "Obstructed"
    assert fleet.mover.tokens(fleet.now)[0] == 10


def test_nothing_is_looked_at_every_second_where_nothing_can_follow() -> None:
    fleet = fleet_of(4, 8)
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], automatic=False)
    fleet.sick["ns.c0001"] = GONE
    fleet.run(60)
    assert not fleet.mover.restless
    fleet.sick["ns.c0002"] = HUNG
    fleet.run(12)
    assert fleet.mover.restless


def test_an_old_reading_is_no_reading() -> None:
    fleet = fleet_of(4, 8)
    fleet.sick["ns.c0001"] = GONE
    fleet.run(15)
    fleet.run(600, every=10_000.0)
    assert fleet.moves == []


def test_a_replica_that_stands_by_has_forgotten_everything() -> None:
    fleet = fleet_of(10, 50)
    for n in range(30):
        fleet.sick[f"ns.c{n:04}"] = GONE
    fleet.run(60)
    fleet.mover.reset()
    assert fleet.mover.frozen() == []
    assert not fleet.mover.attribution.faults
    fleet.sick.clear()
    fleet.run(30)
    assert fleet.moves == []


def test_after_a_freeze_what_is_still_bad_has_to_be_found_bad_anew_and_nothing_storms() -> None:
    fleet = fleet_of(10, 50)
    for n in range(30):
        fleet.sick[f"ns.c{n:04}"] = GONE
    fleet.run(120)
    for n in range(1, 30):
        del fleet.sick[f"ns.c{n:04}"]
    fleet.run(20)
    assert fleet.moves == []
    fleet.run(12)
    assert fleet.moved("ns.c0000") == ["WorkerFault"]
    assert len(fleet.moves) == 1


def test_a_zone_is_frozen_for_itself() -> None:
    fleet = Fleet()
    for zone in ("east", "west", "north"):
        fleet.add_nodes(*(f"{zone}{n}" for n in range(3)), zone=zone)
    for n, node in enumerate(fleet.nodes):
        for m in range(3):
            fleet.add(f"ns.c{n}{m}", node)
    fleet.run(20)
    for camera in fleet.facts.values():
        if camera.node.startswith("east"):
            fleet.sick[camera.key] = GONE
    wedged = next(camera.key for camera in fleet.facts.values() if camera.node == "west0")
    fleet.sick[wedged] = HUNG
    fleet.run(60)
    assert {order.key for _, order in fleet.moves} == {wedged}
    assert [frozen.scope for frozen in fleet.mover.frozen()] == ["zone east"]


def test_failing_sources_freeze_nothing() -> None:
    fleet = fleet_of(10, 50)
    for n in range(35):
        fleet.sick[f"ns.c{n:04}"] = REFUSED
    fleet.sick["ns.c0040"] = GONE
    fleet.run(40)
    assert fleet.mover.frozen() == []
    assert [order.key for _, order in fleet.moves] == ["ns.c0040"]


def test_blindness_holds_everything_and_one_real_fault_is_handled_afterwards() -> None:
    fleet = fleet_of(4, 12)
    fleet.blind = ("PrometheusUnreachable", "Prometheus does not answer")
    for key in fleet.facts:
        fleet.sick[key] = UNKNOWN
    fleet.run(600)
    assert fleet.moves == []
    assert {f.reason for f in fleet.mover.frozen()} == {"PrometheusUnreachable", "FleetDisrupted"}
    fleet.blind = None
    fleet.sick = {"ns.c0003": GONE}
    fleet.run(40)
    assert [order.key for _, order in fleet.moves] == ["ns.c0003"]


@pytest.mark.parametrize(
    ("facts", "cause", "act"),
    [
        ({"automatic": False}, "Never", Act.HELD),
        ({"paused": "Camera c0001"}, "Paused", Act.HELD),
    ],
)
def test_the_user_forbids(facts: dict[str, object], cause: str, act: Act) -> None:
    fleet = fleet_of(4, 8)
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], **facts)  # type: ignore[arg-type]
    fleet.sick["ns.c0001"] = GONE
    fleet.run(120)
    assert fleet.moves == []
    assert (fleet.mover.decision("ns.c0001").act, fleet.mover.decision("ns.c0001").cause) == (act, cause)


def test_a_pause_of_everything_and_a_dry_run() -> None:
    paused, dry = fleet_of(4, 8), fleet_of(4, 8, dry_run=True)
    paused.paused = "Lease camfleet/camfleet-operator"
    for fleet in (paused, dry):
        fleet.sick["ns.c0001"] = GONE
        fleet.kill("n003")
        fleet.run(120)
        assert fleet.moves == []
    assert paused.mover.decision("ns.c0001").cause == "Paused"
    would = dry.mover.decision("ns.c0001")
    assert (would.act, would.cause) == (Act.WOULD_MOVE, "DryRun")
    assert "WorkerFault" in would.message
    paused.paused = ""
    paused.run(30)
    assert {order.reason.value for _, order in paused.moves} == {"WorkerFault", "NodeLost"}


def test_a_flapping_camera_is_moved_less_and_less_often() -> None:
    """It is bad again as soon as it has started, on whatever node, for half an hour."""
    fleet = fleet_of(6, 12)
    fleet.sick["ns.c0001"] = HUNG
    fleet.run(1800)
    moves = [at for at, order in fleet.moves if order.key == "ns.c0001"]
    gaps = [later - earlier for earlier, later in pairwise(moves)]
    assert 5 <= len(moves) <= 12
    assert all(later >= min(earlier, 300) for earlier, later in pairwise(gaps))
    assert all(300 <= gap <= 400 for gap in gaps[-2:])
    assert len(fleet.moves) == len(moves)
    decision = fleet.mover.decision("ns.c0001")
    assert (decision.act, decision.cause) == (Act.HELD, "Backoff")
    assert decision.not_before > fleet.wall
    assert f"moved {len(moves)} times in a row" in decision.message


def test_ten_good_minutes_are_a_clean_slate() -> None:
    fleet = fleet_of(6, 12)
    for _ in range(3):
        fleet.sick["ns.c0001"] = HUNG
        fleet.run(32)
        del fleet.sick["ns.c0001"]
        fleet.run(40)
    assert fleet.facts["ns.c0001"].last is not None
    assert fleet.facts["ns.c0001"].last.count >= 2
    fleet.run(640)
    fleet.sick["ns.c0001"] = HUNG
    fleet.run(32)
    assert fleet.facts["ns.c0001"].last.count == 1


def test_a_flapping_node_is_left_alone_longer_and_longer() -> None:
    """It dies for a minute and lives for two, for half an hour; who left it does not come back at once."""
    fleet = fleet_of(4, 12)
    for _ in range(10):
        fleet.kill("n002")
        fleet.run(60)
        fleet.nodes["n002"] = replace(fleet.nodes["n002"], lease_late=False)
        fleet.sick.clear()
        fleet.run(120)
    per_camera: dict[str, int] = {}
    for _, order in fleet.moves:
        per_camera[order.key] = per_camera.get(order.key, 0) + 1
    assert set(fleet.moved("ns.c0002")) == {"NodeLost"}
    assert max(per_camera.values()) <= 4
    assert len(fleet.moves) <= 12
    assert not any(camera.node == "n002" for camera in fleet.facts.values())


def test_a_restart_in_the_middle_of_a_mass_move_neither_forgets_nor_begins_anew() -> None:
    fleet = fleet_of(20, 400)
    for n in range(4):
        fleet.kill(f"n{n:03}")
    died = fleet.now
    fleet.run(7)
    before = len(fleet.moves)
    assert 0 < before < 80
    fleet.restart()
    fleet.run(90)
    assert len(fleet.moves) == 80
    assert len({order.key for _, order in fleet.moves}) == 80
    began: dict[str, float] = {}
    for at, order in fleet.moves:
        began.setdefault(order.from_node, at)
    starts = sorted(began.values())
    assert all(later - earlier >= 9 for earlier, later in pairwise(starts))
    assert starts[-1] - died >= 28


def test_a_restart_does_not_give_bad_workers_another_minute_to_start() -> None:
    fleet = fleet_of(6, 12)
    fleet.run(100)
    fleet.sick["ns.c0001"] = GONE
    for key, camera in fleet.facts.items():
        fleet.facts[key] = replace(camera, ready_since=0.0)  # the status says NotReady by now
    fleet.restart()
    fleet.run(22)
    assert fleet.moved("ns.c0001") == ["WorkerFault"]


def test_backoff_survives_a_restart() -> None:
    fleet = fleet_of(6, 12)
    fleet.sick["ns.c0001"] = HUNG
    fleet.run(900)
    before = len(fleet.moves)
    last = fleet.moves[-1][0]
    fleet.restart()
    fleet.run(300)
    after = [at for at, _ in fleet.moves[before:]]
    assert after
    assert after[0] - last >= 150


def test_a_request_moves_once_whatever_the_health_and_is_no_failure() -> None:
    fleet = fleet_of(4, 8)
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], request="2026-01-01T00:00:00Z")
    fleet.run(60)
    ((_, order),) = fleet.moves
    assert (order.reason.value, order.count, order.graceful) == ("Requested", 0, True)
    assert fleet.facts["ns.c0001"].node != "n001"
    fleet.restart()
    fleet.run(60)
    assert len(fleet.moves) == 1
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], request="again")
    fleet.run(10)
    assert len(fleet.moves) == 2


def test_relief_is_a_move_within_the_budget_and_never_of_a_camera_that_is_not_well() -> None:
    fleet = fleet_of(4, 8)
    fleet.relief = Relief("ns.c0001", "node n001: CPU 97 %")
    fleet.tick()
    fleet.relief = Relief("ns.c0002", "node n002: CPU 97 %")
    fleet.sick["ns.c0002"] = REFUSED
    fleet.run(60)
    assert [(order.key, order.reason.value) for _, order in fleet.moves] == [("ns.c0001", "Relief")]


def test_an_order_that_nobody_carries_out_is_given_up_and_made_anew() -> None:
    fleet = fleet_of(4, 8)
    fleet.carry_out = False
    fleet.sick["ns.c0001"] = GONE
    fleet.run(30)
    order = fleet.mover.order("ns.c0001")
    assert order is not None
    fleet.run(30)
    assert fleet.mover.order("ns.c0001") == order
    fleet.run(60)
    again = fleet.mover.order("ns.c0001")
    assert again != order


def test_a_small_fleet_is_not_frozen_by_two() -> None:
    fleet = fleet_of(2, 3)
    fleet.sick["ns.c0000"] = GONE
    fleet.sick["ns.c0001"] = HUNG
    fleet.run(60)
    assert len(fleet.moves) >= 2
