"""A node goes: its cameras stream elsewhere, and what it runs when it comes back is not heard."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from support.fake_nodes import FakeNodes
from support.fault_site import FULL, FaultSite, Pace, thaw
from support.stopwatch import Stopwatch

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

CAMERAS = [f"cam-{number}" for number in range(8)]
PROMISED_SECONDS = 45
FENCED = 3
"""Exit code of a worker that the gateway has turned away for good."""


def test_cameras_of_a_lost_node_stream_elsewhere(
    start_site: Callable[..., FaultSite], nodes: FakeNodes, pace: Pace, measured: Callable[..., None]
) -> None:
    # With a reading every second, three would be up before any Lease is late, and each camera for itself.
    site = start_site(*(() if pace is FULL else ("--unhealthy-readings=15",)))
    site.create_all(*CAMERAS, placement={"nodeSelector": {"cameras": "true"}})
    deployment = deploy(site) if pace is FULL else ""
    node = site.node_of(CAMERAS[0])
    hit = site.cameras_on(node)
    others = sorted(set(CAMERAS) - set(hit))
    old = {camera: site.pod(camera)["metadata"]["name"] for camera in hit}
    before = site.look()

    began, stopwatch = time.time(), Stopwatch()
    if deployment:
        nodes.lose(deployment)
    frozen = site.runner.lose_node(node)
    times = site.wait_streaming(hit, began, elsewhere=old, seconds=3 * PROMISED_SECONDS)
    measured(f"{len(hit)} cameras stream elsewhere", max(times.values()))
    assert stopwatch.seconds <= PROMISED_SECONDS

    for camera in hit:
        move = site.last_move(camera)
        assert (move["reason"], move["fromNode"]) == ("NodeLost", node)
        assert site.attempt(camera) == 2
        assert "WorkerMoved" in site.reasons(camera)
    now = site.look()
    assert {c: now[c] for c in others} == {c: before[c] for c in others}, "the others stay where they are"
    gap = max(site.watcher.longest_gap(site.id_of(camera), began) for camera in others)
    measured("longest gap of the others", gap)
    assert gap < 5

    # The network of the lost node is back, its kubelet is not: what it runs is not heard.
    terminating = [p for p in site.plane.items(site.pods_path) if p["metadata"]["name"] in old.values()]
    assert all("deletionTimestamp" in pod["metadata"] for pod in terminating)
    for container in frozen:
        thaw(container)
    site.wait(lambda: not any(c.running for c in frozen), "the old workers to be turned away")
    assert {c.process.exit_code for c in frozen if c.process} == {FENCED}
    assert site.attempts() == {**dict.fromkeys(others, 1), **dict.fromkeys(hit, 2)}

    if deployment:
        measured("the plain Deployment's replacement runs", replaced(site, deployment, began))
        assert site.attempts() == {**dict.fromkeys(others, 1), **dict.fromkeys(hit, 2)}
        nodes.revive(deployment)
    site.runner.revive_node(node)
    site.wait(lambda: len(site.plane.items(site.pods_path)) >= len(CAMERAS), "the pods")
    site.wait(
        lambda: not {p["metadata"]["name"] for p in site.plane.items(site.pods_path)} & set(old.values()),
        "the old pods to go",
    )
    assert site.attempts() == {**dict.fromkeys(others, 1), **dict.fromkeys(hit, 2)}


def test_a_node_that_loses_its_power_and_returns_gets_nothing_back_by_force(
    start_site: Callable[..., FaultSite], nodes: FakeNodes, measured: Callable[..., None]
) -> None:
    """Its workers are killed, so their connections end at once; back, the kubelet would start them again."""
    site = start_site()
    site.create_all(*CAMERAS[:5])
    node = site.node_of(CAMERAS[0])
    hit = site.cameras_on(node)
    old = {camera: site.pod(camera)["metadata"]["name"] for camera in hit}
    began, stopwatch = time.time(), Stopwatch()
    site.runner.lose_node(node, kill=True)
    times = site.wait_streaming(hit, began, elsewhere=old, seconds=3 * PROMISED_SECONDS)
    measured(f"{len(hit)} cameras stream elsewhere", max(times.values()))
    assert stopwatch.seconds <= PROMISED_SECONDS
    after = site.look()
    site.runner.revive_node(node)
    site.wait(lambda: nodes.ready(node), "the node to be Ready")
    site.wait(lambda: len(site.plane.items(site.pods_path)) == 5, "the old pods to go")
    assert site.look() == after


def deploy(site: FaultSite) -> str:
    """A Deployment with nothing said about lost nodes; the node that its pod runs on, which has no camera."""
    labels = {"app": "plain"}
    affinity = {
        "preference": {"matchExpressions": [{"key": "cameras", "operator": "DoesNotExist"}]},
        "weight": 100,
    }
    site.plane.post(
        f"/apis/apps/v1/namespaces/{site.name}/deployments",
        {
            "metadata": {"name": "plain"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "containers": [{"name": "main", "image": "registry.invalid/plain"}],
                        "affinity": {
                            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [affinity]}
                        },
                    },
                },
            },
        },
    )
    site.wait(lambda: running(site), "the Deployment's pod to run")
    (pod,) = running(site)
    return str(pod["spec"]["nodeName"])


def running(site: FaultSite) -> list[dict[str, Any]]:
    found = site.plane.items(site.pods_path, labelSelector="app=plain")
    return [p for p in found if p.get("status", {}).get("phase") == "Running"]


def replaced(site: FaultSite, node: str, began: float) -> float:
    """Wait until the Deployment's pod runs on another node; how long after `began` that was."""
    site.wait(
        lambda: any(p["spec"]["nodeName"] != node for p in running(site)),
        "the Deployment's new pod",
        seconds=600,
    )
    return time.time() - began
