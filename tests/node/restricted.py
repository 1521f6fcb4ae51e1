"""Pods as the restricted Pod Security Standard wants them."""

from __future__ import annotations

from typing import Any

from tests.testbed.cluster import Cluster
from tests.testbed.processes import StartError, wait_until


def pod(name: str, image: str, *arguments: str, command: tuple[str, ...] = (), **spec: Any) -> dict[str, Any]:
    """A pod with one container `main`, a read-only root and an empty /tmp."""
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "args": list(arguments),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *spec.pop("mounts", [])],
    }
    if command:
        container["command"] = list(command)
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}, *spec.pop("volumes", [])],
            **spec,
        },
    }


def run(cluster: Cluster, namespace: str, manifest: dict[str, Any]) -> str:
    """Run a pod to its end, and return what it has printed."""
    name = manifest["metadata"]["name"]
    cluster.plane.post(f"/api/v1/namespaces/{namespace}/pods", manifest)
    wait_for_phase(cluster, namespace, name, "Succeeded", "Failed")
    log = cluster.plane.kubectl("logs", f"--namespace={namespace}", name)
    assert phase(cluster, namespace, name) == "Succeeded", log
    return log


def start(cluster: Cluster, namespace: str, manifest: dict[str, Any]) -> str:
    """Start a pod, and return its name once it runs."""
    name = str(manifest["metadata"]["name"])
    cluster.plane.post(f"/api/v1/namespaces/{namespace}/pods", manifest)
    wait_for_phase(cluster, namespace, name, "Running")
    return name


def phase(cluster: Cluster, namespace: str, name: str) -> str:
    """A pod's phase."""
    found = cluster.plane.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
    assert found is not None
    return str(found["status"]["phase"])


def wait_for_phase(cluster: Cluster, namespace: str, name: str, *phases: str) -> None:
    """Wait until a pod is in one of the phases."""
    try:
        wait_until(lambda: phase(cluster, namespace, name) in phases, f"{name} to be {' or '.join(phases)}")
    except StartError as error:
        raise AssertionError(f"{error}\n{cluster.troubles()}") from error
