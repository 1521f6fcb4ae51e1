"""Which single workers are moved, and when: minutes and half hours on a simulated clock."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from tests.operator_cluster.move_fleet import GONE, HUNG, REFUSED, STALLED, UNKNOWN, WAITING, WELL, fleet_of

from camfleet_operator.cluster.health.orders import Act, Moved, Relief
from camfleet_operator.cluster.health.verdicts import Health


def test_a_wedged_worker_is_moved_after_three_bad_readings_and_not_before() -> None:
    fleet = fleet_of(4, 8)
    fleet.sick["ns.c0001"] = GONE
    fleet.run(20)
    assert fleet.moves == []
    assert fleet.mover.decision("ns.c0001").act is Act.WAIT
    fleet.run(2)
    ((_, order),) = fleet.moves
    assert (order.reason.value, order.from_node, order.count, order.graceful) == (
        "WorkerFault",
        "n001",
        1,
        False,
    )
    assert fleet.facts["ns.c0001"].node != "n001"


def test_a_reading_in_between_begins_the_count_anew() -> None:
    fleet = fleet_of(4, 8)
    for _ in range(6):
        fleet.sick["ns.c0001"] = GONE
        fleet.run(20)
        del fleet.sick["ns.c0001"]
        fleet.run(10)
    assert fleet.moves == []


def test_quick_readings_do_not_hurry_a_move() -> None:
    fleet = fleet_of(4, 8)
    fleet.sick["ns.c0001"] = GONE
    fleet.run(14, every=2.0)
    assert fleet.moves == []
    fleet.run(6, every=2.0)
    assert len(fleet.moves) == 1


@pytest.mark.parametrize("health", [REFUSED, STALLED, UNKNOWN, WAITING])
def test_ten_minutes_without_a_source_or_without_knowledge_move_nothing(health: Health) -> None:
    fleet = fleet_of(4, 8)
    fleet.sick["ns.c0001"] = health
    fleet.run(600)
    assert fleet.moves == []


def test_single_moves_keep_to_burst_and_rate() -> None:
    fleet = fleet_of(100, 300)
    for n in range(0, 100, 2):
        fleet.sick[f"ns.c{n:04}"] = HUNG  # one on each of fifty nodes
    fleet.run(22)
    assert len(fleet.moves) <= 12
    fleet.run(60)
    assert len({order.key for _, order in fleet.moves}) == 50
    times = [at for at, _ in fleet.moves]
    for start in range(int(fleet.now)):
        assert sum(start <= at < start + 10 for at in times) <= 20


def test_restarts_in_a_long_row_of_single_moves_give_none_for_nothing() -> None:
    fleet = fleet_of(60, 120)
    for n in range(60):
        fleet.sick[f"ns.c{n:04}"] = HUNG
    fleet.run(25)
    for _ in range(6):
        fleet.restart()
        fleet.run(5)
    times = [at for at, _ in fleet.moves]
    for start in range(int(fleet.now)):
        assert sum(start <= at < start + 10 for at in times) <= 20
    assert len(times) <= 10 + fleet.now - 40 + 1


def test_a_worker_that_keeps_ending_is_moved_though_it_never_came() -> None:
    fleet = fleet_of(4, 8)
    fleet.add("ns.new", "n000", ready_since=0.0, created_at=fleet.wall)
    fleet.sick["ns.new"] = GONE
    for _ in range(6):
        fleet.facts["ns.new"] = replace(fleet.facts["ns.new"], running=not fleet.facts["ns.new"].running)
        fleet.run(20)
    assert "WorkerFault" in fleet.moved("ns.new")
    looping = fleet_of(4, 8)
    looping.facts["ns.c0001"] = replace(looping.facts["ns.c0001"], running=False, crashing=True)
    looping.sick["ns.c0001"] = GONE
    looping.run(15)
    assert looping.moves == [], "the kubelet tries first"
    looping.run(5)
    assert looping.moved("ns.c0001") == ["WorkerFault"]


@pytest.mark.parametrize("before", [WELL, HUNG])
def test_while_its_image_is_pulled_a_worker_is_not_judged_by_the_one_before_it(before: Health) -> None:
    fleet = fleet_of(6, 12, start_grace=60.0)
    if before is not WELL:
        fleet.sick["ns.c0001"] = before
    fleet.read()
    new = replace(fleet.facts["ns.c0001"], pod_uid="new", running=False, created_at=fleet.wall)
    fleet.facts["ns.c0001"] = new
    fleet.tick()  # what was read last is of the worker before
    fleet.sick["ns.c0001"] = GONE
    fleet.run(300)
    assert fleet.moves == []
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], running=True)
    fleet.run(50)
    assert fleet.moves == [], "it has a minute to come"
    fleet.run(20)
    assert fleet.moved("ns.c0001") == ["WorkerFault"]


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_wall_clock_that_is_set_does_not_stop_moves_for_an_hour(step: float) -> None:
    fleet = fleet_of(6, 12)
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], request="now")
    fleet.run(30)
    fleet.clock_step = step
    fleet.sick["ns.c0001"] = HUNG
    fleet.run(60)
    assert fleet.moved("ns.c0001")[:2] == ["Requested", "WorkerFault"]
    future = Moved(fleet.wall + 10_000_000.0, "WorkerFault", "n000", 1)
    fleet.add("ns.odd", "n002", last=future)
    fleet.sick["ns.odd"] = HUNG
    fleet.run(60)
    assert "WorkerFault" in fleet.moved("ns.odd")


def test_where_no_worker_could_follow_the_old_one_stays() -> None:
    fleet = fleet_of(4, 8)
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], obstructed=True, request="now")
    fleet.sick["ns.c0001"] = GONE
    fleet.run(120)
    assert fleet.moves == []
    assert fleet.mover.decision("ns.c0001").cause == "Obstructed"
    assert fleet.mover.tokens(fleet.now)[0] == 10


def test_nothing_is_looked_at_every_second_where_nothing_can_follow() -> None:
    fleet = fleet_of(4, 8)
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], automatic=False)
    fleet.sick["ns.c0001"] = GONE
    fleet.add("ns.unplaced", "", running=False, ready_since=0.0, request="now")
    fleet.sick["ns.unplaced"] = GONE
    fleet.run(60)
    assert fleet.mover.decision("ns.unplaced").cause == "Requested"
    assert not fleet.mover.restless
    fleet.sick["ns.c0002"] = HUNG
    fleet.run(12)
    assert fleet.mover.restless


def test_an_old_reading_is_no_reading() -> None:
    fleet = fleet_of(4, 8)
    fleet.sick["ns.c0001"] = GONE
    fleet.run(15)
    fleet.run(600, every=10_000.0)
    assert fleet.moves == []


@pytest.mark.parametrize(
    ("facts", "cause", "act"),
    [
        ({"automatic": False}, "Never", Act.HELD),
        ({"paused": "Camera c0001"}, "Paused", Act.HELD),
    ],
)
def test_the_user_forbids(facts: dict[str, object], cause: str, act: Act) -> None:
    fleet = fleet_of(4, 8)
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], **facts)  # type: ignore[arg-type]
    fleet.sick["ns.c0001"] = GONE
    fleet.run(120)
    assert fleet.moves == []
    assert (fleet.mover.decision("ns.c0001").act, fleet.mover.decision("ns.c0001").cause) == (act, cause)


def test_a_pause_of_everything_and_a_dry_run() -> None:
    paused, dry = fleet_of(4, 8), fleet_of(4, 8, dry_run=True)
    paused.paused = "Lease camfleet/camfleet-operator"
    for fleet in (paused, dry):
        fleet.sick["ns.c0001"] = GONE
        fleet.kill("n003")
        fleet.run(120)
        assert fleet.moves == []
    assert paused.mover.decision("ns.c0001").cause == "Paused"
    would = dry.mover.decision("ns.c0001")
    assert (would.act, would.cause) == (Act.WOULD_MOVE, "DryRun")
    assert "WorkerFault" in would.message
    paused.paused = ""
    paused.run(30)
    assert {order.reason.value for _, order in paused.moves} == {"WorkerFault", "NodeLost"}


def test_a_flapping_camera_is_moved_less_and_less_often() -> None:
    """It is bad again as soon as it has started, on whatever node, for half an hour."""
    fleet = fleet_of(6, 12)
    fleet.sick["ns.c0001"] = HUNG
    fleet.run(1800)
    moves = [at for at, order in fleet.moves if order.key == "ns.c0001"]
    gaps = [later - earlier for earlier, later in pairwise(moves)]
    assert 5 <= len(moves) <= 12
    assert all(later >= min(earlier, 300) for earlier, later in pairwise(gaps))
    assert all(300 <= gap <= 400 for gap in gaps[-2:])
    assert len(fleet.moves) == len(moves)
    decision = fleet.mover.decision("ns.c0001")
    assert (decision.act, decision.cause) == (Act.HELD, "Backoff")
    assert decision.not_before > fleet.wall
    assert f"moved {len(moves)} times in a row" in decision.message


def test_ten_good_minutes_are_a_clean_slate() -> None:
    fleet = fleet_of(6, 12)
    for _ in range(3):
        fleet.sick["ns.c0001"] = HUNG
        fleet.run(32)
        del fleet.sick["ns.c0001"]
        fleet.run(40)
    assert fleet.facts["ns.c0001"].last is not None
    assert fleet.facts["ns.c0001"].last.count >= 2
    fleet.run(640)
    fleet.sick["ns.c0001"] = HUNG
    fleet.run(32)
    assert fleet.facts["ns.c0001"].last.count == 1


def test_a_restart_does_not_give_bad_workers_another_minute_to_start() -> None:
    fleet = fleet_of(6, 12)
    fleet.run(100)
    fleet.sick["ns.c0001"] = GONE
    for key, camera in fleet.facts.items():
        fleet.facts[key] = replace(camera, ready_since=0.0)  # the status says NotReady by now
    fleet.restart()
    fleet.run(22)
    assert fleet.moved("ns.c0001") == ["WorkerFault"]


def test_backoff_survives_a_restart() -> None:
    fleet = fleet_of(6, 12)
    fleet.sick["ns.c0001"] = HUNG
    fleet.run(900)
    before = len(fleet.moves)
    last = fleet.moves[-1][0]
    fleet.restart()
    fleet.run(300)
    after = [at for at, _ in fleet.moves[before:]]
    assert after
    assert after[0] - last >= 150


def test_a_request_moves_once_whatever_the_health_and_is_no_failure() -> None:
    fleet = fleet_of(4, 8)
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], request="2026-01-01T00:00:00Z")
    fleet.run(60)
    ((_, order),) = fleet.moves
    assert (order.reason.value, order.count, order.graceful) == ("Requested", 0, True)
    assert fleet.facts["ns.c0001"].node != "n001"
    fleet.restart()
    fleet.run(60)
    assert len(fleet.moves) == 1
    fleet.facts["ns.c0001"] = replace(fleet.facts["ns.c0001"], request="again")
    fleet.run(10)
    assert len(fleet.moves) == 2


def test_relief_is_a_move_within_the_budget_and_never_of_a_camera_that_is_not_well() -> None:
    fleet = fleet_of(4, 8)
    fleet.relief = Relief("ns.c0001", "node n001: CPU 97 %")
    fleet.tick()
    fleet.relief = Relief("ns.c0002", "node n002: CPU 97 %")
    fleet.sick["ns.c0002"] = REFUSED
    fleet.run(60)
    assert [(order.key, order.reason.value) for _, order in fleet.moves] == [("ns.c0001", "Relief")]


def test_an_order_that_nobody_carries_out_is_given_up_and_made_anew() -> None:
    fleet = fleet_of(4, 8)
    fleet.carry_out = False
    fleet.sick["ns.c0001"] = GONE
    fleet.run(30)
    order = fleet.mover.order("ns.c0001")
    assert order is not None
    fleet.run(30)
    assert fleet.mover.order("ns.c0001") == order
    fleet.run(60)
    again = fleet.mover.order("ns.c0001")
    assert again != order
