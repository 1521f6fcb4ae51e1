"""The life of cameras on a real control plane: what the operator makes, says, corrects and lets go."""

from __future__ import annotations

import copy
import signal
import time

import pytest

from support.cluster_site import Site
from support.gateway_page import Said
from support.stopwatch import Stopwatch

pytestmark = pytest.mark.cluster


def running(site: Site, camera: str) -> bool:
    return any(pod["status"].get("phase") == "Running" for pod in site.pods(camera))


def test_a_camera_becomes_a_pod_and_is_ready_when_frames_flow(site: Site) -> None:
    site.page.default = None
    site.operator()
    site.create("door")
    site.wait(lambda: running(site, "door"), "the pod to run")
    site.wait(lambda: "Ready" in site.conditions("door"), "conditions")
    assert site.conditions("door")["Scheduled"] == ("True", "Scheduled")
    assert site.conditions("door")["Ready"] == ("False", "WorkerStarting")

    site.page.default = Said()
    site.wait_ready("door")
    assert {kind: status for kind, (status, _) in site.conditions("door").items()} == {
        "Ready": "True",
        "Scheduled": "True",
        "SourceConnected": "True",
        "Streaming": "True",
        "Degraded": "False",
    }
    status = site.camera("door")["status"]
    pod = site.pod("door")
    assert status["worker"] == {
        "attempt": 1,
        "podName": pod["metadata"]["name"],
        "podUID": pod["metadata"]["uid"],
        "nodeName": pod["spec"]["nodeName"],
    }
    assert status["settings"]["values"]["stream"]["fps"] == 10
    assert len(site.writes()) <= 3, site.writes()

    site.page.say(f"{site.name}.door", source=False, frames=False, error="auth_failed")
    site.wait(lambda: site.conditions("door")["Ready"] == ("False", "AuthFailed"), "AuthFailed")
    assert site.conditions("door")["SourceConnected"] == ("False", "AuthFailed")
    site.page.say(f"{site.name}.door", source=True, frames=True, error="")
    site.wait_ready("door")
    assert site.pod("door")["metadata"]["uid"] == pod["metadata"]["uid"], "a source's fault moves nothing"


def test_suspend_resume_and_settings(site: Site) -> None:
    site.operator()
    site.create("door")
    site.wait_ready("door")
    first = site.pod("door")["metadata"]["uid"]

    site.change("door", stream={"fps": 3})
    site.wait(
        lambda: site.camera("door")["status"]["settings"]["values"]["stream"]["fps"] == 3, "the new setting"
    )
    assert site.pod("door")["metadata"]["uid"] == first, "settings need no new pod"

    site.change("door", suspend=True)
    site.wait(lambda: not site.pods("door"), "the pod to go")
    site.wait(lambda: site.conditions("door")["Ready"] == ("False", "Suspended"), "Suspended")

    site.change("door", suspend=False)
    site.wait_ready("door")
    assert site.camera("door")["status"]["worker"]["attempt"] == 2


def test_a_changed_source_replaces_the_pod_one_at_a_time(site: Site) -> None:
    site.operator()
    site.create("door")
    site.wait_ready("door")
    first = site.pod("door")["metadata"]["uid"]
    most = 0
    site.change("door", source={"testPattern": {"fps": 5}})
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        alive = site.plane.items(site.pods_path, labelSelector="camfleet.io/camera=door")
        most = max(most, len(alive))
        if alive and all(pod["metadata"]["uid"] != first for pod in alive):
            break
    assert most == 1
    site.wait_ready("door")
    assert '"fps": 5' in str(site.pod("door")["spec"]["containers"][0]["env"])


def test_a_pod_deleted_by_hand_is_replaced(site: Site) -> None:
    site.operator()
    site.create("door")
    site.wait_ready("door")
    site.plane.delete(f"{site.pods_path}/{site.pod('door')['metadata']['name']}")
    site.wait(lambda: site.camera("door")["status"]["worker"]["attempt"] == 2, "the next attempt")
    site.wait_ready("door")


def test_a_pod_edited_by_hand_is_replaced(site: Site) -> None:
    site.operator()
    site.create("door")
    site.wait_ready("door")
    name = site.pod("door")["metadata"]["name"]
    site.plane.client.patch(
        f"{site.pods_path}/{name}",
        json={"spec": {"containers": [{"name": "worker", "image": "somebody/elses:1"}]}},
        headers={"Content-Type": "application/strategic-merge-patch+json"},
    ).raise_for_status()
    site.wait(lambda: site.camera("door")["status"]["worker"]["attempt"] == 2, "the next attempt")
    assert "elses" not in site.pod("door")["spec"]["containers"][0]["image"]


