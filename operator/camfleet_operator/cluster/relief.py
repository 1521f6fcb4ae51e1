"""Which camera should leave a node that stays overloaded? Simulated before it is proposed. Pure.

A node has to be loaded for three minutes and still be above the high mark. Moves are then simulated,
one after another: each takes a camera to the node where most room remains, which has to stay below the
low mark and below what the source is left with. Only if the source comes below the high mark in the
end, the first of these moves is proposed.

What keeps it from going back and forth: one such move at a time in the whole fleet; source and target
rest until the load tells the truth again; a camera is left alone for half an hour after any move, and
does not return to the node that it was taken from for hours; a source that had its camera put back, or
was not helped, is let alone for longer and longer. Whatever is not known or late is neither a source
nor a target.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from camfleet_operator.cluster.eligibility import UNBOUND, Constraints, NodeTraits, allows
from camfleet_operator.cluster.load import HIGH, LOW, NodeInfo, NodeState, Resource

LOADED_SECONDS = 180.0
SETTLED_SECONDS = 1800.0
"""For so long a camera stays where it is after a move."""
RETURN_SECONDS = 6 * 3600.0
"""For so long a camera does not go back to where it was taken from."""
COOLDOWN_SECONDS = 300.0
"""Rates look back three minutes, and two of three readings decide: only then a move shows in the load."""
FLIGHT_SECONDS = 300.0
"""A moved camera that does not run again in that time does not keep others from being moved."""
HOLD_SECONDS, LONGEST_HOLD_SECONDS = 1800.0, 6 * 3600.0
MAX_STEPS = 12
"""A node that needs more moves than that is not overloaded by its cameras."""
HELPED_SHARE = 0.25
"""Of what the simulation promised, so much has to have come true for a node to count as helped."""


class ReliefNode(NodeInfo, NodeTraits, Protocol):
    """What has to be known of a node here."""


@dataclass(frozen=True, slots=True)
class CameraLoad:
    """One camera and what it takes.

    Attributes:
        node: Node of its pod; empty before that is scheduled.
        cpu: Cores that its worker uses; None if that is not known.
        constraints: What its pod demands of a node.
        healthy: Whether it is known to be well.
        movable: Whether the user lets the operator move it now.
        age: Seconds since its pod was made.
        since_move: Seconds since its last move, for whatever reason.
        from_node: The node that it was moved from last.
    """

    key: str
    node: str
    cpu: float | None = None
    constraints: Constraints = UNBOUND
    healthy: bool = True
    movable: bool = True
    age: float = math.inf
    since_move: float = math.inf
    from_node: str = ""


@dataclass(frozen=True, slots=True)
class ReliefProposal:
    """Move this camera off its node; loads before and after are those of the simulation.

    Attributes:
        resource: What the source is short of.
        moves: How many moves the source needs in all.
        message: A sentence for people.
    """

    camera: str
    source: str
    target: str
    resource: Resource
    source_before: float
    source_after: float
    target_before: float
    target_after: float
    moves: int = 1
    message: str = ""


@dataclass(slots=True)
class _Hold:
    until: float = -math.inf
    length: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A move that was made: where it should end, and how it was with the source."""

    proposal: ReliefProposal
    at: float


@dataclass(slots=True)
class _World:
    """Loads of nodes while moves are simulated."""

    cpu: dict[str, float]
    gpu: dict[str, float]
    devices: Counter[tuple[str, str]]
    left: set[str] = field(default_factory=set)
    """Cameras that have been moved already."""

    def of(self, resource: Resource) -> dict[str, float]:
        return self.cpu if resource is Resource.CPU else self.gpu


