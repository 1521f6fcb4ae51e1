"""Which camera gets a GPU worker, which waits for one, and which takes a CPU."""

from __future__ import annotations

import pytest
from tests.operator_cluster.camera_cases import HEALTHY, NOW, camera, look, pod, reasons, running, unplaced

from camfleet_operator.cluster.decide import plan_camera
from camfleet_operator.cluster.podspec import Variant
from camfleet_protocol.camera import CameraStatus, WorkerStatus


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


def test_a_required_gpu_is_waited_for() -> None:
    of = camera(gpu={"mode": "Required"})
    plan = plan_camera(look(of, unplaced(of, NOW - 1000)), NOW)
    assert plan.delete == () and plan.start is None
    assert reasons(plan)["Scheduled"] == ("False", "InsufficientGPU")
    assert reasons(plan)["Ready"] == ("False", "InsufficientGPU")


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