def test_a_pod_copied_by_hand_is_removed_and_the_real_one_stays(site: Site) -> None:
    site.operator()
    site.create("door")
    site.wait_ready("door")
    original = site.pod("door")
    twin = copy.deepcopy(original)
    twin["metadata"] = {
        "name": "door-copy",
        **{key: original["metadata"][key] for key in ("labels", "annotations", "ownerReferences")},
    }
    twin["spec"].pop("nodeName")
    del twin["status"]
    site.plane.post(site.pods_path, twin)
    site.wait(
        lambda: [p["metadata"]["name"] for p in site.pods("door")] == [original["metadata"]["name"]],
        "the copy to go",
    )
    assert site.ready("door")


def test_a_pod_that_lost_its_labels_does_not_run_beside_the_next_one(site: Site) -> None:
    site.operator()
    site.create("door")
    site.wait_ready("door")
    old = site.pod("door")["metadata"]["name"]
    site.plane.patch(
        f"{site.pods_path}/{old}", {"metadata": {"labels": {"app.kubernetes.io/component": None}}}
    )
    site.wait(lambda: site.camera("door")["status"]["worker"]["attempt"] == 2, "the next attempt")
    site.wait(lambda: site.plane.get(f"{site.pods_path}/{old}") is None, "the old pod to be gone")


def test_a_pod_that_lost_its_owner_does_not_run_beside_the_next_one(site: Site) -> None:
    site.operator()
    site.create("door")
    site.wait_ready("door")
    old = site.pod("door")["metadata"]["name"]
    site.plane.patch(f"{site.pods_path}/{old}", {"metadata": {"ownerReferences": None}})
    site.wait(lambda: site.camera("door")["status"]["worker"]["attempt"] == 2, "the next attempt")
    site.wait(lambda: site.plane.get(f"{site.pods_path}/{old}") is None, "the old pod to be gone")
    site.wait_ready("door")


def test_the_next_pod_waits_until_the_last_one_is_gone(site: Site) -> None:
    site.operator()
    site.create("door")
    site.wait_ready("door")
    kubelet = site.plane.processes["kwok"]
    kubelet.signal(signal.SIGSTOP)
    try:
        site.change("door", source={"testPattern": {"fps": 5}})
        site.wait(lambda: not site.pods("door"), "the old pod to be told to go")
        for _ in range(15):
            assert len(site.plane.items(site.pods_path)) == 1
            time.sleep(0.2)
    finally:
        kubelet.signal(signal.SIGCONT)
    site.wait_ready("door")
    assert site.camera("door")["status"]["worker"]["attempt"] == 2


def test_a_pod_of_somebody_else_is_left_alone(site: Site) -> None:
    site.operator()
    site.create("door")
    site.wait_ready("door")
    stranger = copy.deepcopy(site.pod("door"))
    stranger["metadata"] = {"name": "stranger", "labels": stranger["metadata"]["labels"]}
    stranger["spec"].pop("nodeName")
    del stranger["status"]
    site.plane.post(site.pods_path, stranger)
    site.create("hall")
    site.wait_ready("hall")
    assert site.plane.get(f"{site.pods_path}/stranger") is not None


def test_a_pod_that_fails_is_followed_by_another(site: Site) -> None:
    site.operator()
    site.create("door")
    site.wait_ready("door")
    for attempt in (2, 3):  # the kubelet's refusals leave no container that could tell when it ended
        site.wait(lambda: running(site, "door"), "the pod to run")  # or kwok would still say that it does
        name = site.pod("door")["metadata"]["name"]
        failed = {"phase": "Failed", "reason": "OutOfpods", "containerStatuses": []}
        site.plane.patch(f"{site.pods_path}/{name}/status", {"status": failed})
        site.wait(
            lambda attempt=attempt: (
                [pod["metadata"]["labels"]["camfleet.io/attempt"] for pod in site.pods("door")]
                == [str(attempt)]
            ),
            f"the pod of attempt {attempt}",
        )
    site.wait_ready("door")
    site.wait(lambda: any(r == "WorkerEnded" for r, _ in site.events("door")), "an Event")


def test_a_camera_deleted_while_the_operator_is_down_takes_its_pod_along(site: Site) -> None:
    operator = site.operator()
    site.create("door")
    site.wait_ready("door")
    operator.kill()
    site.plane.delete(f"{site.cameras_path}/door")
    site.wait(lambda: not site.pods("door"), "garbage collection")


def test_a_camera_made_again_under_its_name_starts_anew(site: Site) -> None:
    operator = site.operator()
    site.create("door")
    site.wait_ready("door")
    old = site.pod("door")["metadata"]["uid"]
    operator.kill()
    site.plane.delete(f"{site.cameras_path}/door")
    site.create("door")
    operator.start()
    site.wait_ready("door")
    assert site.pod("door")["metadata"]["uid"] != old
    assert site.camera("door")["status"]["worker"]["attempt"] == 1


