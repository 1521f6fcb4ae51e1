"""`kubectl camfleet logs`: the right pod, the right lines, no credential."""

from __future__ import annotations

import json
import threading

import pytest
from kubectl_site import GATEWAY, LEADER, PluginSite, conditions
from tests.testbed.processes import wait_until

from camfleet.kubectl.fleet import CameraView
from camfleet.kubectl.logs import about

pytestmark = [pytest.mark.cluster]

GATE = CameraView(
    {"metadata": {"namespace": "north", "name": "gate"}, "status": {"worker": {"podName": "gate-1a2b"}}}
)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"message": "moved", "camera": "north.gate"}', True),
        ('{"message": "moved", "camera": "north/gate"}', True),
        ('{"message": "moved", "camera": "gate", "namespace": "north"}', True),
        ('{"message": "moved", "camera": "gate", "namespace": "south"}', False),
        ('{"message": "like north.gate", "camera": "north.roof"}', False),
        ('{"message": "north.gate: moved"}', True),
        ("INFO operator: moved camera=north.gate attempt=3", True),
        ("INFO operator: moved namespace=north camera=gate", True),
        ("INFO operator: moved camera=north.gate-2", False),
        ("INFO operator: Camera north/gate cannot be read", True),
        ("INFO operator: pod gate-1a2b is gone", True),
        ("INFO operator: pod gate-1a2b3 is gone", False),
        ("INFO operator: xnorth.gate", False),
        ("INFO operator: north.gate.", True),
        ("INFO operator: nothing", False),
    ],
)
def test_lines_about_a_camera(line: str, wanted: bool) -> None:
    assert about(line, GATE) is wanted


def test_the_current_workers_log(site: PluginSite) -> None:
    site.installed()
    site.camera("gate", attempt=2)
    site.pod(site.name, "gate-pod-2", "worker")
    leak = {"message": "opening rtsp://admin:canary@192.0.2.10/1?key=canary", "password": "canary"}
    site.kubelet.logs["gate-pod-2"] = json.dumps(leak) + "\nplain password=canary\nlast\n"
    site.kubelet.logs["gate-pod-2/previous"] = "died\n"
    result = site.run("logs", "gate")
    assert result.exit_code == 0, result.output
    assert "canary" not in result.output
    assert "192.0.2.10/1" in result.stdout
    assert result.stdout.splitlines()[1:] == ["plain password=***", "last"]
    assert site.run("logs", "gate", "--tail=1").stdout == "last\n"
    assert site.run("logs", "gate", "--previous").stdout == "died\n"


def test_follow_goes_on_with_the_next_attempt(site: PluginSite) -> None:
    site.installed()
    site.camera("gate")
    site.pod(site.name, "gate-pod-1", "worker")
    site.pod(site.name, "gate-pod-2", "worker")
    site.kubelet.logs |= {"gate-pod-1": "first\n", "gate-pod-2": "second\n"}
    before = len(site.kubelet.asked)

    def replace() -> None:
        wait_until(lambda: len(site.kubelet.asked) > before, "the first log")
        site.status("gate", worker={"attempt": 2, "podName": "gate-pod-2", "nodeName": "node-5"})
        wait_until(lambda: len(site.kubelet.asked) > before + 1, "the second log")
        site.plane.delete(f"{site.cameras_path}/gate")

    thread = threading.Thread(target=replace)
    thread.start()
    result = site.run("logs", "gate", "-f")
    thread.join(30)
    assert result.stdout == "first\nsecond\n"
    assert f"--- {site.name}/gate: attempt 2, pod gate-pod-2 on node-5" in result.stderr
    assert result.exit_code == 2  # the camera is gone, and that is said


def test_operator_and_gateway_about_a_camera(site: PluginSite) -> None:
    site.installed()
    site.camera("gate")
    site.kubelet.logs[LEADER] = f'{{"message": "moved", "camera": "{site.name}.gate"}}\n{{"camera": "x.y"}}\n'
    site.kubelet.logs[GATEWAY] = f"INFO gateway: {site.name}.gate: worker lost token=canary\n"
    result = site.run("logs", "gate", "--operator", "--gateway")
    assert result.stdout.splitlines() == [
        f'{{"message": "moved", "camera": "{site.name}.gate"}}',
        f"INFO gateway: {site.name}.gate: worker lost token=***",
    ]
    site.kubelet.logs[LEADER] = "nothing\n"
    assert f"nothing about {site.name}/gate" in site.run("logs", "gate", "--operator").stderr


def test_no_worker_is_explained(site: PluginSite) -> None:
    site.camera("gate")
    site.status("gate", conditions=conditions("False", "InsufficientGPU", "0/9 nodes"))
    result = site.run("logs", "gate")
    assert (result.exit_code, "the pod gate-pod-1" in result.stderr) == (1, True)
    assert f"kubectl camfleet explain {site.name}/gate says why" in result.stderr
