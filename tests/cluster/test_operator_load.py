"""Loaded nodes are avoided, and no more than that: what a real scheduler makes of a preference."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tests.testbed.control_plane import ControlPlane

from camfleet_operator.cluster.balance.placement import ANYWHERE, Placement
from camfleet_operator.cluster.podspec import PLACEMENT_ANNOTATION, Variant, build_pod, shape_worker
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_protocol.camera import Camera, parse_object
from camfleet_protocol.settings import effective_settings
from support.cluster_site import Site
from support.prometheus_history import History, node_exporter
from support.prometheus_process import PrometheusProcess

pytestmark = pytest.mark.cluster

POOL = "camfleet.test/pool"
BUSY, FREE = "load-busy", "load-free"


@pytest.fixture(scope="module", autouse=True)
def pool(plane: ControlPlane) -> Iterator[None]:
    """Two nodes of our own."""
    for name in (BUSY, FREE):
        plane.create_node(name)
        plane.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": {POOL: "load"}}})
    yield
    for name in (BUSY, FREE):
        plane.delete(f"/api/v1/nodes/{name}")


def start(site: Site, name: str, wish: Placement = ANYWHERE, **selector: str) -> str:
    """Create the pod that the operator would; the node that it gets."""
    camera = parse_object(
        {
            "apiVersion": "camfleet.io/v1alpha1",
            "kind": "Camera",
            "metadata": {"name": name, "namespace": site.name},
            "spec": {
                "source": {"testPattern": {}},
                "gpu": {"mode": "Disabled"},
                "placement": {"nodeSelector": {POOL: "load", **selector}},
            },
        }
    )
    assert isinstance(camera, Camera)
    pod = build_pod(
        camera,
        str(uuid.uuid4()),
        shape_worker(camera, None, None, OperatorSettings()),
        Variant.CPU,
        attempt=1,
        settings=effective_settings(camera),
        placement=wish,
    )
    del pod["metadata"]["ownerReferences"]  # there is no such camera
    path = f"{site.pods_path}/{site.plane.post(site.pods_path, pod)['metadata']['name']}"
    found: dict[str, Any] = {}

    def placed() -> bool:
        found.update(site.plane.get(path) or {})
        return bool(found["spec"].get("nodeName"))

    site.wait(placed, f"{name} to be scheduled")
    return str(found["spec"]["nodeName"])


def test_a_loaded_node_is_avoided_though_it_has_fewer_workers(site: Site) -> None:
    hosts = {"kubernetes.io/hostname": FREE}
    assert {start(site, f"there-{number}", **hosts) for number in range(3)} == {FREE}
    # A term that all nodes satisfy makes the others weigh less: the scheduler scales their sum.
    avoiding = Placement(avoid_failed=("gone",), avoid_loaded=(BUSY,))
    assert {start(site, f"avoids-{number}", avoiding) for number in range(3)} == {FREE}
    # Without a preference, workers are spread.
    assert start(site, "spread") == BUSY
    failed = Placement(avoid_failed=(FREE,), avoid_loaded=(BUSY,))
    assert start(site, "least-bad", failed) == BUSY
    assert start(site, "prefers", Placement(prefer=(BUSY,), avoid_failed=("gone",))) == BUSY


def test_it_is_soft(site: Site) -> None:
    """With no node that pleases, a worker still gets one."""
    all_bad = Placement(avoid_failed=(BUSY, FREE), avoid_loaded=(BUSY,), prefer=("nowhere",))
    assert start(site, "anywhere", all_bad) == FREE
    only = {"kubernetes.io/hostname": BUSY}
    assert start(site, "no-choice", Placement(avoid_loaded=(BUSY,)), **only) == BUSY


def test_the_operator_asks_prometheus_and_says_why(site: Site) -> None:
    history = History()
    node_exporter(history, f'instance="10.0.0.1:9100",node="{BUSY}"', 0.9, iowait=0.0)
    node_exporter(history, f'instance="10.0.0.2:9100",node="{FREE}"', 0.1)
    server = PrometheusProcess()
    history.write(server.folder)
    with server:
        operator = site.operator(
            f"--prometheus-url={server.url}", "--load-seconds=0.5", "--load-high=0.85", "--load-low=0.5"
        )

        def known() -> bool:
            status, text = operator.get("/explain")
            return status == 200 and json.loads(text)["balance"]["loaded"] == {BUSY: ["cpu"]}

        site.wait(known, "the load to be known")
        site.create("door", placement={"nodeSelector": {POOL: "load"}})
        site.wait(lambda: site.pods("door") and site.pod("door")["spec"].get("nodeName"), "a pod")
        pod = site.pod("door")
    assert pod["spec"]["nodeName"] == FREE
    reason = pod["metadata"]["annotations"][PLACEMENT_ANNOTATION]
    assert reason == f"avoids {BUSY} (CPU 90 %); prefers {FREE} (CPU 10 %)"
