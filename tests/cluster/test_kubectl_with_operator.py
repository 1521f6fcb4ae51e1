"""`kubectl camfleet` and a real operator: what one says the other understands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from camfleet.kubectl.cluster import Cluster
from camfleet.kubectl.evidence import Tools
from camfleet.kubectl.main import cli
from support.cluster_site import Site

pytestmark = pytest.mark.cluster


def plugin(site: Site, *arguments: str) -> Result:
    """Run the plugin; the API server's pod proxy, which has no way to loopback, is stood in for."""

    def pod_page(cluster: Cluster, namespace: str, pod: str, port: int, path: str) -> tuple[int, bytes]:
        status, body = site.operators[0].get(path)
        return status, body.encode()

    where = [f"--kubeconfig={site.plane.kubeconfig}", f"--install-namespace={site.name}", "-n", site.name]
    return CliRunner().invoke(cli, [*arguments, *where], obj=Tools(pod_page=pod_page))


def asked(site: Site, *arguments: str) -> Any:
    return json.loads(plugin(site, *arguments, "-o", "json").stdout)


def test_evidence_pause_and_move(site: Site) -> None:
    labels = {"app.kubernetes.io/part-of": "camfleet", "app.kubernetes.io/component": "operator"}
    container = {"name": "operator", "image": "registry.invalid/operator"}
    site.plane.post(
        site.pods_path,
        {"metadata": {"name": "operator-0", "labels": labels}, "spec": {"containers": [container]}},
    )
    site.operator()
    site.create("door")
    site.create("gate")
    site.wait_ready("door", "gate")
    site.wait(lambda: plugin(site, "status").exit_code == 0, "all to be well")
    assert asked(site, "status")["operator"]["evaluator"]["kind"] == "direct"

    paused = plugin(site, "pause", "--all")
    assert f"paused now: the whole installation (Lease {site.name}/camfleet-operator)" in paused.stdout
    site.wait(lambda: asked(site, "status")["operator"]["paused"], "the operator to know of the pause")
    site.page.say(f"{site.name}.gate", source=False, frames=False, error="source_refused")
    site.wait(lambda: plugin(site, "status").exit_code == 1, "the camera not to be ready")
    site.wait(lambda: asked(site, "explain", "gate")["explain"]["fault"] == "Source", "the source's fault")
    told = plugin(site, "explain", "gate").stdout
    assert "Verdict    Unhealthy, SourceRefused" in told
    assert "Fault      Source: the camera's, or its network's" in told
    assert f"Paused     by Lease {site.name}/camfleet-operator" in told
    listed = asked(site, "status")
    assert [(row["fault"], row["action"]) for row in listed["notReadyCameras"]] == [("Source", "None")]

    # A person's request is done all the same.
    before = site.camera("door")["status"]["worker"]
    moved = plugin(site, "move", "door", "--wait", "--timeout=120")
    assert moved.exit_code == 0, moved.output
    after = site.camera("door")["status"]
    assert after["worker"]["attempt"] == before["attempt"] + 1
    assert f"Ready on {after['worker']['nodeName']}, was on {before['nodeName']}" in moved.stdout
    assert after["lastReassignment"]["reason"] == "Requested"
    assert "Requested: " in plugin(site, "explain", "door").stdout
    assert plugin(site, "resume", "--all").exit_code == 0
    site.wait(lambda: not asked(site, "status")["operator"]["paused"], "the operator to know of its end")
