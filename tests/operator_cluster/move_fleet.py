"""A fleet on a simulated clock, whose moves are carried out at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from camfleet_operator.cluster.health.faults import NodeFacts
from camfleet_operator.cluster.health.moves import Mover
from camfleet_operator.cluster.health.orders import Moved, MoveFacts, Order, Policy, Relief
from camfleet_operator.cluster.health.verdicts import Evidence, Health, Verdict

WELL = Health(Verdict.HEALTHY, True, True, 0.1, True, "Streaming")
GONE = Health(Verdict.UNHEALTHY, False, None, None, False, "WorkerNotConnected", "the worker is gone")
HUNG = Health(Verdict.UNHEALTHY, True, True, 0.1, True, "InferenceStalled", "it hangs")
STALLED = Health(Verdict.UNHEALTHY, True, True, 30.0, False, "Stalled")
REFUSED = Health(Verdict.UNHEALTHY, True, False, None, False, "SourceRefused")
WAITING = Health(Verdict.UNHEALTHY, True, False, None, False, "WaitingForFirstFrame")
UNKNOWN = Health(Verdict.UNKNOWN, None, None, None, None, "GatewayUnreachable")
T0 = 1_000_000.0


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
