"""What a worker's pod is told of its GPU."""

from __future__ import annotations

from typing import Any

import pytest

from camfleet_operator.cluster.podspec import Variant, shape_worker
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_protocol.camera import Camera


def container(gpu: dict[str, Any], variant: Variant) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
    """Environment and container of the worker, and the pod's spec."""
    camera = Camera.model_validate(
        {"metadata": {"name": "lobby"}, "spec": {"source": {"testPattern": {}}, "gpu": gpu}}
    )
    spec = shape_worker(camera, None, None, OperatorSettings()).specs[variant]
    (found,) = spec["containers"]
    return {item["name"]: item["value"] for item in found["env"]}, found, spec


@pytest.mark.parametrize(
    ("gpu", "variant", "provider"),
    [
        ({"mode": "Required"}, Variant.GPU, "cuda"),
        ({"mode": "Preferred"}, Variant.GPU, "auto"),
        ({"mode": "Preferred", "runtime": "TensorRT"}, Variant.GPU, "tensorrt"),
        ({"mode": "Preferred", "runtime": "TensorRT"}, Variant.CPU, "cpu"),
        ({"mode": "Disabled", "runtime": "TensorRT"}, Variant.CPU, "cpu"),
    ],
)
def test_provider(gpu: dict[str, Any], variant: Variant, provider: str) -> None:
    environment, _, _ = container(gpu, variant)
    assert environment["CAMFLEET_PROVIDER"] == provider


def test_a_share_of_a_gpu_and_the_engines_of_tensorrt() -> None:
    gpu = {"mode": "Preferred", "memoryMib": 900, "engineCacheClaim": "engines"}
    environment, found, spec = container(gpu, Variant.GPU)
    assert environment["CAMFLEET_GPU_MEMORY_MIB"] == "900"
    mounts = {mount["name"]: mount for mount in found["volumeMounts"]}
    assert mounts["engines"] == {
        "name": "engines",
        "mountPath": environment["CAMFLEET_ENGINE_CACHE_DIR"],
        "readOnly": False,
    }
    assert {"name": "engines", "persistentVolumeClaim": {"claimName": "engines"}} in spec["volumes"]


def test_a_worker_on_the_cpu_has_nothing_of_it() -> None:
    gpu = {"mode": "Preferred", "memoryMib": 900, "engineCacheClaim": "engines"}
    environment, found, _ = container(gpu, Variant.CPU)
    assert not {"CAMFLEET_GPU_MEMORY_MIB", "CAMFLEET_ENGINE_CACHE_DIR"} & environment.keys()
    assert "engines" not in {mount["name"] for mount in found["volumeMounts"]}
