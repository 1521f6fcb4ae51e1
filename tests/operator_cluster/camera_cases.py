"""One camera in a cluster, as the plan sees it: what the tables of its parts are made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from camfleet_operator.cluster.decide import CameraObserved, CameraPlan, plan_camera
from camfleet_operator.cluster.health.verdicts import Health, Verdict
from camfleet_operator.cluster.pods import PodSeen
from camfleet_operator.cluster.podspec import Variant, shape_worker
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_protocol.camera import Camera, CameraProfile, CameraStatus
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


def profile(**spec: Any) -> CameraProfile:
    return CameraProfile.model_validate({"metadata": {"name": "hall", "namespace": "site"}, "spec": spec})


def unplaced(of: Camera, since: float) -> PodSeen:
    return pod(
        of=of,
        variant=Variant.GPU,
        scheduled=False,
        unschedulable_since=since,
        scheduling_message="0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes…",
    )
