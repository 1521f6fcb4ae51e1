"""Whose fault is it that a camera is not well? Pure; the clock is handed in.

The source's: nothing that is done to the worker would help. The worker's: its container is restarted by the
kubelet or by its own watchdog, and another pod helps if that did not. The node's: several of its workers are
bad together, or all are gone and its kubelet no longer renews its Lease. Nobody's that can be told: whoever
would tell is silent, and then nothing is done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from camfleet_operator.cluster.health.verdicts import Evidence, Verdict

_WORKER_REASONS = frozenset({"WorkerNotConnected", "InferenceStalled"})
_STARTING_REASON = "WaitingForFirstFrame"
_SEVERAL = 3
"""So many bad workers on a node, and half of its own, are the node's fault; two, if it has no more."""


class Fault(Enum):
    """Who is at fault."""

    NONE = "None"
    STARTING = "Starting"
    SOURCE = "Source"
    WORKER = "Worker"
    NODE = "Node"
    BLIND = "Blind"


class NodeState(Enum):
    """What is known of a node from its workers and its Lease."""

    HEALTHY = "Healthy"
    SUSPECT = "Suspect"
    """Either its Lease is late or all its workers are gone, not both: it may be well."""
    FAULTY = "Faulty"
    DEAD = "Dead"


@dataclass(frozen=True, slots=True)
class CameraFacts:
    """One camera that should run, as it was at this tick.

    Attributes:
        node: Node of its newest pod; empty before that is scheduled.
        evidence: The last reading; None if there was none of this pod.
        established: Whether its worker has been connected before, or had time enough to be.
        running: Whether the kubelet says that it runs.
        crashing: Whether the kubelet says that it keeps ending.
        absent: Whether, for a while, no gateway that answers has had its worker, and some do not answer.
    """

    key: str
    node: str
    evidence: Evidence | None
    established: bool
    running: bool = True
    crashing: bool = False
    absent: bool = False

    @property
    def is_connected(self) -> bool:
        """Whether a gateway has its worker."""
        return self.evidence is not None and bool(self.evidence.health.worker_connected)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node as the API server knows it.

    Attributes:
        lease_late: Whether its kubelet has not renewed its Lease in time, or the node is gone; None if that
            is not known.
    """

    name: str
    zone: str = ""
    lease_late: bool | None = None


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What the cameras of a node say of it."""

    state: NodeState
    reason: str
    cameras: int
    bad: int


@dataclass(frozen=True, slots=True)
class Attribution:
    """Faults of all cameras, and the nodes that have any."""

    faults: Mapping[str, Fault]
    nodes: Mapping[str, NodeReport]

    def is_dead(self, node: str) -> bool:
        """Whether a node is lost with all its workers."""
        report = self.nodes.get(node)
        return report is not None and report.state is NodeState.DEAD


def attribute(
    cameras: Iterable[CameraFacts],
    nodes: Mapping[str, NodeFacts],
    *,
    readings: int = 3,
    bad_for: float = 0.0,
) -> Attribution:
    """Find out whose fault it is.

    Args:
        cameras: All cameras that should run.
        nodes: What is known of nodes, by name.
        readings: Bad readings in a row that make a worker count as bad for its node.
        bad_for: And seconds that it has to be bad for.
    """
    faults: dict[str, Fault] = {}
    on_node: defaultdict[str, list[CameraFacts]] = defaultdict(list)
    for camera in cameras:
        faults[camera.key] = _own_fault(camera)
        if camera.node:
            on_node[camera.node].append(camera)
    reports: dict[str, NodeReport] = {}
    for name, placed in on_node.items():
        report = reports[name] = _report(placed, faults, nodes.get(name), readings, bad_for)
        for camera in placed:
            own = faults[camera.key]
            if report.state is NodeState.DEAD or (report.state is NodeState.FAULTY and own is Fault.WORKER):
                faults[camera.key] = Fault.NODE
    return Attribution(faults, reports)


def _own_fault(camera: CameraFacts) -> Fault:
    evidence = camera.evidence
    if evidence is None:
        return Fault.WORKER if camera.crashing else Fault.STARTING
    health = evidence.health
    if health.verdict is Verdict.HEALTHY:
        return Fault.NONE
    if health.verdict is Verdict.UNKNOWN:
        return Fault.STARTING if evidence.absent and not camera.established else Fault.BLIND
    if health.reason in _WORKER_REASONS:
        return Fault.WORKER if camera.established or camera.crashing else Fault.STARTING
    return Fault.STARTING if health.reason == _STARTING_REASON else Fault.SOURCE


def _report(
    placed: list[CameraFacts],
    faults: Mapping[str, Fault],
    node: NodeFacts | None,
    readings: int,
    bad_for: float,
) -> NodeReport:
    bad = [camera for camera in placed if faults[camera.key] is Fault.WORKER]
    sure = sum(_is_sure(camera.evidence, readings, bad_for) for camera in bad)
    # A worker that has just begun to run says nothing either way; one of which nothing is known may be well.
    telling = sum(faults[camera.key] is not Fault.STARTING for camera in placed)
    gone = sum(map(_is_gone, placed))
    stranded = sum(faults[camera.key] is Fault.STARTING and not camera.running for camera in placed)
    late = node.lease_late if node is not None else None
    count = len(placed)
    if late and gone == telling and gone + stranded > 0 and not any(camera.is_connected for camera in placed):
        return NodeReport(NodeState.DEAD, "workers gone and Lease late", count, len(bad))
    if (sure >= _SEVERAL and 2 * sure >= telling) or (sure >= 2 and sure == telling):
        return NodeReport(NodeState.FAULTY, "several of its workers are bad together", count, len(bad))
    if late:
        return NodeReport(NodeState.SUSPECT, "Lease late, but not all workers are gone", count, len(bad))
    if gone == telling > 1:
        return NodeReport(NodeState.SUSPECT, "workers gone, but Lease renewed", count, len(bad))
    return NodeReport(NodeState.HEALTHY, "", count, len(bad))


def _is_sure(evidence: Evidence | None, readings: int, bad_for: float) -> bool:
    return evidence is not None and evidence.readings >= readings and evidence.at - evidence.since >= bad_for


def _is_gone(camera: CameraFacts) -> bool:
    """Whether no gateway that answers has its worker, though it had time to come."""
    if camera.evidence is None or not camera.established:
        return False
    return camera.absent or camera.evidence.health.worker_connected is False


def count_nodes(nodes: Mapping[str, NodeReport]) -> dict[str, int]:
    """Nodes by state, with every state named."""
    found = Counter(report.state.value for report in nodes.values())
    return {state.value: found[state.value] for state in NodeState}


def count_faults(faults: Mapping[str, Fault]) -> dict[str, int]:
    """Cameras by fault, with every fault named."""
    found = Counter(fault.value for fault in faults.values())
    return {fault.value: found[fault.value] for fault in Fault}
