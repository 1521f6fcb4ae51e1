"""How many workers may be moved: single cameras, nodes, and no node's cameras all at once. Pure.

A camera that is moved by itself takes a token of the cameras' bucket. A node that is emptied takes one of the
nodes', once for each incident, and then its cameras leave at a steady pace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from camfleet_operator.cluster.health.budget import TokenBucket
from camfleet_operator.cluster.health.incidents import Incidents
from camfleet_operator.cluster.health.orders import Moved, Policy

NODE_CAMERAS_PER_SECOND = 5.0
"""Cameras of lost nodes moved per second: each is four writes."""


class MoveBudget:
    """Hands out moves. `now` is monotonic, `wall` Unix seconds."""

    def __init__(self, policy: Policy, incidents: Incidents, now: float) -> None:
        self._incidents = incidents
        self._cameras = TokenBucket(policy.cameras_per_second, policy.cameras_burst, now)
        self._nodes = TokenBucket(policy.nodes_per_second, 1.0, now)
        self._pace = TokenBucket(NODE_CAMERAS_PER_SECOND, NODE_CAMERAS_PER_SECOND, now)

    def tokens(self, now: float) -> tuple[float, float]:
        """What is left: cameras, nodes."""
        return self._cameras.tokens(now), self._nodes.tokens(now)

    def take_camera(self, now: float) -> bool:
        """Whether a camera may be moved by itself now."""
        return self._cameras.take(now)

    def take_from_node(self, node: str, now: float) -> bool:
        """Whether a camera may be moved away from a node that is at fault now."""
        if self._pace.tokens(now) < 1:
            return False
        if not self._incidents.is_paid(node):
            if not self._nodes.take(now):
                return False
            self._incidents.pay(node)
        return self._pace.take(now)

    def restore(self, moves: Iterable[Moved], now: float, wall: float) -> None:
        """Be as if the last moves, which statuses tell of, had been made by this process."""
        single: list[float] = []
        left: defaultdict[str, float] = defaultdict(float)
        for moved in moves:
            at = min(moved.at, wall)
            if moved.with_node:
                left[moved.from_node] = max(left[moved.from_node], at)
            else:
                single.append(now - (wall - at))
        self._cameras.replay(single, now)
        self._nodes.replay((now - (wall - at) for at in left.values()), now)
        for name, at in left.items():
            self._incidents.restore(name, at, wall)
