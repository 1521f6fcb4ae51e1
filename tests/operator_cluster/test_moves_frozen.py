"""When so much is bad at once that nothing is moved, and what happens afterwards."""

from __future__ import annotations

import pytest
from tests.operator_cluster.move_fleet import GONE, HUNG, REFUSED, UNKNOWN, Fleet, fleet_of

from camfleet_operator.cluster.health.orders import Act


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


@pytest.mark.parametrize("sick", [6, 10])
def test_most_nodes_hanging_together_is_a_disaster_though_their_workers_are_connected(sick: int) -> None:
    fleet = fleet_of(10, 50)
    for camera in fleet.facts.values():
        if int(camera.node[1:]) < sick:
            fleet.sick[camera.key] = HUNG
    fleet.run(300)
    assert fleet.moves == []
    assert [frozen.scope for frozen in fleet.mover.frozen()] == ["fleet"]


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


def test_a_small_fleet_is_not_frozen_by_two() -> None:
    fleet = fleet_of(2, 3)
    fleet.sick["ns.c0000"] = GONE
    fleet.sick["ns.c0001"] = HUNG
    fleet.run(60)
    assert len(fleet.moves) >= 2
