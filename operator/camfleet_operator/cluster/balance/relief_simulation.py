"""Moves off a loaded node that are made in thought only, to see whether they would help. Pure.

Each step takes a camera to the node where most room remains, which has to stay below the low mark and below
what the source is left with. A camera that is enough is chosen before one that is more than that, and one
that helps most where none is enough; ties are broken by name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from camfleet_operator.cluster.balance.eligibility import UNBOUND, Constraints, NodeTraits, allows
from camfleet_operator.cluster.balance.load import NodeInfo, NodeState, Resource

SETTLED_SECONDS = 1800.0
"""For so long a camera stays where it is after a move."""
RETURN_SECONDS = 6 * 3600.0
"""For so long a camera does not go back to where it was taken from."""
MAX_STEPS = 12
"""A node that needs more moves than that is not overloaded by its cameras."""


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
        relieved: Whether that was to relieve a node.
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
    relieved: bool = False


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

    def same_as(self, other: ReliefProposal) -> bool:
        """Whether both are of the same move."""
        return (self.camera, self.source, self.target) == (other.camera, other.source, other.target)


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


class Simulation:
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
                if first is not None:
                    return f"moving {step - 1} of its cameras would not be enough"
                return self._obstacle(source, resource) if targets else "no other node is free"
            first = first or made
            if shares[source] < self._high:
                return self._worded(replace(first, moves=step), before)
        return f"even {MAX_STEPS} moves would not be enough"

    def _obstacle(self, source: str, resource: Resource) -> str:
        """Why not even one camera can go."""
        here = self._on.get(source, [])
        if not here:
            return "there is no camera on it"
        reasons: Counter[str] = Counter()
        for camera in here:
            if not camera.movable:
                reasons["may not be moved"] += 1
            elif not camera.healthy:
                reasons["not well"] += 1
            elif camera.since_move < SETTLED_SECONDS:
                reasons["moved lately"] += 1
            elif not self._cost(camera, source, resource):
                reasons["of unknown cost"] += 1
            else:
                reasons["without a node that has room"] += 1
        parts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        return f"none of its cameras can go: {parts}"

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
            f"{proposal.source} is loaded ({what} {percent(before)}); without {proposal.camera} it would be "
            f"at {percent(proposal.source_after)}, and {proposal.target} at "
            f"{percent(proposal.target_after)}{more}"
        )
        return replace(proposal, message=message)


def percent(share: float) -> str:
    """For people."""
    return f"{share * 100:.0f} %"