def test_a_missing_profile_is_named_and_its_coming_is_enough(site: Site) -> None:
    site.operator()
    site.create("door", profileRef={"name": "hall"})
    site.wait(lambda: site.conditions("door").get("Ready") == ("False", "ProfileNotFound"), "ProfileNotFound")
    assert not site.pods("door")
    site.create_profile("hall", stream={"fps": 4})
    site.wait_ready("door")
    assert site.camera("door")["status"]["settings"]["values"]["stream"]["fps"] == 4
    site.plane.delete(f"/apis/camfleet.io/v1alpha1/namespaces/{site.name}/cameraprofiles/hall")
    site.change("door", stream={"quality": 50})
    time.sleep(1)
    assert site.pods("door"), "a profile that goes stops nothing"


def test_a_quota_is_told_and_its_end_is_noticed(site: Site) -> None:
    site.plane.post(
        f"/api/v1/namespaces/{site.name}/resourcequotas",
        {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}},
    )
    quota = f"/api/v1/namespaces/{site.name}/resourcequotas/none"
    site.wait(lambda: (site.plane.get(quota) or {}).get("status", {}).get("hard"), "the quota to be in force")
    site.operator()
    site.create("door")
    site.wait(lambda: site.conditions("door").get("Ready") == ("False", "PodRefused"), "PodRefused")
    message = next(c["message"] for c in site.camera("door")["status"]["conditions"] if c["type"] == "Ready")
    assert "quota" in message
    assert site.camera("door")["status"].get("worker", {}).get("attempt", 0) <= 1
    since = time.time()
    time.sleep(20)
    assert len([write for write in site.writes(since) if write.startswith("create")]) <= 2
    site.plane.delete(quota)
    site.wait_ready("door", seconds=90)


def test_the_pod_is_as_restricted_as_it_gets(site: Site) -> None:
    site.plane.patch(
        f"/api/v1/namespaces/{site.name}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
    )
    site.operator()
    site.create(
        "door",
        source={"rtsp": {"url": "rtsp://camera.example/1", "credentialsSecretRef": {"name": "login"}}},
    )
    site.wait_ready("door")
    spec = site.pod("door")["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    container = spec["containers"][0]
    assert "ports" not in container
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    token = next(v for v in spec["volumes"] if v["name"] == "token")
    assert token["projected"]["sources"][0]["serviceAccountToken"]["audience"] == "camfleet-gateway"
    owner = site.pod("door")["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == ("Camera", True, False)


def test_a_change_is_a_pod_within_a_moment(site: Site) -> None:
    site.operator()
    for number in range(5):
        site.create(f"cam-{number}")
        stopwatch = Stopwatch()
        site.wait(lambda number=number: site.pods(f"cam-{number}"), "the pod")
        assert stopwatch.seconds < 5


def test_nothing_is_written_when_nothing_happens_and_after_a_restart(site: Site) -> None:
    operator = site.operator()
    for number in range(20):
        site.create(f"cam-{number}")
    site.wait_ready(*(f"cam-{number}" for number in range(20)))
    site.create("paused", suspend=True)
    site.create("lost", profileRef={"name": "nowhere"})
    site.create("picky", placement={"nodeSelector": {"camfleet.test/nowhere": "true"}})
    site.wait(lambda: site.conditions("picky").get("Scheduled") == ("False", "NoMatchingNode"), "picky")
    site.wait(lambda: site.conditions("lost").get("Ready") == ("False", "ProfileNotFound"), "lost")
    time.sleep(2)
    since = time.time()
    time.sleep(5)
    operator.kill()
    operator.start()
    time.sleep(8)
    assert site.writes(since) == []


def test_the_operator_stops_in_order_when_told_to(site: Site) -> None:
    first = site.operator()
    second = site.operator()
    site.create("door")
    site.wait_ready("door")
    stopwatch = Stopwatch()
    first.stop()
    assert stopwatch.seconds < 8
    site.wait(second.leads, "the other replica to act")
    assert stopwatch.seconds < 14, "it was handed over: it would have expired after 15 s"


def test_a_frozen_leader_does_not_act_when_it_wakes_up(site: Site) -> None:
    arguments = ("--lease-seconds=6",)
    first, second = site.operator(*arguments), site.operator(*arguments)
    site.create("door")
    site.wait_ready("door")
    first.signal(signal.SIGSTOP)
    site.wait(second.leads, "the other replica to act")
    site.create("hall")
    site.wait_ready("hall")
    since = time.time()
    first.signal(signal.SIGCONT)
    time.sleep(3)
    assert not first.leads()
    assert site.writes(since) == []


def test_probes_and_metrics_answer(site: Site) -> None:
    operator = site.operator()
    assert operator.get("/livez")[0] == 200
    assert operator.get("/readyz")[0] == 200
    site.create("door")
    site.wait_ready("door")
    text = operator.get("/metrics")[1]
    assert 'camfleet_operator_api_writes_total{kind="create_pods"} 1.0' in text
    assert 'camfleet_operator_verdicts{verdict="Healthy"} 1.0' in text
