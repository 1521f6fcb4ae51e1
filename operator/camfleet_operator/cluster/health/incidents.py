"""Nodes that were at fault, and for how long each is avoided: longer after every further incident. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from camfleet_operator.cluster.health.faults import NodeReport, NodeState

AVOID_SECONDS = 300.0
"""For so long a node is avoided after its first incident; twice as long after each further one."""
LONGEST_AVOID_SECONDS = 3600.0
_FORGET_SECONDS = 2 * LONGEST_AVOID_SECONDS
"""After so long without being avoided, the next incident is a first one again."""


@dataclass(slots=True)
class _Node:
    incidents: int = 0
    since: float = float("-inf")
    """When the present incident, or the last one, began; Unix seconds."""
    avoid_until: float = float("-inf")
    """Unix seconds."""
    paid: bool = False


class Incidents:
    """Remembers the incidents of nodes. `wall` is Unix seconds throughout."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def note(self, wall: float, reports: Mapping[str, NodeReport], frozen: Callable[[str], bool]) -> None:
        """Begin and end incidents.

        Args:
            wall: The moment.
            reports: What the cameras of each node say of it.
            frozen: Whether so much is bad around a node that nothing can be said about this one.
        """
        for name, report in reports.items():
            node = self._nodes.get(name)
            if node is not None and report.state is NodeState.HEALTHY:
                node.paid = False
            if report.state in (NodeState.DEAD, NodeState.FAULTY) and not frozen(name):
                self._begin(name, wall)
        for name, node in list(self._nodes.items()):
            # A clock that was set back must not keep a node away for hours.
            node.avoid_until = min(node.avoid_until, wall + LONGEST_AVOID_SECONDS)
            node.since = min(node.since, wall)
            if wall > node.avoid_until + _FORGET_SECONDS:
                del self._nodes[name]

    def restore(self, name: str, at: float, wall: float) -> None:
        """Cameras were moved away from a node before this process began: an incident, and it is paid."""
        if name and at + AVOID_SECONDS > wall:
            self._nodes[name] = _Node(1, at, at + AVOID_SECONDS, paid=True)

    def clear(self) -> None:
        """Forget them all."""
        self._nodes.clear()

    def avoided(self, wall: float) -> dict[str, float]:
        """Nodes that every new worker should avoid, and until when."""
        return {name: node.avoid_until for name, node in self._nodes.items() if node.avoid_until > wall}

    def since(self, name: str) -> float:
        """When the present incident of a node began, or its last one; minus infinity if it had none."""
        node = self._nodes.get(name)
        return node.since if node is not None else float("-inf")

    def is_paid(self, name: str) -> bool:
        """Whether the present incident of a node has had its token, so that its cameras may be moved."""
        node = self._nodes.get(name)
        return node is not None and node.paid

    def pay(self, name: str) -> None:
        """The present incident of a node gets its token."""
        self._nodes.setdefault(name, _Node()).paid = True

    def _begin(self, name: str, wall: float) -> None:
        node = self._nodes.setdefault(name, _Node())
        if wall < node.avoid_until:
            return  # it is the incident that is known
        node.incidents, node.since, node.paid = node.incidents + 1, wall, False
        pause = AVOID_SECONDS * 2.0 ** min(node.incidents - 1, 8)
        node.avoid_until = wall + min(pause, LONGEST_AVOID_SECONDS)
