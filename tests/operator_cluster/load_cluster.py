"""Nodes and cameras for tests of load balancing."""

from __future__ import annotations

from dataclasses import dataclass, field

from camfleet_operator.cluster.balance.eligibility import Taint
from camfleet_operator.cluster.balance.load import LoadBook, NodeLoad, NodeState


@dataclass(frozen=True)
class Node:
    """What load balancing asks of a node."""

    name: str
    cpu_cores: float = 16.0
    hostname: str = ""
    addresses: tuple[str, ...] = ()
    unschedulable: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    resources: dict[str, int] = field(default_factory=dict)


def cluster(*nodes: Node | str) -> dict[str, Node]:
    """Nodes by name; a name alone stands for a node whose host is `host-NAME`."""
    made = [Node(node, hostname=f"host-{node}") if isinstance(node, str) else node for node in nodes]
    return {node.name: node for node in made}


def settled(ticks: int = 12, **loads: NodeLoad | float) -> dict[str, NodeState]:
    """States after so many readings, half a minute apart, that said always the same; the last is now (0)."""
    book = LoadBook()
    readings = {
        name: NodeLoad(cpu=load) if isinstance(load, int | float) else load for name, load in loads.items()
    }
    for number in range(ticks):
        book.observe(-30.0 * (ticks - 1 - number), readings)
    return book.states(0.0)
