"""`move`, `pause` and `resume`: annotations and nothing else, and an honest word about what came of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubectl_site import PluginSite, ago, conditions
from tests.testbed.processes import wait_until

from camfleet_protocol.cluster import MOVE_ANNOTATION, PAUSE_ANNOTATION

pytestmark = [pytest.mark.cluster]


def annotations(site: PluginSite, name: str) -> dict[str, str]:
    return dict(site.get(name)["metadata"].get("annotations") or {})


@contextmanager
def operator(site: PluginSite, name: str, *, to_node: str) -> Iterator[None]:
    """Carries out the move of one camera, as the operator does: receipt first, then the new worker."""

    def act() -> None:
        wait_until(lambda: MOVE_ANNOTATION in annotations(site, name), "the request")
        request = annotations(site, name)[MOVE_ANNOTATION]
        site.status(
            name,
            conditions=conditions("False", "WorkerStarting"),
            worker={"attempt": 2, "podName": f"{name}-pod-2"},
            lastReassignment={
                "time": ago(0),
                "reason": "Requested",
                "fromNode": "node-3",
                "request": request,
                "count": 1,
            },
        )
        site.status(
            name,
            conditions=conditions("True", "Streaming"),
            worker={"attempt": 2, "podName": f"{name}-pod-2", "nodeName": to_node},
        )

    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join(120)


def test_move_writes_one_annotation_of_its_own(site: PluginSite) -> None:
    site.camera("gate")
    site.camera("roof")
    before = site.get("gate")
    result = site.run("move", "gate", "roof")
    assert result.exit_code == 0, result.output
    assert f"{site.name}/gate: asked for a move away from node-3" in result.stdout
    after = site.get("gate")
    assert after["spec"] == before["spec"]
    assert after["status"] == before["status"]
    (own,) = [m for m in after["metadata"]["managedFields"] if m["manager"] == "kubectl-camfleet"]
    fields = own["fieldsV1"]["f:metadata"]["f:annotations"]
    assert set(fields) - {"."} == {f"f:{MOVE_ANNOTATION}"}
    assert MOVE_ANNOTATION in annotations(site, "roof")
    first = annotations(site, "gate")[MOVE_ANNOTATION]
    (asked,) = site.json("move", "gate")
    assert asked["request"] == annotations(site, "gate")[MOVE_ANNOTATION] > first
    assert site.json("status", "gate")["moving"] == 1


@pytest.mark.parametrize(
    ("to_node", "said"),
    [("node-5", "Ready on node-5, was on node-3"), ("node-3", "Ready again on the same node node-3")],
)
def test_move_wait_says_where_it_ended_up(site: PluginSite, to_node: str, said: str) -> None:
    site.camera("gate")
    with operator(site, "gate", to_node=to_node):
        result = site.run("move", "gate", "--wait", "--timeout=90")
    assert (result.exit_code, said in result.stdout) == (0, True), result.output


def test_a_move_that_is_held_is_told(site: PluginSite) -> None:
    site.installed()
    site.camera("gate")
    site.explain.unhealthy(f"{site.name}.gate")
    result = site.run("move", "gate", "--wait", "--timeout=0.1")
    assert result.exit_code == 1
    assert "the operator has not acted on it yet" in result.stdout
    assert "not ready again after 0s; operator: holds back: it was moved lately" in result.stderr


def test_a_suspended_camera_is_not_moved(site: PluginSite) -> None:
    site.camera("off", spec={"suspend": True})
    site.camera("gate")
    result = site.run("move", "gate", "off")
    assert (
        result.exit_code,
        f"suspended, so there is no worker to move: {site.name}/off" in result.stderr,
    ) == (1, True)
    assert MOVE_ANNOTATION not in annotations(site, "gate")


def test_pauses_add_up_and_end_one_by_one(site: PluginSite) -> None:
    site.installed()
    site.profile("outdoor")
    site.camera("gate", spec={"profileRef": {"name": "outdoor"}})
    site.camera("roof")
    result = site.run("pause", "gate", "--profile=outdoor", "--all")
    assert result.exit_code == 0, result.output
    assert annotations(site, "gate") == {PAUSE_ANNOTATION: "true"}
    assert site.lease()["metadata"]["annotations"] == {PAUSE_ANNOTATION: "true"}
    assert site.lease()["spec"]["leaseDurationSeconds"] == 15
    assert (
        f"paused now: the whole installation (Lease {site.install}/camfleet-operator), "
        f"1 profile ({site.name}/outdoor), 1 camera ({site.name}/gate)"
    ) in result.stdout
    assert "PAUSED    the whole installation" in site.run("status").stdout

    result = site.run("resume", "gate", "roof")
    assert f"camera {site.name}/gate: resumed" in result.stdout
    assert f"camera {site.name}/roof: was not paused" in result.stdout
    by = f"Lease {site.install}/camfleet-operator and profile {site.name}/outdoor"
    assert f"camera {site.name}/gate is still paused, by {by}" in result.stdout
    assert annotations(site, "gate") == {}
    document = site.json("resume", "--all", "--profile=outdoor")
    assert [change["result"] for change in document["changes"]] == ["resumed", "resumed"]
    assert document["paused"] == {"installation": None, "profiles": [], "cameras": [], "unknown": []}
    assert PAUSE_ANNOTATION not in (site.lease()["metadata"].get("annotations") or {})


def test_a_typing_error_changes_nothing(site: PluginSite) -> None:
    site.camera("gate")
    assert site.run("pause", "gate", "gat").exit_code == 2
    assert annotations(site, "gate") == {}
    assert site.run("pause").exit_code == 2
    assert site.run("pause", "--all").exit_code == 2  # nothing is installed
