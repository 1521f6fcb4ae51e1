"""The plan for one camera in a cluster, as tables: what is seen, what is done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.operator_cluster.camera_cases import (
    HEALTHY,
    NOW,
    UID,
    camera,
    look,
    pod,
    profile,
    reasons,
    running,
    settled,
)

from camfleet_operator.cluster.camera_status import status_differs
from camfleet_operator.cluster.decide import plan_camera
from camfleet_operator.cluster.health.orders import Order, Reason
from camfleet_operator.cluster.podspec import Variant
from camfleet_protocol.camera import CameraStatus, WorkerStatus
from camfleet_protocol.cluster import pod_name


def test_a_new_camera_gets_its_first_pod_before_any_status() -> None:
    plan = plan_camera(look(), NOW)
    assert plan.start is not None
    assert (plan.start.attempt, plan.start.variant) == (1, Variant.CPU)
    assert plan.delete == ()


def test_an_announced_attempt_is_taken_up_and_not_skipped() -> None:
    announced = CameraStatus(worker=WorkerStatus(attempt=4, pod_name=pod_name("door", UID, 4)))
    plan = plan_camera(look(camera(announced)), NOW)
    assert plan.start is not None and plan.start.attempt == 4


def test_a_lost_pod_is_followed_by_the_next_attempt() -> None:
    lost = CameraStatus(worker=WorkerStatus(attempt=4, pod_name="x", pod_uid="gone"))
    plan = plan_camera(look(camera(lost)), NOW)
    assert plan.start is not None and plan.start.attempt == 5
    assert plan.status.worker == WorkerStatus(attempt=5, pod_name=pod_name("door", UID, 5))


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
        plan = plan_camera(look(gone, restarts=restarts, restarted_ago=0.0), NOW)
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


def test_a_pod_that_the_kubelet_refuses_twice_is_tried_again_in_ten_seconds() -> None:
    refused = pod(2, ended=True, ended_at=NOW - 4, created_at=NOW - 5, ended_reason="OutOfpods")
    first = plan_camera(look(None, refused, failures=1), NOW)
    assert first.start is None and first.requeue_after == pytest.approx(6)
    said = {c.type: c.message for c in first.status.conditions}["Scheduled"]
    assert "OutOfpods" in said
    later = plan_camera(look(None, refused, failures=1), NOW + 1)
    assert not status_differs(later.status, first.status), "the countdown is not worth a write"
    assert plan_camera(look(None, refused, failures=1), NOW + 7).start is not None


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


def test_a_missing_profile_starts_nothing_and_stops_nothing() -> None:
    of = camera(profileRef={"name": "hall"})
    fresh = plan_camera(look(of, shape=None, settings=None), NOW)
    assert fresh.start is None
    assert reasons(fresh)["Scheduled"] == ("False", "ProfileNotFound")
    going = plan_camera(look(of, running(), shape=None, settings=None, health=HEALTHY), NOW)
    assert going.delete == () and reasons(going)["Ready"] == ("True", "Streaming")


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
