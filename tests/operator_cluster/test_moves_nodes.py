"""Nodes that die, flap or hang: which of their workers are moved, and at what pace."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tests.operator_cluster.move_fleet import GONE, HUNG, UNKNOWN, Fleet, fleet_of


def test_a_dead_node_is_emptied_at_once_and_the_others_wait_for_their_token() -> None:
    fleet = fleet_of(20, 100)
    died = fleet.now
    for node in ("n000", "n001", "n002"):
        fleet.kill(node)
    fleet.run(60)
    assert {order.reason.value for _, order in fleet.moves} == {"NodeLost"}
    assert len(fleet.moves) == 15
    began = {}
    for at, order in fleet.moves:
        began.setdefault(order.from_node, at)
    starts = sorted(began.values())
    assert starts[0] - died <= 1
    assert [later - earlier >= 10 for earlier, later in pairwise(starts)] == [True, True]


def test_twenty_of_two_hundred_nodes_are_emptied_one_after_the_other_within_their_budget() -> None:
    fleet = fleet_of(200, 1000)
    lost = [f"n{n:03}" for n in range(20)]
    for node in lost:
        fleet.kill(node)
    died = fleet.now
    fleet.run(230)
    assert len(fleet.moves) == 100
    spans = {node: [at for at, order in fleet.moves if order.from_node == node] for node in lost}
    order_of_nodes = sorted(lost, key=lambda node: spans[node][0])
    for earlier, later in pairwise(order_of_nodes):
        assert spans[later][0] >= spans[earlier][0] + 10
        assert spans[earlier][-1] <= spans[later][0]
    assert max(at for at, _ in fleet.moves) - died <= 200 + 5
    assert all(fleet.facts[order.key].node not in lost for _, order in fleet.moves)
    per_second = max(sum(int(at) == second for at, _ in fleet.moves) for second in range(int(fleet.now)))
    assert per_second <= 10


def test_one_bad_node_of_two_or_one_that_is_its_zone_is_no_disaster() -> None:
    two = fleet_of(2, 8)
    zones = Fleet()
    for zone in ("east", "west", "north"):
        zones.add_nodes(f"{zone}0", zone=zone)
        for n in range(4):
            zones.add(f"ns.{zone}{n}", f"{zone}0")
    zones.run(20)
    for fleet, sick in ((two, "n000"), (zones, "east0")):
        for camera in fleet.facts.values():
            if camera.node == sick:
                fleet.sick[camera.key] = HUNG
        fleet.run(25)
        assert fleet.mover.frozen() == []
        assert {order.reason.value for _, order in fleet.moves} == {"NodeFault"}
        assert len({order.key for _, order in fleet.moves}) == 4


def test_what_arrives_on_a_node_that_is_dead_already_leaves_it_again() -> None:
    fleet = fleet_of(4, 8)
    fleet.kill("n000")
    fleet.run(20)
    fleet.add("ns.late", "n000", running=False, ready_since=0.0, created_at=fleet.wall)
    fleet.sick["ns.late"] = GONE
    fleet.run(20)
    assert fleet.moved("ns.late") == ["NodeLost"]


def test_a_gateway_that_died_with_the_node_does_not_hide_it() -> None:
    fleet = fleet_of(4, 12)
    fleet.kill("n001")
    for camera in fleet.facts.values():
        if camera.node == "n001":
            fleet.sick[camera.key] = UNKNOWN
            fleet.absent.add(camera.key)
    fleet.add("ns.new", "n001", running=False, ready_since=0.0, created_at=fleet.wall)
    fleet.sick["ns.new"] = UNKNOWN
    fleet.absent.add("ns.new")
    fleet.run(12)
    assert fleet.moves == [], "its workers may be on their way to another gateway"
    fleet.run(8)
    assert len(fleet.moves) == 4
    assert {order.reason.value for _, order in fleet.moves} == {"NodeLost"}


def test_one_more_bad_worker_elsewhere_does_not_hide_a_bad_node_of_two() -> None:
    fleet = fleet_of(2, 8)
    for camera in fleet.facts.values():
        if camera.node == "n000":
            fleet.sick[camera.key] = HUNG
    fleet.sick["ns.c0001"] = GONE
    fleet.run(50)
    assert fleet.mover.frozen() == []
    assert len({order.key for _, order in fleet.moves}) == 5


def test_a_flapping_node_is_left_alone_longer_and_longer() -> None:
    """It dies for a minute and lives for two, for half an hour; who left it does not come back at once."""
    fleet = fleet_of(4, 12)
    for _ in range(10):
        fleet.kill("n002")
        fleet.run(60)
        fleet.nodes["n002"] = replace(fleet.nodes["n002"], lease_late=False)
        fleet.sick.clear()
        fleet.run(120)
    per_camera: dict[str, int] = {}
    for _, order in fleet.moves:
        per_camera[order.key] = per_camera.get(order.key, 0) + 1
    assert set(fleet.moved("ns.c0002")) == {"NodeLost"}
    assert max(per_camera.values()) <= 4
    assert len(fleet.moves) <= 12
    assert not any(camera.node == "n002" for camera in fleet.facts.values())


def test_a_restart_in_the_middle_of_a_mass_move_neither_forgets_nor_begins_anew() -> None:
    fleet = fleet_of(20, 400)
    for n in range(4):
        fleet.kill(f"n{n:03}")
    died = fleet.now
    fleet.run(7)
    before = len(fleet.moves)
    assert 0 < before < 80
    fleet.restart()
    fleet.run(90)
    assert len(fleet.moves) == 80
    assert len({order.key for _, order in fleet.moves}) == 80
    began: dict[str, float] = {}
    for at, order in fleet.moves:
        began.setdefault(order.from_node, at)
    starts = sorted(began.values())
    assert all(later - earlier >= 9 for earlier, later in pairwise(starts))
    assert starts[-1] - died >= 28
