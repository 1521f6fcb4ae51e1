"""The plan for one camera in a cluster, as tables: what is seen, what is done, what is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from camfleet_operator.cluster.camera_status import status_differs
from camfleet_operator.cluster.decide import CameraObserved, CameraPlan, plan_camera
from camfleet_operator.cluster.health.orders import Order, Reason
from camfleet_operator.cluster.health.verdicts import Health, Verdict
from camfleet_operator.cluster.pods import PodSeen
from camfleet_operator.cluster.podspec import Variant, build_pod, shape_worker
from camfleet_operator.cluster.scheduling import scheduling_reason
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_protocol.camera import Camera, CameraProfile, CameraStatus, ConditionStatus, WorkerStatus
from camfleet_protocol.cluster import pod_name
from camfleet_protocol.settings import effective_settings

UID = "0b7d-camera"
NOW = 1_800_000_000.0
OPERATOR = OperatorSettings(worker_image="worker:1")
HEALTHY = Health(
    verdict=Verdict.HEALTHY,
    worker_connected=True,
    source_connected=True,
    frame_age=0.1,
    streaming=True,
    reason="Streaming",
    message="",
)


def camera(status: CameraStatus | None = None, *, generation: int = 1, **spec: Any) -> Camera:
    document = {
        "apiVersion": "camfleet.io/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": "door", "namespace": "site", "generation": generation},
        "spec": {"source": {"testPattern": {}}, "gpu": {"mode": "Disabled"}, **spec},
    }
    made = Camera.model_validate(document)
    return made.model_copy(update={"status": status}) if status is not None else made


def pod(
    attempt: int = 1, *, of: Camera | None = None, variant: Variant = Variant.CPU, **facts: Any
) -> PodSeen:
    shape = shape_worker(of or camera(), None, None, OPERATOR)
    seen = PodSeen(
        namespace="site",
        name=pod_name("door", UID, attempt),
        uid=f"pod-{attempt}",
        owner_uid=UID,
        attempt=attempt,
        fingerprint=shape.fingerprints.get(variant, "other"),
        image="worker:1",
        created_at=NOW - 100,
    )
    return replace(seen, **facts)


def running(attempt: int = 1, **facts: Any) -> PodSeen:
    return pod(attempt, **{"scheduled": True, "node": "n1", "running": True, **facts})


def look(
    of: Camera | None = None, *pods: PodSeen, profile: CameraProfile | None = None, **facts: Any
) -> CameraObserved:
    of = of or camera()
    return CameraObserved(
        camera=of,
        camera_uid=UID,
        pods=pods,
        **{
            "shape": shape_worker(of, profile, None, OPERATOR),
            "settings": effective_settings(of, profile),
            **facts,
        },
    )


def settled(of: Camera, *pods: PodSeen, **facts: Any) -> Camera:
    """The camera with the status that a plan has come to."""
    plan = plan_camera(look(of, *pods, **facts), NOW)
    return of.model_copy(update={"status": plan.status})


def reasons(plan: CameraPlan) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status.value, c.reason) for c in plan.status.conditions}


# ── Starting ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_camera_gets_its_first_pod_before_any_status() -> None:
    plan = plan_camera(look(), NOW)
    assert plan.start is not None
    assert (plan.start.attempt, plan.start.variant) == (1, Variant.CPU)
    assert plan.delete == ()


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


def test_an_announced_attempt_is_taken_up_and_not_skipped() -> None:
    announced = CameraStatus(worker=WorkerStatus(attempt=4, pod_name=pod_name("door", UID, 4)))
    plan = plan_camera(look(camera(announced)), NOW)
    assert plan.start is not None and plan.start.attempt == 4


def test_a_lost_pod_is_followed_by_the_next_attempt() -> None:
    lost = CameraStatus(worker=WorkerStatus(attempt=4, pod_name="x", pod_uid="gone"))
    plan = plan_camera(look(camera(lost)), NOW)
    assert plan.start is not None and plan.start.attempt == 5
    assert plan.status.worker == WorkerStatus(attempt=5, pod_name=pod_name("door", UID, 5))


# ── Ready means frames ──────────────────────────────────────────────────────────────────────────────────


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


# ── Stopping and replacing ──────────────────────────────────────────────────────────────────────────────


def test_suspend_deletes_the_pod_and_says_so() -> None:
    plan = plan_camera(look(camera(suspend=True), running()), NOW)
    assert [d.uid for d in plan.delete] == ["pod-1"] and plan.start is None
    assert reasons(plan)["Ready"] == ("False", "Suspended")


def test_a_changed_source_replaces_the_pod_break_before_make() -> None:
    of = camera(source={"testPattern": {"fps": 5}}, generation=2)
    plan = plan_camera(look(of, running()), NOW)
    assert [d.reason for d in plan.delete] == ["changed"] and plan.start is None
    waiting = plan_camera(look(of, running(deleting=True, running=False, gone_by=NOW)), NOW)
    assert waiting.delete == () and waiting.start is None
    assert reasons(waiting)["Scheduled"] == ("False", "Replacing")
    gone = CameraStatus(worker=WorkerStatus(attempt=1, pod_name="x", pod_uid="pod-1"))
    after = plan_camera(look(of.model_copy(update={"status": gone})), NOW)
    assert after.start is not None and after.start.attempt == 2


def test_changed_settings_need_no_new_pod() -> None:
    of = settled(camera(), running(), health=HEALTHY)
    edited = camera(of.status, generation=2, stream={"fps": 3})
    plan = plan_camera(look(edited, running(), health=HEALTHY), NOW)
    assert plan.delete == () and plan.start is None
    assert plan.status.settings is not None
    assert plan.status.settings.values["stream"]["fps"] == 3


def test_a_copy_made_by_hand_is_deleted_and_the_real_one_stays() -> None:
    copy = running(name="door-copy", uid="copy")
    plan = plan_camera(look(None, running(), copy), NOW)
    assert [d.uid for d in plan.delete] == ["copy"]
    assert plan.status.worker is not None and plan.status.worker.pod_uid == "pod-1"


def test_a_copy_does_not_run_beside_a_new_pod() -> None:
    plan = plan_camera(look(None, running(name="door-copy", uid="copy")), NOW)
    assert [d.uid for d in plan.delete] == ["copy"] and plan.start is None


def test_a_pod_made_again_by_hand_under_the_same_name_is_no_attempt() -> None:
    of = settled(camera(), running(), health=HEALTHY)
    twin = running(uid="made-by-hand")
    plan = plan_camera(look(of, twin), NOW)
    assert [d.uid for d in plan.delete] == ["made-by-hand"] and plan.start is None
    then = plan_camera(look(of), NOW)
    assert then.start is not None and then.start.attempt == 2


def test_a_device_that_nothing_grants_is_named() -> None:
    bare = camera(source={"device": {"path": "/dev/video0"}})
    plan = plan_camera(look(bare), NOW)
    assert plan.start is None
    assert reasons(plan)["Scheduled"] == ("False", "DeviceResourceMissing")
    granted = camera(source={"device": {"path": "/dev/video0", "resourceName": "example.com/video"}})
    assert plan_camera(look(granted), NOW).start is not None


def test_an_image_edited_by_hand_is_replaced() -> None:
    plan = plan_camera(look(None, running(image="somebody/else:1", edited=True)), NOW)
    assert [d.uid for d in plan.delete] == ["pod-1"]


def test_an_image_that_admission_has_rewritten_is_nobodys_edit() -> None:
    plan = plan_camera(look(None, running(image="mirror.example/worker:1@sha256:0")), NOW)
    assert plan.delete == ()


def test_pods_that_are_taken_away_again_and_again_come_back_ever_later() -> None:
    gone = camera(CameraStatus(worker=WorkerStatus(attempt=4, pod_name="x", pod_uid="gone")))
    for restarts, waits in ((0, 0), (1, 0), (2, 10), (3, 20), (9, 300)):
        plan = plan_camera(look(gone, restarts=restarts, restarted_at=NOW), NOW)
        assert (plan.start is None) == (waits > 0)
        assert plan.requeue_after == (pytest.approx(waits) if waits else None)
        if waits:
            assert reasons(plan)["Scheduled"] == ("False", "WorkerBackoff")


def test_a_pod_that_does_not_end_is_not_waited_for_for_ever() -> None:
    stuck = running(deleting=True, running=False, gone_by=NOW - 10)
    waiting = plan_camera(look(None, stuck), NOW)
    assert waiting.start is None and waiting.requeue_after == pytest.approx(2)
    after = plan_camera(look(None, replace(stuck, gone_by=NOW - 61)), NOW)
    assert after.start is not None and after.start.attempt == 2
    assert after.status.worker is not None and after.status.worker.attempt == 2
    both = plan_camera(look(None, replace(stuck, gone_by=NOW - 61), running(2)), NOW)
    assert both.start is None and both.delete == ()


def test_a_pod_that_ends_on_a_silent_node_is_not_waited_for_at_all() -> None:
    stuck = running(deleting=True, running=False, gone_by=NOW + 5)
    assert plan_camera(look(None, stuck), NOW).start is None
    silent = plan_camera(look(None, stuck, silent_nodes=frozenset({"n1"})), NOW)
    assert silent.start is not None and silent.start.attempt == 2


def test_a_move_is_told_in_the_status_and_then_made() -> None:
    order = Order("site.door", "pod-1", Reason.NODE_LOST, "node n1 is gone", "n1", 2, NOW, graceful=False)
    was = settled(camera(), running(), health=HEALTHY)
    plan = plan_camera(look(was, running(), health=HEALTHY, order=order, granted=False), NOW)
    assert plan.moved == order
    assert [(d.uid, d.grace) for d in plan.delete] == [("pod-1", 1)]
    assert "NodeLost" in plan.delete[0].reason
    assert plan.start is None, "one worker at a time"
    last = plan.status.last_reassignment
    assert last is not None and last.time is not None
    assert (last.reason, last.from_node, last.to_node, last.count) == ("NodeLost", "n1", "", 2)
    assert last.time.timestamp() == NOW
    moved = was.model_copy(update={"status": plan.status})
    again = plan_camera(look(moved, order=order), NOW + 1)
    assert again.moved is None and again.start is not None and again.start.attempt == 2
    there = running(2, node="n2", created_at=NOW + 2)
    after = plan_camera(look(moved, there, order=order), NOW + 5)
    assert after.status.last_reassignment == last.model_copy(update={"to_node": "n2"})
    assert after.moved is None and after.delete == ()


def test_an_order_for_another_pod_or_one_that_runs_no_more_is_nothing() -> None:
    order = Order("site.door", "pod-1", Reason.WORKER_FAULT, "it hangs", "n1", 1, NOW)
    was = settled(camera(), running(2), health=HEALTHY)
    plan = plan_camera(look(was, running(2), health=HEALTHY, order=order), NOW)
    assert plan.moved is None and plan.delete == () and plan.status.last_reassignment is None


def test_a_worker_is_not_moved_where_the_next_one_could_not_start() -> None:
    order = Order("site.door", "pod-1", Reason.WORKER_FAULT, "it hangs", "n1", 1, NOW)
    of = camera(profileRef={"name": "gone"})
    plan = plan_camera(look(of, running(), shape=None, settings=None, order=order), NOW)
    assert plan.moved is None and plan.delete == ()


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


def test_a_pod_that_the_kubelet_refuses_twice_is_tried_again_in_ten_seconds() -> None:
    refused = pod(2, ended=True, ended_at=NOW - 4, created_at=NOW - 5, ended_reason="OutOfpods")
    first = plan_camera(look(None, refused, failures=1), NOW)
    assert first.start is None and first.requeue_after == pytest.approx(6)
    said = {c.type: c.message for c in first.status.conditions}["Scheduled"]
    assert "OutOfpods" in said
    later = plan_camera(look(None, refused, failures=1), NOW + 1)
    assert not status_differs(later.status, first.status), "the countdown is not worth a write"
    assert plan_camera(look(None, refused, failures=1), NOW + 7).start is not None


def test_a_cpu_worker_that_fails_is_not_forgiven_for_being_no_gpu_worker() -> None:
    of = camera(gpu={"mode": "Preferred"})
    failed = pod(8, of=of, variant=Variant.CPU, ended=True, ended_at=NOW - 1, exit_code=1)
    plan = plan_camera(look(of, failed, failures=7), NOW)
    assert plan.start is None and plan.requeue_after is not None and plan.requeue_after > 100


def test_a_quota_for_gpus_sends_a_camera_that_only_prefers_one_to_a_cpu() -> None:
    of = camera(gpu={"mode": "Preferred"})
    early = plan_camera(look(of, refusal="quota", refused_for=5), NOW)
    assert early.start is not None and early.start.variant is Variant.GPU
    late = plan_camera(look(of, refusal="quota", refused_for=60), NOW)
    assert late.start is not None and late.start.variant is Variant.CPU and late.cpu_next


def test_a_suspended_camera_takes_settings_without_its_turn() -> None:
    of = settled(camera(profileRef={"name": "hall"}, suspend=True))
    plan = plan_camera(look(of, profile=profile(stream={"fps": 2}), granted=False), NOW)
    assert not plan.needs_grant and plan.obstructed


def test_the_older_of_two_attempts_goes() -> None:
    plan = plan_camera(look(None, running(1), running(2)), NOW)
    assert [d.uid for d in plan.delete] == ["pod-1"]


def test_a_pod_that_failed_is_cleared_away_and_followed_at_once_then_later() -> None:
    failed = pod(1, ended=True, ended_at=NOW - 1, exit_code=1)
    first = plan_camera(look(None, failed), NOW)
    assert [(d.uid, d.failures) for d in first.delete] == [("pod-1", 1)]
    assert first.start is not None and first.start.attempt == 2 and first.failures == 1
    again = plan_camera(look(None, pod(2, ended=True, ended_at=NOW - 1, exit_code=1), failures=1), NOW)
    assert again.start is None and again.requeue_after == pytest.approx(9)
    assert reasons(again)["Scheduled"] == ("False", "WorkerBackoff")


# ── Profiles ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_profile_starts_nothing_and_stops_nothing() -> None:
    of = camera(profileRef={"name": "hall"})
    fresh = plan_camera(look(of, shape=None, settings=None), NOW)
    assert fresh.start is None
    assert reasons(fresh)["Scheduled"] == ("False", "ProfileNotFound")
    going = plan_camera(look(of, running(), shape=None, settings=None, health=HEALTHY), NOW)
    assert going.delete == () and reasons(going)["Ready"] == ("True", "Streaming")


def profile(**spec: Any) -> CameraProfile:
    return CameraProfile.model_validate({"metadata": {"name": "hall", "namespace": "site"}, "spec": spec})


@pytest.mark.parametrize("change", [{"stream": {"fps": 2}}, {"image": "worker:2"}], ids=["settings", "image"])
def test_a_changed_profile_waits_for_its_turn(change: dict[str, Any]) -> None:
    of = settled(camera(profileRef={"name": "hall"}), running(), health=HEALTHY)
    waits = plan_camera(look(of, running(), profile=profile(**change), health=HEALTHY, granted=False), NOW)
    assert waits.needs_grant and waits.delete == ()
    assert waits.status.settings == of.status.settings
    goes = plan_camera(look(of, running(), profile=profile(**change), health=HEALTHY, granted=True), NOW)
    assert not goes.needs_grant
    assert bool(goes.delete) == ("image" in change)
    assert (goes.status.settings != of.status.settings) == ("stream" in change)


def test_ones_own_edit_does_not_wait() -> None:
    of = settled(camera(), running(), health=HEALTHY)
    edited = camera(of.status, generation=2, stream={"fps": 2}, image="worker:2")
    plan = plan_camera(look(edited, running(), health=HEALTHY, granted=False), NOW)
    assert not plan.needs_grant and plan.delete


# ── GPU ─────────────────────────────────────────────────────────────────────────────────────────────────


def unplaced(of: Camera, since: float) -> PodSeen:
    return pod(
        of=of,
        variant=Variant.GPU,
        scheduled=False,
        unschedulable_since=since,
        scheduling_message="0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes…",
    )


def test_a_required_gpu_is_waited_for() -> None:
    of = camera(gpu={"mode": "Required"})
    plan = plan_camera(look(of, unplaced(of, NOW - 1000)), NOW)
    assert plan.delete == () and plan.start is None
    assert reasons(plan)["Scheduled"] == ("False", "InsufficientGPU")
    assert reasons(plan)["Ready"] == ("False", "InsufficientGPU")


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


def test_a_preferred_gpu_is_waited_for_a_while_then_a_cpu_is_taken() -> None:
    of = camera(gpu={"mode": "Preferred"})
    early = plan_camera(look(of, unplaced(of, NOW - 20)), NOW)
    assert early.delete == () and early.requeue_after == pytest.approx(40)
    late = plan_camera(look(of, unplaced(of, NOW - 60)), NOW)
    assert [d.uid for d in late.delete] == ["pod-1"] and late.cpu_next
    gone = of.model_copy(
        update={"status": CameraStatus(worker=WorkerStatus(attempt=1, pod_name="x", pod_uid="pod-1"))}
    )
    then = plan_camera(look(gone, cpu_next=True), NOW)
    assert then.start is not None and then.start.variant is Variant.CPU
    on_cpu = running(2, of=of, variant=Variant.CPU)
    stays = plan_camera(look(gone, on_cpu, cpu_next=True, health=HEALTHY), NOW)
    assert stays.delete == () and not stays.cpu_next
    assert reasons(stays)["Ready"] == ("True", "Streaming")
    assert reasons(stays)["Degraded"] == ("True", "GPUUnavailable")
    replaced = plan_camera(look(gone), NOW)
    assert replaced.start is not None and replaced.start.variant is Variant.GPU


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 …", "InsufficientGPU"),
        ("0/3 nodes are available: 3 Insufficient nvidia.com/mig-1g.5gb.", "InsufficientGPU"),
        ("0/3 nodes are available: 3 Insufficient example.com/slice.", "InsufficientGPU"),
        ("0/3 nodes are available: 3 Insufficient example.com/other.", "InsufficientDevice"),
        (
            "0/9 nodes are available: 2 Insufficient nvidia.com/gpu, 7 node(s) had untolerated taint(s).",
            "InsufficientGPU",
        ),
        ("0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.", "InsufficientMemory"),
        ("0/3 nodes are available: 3 Insufficient cpu.", "InsufficientCPU"),
        ("0/3 nodes are available: 3 Insufficient ephemeral-storage.", "InsufficientStorage"),
        (
            "0/3 nodes are available: 1 Insufficient ephemeral-storage, 2 node(s) had untolerated taint(s).",
            "InsufficientStorage",
        ),
        ("0/1 nodes are available: 1 Too many pods.", "NodeFull"),
        ("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", "NoMatchingNode"),
        ("0/2 nodes are available: 2 node(s) had untolerated taint {a: b}.", "NoMatchingNode"),
        ("no nodes available to schedule pods", "NoMatchingNode"),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "VolumeNotReady"),
        ('persistentvolumeclaim "media" not found', "VolumeNotReady"),
        (
            "0/3 nodes are available: 1 node(s) had untolerated taint {a: b}, 2 node(s) had volume node "
            "affinity conflict. preemption: 0/3 nodes are available: 3 Preemption is not helpful.",
            "VolumeNotReady",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.",
            "VolumeNotReady",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
            "NoMatchingNode",
        ),
        ("something new", "Unschedulable"),
        ("", "Unschedulable"),
    ],
)
def test_the_schedulers_sentence_becomes_a_reason(message: str, reason: str) -> None:
    assert scheduling_reason(message, "example.com/slice") == reason


# ── The pod ─────────────────────────────────────────────────────────────────────────────────────────────


def made(of: Camera, variant: Variant = Variant.CPU, **options: Any) -> dict[str, Any]:
    shape = shape_worker(of, None, None, options.pop("operator", OPERATOR))
    return build_pod(of, UID, shape, variant, **{"attempt": 1, "settings": effective_settings(of), **options})


def test_the_fingerprint_ignores_what_a_worker_takes_on_while_it_runs() -> None:
    one, other = camera(), camera(stream={"fps": 3}, inference={"fps": 1}, health={"stallTimeoutSeconds": 9})
    assert (
        shape_worker(one, None, None, OPERATOR).fingerprints
        == shape_worker(other, None, None, OPERATOR).fingerprints
    )


@pytest.mark.parametrize(
    "change",
    [
        {"source": {"testPattern": {"fps": 1}}},
        {"image": "worker:2"},
        {"resources": {"requests": {"cpu": "2"}}},
        {"gpu": {"mode": "Required"}},
        {"placement": {"nodeSelector": {"zone": "a"}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_fingerprint_changes_with_what_needs_a_new_pod(change: dict[str, Any]) -> None:
    shape = shape_worker(camera(**change), None, None, OPERATOR)
    assert set(shape.fingerprints.values()).isdisjoint(
        shape_worker(camera(), None, None, OPERATOR).fingerprints.values()
    )


def test_a_gpu_is_a_limit_of_the_configured_name() -> None:
    of = camera(gpu={"mode": "Required", "resourceName": "nvidia.com/mig-1g.5gb", "count": 2})
    limits = made(of, Variant.GPU)["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/mig-1g.5gb"] == "2"
    assert "nvidia.com/gpu" not in limits


def test_credentials_are_files_and_never_environment() -> None:
    of = camera(source={"rtsp": {"url": "rtsp://cam/1", "credentialsSecretRef": {"name": "door-login"}}})
    spec = made(of)["spec"]
    volume = next(v for v in spec["volumes"] if v["name"] == "credentials")
    assert volume["secret"]["secretName"] == "door-login"
    assert [item["key"] for item in volume["secret"]["items"]] == ["username", "password"]
    assert all("valueFrom" not in variable for variable in spec["containers"][0]["env"])


def test_conditions_speak_of_the_generation_they_saw() -> None:
    plan = plan_camera(look(camera(generation=7), running()), NOW)
    assert {c.observed_generation for c in plan.status.conditions} == {7}
    assert {c.status for c in plan.status.conditions} <= set(ConditionStatus)