class Relief:
    """Proposes at most one move at a time, and remembers what became of the last ones.

    Args:
        high: Share from which on a node is overloaded.
        low: Share that a target may have in the end.
    """

    def __init__(self, *, high: float = HIGH, low: float = LOW) -> None:
        self._high, self._low = high, low
        self._flight: _Flight | None = None
        self._landing: list[_Flight] = []
        self._rest: dict[str, float] = {}
        """Until when a node is neither source nor target."""
        self._holds: dict[str, _Hold] = {}
        self.why = "no node has been looked at yet"
        """Why there was a proposal, or none, at the last look."""

    def relieve(
        self,
        now: float,
        nodes: Mapping[str, ReliefNode],
        states: Mapping[str, NodeState],
        cameras: Iterable[CameraLoad],
        *,
        extra: Mapping[str, float] | None = None,
        avoid: Collection[str] = (),
    ) -> ReliefProposal | None:
        """Propose a move, if there is one that helps.

        Args:
            now: Monotonic seconds.
            nodes: All nodes by name.
            states: What is known of their load.
            cameras: Every camera with a worker.
            extra: Shares of CPU that a node's newest workers will take, and its load does not show yet.
            avoid: Nodes that failed of late.
        """
        by_key = {camera.key: camera for camera in cameras}
        self._follow(now, states, by_key)
        sources = [
            (state.load.of(resource) or 0.0, name, resource)
            for name, state in states.items()
            for resource in state.loaded
            if name in nodes and name not in avoid  # there, cameras are moved for a graver reason
        ]
        if not sources:
            self.why = "no node is loaded"
            return None
        if self._flight is not None:
            self.why = f"{self._flight.proposal.camera} is on its way"
            return None
        reasons = []
        for _, name, resource in sorted(sources, key=lambda item: (-item[0], item[1], item[2])):
            obstacle = self._obstacle(now, name, resource, states[name])
            if obstacle is None:
                resting = (other for other, until in self._rest.items() if until > now)
                simulation = _Simulation(self._high, self._low, nodes, states, by_key, extra or {}, name)
                proposal = simulation.run(name, resource, {*avoid, *resting})
                if isinstance(proposal, ReliefProposal):
                    self.why = proposal.message
                    return proposal
                obstacle = proposal
            reasons.append(f"{name}: {obstacle}")
        self.why = "; ".join(reasons[:5])
        return None

    def moved(self, now: float, proposal: ReliefProposal) -> None:
        """A proposal is being carried out."""
        self._flight = _Flight(proposal, now)
        self._rest[proposal.source] = self._rest[proposal.target] = now + COOLDOWN_SECONDS

    def in_flight(self, camera: str) -> ReliefProposal | None:
        """The proposal that is being carried out, if it is this camera's."""
        flight = self._flight
        return flight.proposal if flight is not None and flight.proposal.camera == camera else None

    # ── What became of it ───────────────────────────────────────────────────────────────────────────

    def _follow(self, now: float, states: Mapping[str, NodeState], cameras: Mapping[str, CameraLoad]) -> None:
        for name, until in list(self._rest.items()):
            if until <= now:
                del self._rest[name]
        for name, hold in list(self._holds.items()):
            if hold.until + LONGEST_HOLD_SECONDS <= now:
                del self._holds[name]
        self._land(now, cameras)
        for flight in list(self._landing):
            if now >= flight.at + COOLDOWN_SECONDS:
                self._landing.remove(flight)
                self._check(now, flight.proposal, states)

    def _land(self, now: float, cameras: Mapping[str, CameraLoad]) -> None:
        flight = self._flight
        if flight is None:
            return
        proposal, camera = flight.proposal, cameras.get(flight.proposal.camera)
        flying = now - flight.at
        if camera is None or flying >= FLIGHT_SECONDS:
            self._flight = None
        elif camera.node and camera.age <= flying:  # a new pod, and it has a node
            if camera.node == proposal.source:
                self._flight = None
                self._hold(now, proposal.source, f"{camera.key} was put back on it")
            else:
                # It may have gone elsewhere than was thought: that node is loaded more now.
                self._rest[camera.node] = max(self._rest.get(camera.node, 0.0), flight.at + COOLDOWN_SECONDS)
                if camera.healthy:
                    self._flight = None
                    self._landing.append(flight)

    def _check(self, now: float, proposal: ReliefProposal, states: Mapping[str, NodeState]) -> None:
        """Whether a move has helped."""
        state = states.get(proposal.source)
        share = state.load.of(proposal.resource) if state is not None else None
        if share is None or share < self._high:
            self._holds.pop(proposal.source, None)
        elif proposal.source_before - share < HELPED_SHARE * (proposal.source_before - proposal.source_after):
            self._hold(now, proposal.source, f"that {proposal.camera} left did not help")

    def _hold(self, now: float, name: str, reason: str) -> None:
        hold = self._holds.setdefault(name, _Hold())
        hold.length = min(max(HOLD_SECONDS, 2 * hold.length), LONGEST_HOLD_SECONDS)
        hold.until, hold.reason = now + hold.length, reason

    def _obstacle(self, now: float, name: str, resource: Resource, state: NodeState) -> str | None:
        """Why a loaded node is not relieved now, before anything is simulated."""
        share = state.load.of(resource) or 0.0
        if share < self._high:
            return f"{resource.upper()} {_percent(share)} is below the high mark again"
        if (since := now - state.loaded[resource]) < LOADED_SECONDS:
            return f"loaded for {since:.0f} s only"
        if self._rest.get(name, -math.inf) > now:
            return "rests after the last move"
        hold = self._holds.get(name)
        if hold is not None and hold.until > now:
            return f"left alone for {(hold.until - now) / 60:.0f} min: {hold.reason}"
        return None


