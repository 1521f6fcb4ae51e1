"""What the API server knows of nodes: which there are, and how late their kubelets are.

Both are listed, not watched: a node's status and Lease change every few seconds for no reason that concerns
us. A Lease's age is measured by our own clock since it was last seen to change, so no two clocks are
compared, and it counts only as long as listings succeed: an API server that is away makes no node look dead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from camfleet_operator.cluster.api import Api
from camfleet_operator.cluster.api_errors import ApiError, Forbidden
from camfleet_operator.cluster.balance.eligibility import Taint, device_count
from camfleet_operator.cluster.health.faults import NodeFacts

logger = logging.getLogger(__name__)

_NODES = "/api/v1/nodes"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_LIST_SECONDS = 60.0
_FORBIDDEN_SECONDS = 300.0
_ZONE = "topology.kubernetes.io/zone"
_HOSTNAME = "kubernetes.io/hostname"


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node.

    Attributes:
        hostname: Its label `kubernetes.io/hostname`, which affinity goes by.
        cpu_cores: What pods may use.
        resources: Extended resources that it offers, such as `nvidia.com/gpu`, and how many.
    """

    name: str
    zone: str
    hostname: str
    addresses: tuple[str, ...]
    cpu_cores: float
    resources: Mapping[str, int]
    unschedulable: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()


@dataclass(slots=True)
class _Lease:
    renewed: str
    lasts: float
    """Seconds, as its kubelet says: it renews well before half of that."""
    changed_at: float


class Nodes:
    """Keeps nodes and the ages of their Leases.

    Args:
        api: The API server.
        stale: Seconds without a renewal after which a Lease is late.
        clock: Monotonic seconds.
    """

    def __init__(self, api: Api, *, stale: float = 20.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._stale = stale
        self._interval = min(5.0, stale / 4)
        self._clock = clock
        self._nodes: dict[str, NodeSeen] = {}
        self._leases: dict[str, _Lease] = {}
        self._nodes_at = float("-inf")
        self._leases_at = float("-inf")
        self.problem: str | None = None
        """Why nodes cannot be read, if they cannot."""

    # ── What others ask ─────────────────────────────────────────────────────────────────────────────

    def all(self) -> Mapping[str, NodeSeen]:
        """Every node, by name."""
        return self._nodes

    def lease_age(self, name: str) -> float | None:
        """Seconds since a node's Lease was last seen to change; None if that is not known."""
        lease = self._leases.get(name)
        if lease is None or not self._fresh():
            return None
        return self._leases_at - lease.changed_at

    def late(self, name: str) -> bool | None:
        """Whether a node's kubelet is late, or the node is gone; None if that is not known."""
        if not self._fresh():
            return None
        lease = self._leases.get(name)
        if lease is None:
            # Clusters whose nodes have no Leases exist; one that had its Lease and lost it is gone.
            return None if name in self._nodes or not self._nodes else True
        return self._leases_at - lease.changed_at >= max(self._stale, lease.lasts / 2)

    def facts(self, placed: Iterable[str] = ()) -> dict[str, NodeFacts]:
        """What faults are judged by: of every node, and of those that pods name and that may be gone."""
        names = {*self._nodes, *self._leases, *placed}
        return {
            name: NodeFacts(name, node.zone if (node := self._nodes.get(name)) else "", self.late(name))
            for name in names
        }

    # ── Life ────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """List again and again, until cancelled."""
        while True:
            pause = self._interval
            try:
                await self.once()
                if self.problem is not None:
                    logger.info("nodes and their Leases can be read again")
                    self.problem = None
            except ApiError as error:
                if self.problem != error.message:
                    logger.warning(
                        "nodes cannot be read, so a lost node is noticed by its pods only: %s", error.message
                    )
                    self.problem = error.message
                if isinstance(error, Forbidden):
                    pause = _FORBIDDEN_SECONDS
            await asyncio.sleep(pause)

    async def once(self) -> None:
        """List Leases, and nodes where that is due.

        Raises:
            ApiError: Something could not be listed; what is known stays.
        """
        leases = await self._api.list_as(_LEASES, _renewed)
        now = self._clock()
        if now - self._leases_at > 2 * self._interval:
            for lease in self._leases.values():
                lease.changed_at = now  # while nothing could be listed, nobody was seen to be late
        known = dict(leases.items)
        for name, (renewed, lasts) in known.items():
            before = self._leases.get(name)
            if before is None or before.renewed != renewed:
                self._leases[name] = _Lease(renewed, lasts, now)
        news = bool(known.keys() - self._nodes.keys() or self._leases.keys() - known.keys())
        self._leases_at = now
        if news or now - self._nodes_at >= _LIST_SECONDS:
            nodes = await self._api.list_as(_NODES, read_node)
            self._nodes = {node.name: node for node in nodes.items}
            self._nodes_at = self._clock()
        for name in self._leases.keys() - known.keys():
            if name not in self._nodes:
                del self._leases[name]

    def _fresh(self) -> bool:
        return self._clock() - self._leases_at <= self._stale / 2 + self._interval


def read_node(raw: Mapping[str, Any]) -> NodeSeen:
    """Read the facts off a node's JSON."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    labels = metadata.get("labels") or {}
    allocatable = status.get("allocatable") or {}
    return NodeSeen(
        name=metadata["name"],
        zone=labels.get(_ZONE, ""),
        hostname=labels.get(_HOSTNAME, metadata["name"]),
        addresses=tuple(address.get("address", "") for address in status.get("addresses") or ()),
        cpu_cores=_cores(allocatable.get("cpu", "")),
        resources={name: device_count(amount) for name, amount in allocatable.items() if "/" in name},
        unschedulable=bool(spec.get("unschedulable")),
        labels=labels,
        taints=tuple(
            Taint(taint.get("key", ""), taint.get("effect", ""), taint.get("value") or "")
            for taint in spec.get("taints") or ()
        ),
    )


def _renewed(raw: Mapping[str, Any]) -> tuple[str, tuple[str, float]]:
    spec = raw.get("spec") or {}
    return raw["metadata"]["name"], (
        str(spec.get("renewTime") or ""),
        float(spec.get("leaseDurationSeconds") or 0),
    )


def _cores(quantity: str) -> float:
    """A CPU quantity such as `8` or `7910m` in cores; 0 for one that cannot be read."""
    try:
        return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)
    except ValueError:
        return 0.0
