"""How many moves there are: buckets, what a node costs, and what a restart takes over."""

from __future__ import annotations

import pytest

from camfleet_operator.cluster.health.budget import TokenBucket
from camfleet_operator.cluster.health.faults import NodeReport, NodeState
from camfleet_operator.cluster.health.incidents import Incidents
from camfleet_operator.cluster.health.move_budget import MoveBudget
from camfleet_operator.cluster.health.orders import Moved, Policy


def test_a_bucket_remembers_what_was_spent_before_a_restart() -> None:
    bucket = TokenBucket(1.0, 10, now=100.0)
    bucket.replay([40.0, 98.0, 96.0], now=100.0)
    assert bucket.tokens(100.0) == pytest.approx(2.0)
    assert bucket.take(100.0, 2.0)
    assert not bucket.take(100.0)
    assert bucket.take(101.0)
    bucket.replay([], now=200.0)
    assert bucket.tokens(200.0) == 10
    bucket.replay([150.0], now=200.0)
    assert bucket.tokens(200.0) == 10


def dead(*names: str) -> dict[str, NodeReport]:
    return {name: NodeReport(NodeState.DEAD, "gone", 3, 3) for name in names}


def test_a_node_costs_one_token_and_then_its_cameras_leave_at_a_steady_pace() -> None:
    incidents = Incidents()
    budget = MoveBudget(Policy(nodes_per_second=0.1), incidents, now=0.0)
    incidents.note(0.0, dead("a", "b"), lambda _: False)
    assert [budget.take_from_node("a", 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert not budget.take_from_node("b", 5.0), "the next node's token comes after ten seconds"
    assert budget.take_from_node("a", 5.0)
    assert budget.take_from_node("b", 10.0)
    assert budget.tokens(10.0) == (10, 0.0)


def test_a_restart_takes_over_what_nodes_and_single_cameras_have_cost() -> None:
    incidents = Incidents()
    budget = MoveBudget(Policy(), incidents, now=100.0)
    moves = [Moved(995.0, "NodeLost", "a", 1), Moved(998.0, "WorkerFault", "b", 1)]
    budget.restore(moves, now=100.0, wall=1000.0)
    assert budget.tokens(100.0) == (pytest.approx(2.0), pytest.approx(0.5))
    assert incidents.is_paid("a") and not incidents.is_paid("b")
    assert incidents.avoided(1000.0) == {"a": 1295.0}


def test_each_further_incident_keeps_a_node_away_twice_as_long() -> None:
    incidents = Incidents()
    wall, pauses = 0.0, []
    for _ in range(6):
        incidents.note(wall, dead("a"), lambda _: False)
        pauses.append(incidents.avoided(wall)["a"] - wall)
        wall += pauses[-1]
    assert pauses == [300.0, 600.0, 1200.0, 2400.0, 3600.0, 3600.0]
    incidents.note(wall + 3 * 3600.0, {}, lambda _: False)
    incidents.note(wall + 3 * 3600.0, dead("a"), lambda _: False)
    assert incidents.avoided(wall + 3 * 3600.0)["a"] == wall + 3 * 3600.0 + 300.0


def test_what_is_frozen_begins_no_incident() -> None:
    incidents = Incidents()
    incidents.note(0.0, dead("a", "b"), lambda name: name == "a")
    assert set(incidents.avoided(0.0)) == {"b"}
