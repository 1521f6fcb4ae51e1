"""Whose fault it is that cameras are bad, as tables."""

from __future__ import annotations

import pytest
from tests.operator_cluster.move_fleet import GONE, HUNG, REFUSED, STALLED, UNKNOWN, WAITING, WELL

from camfleet_operator.cluster.health.faults import CameraFacts, Fault, NodeFacts, NodeState, attribute
from camfleet_operator.cluster.health.verdicts import Evidence, Health, Verdict


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
