"""The worker's pod: what changes its fingerprint, and where credentials are."""

from __future__ import annotations

from typing import Any

import pytest
from tests.operator_cluster.camera_cases import OPERATOR, UID, camera

from camfleet_operator.cluster.podspec import Variant, build_pod, shape_worker
from camfleet_protocol.camera import Camera
from camfleet_protocol.settings import effective_settings


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
