"""What is remembered of a camera: how long it has been bad, and how long its next move waits."""

from __future__ import annotations

import pytest
from tests.operator_cluster.move_fleet import GONE, WELL

from camfleet_operator.backoff import RestartPolicy
from camfleet_operator.cluster.health.camera_memory import CameraMemory
from camfleet_operator.cluster.health.orders import Moved, MoveFacts, Policy
from camfleet_operator.cluster.health.verdicts import Evidence

NEVER = float("-inf")
POLICY = Policy(readings=3, bad_for=16.0)


@pytest.mark.parametrize(
    ("evidence", "crashing_since", "thawed_at", "due"),
    [
        (None, None, NEVER, None),
        (Evidence(GONE, 3, 80.0, 100.0), None, NEVER, True),
        (Evidence(GONE, 2, 80.0, 100.0), None, NEVER, False),
        (Evidence(GONE, 3, 90.0, 100.0), None, NEVER, False),  # readings that came fast
        (Evidence(GONE, 9, 10.0, 100.0), None, 90.0, False),  # what was bad in a freeze
        (Evidence(GONE, 9, 10.0, 100.0), None, 84.0, True),
        (None, 80.0, NEVER, True),
        (None, 90.0, NEVER, None),
        (None, 10.0, 90.0, None),
    ],
)
def test_how_long_is_long_enough(
    evidence: Evidence | None, crashing_since: float | None, thawed_at: float, due: bool | None
) -> None:
    memory = CameraMemory("pod", 0.0, crashing_since=crashing_since)
    assert memory.bad_long_enough(evidence, 100.0, thawed_at, POLICY) is due


def test_each_move_in_a_row_waits_longer_by_a_little_that_differs_from_camera_to_camera() -> None:
    backoff = RestartPolicy(first_delay=10.0, max_delay=300.0)
    for count, delay in ((0, 0.0), (1, 10.0), (2, 20.0), (3, 40.0), (9, 300.0)):
        pauses = {CameraMemory("pod", 0.0, count=count).pause(f"ns.c{n}", backoff) for n in range(50)}
        assert delay <= min(pauses) and max(pauses) <= 1.2 * delay
        assert len(pauses) > 25 or not count


@pytest.mark.parametrize(("age", "count"), [(10.0, 4), (899.0, 4), (900.0, 0)])
def test_a_status_tells_how_often_it_was_moved_unless_that_is_long_ago(age: float, count: int) -> None:
    wall = 1_000_000.0
    last = Moved(wall - age, "WorkerFault", "n1", 4)
    camera = MoveFacts("ns.c", "n2", "pod", True, Evidence(WELL, 0, 0.0, 0.0), last=last, created_at=wall)
    memory = CameraMemory.first_seen(camera, 0.0, wall)
    memory.follow(camera, 0.0, wall, Policy())
    assert (memory.count, memory.moved_at, memory.left) == (count, wall - age, "n1")
