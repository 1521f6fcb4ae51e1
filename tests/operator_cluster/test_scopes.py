"""Which cameras count for the fleet and for a zone, and how many of them are bad."""

from __future__ import annotations

import pytest
from tests.operator_cluster.move_fleet import GONE, HUNG, REFUSED, UNKNOWN, WELL

from camfleet_operator.cluster.health.breaker import FLEET, Count, zone_scope
from camfleet_operator.cluster.health.faults import CameraFacts, NodeFacts, attribute
from camfleet_operator.cluster.health.scopes import count_scopes, nowhere_to_move, scopes_of
from camfleet_operator.cluster.health.verdicts import Evidence, Health, Verdict

ZONES = {"a": "east", "b": "east", "c": "east", "d": "west"}
NODES = {name: NodeFacts(name, zone, lease_late=False) for name, zone in ZONES.items()}


def counts(*cameras: tuple[str, Health | None], nodes: dict[str, NodeFacts] = NODES) -> dict[str, Count]:
    facts = []
    for number, (node, health) in enumerate(cameras):
        bad = health is not None and health.verdict is Verdict.UNHEALTHY
        evidence = Evidence(health, 3 if bad else 0, 0.0, 20.0) if health is not None else None
        facts.append(CameraFacts(f"ns.c{number}", node, evidence, established=True))
    return count_scopes(facts, nodes, attribute(facts, nodes))


@pytest.mark.parametrize(
    ("health", "fleet"),
    [
        (WELL, Count(4, 0, 4, 0)),
        (GONE, Count(4, 1, 4, 1)),
        (UNKNOWN, Count(4, 1, 4, 1)),
        (REFUSED, Count(4, 0, 4, 0)),  # a source that fails has an explanation
        (None, Count(3, 0, 3, 0)),  # so has a worker that starts
    ],
)
def test_what_counts_as_bad(health: Health | None, fleet: Count) -> None:
    assert counts(("a", health), ("b", WELL), ("c", WELL), ("d", WELL))[FLEET] == fleet


def test_a_zone_counts_for_itself_where_there_are_several_and_it_is_not_small() -> None:
    cameras = [("a", GONE), ("b", WELL), ("c", WELL), ("d", GONE)]
    assert counts(*cameras) == {FLEET: Count(4, 2, 4, 2), zone_scope("east"): Count(3, 1, 3, 1)}
    alone = {name: NodeFacts(name, "east") for name in NODES}
    assert counts(*cameras, nodes=alone).keys() == {FLEET}
    assert (scopes_of(NODES, "d"), scopes_of(NODES, "z")) == ((zone_scope("west"),), ())


def test_a_dead_node_does_not_count_nor_does_a_single_one_whose_workers_hang() -> None:
    dead = {**NODES, "a": NodeFacts("a", "east", lease_late=True)}
    others = [("b", WELL), ("c", WELL), ("d", WELL)]
    assert counts(("a", GONE), ("a", GONE), *others, nodes=dead)[FLEET] == Count(3, 0, 3, 0)
    assert counts(("a", HUNG), ("a", HUNG), *others)[FLEET] == Count(3, 0, 3, 0)
    two = [("a", HUNG), ("a", HUNG), ("b", HUNG), ("b", HUNG), ("c", WELL)]
    assert counts(*two)[FLEET] == Count(5, 4, 3, 2), "what two nodes have in common may be the network"


@pytest.mark.parametrize(
    ("late", "reason"),
    [
        ([], None),
        ([None], None),
        ([True, False], None),
        ([True, None], "AllNodesLost"),
        ([True], "AllNodesLost"),
    ],
)
def test_where_every_kubelet_is_silent_there_is_nowhere_to_move(
    late: list[bool | None], reason: str | None
) -> None:
    found = nowhere_to_move({str(n): NodeFacts(str(n), lease_late=known) for n, known in enumerate(late)})
    assert (found[0] if found is not None else None) == reason
