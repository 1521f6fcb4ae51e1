"""What is said of a camera: conditions, and when they are worth a write."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.operator_cluster.camera_cases import (
    HEALTHY,
    NOW,
    UID,
    camera,
    look,
    pod,
    reasons,
    running,
    settled,
    unplaced,
)

from camfleet_operator.cluster.camera_status import status_differs
from camfleet_operator.cluster.decide import plan_camera
from camfleet_operator.cluster.health.verdicts import Health, Verdict
from camfleet_protocol.camera import ConditionStatus, WorkerStatus
from camfleet_protocol.cluster import pod_name


def test_all_conditions_are_there_from_the_first_visit() -> None:
    plan = plan_camera(look(), NOW)
    assert set(reasons(plan)) == {"Ready", "Scheduled", "SourceConnected", "Streaming", "Degraded"}
    assert all(c.reason and c.observed_generation == 1 for c in plan.status.conditions)


def test_a_pod_that_the_scheduler_has_not_seen_is_not_worth_a_write_yet() -> None:
    plan = plan_camera(look(None, pod(created_at=NOW - 1)), NOW)
    assert plan.start is None
    assert plan.hold_status == pytest.approx(14)
    assert plan.requeue_after == pytest.approx(14)
    late = plan_camera(look(None, pod(created_at=NOW - 16)), NOW)
    assert late.hold_status == 0
    assert reasons(late)["Scheduled"] == ("Unknown", "Pending")


def test_a_scheduler_that_is_behind_is_given_more_time() -> None:
    waiting = pod(created_at=NOW - 16)
    assert plan_camera(look(None, waiting, scheduler_busy=True), NOW).hold_status == pytest.approx(104)


def test_a_placed_pod_is_named_in_the_status() -> None:
    plan = plan_camera(look(None, running(running=False)), NOW)
    assert plan.hold_status == 0
    assert plan.status.worker == WorkerStatus(
        attempt=1, pod_name=pod_name("door", UID, 1), pod_uid="pod-1", node_name="n1"
    )
    assert reasons(plan)["Scheduled"] == ("True", "Scheduled")
    assert reasons(plan)["Ready"] == ("False", "WorkerStarting")


def test_running_says_no_more_than_starting_until_pictures_are_known_of() -> None:
    before = plan_camera(look(None, running(running=False)), NOW).status
    after = plan_camera(look(None, running()), NOW).status
    assert not status_differs(after, before)


def test_ready_is_true_only_when_frames_flow() -> None:
    plan = plan_camera(look(None, running(), health=HEALTHY), NOW)
    assert reasons(plan) == {
        "Ready": ("True", "Streaming"),
        "Scheduled": ("True", "Scheduled"),
        "SourceConnected": ("True", "SourceConnected"),
        "Streaming": ("True", "Streaming"),
        "Degraded": ("False", "AsExpected"),
    }


def test_a_new_operator_does_not_take_back_what_it_does_not_know_yet() -> None:
    of = settled(camera(), running(), health=HEALTHY)
    plan = plan_camera(look(of, running(), health=None), NOW + 1000)
    assert not status_differs(plan.status, of.status)


def test_what_was_said_of_another_pod_is_not_said_of_the_next() -> None:
    of = settled(camera(), running(1), health=HEALTHY)
    plan = plan_camera(look(of, running(2), health=None), NOW + 1)
    assert reasons(plan)["Ready"] == ("False", "WorkerStarting")


UNHEALTHY = replace(HEALTHY, verdict=Verdict.UNHEALTHY, streaming=False)


@pytest.mark.parametrize(
    ("health", "ready", "source"),
    [
        (
            replace(UNHEALTHY, source_connected=False, reason="AuthFailed"),
            ("False", "AuthFailed"),
            ("False", "AuthFailed"),
        ),
        (replace(UNHEALTHY, reason="Stalled"), ("False", "Stalled"), ("True", "SourceConnected")),
        (
            replace(UNHEALTHY, worker_connected=False, source_connected=None, reason="WorkerNotConnected"),
            ("False", "WorkerNotConnected"),
            ("Unknown", "WorkerNotConnected"),
        ),
        (
            replace(UNHEALTHY, verdict=Verdict.UNKNOWN, source_connected=None, reason="GatewayUnreachable"),
            ("Unknown", "GatewayUnreachable"),
            ("Unknown", "GatewayUnreachable"),
        ),
    ],
    ids=lambda value: value.reason if isinstance(value, Health) else "",
)
def test_ready_says_what_stands_in_the_way(
    health: Health, ready: tuple[str, str], source: tuple[str, str]
) -> None:
    said = reasons(plan_camera(look(None, running(), health=health), NOW))
    assert said["Ready"] == ready
    assert said["SourceConnected"] == source


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"waiting": "ImagePullBackOff", "running": False}, "ImagePullFailed"),
        ({"waiting": "ErrImageNeverPull", "running": False}, "ImagePullFailed"),
        ({"waiting": "CreateContainerConfigError", "running": False}, "ContainerNotCreated"),
        ({"waiting": "CrashLoopBackOff", "running": False, "exit_code": 2}, "WorkerCrashLoop"),
        ({"waiting": "ContainerCreating", "running": False}, "WorkerStarting"),
    ],
)
def test_a_container_that_does_not_run_says_why(facts: dict[str, Any], reason: str) -> None:
    assert reasons(plan_camera(look(None, running(**facts)), NOW))["Ready"] == ("False", reason)


def test_transition_times_change_with_the_status_only() -> None:
    first = settled(camera(), running())
    later = plan_camera(look(first, running()), NOW + 50)
    assert {c.last_transition_time for c in later.status.conditions} == {datetime.fromtimestamp(NOW, UTC)}
    ready = plan_camera(look(first, running(), health=HEALTHY), NOW + 50)
    times = {c.type: c.last_transition_time for c in ready.status.conditions}
    assert times["Ready"] == datetime.fromtimestamp(NOW + 50, UTC)
    assert times["Scheduled"] == datetime.fromtimestamp(NOW, UTC)


def test_nothing_to_do_is_nothing_to_write() -> None:
    of = settled(camera(), running(), health=HEALTHY)
    plan = plan_camera(look(of, running(), health=replace(HEALTHY, frame_age=0.7)), NOW + 1000)
    assert plan.start is None and plan.delete == () and plan.requeue_after is None
    assert not status_differs(plan.status, of.status)


def test_why_a_bad_worker_stays_is_part_of_what_is_said_of_it() -> None:
    gone = replace(
        HEALTHY, verdict=Verdict.UNHEALTHY, streaming=False, reason="WorkerNotConnected", message="gone"
    )
    plan = plan_camera(look(None, running(), health=gone, held="not moved: paused by Camera door"), NOW)
    said = {c.type: c.message for c in plan.status.conditions}
    assert said["Ready"] == "gone; not moved: paused by Camera door"
    crashing = running(waiting="CrashLoopBackOff", running=False, exit_code=2)
    plan = plan_camera(look(None, crashing, held="not moved: paused by Camera door"), NOW)
    said = {c.type: c.message for c in plan.status.conditions}
    assert said["Ready"].endswith("with code 2; see its log; not moved: paused by Camera door")


def test_a_scheduler_that_counts_nodes_anew_is_not_worth_a_write() -> None:
    of = camera(gpu={"mode": "Required"})
    told = settled(of, unplaced(of, NOW - 10))
    again = replace(
        unplaced(of, NOW - 10), scheduling_message="0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    )
    assert not status_differs(plan_camera(look(told, again), NOW + 60).status, told.status)
    full = replace(again, scheduling_message="0/3 nodes are available: 3 Too many pods.")
    assert reasons(plan_camera(look(told, full), NOW + 60))["Scheduled"] == ("False", "NodeFull")


_DOOR = {"name": "door", "points": [[0, 0], [1, 0], [1, 1]]}
_AT_THE_DOOR = {"name": "somebody", "when": "InZone", "zone": "door"}


@pytest.mark.parametrize(
    ("spec", "degraded"),
    [
        ({"inference": {"faceRecognition": {"enabled": True}}}, ("True", "RetentionMissing")),
        (
            {"inference": {"faceRecognition": {"enabled": True}}, "privacy": {"retentionDays": 14}},
            ("False", "AsExpected"),
        ),
        ({"alerts": [_AT_THE_DOOR]}, ("True", "ZoneUnknown")),
        ({"alerts": [_AT_THE_DOOR], "inference": {"zones": [_DOOR]}}, ("False", "AsExpected")),
    ],
)
def test_settings_that_cannot_be_had_together_are_said(spec: Any, degraded: tuple[str, str]) -> None:
    of = camera(**spec)
    plan = plan_camera(look(of, running(1, of=of), health=HEALTHY), NOW)
    assert reasons(plan)["Degraded"] == degraded
    assert reasons(plan)["Ready"] == ("True", "Streaming")


def test_conditions_speak_of_the_generation_they_saw() -> None:
    plan = plan_camera(look(camera(generation=7), running()), NOW)
    assert {c.observed_generation for c in plan.status.conditions} == {7}
    assert {c.status for c in plan.status.conditions} <= set(ConditionStatus)