class _Simulation:
    """Moves that are made in thought only."""

    def __init__(
        self,
        high: float,
        low: float,
        nodes: Mapping[str, ReliefNode],
        states: Mapping[str, NodeState],
        cameras: Mapping[str, CameraLoad],
        extra: Mapping[str, float],
        source: str,
    ) -> None:
        self._high, self._low = high, low
        self._nodes, self._states = nodes, states
        self._on: dict[str, list[CameraLoad]] = {}
        for camera in cameras.values():
            if camera.node:
                self._on.setdefault(camera.node, []).append(camera)
        self._world = _World(
            {
                # The source is judged by what was measured; elsewhere, what will come counts.
                name: state.load.cpu + (extra.get(name, 0.0) if name != source else 0.0)
                for name, state in states.items()
                if state.load.cpu is not None
            },
            {
                name: share
                for name, state in states.items()
                if (share := state.load.of(Resource.GPU)) is not None
            },
            Counter(),
        )
        for camera in cameras.values():
            for device, count in camera.constraints.devices:
                self._world.devices[camera.node, device] += count

    def run(self, source: str, resource: Resource, barred: Collection[str]) -> ReliefProposal | str:
        """The first of the moves that relieve a node, or why there are none."""
        shares = self._world.of(resource)
        before = shares[source]
        targets = [
            name
            for name, state in self._states.items()
            if name != source and name not in barred and name in self._nodes and not state.loaded
        ]
        first: ReliefProposal | None = None
        for step in range(1, MAX_STEPS + 1):
            made = self._step(source, resource, targets)
            if made is None:
                if not targets:
                    return "no other node is free"
                return (
                    f"moving {step - 1} of its cameras would not be enough"
                    if first is not None
                    else "no camera on it could be moved to a node with room"
                )
            first = first or made
            if shares[source] < self._high:
                return self._worded(replace(first, moves=step), before)
        return f"even {MAX_STEPS} moves would not be enough"

    def _step(self, source: str, resource: Resource, targets: list[str]) -> ReliefProposal | None:
        """Make the best move: one that is enough and not more than that, or the one that helps most."""
        shares = self._world.of(resource)
        aim = (self._high + self._low) / 2  # not just below the mark, where noise would lift it again
        best: tuple[tuple[Any, ...], CameraLoad, str, float] | None = None
        for camera in self._on.get(source, ()):
            cost = self._cost(camera, source, resource)
            if cost is None or cost <= 0 or not self._may_go(camera):
                continue
            after = shares[source] - cost
            rank = (0, cost, camera.key) if after <= aim else (1, -cost, camera.key)
            if best is not None and rank >= best[0]:
                continue
            if (target := self._target(camera, resource, cost, after, targets)) is not None:
                best = (rank, camera, target, cost)
        if best is None:
            return None
        _, camera, target, cost = best
        before, target_before = shares[source], self._world.of(resource).get(target, 0.0)
        self._apply(camera, source, target, resource, cost)
        return ReliefProposal(
            camera=camera.key,
            source=source,
            target=target,
            resource=resource,
            source_before=before,
            source_after=shares[source],
            target_before=target_before,
            target_after=self._world.of(resource).get(target, 0.0),
        )

    def _may_go(self, camera: CameraLoad) -> bool:
        return (
            camera.movable
            and camera.healthy
            and camera.since_move >= SETTLED_SECONDS
            and camera.key not in self._world.left
        )

    def _target(
        self, camera: CameraLoad, resource: Resource, cost: float, source_after: float, targets: list[str]
    ) -> str | None:
        """Where a camera would go: the node that has most room then. None if that is none with enough."""
        best: tuple[float, str] | None = None
        for name in targets:
            if name == camera.from_node and camera.since_move < RETURN_SECONDS:
                continue
            node = self._nodes[name]
            if not self._fits(camera, node):
                continue
            after = self._after(camera, node, resource, cost)
            if after is None or after > self._low or after >= source_after:
                continue
            if best is None or (after, name) < best:
                best = (after, name)
        return best[1] if best is not None else None

    def _fits(self, camera: CameraLoad, node: ReliefNode) -> bool:
        return allows(camera.constraints, node) and all(
            node.resources.get(device, 0) - self._world.devices[node.name, device] >= count
            for device, count in camera.constraints.devices
        )

    def _after(self, camera: CameraLoad, node: ReliefNode, resource: Resource, cost: float) -> float | None:
        """What of a target would be taken, of whatever is taken most; None if that cannot be told."""
        cpu = self._world.cpu.get(node.name)
        cores = self._cpu_share(camera, node)
        if cpu is None or cores is None:
            return None
        after = cpu + cores
        if camera.constraints.gpu:
            gpu = self._world.gpu.get(node.name)
            if gpu is None:
                return None
            after = max(after, gpu + (cost if resource is Resource.GPU else 0.0))
        return after

    def _cpu_share(self, camera: CameraLoad, node: ReliefNode) -> float | None:
        if camera.cpu is None or node.cpu_cores <= 0:
            return None
        return camera.cpu / node.cpu_cores

    def _cost(self, camera: CameraLoad, source: str, resource: Resource) -> float | None:
        """What share of its node a camera takes."""
        if resource is Resource.CPU:
            return self._cpu_share(camera, self._nodes[source])
        if not camera.constraints.gpu:
            return None
        # No metric tells a worker's share of a GPU: all are taken to be alike. `_check` finds out.
        sharing = sum(bool(other.constraints.gpu) for other in self._on.get(source, ()))
        share = self._states[source].load.of(Resource.GPU)
        return None if share is None else share / sharing

    def _apply(self, camera: CameraLoad, source: str, target: str, resource: Resource, cost: float) -> None:
        world = self._world
        world.left.add(camera.key)
        for name, sign in ((source, -1), (target, 1)):
            share = self._cpu_share(camera, self._nodes[name])
            if share is not None and name in world.cpu:
                world.cpu[name] = max(0.0, world.cpu[name] + sign * share)
            if resource is Resource.GPU and name in world.gpu:
                world.gpu[name] = max(0.0, world.gpu[name] + sign * cost)
            for device, count in camera.constraints.devices:
                world.devices[name, device] += sign * count

    def _worded(self, proposal: ReliefProposal, before: float) -> ReliefProposal:
        what = proposal.resource.upper()
        more = f", the first of {proposal.moves} moves" if proposal.moves > 1 else ""
        message = (
            f"{proposal.source} is loaded ({what} {_percent(before)}); without {proposal.camera} it would be "
            f"at {_percent(proposal.source_after)}, and {proposal.target} at "
            f"{_percent(proposal.target_after)}{more}"
        )
        return replace(proposal, message=message)


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
