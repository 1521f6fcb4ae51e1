"""The plain kopf operator of the comparison: handlers as in kopf's tutorial, a timer, a blocking client.

It has a kind of its own, since it keeps what it likes in the status. Run by `kopf run`; the environment
names a file with the pod to make.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import kopf
import kubernetes

GROUP, VERSION, PLURAL = "bench.camfleet.io", "v1", "naivecameras"
POD = json.loads(Path(os.environ["NAIVE_POD"]).read_text()) if "NAIVE_POD" in os.environ else {}
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{PLURAL}.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": PLURAL, "singular": "naivecamera", "kind": "NaiveCamera"},
        "versions": [
            {
                "name": VERSION,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


@kopf.on.startup()
def login(**_: Any) -> None:
    """Set the blocking client up."""
    load: Any = kubernetes.config.load_kube_config  # has no annotations
    load(os.environ["KUBECONFIG"])


@kopf.on.create(GROUP, VERSION, PLURAL)
def create(name: str, namespace: Any, **_: Any) -> dict[str, str]:
    """Make the pod."""
    body = json.loads(json.dumps(POD))
    body["metadata"] |= {"name": f"{name}-worker", "namespace": namespace}
    body["metadata"].pop("ownerReferences", None)
    kopf.adopt(body)
    try:
        kubernetes.client.CoreV1Api().create_namespaced_pod(namespace, body)
    except kubernetes.client.ApiException as error:
        if error.status != 409:
            raise
    return {"pod": body["metadata"]["name"]}


@kopf.on.update(GROUP, VERSION, PLURAL)
def update(**_: Any) -> None:
    """Nothing to be done in this comparison."""


@kopf.on.delete(GROUP, VERSION, PLURAL)
def delete(**_: Any) -> None:
    """The pod goes with its owner; the handler is here for its finalizer."""


@kopf.timer(GROUP, VERSION, PLURAL, interval=30)
def check(name: str, namespace: Any, patch: kopf.Patch, **_: Any) -> None:
    """Look at the pod, and say so."""
    try:
        pod = kubernetes.client.CoreV1Api().read_namespaced_pod(f"{name}-worker", namespace)
        phase = pod.status.phase if pod.status else "Unknown"
    except kubernetes.client.ApiException:
        phase = "Missing"
    patch.status["worker"] = {"phase": phase, "checked": int(time.time())}
