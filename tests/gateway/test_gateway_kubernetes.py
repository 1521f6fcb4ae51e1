"""Cameras of a cluster, seen and changed through the gateway. Needs the API level."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_cluster import CAMERAS, GATEWAY_RULES, REVIEW_RULE, Cluster, ClusterGateway, Json

from camfleet_gateway.owned_fields import REPLACED_ANNOTATION

pytestmark = pytest.mark.cluster


@pytest.fixture
def http(in_cluster: ClusterGateway) -> Any:
    with httpx.Client(base_url=in_cluster.viewer_url, timeout=60) as client:
        yield client


def ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def error(answer: httpx.Response, status: int, code: str) -> str:
    """The text of an error, after its status and code are as expected."""
    found = ok(answer, status)["error"]
    assert found["code"] == code, found
    return str(found["message"])


# ── Seen ───────────────────────────────────────────────────────────────────────────────────────────────


def test_cameras_come_change_and_go(in_cluster: ClusterGateway, cluster: Cluster, namespace: str) -> None:
    cluster.camera(namespace, "door", site="north")
    found = in_cluster.until(f"{namespace}.door", bool, "it comes")
    assert (found["site"], found["source_type"], found["state"]) == ("north", "testPattern", "offline")
    path = f"{CAMERAS}/namespaces/{namespace}/cameras/door"
    cluster.plane.patch(path, {"spec": {"suspend": True}})
    found = in_cluster.until(f"{namespace}.door", lambda c: c["suspended"], "it is suspended")
    assert (found["state"], found["reason"]) == ("suspended", "Suspended")
    cluster.delete(namespace, "door")
    in_cluster.until(f"{namespace}.door", lambda c: c is None, "it goes")


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({"Scheduled": "False InsufficientGPU", "Ready": "False InsufficientGPU"}, "InsufficientGPU"),
        ({"Scheduled": "True Scheduled", "Ready": "False WorkerCrashLoop"}, "WorkerCrashLoop"),
        ({"Ready": "Unknown Unknown", "SourceConnected": "False AuthFailed"}, "AuthFailed"),
        ({"Scheduled": "Unknown Pending", "Ready": "Unknown Pending"}, "Pending"),
        ({"Ready": "True Streaming"}, "NoWorker"),
    ],
)
def test_without_a_worker_the_conditions_say_why(
    in_cluster: ClusterGateway,
    cluster: Cluster,
    namespace: str,
    conditions: dict[str, str],
    reason: str,
) -> None:
    camera = cluster.camera(namespace, "door")
    cluster.status(
        camera,
        conditions=[
            {"type": kind, "status": text.split()[0], "reason": text.split()[1], "message": f"about {kind}",
             "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}
            for kind, text in conditions.items()
        ],
    )  # fmt: skip
    found = in_cluster.until(f"{namespace}.door", lambda c: c and c["reason"] == reason, reason)
    assert found["state"] == "offline"
    assert found["message"].startswith("about" if reason != "NoWorker" else "no worker")


def test_what_a_newer_version_wrote_leaves_the_rest_alone(
    start_in_cluster: Callable[..., ClusterGateway], cluster: Cluster, namespace: str
) -> None:
    """A schema with a field that this version does not know, as a newer release would bring."""
    camera = cluster.camera(namespace, "door", site="north")
    path = f"{CAMERAS}/namespaces/{namespace}/cameras"
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/cameras.camfleet.io"
    schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/colour"
    answer = cluster.plane.client.patch(
        definitions,
        content=json.dumps([{"op": "add", "path": schema, "value": {"type": "string"}}]),
        headers={"Content-Type": "application/json-patch+json"},
    )
    answer.raise_for_status()
    try:
        deadline = time.monotonic() + 60
        while "colour" not in cluster.plane.patch(f"{path}/door", {"spec": {"colour": "red"}})["spec"]:
            assert time.monotonic() < deadline, "the API server takes the new field"
            time.sleep(0.1)
        cluster.plane.patch(f"{path}/door", {"spec": {"colour": None}})
        # A watch from before the change would go on to show cameras without the field.
        gateway = start_in_cluster(cluster.kubeconfig(*GATEWAY_RULES))
        cluster.plane.patch(f"{path}/door", {"spec": {"colour": "red"}})
        cluster.plane.post(path, {**_whole("newer"), "spec": {**_whole("newer")["spec"], "colour": "blue"}})
        cluster.current(cluster.get(namespace, "door") | {"spec": camera["spec"]}, cluster.pod(camera))
        cluster.camera(namespace, "hall")
        gateway.until(f"{namespace}.hall", bool, "others go on")
        assert set(gateway.cameras(namespace)) == {f"{namespace}.door", f"{namespace}.hall"}
        assert gateway.cameras()[f"{namespace}.door"]["site"] == "north", "as it was last understood"
        info = httpx.get(f"{gateway.internal_url}/metrics", params={"name[]": "camfleet_camera_info"}).text
        assert f'namespace="{namespace}",camera="door",node="node-7"' in info, "its status goes on"
        assert (
            gateway.log.count(f"not a camera for this version, what was known of it stays: {namespace}.newer")
            == 1
        )
        assert "spec.colour: no such field" in gateway.log
        cluster.delete(namespace, "newer")
        cluster.plane.patch(f"{path}/door", {"spec": {"colour": None, "suspend": True}})
        gateway.until(f"{namespace}.door", lambda c: c["suspended"], "it is understood again")
    finally:
        cluster.plane.client.patch(
            definitions,
            content=json.dumps([{"op": "remove", "path": schema}]),
            headers={"Content-Type": "application/json-patch+json"},
        ).raise_for_status()


def test_only_the_namespaces_asked_for(
    start_in_cluster: Callable[..., ClusterGateway], cluster: Cluster
) -> None:
    first, second, other = (cluster.namespace() for _ in range(3))
    for number, where in enumerate((first, second, other)):
        cluster.camera(where, f"cam-{number}")
    kubeconfig = cluster.kubeconfig(*GATEWAY_RULES, namespaces=(first, second))
    gateway = start_in_cluster(kubeconfig, namespace=[first, second])
    assert set(gateway.cameras()) == {f"{first}.cam-0", f"{second}.cam-1"}
    with httpx.Client(base_url=gateway.viewer_url, timeout=60) as http:
        made = ok(
            http.post("/api/cameras", json={"name": "new", "spec": {"source": {"testPattern": {}}}}), 201
        )
        assert made["namespace"] == first, "the first one is where cameras without a namespace go"
        wrong = {"name": "new", "namespace": other, "spec": {"source": {"testPattern": {}}}}
        assert other not in error(http.post("/api/cameras", json=wrong), 403, "not_allowed")
    assert "the gateway may not list" not in gateway.log


# ── Changed ────────────────────────────────────────────────────────────────────────────────────────────


def _whole(name: str, **spec: Any) -> Json:
    return {
        "apiVersion": "camfleet.io/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": name},
        "spec": {"source": {"testPattern": {}}, **spec},
    }


def test_stop_and_start_are_in_the_spec(http: httpx.Client, cluster: Cluster, namespace: str) -> None:
    cluster.camera(namespace, "door")
    path = f"/cameras/{namespace}.door/stream"
    _known(http, namespace)
    assert ok(http.post(f"{path}/stop"))["suspended"] is True
    assert cluster.spec(namespace, "door")["suspend"] is True
    assert ok(http.post(f"{path}/start"))["suspended"] is False
    assert cluster.spec(namespace, "door")["suspend"] is False


def _known(http: httpx.Client, namespace: str, name: str = "door") -> str:
    path = f"/api/cameras/{namespace}.{name}"
    deadline = time.monotonic() + 60
    while http.get(path).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return path


def _owners(cluster: Cluster, namespace: str, *path: str) -> set[str]:
    """The field managers that own a field of the spec."""
    found = cluster.get(namespace, "door")
    assert found is not None
    owners = set()
    for entry in found["metadata"]["managedFields"]:
        fields = entry["fieldsV1"].get("f:spec", {})
        for key in path:
            fields = fields.get(f"f:{key}") if fields is not None else None
        if fields is not None:
            owners.add(entry["manager"])
    return owners


@pytest.mark.parametrize("how", ["server-side", "client-side", "through the gateway"])
def test_controls_and_giving_back(
    http: httpx.Client, cluster: Cluster, namespace: str, tmp_path: Path, how: str
) -> None:
    """Whoever made the camera: a control wins, null gives the camera's own value back, nothing else moves."""
    manifest = _whole("door", stream={"fps": 5, "quality": 70}, inference={"detectors": ["motion"]})
    file = tmp_path / "door.json"

    def apply(document: Json) -> str:
        file.write_text(json.dumps(document))
        side = ["--server-side"] if how == "server-side" else []
        return cluster.plane.kubectl("apply", *side, "-n", namespace, "-f", str(file), check=False)

    if how == "through the gateway":
        document = {**manifest, "metadata": {"name": "door", "namespace": namespace}}
        ok(http.post("/api/cameras", json=document), 201)
    else:
        apply(manifest)
    path = _known(http, namespace)

    changed = ok(http.patch(path, json={"stream": {"fps": 9}, "inference": {"confidence": 0.5}}))
    assert changed["settings"]["stream"] == {"fps": 9, "width": 640, "quality": 70}
    ok(http.patch(path, json={"stream": {"width": 320}}))
    spec = cluster.spec(namespace, "door")
    assert spec["stream"] == {"fps": 9, "quality": 70, "width": 320}, "what was set before stays"
    assert spec["inference"] == {"detectors": ["motion"], "confidence": 0.5}
    assert _owners(cluster, namespace, "stream", "fps") == {"camfleet-gateway"}

    ok(http.patch(path, json={"stream": {"fps": 12}, "inference": {"detectors": ["yunet", "motion"]}}))
    ok(http.patch(path, json={"stream": {"fps": None}, "inference": {"confidence": None}}))
    spec = cluster.spec(namespace, "door")
    assert spec["stream"] == {"fps": 5, "quality": 70, "width": 320}
    assert spec["inference"] == {"detectors": ["yunet", "motion"]}
    ok(http.patch(path, json={"stream": {"fps": None}, "inference": None}))
    assert cluster.spec(namespace, "door")["stream"]["fps"] == 5, "given back twice is given back"
    assert cluster.spec(namespace, "door")["inference"] == {"detectors": ["motion"]}
    ok(http.patch(path, json={"stream": None}))
    assert cluster.spec(namespace, "door")["stream"] == {"fps": 5, "quality": 70}
    if how == "client-side":
        ok(http.patch(path, json={"stream": {"fps": 9}}))
        apply(manifest)
        assert cluster.spec(namespace, "door")["stream"]["fps"] == 5, "a later apply takes it back"
        ok(http.patch(path, json={"stream": {"quality": 20}}))
        found = cluster.get(namespace, "door")
        assert found is not None
        kept = json.loads(found["metadata"]["annotations"][REPLACED_ANNOTATION])
        assert kept["stream"] == {"quality": 70}, "what was taken back is no longer remembered"
    if how == "server-side":
        ok(http.patch(path, json={"stream": {"fps": 9}}))
        assert 'conflict with "camfleet-gateway"' in apply(manifest)
        assert cluster.spec(namespace, "door")["stream"]["fps"] == 9
        cluster.plane.kubectl("apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", str(file))
        assert cluster.spec(namespace, "door")["stream"]["fps"] == 5


def test_a_value_that_both_want_stays_with_its_owner(
    http: httpx.Client, cluster: Cluster, namespace: str
) -> None:
    manifest = json.dumps(_whole("door", stream={"fps": 5}))
    cluster.plane.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=manifest)
    path = _known(http, namespace)
    ok(http.patch(path, json={"stream": {"fps": 5}}))
    assert _owners(cluster, namespace, "stream", "fps") == {"kubectl", "camfleet-gateway"}
    ok(http.patch(path, json={"stream": {"fps": None}}))
    assert _owners(cluster, namespace, "stream", "fps") == {"kubectl"}
    assert cluster.spec(namespace, "door")["stream"]["fps"] == 5


def test_nothing_is_changed_of_what_others_own(http: httpx.Client, cluster: Cluster, namespace: str) -> None:
    """Many changes at once, while the status is written all the time: none is lost."""
    from concurrent.futures import ThreadPoolExecutor

    camera = cluster.camera(namespace, "door", site="north")
    path = _known(http, namespace)
    changes = [
        {"stream": {"fps": 3}}, {"stream": {"quality": 33}}, {"stream": {"width": 320}},
        {"inference": {"fps": 2}}, {"inference": {"confidence": 0.5}}, {"suspend": True},
    ]  # fmt: skip

    def write(number: int) -> None:
        cluster.status(camera, worker={"attempt": number})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda change: http.patch(path, json=change), changes))
        list(pool.map(write, [1, 1, 1, 1]))
    retried = [change for change, answer in zip(changes, answers, strict=True) if answer.status_code == 409]
    for change in retried:
        ok(http.patch(path, json=change))
    assert cluster.spec(namespace, "door") == {
        "source": {"testPattern": {}},
        "site": "north",
        "suspend": True,
        "stream": {"fps": 3, "quality": 33, "width": 320},
        "inference": {"fps": 2, "confidence": 0.5},
    }


def test_adding_and_removing(http: httpx.Client, cluster: Cluster, namespace: str) -> None:
    short = {"name": "door", "namespace": namespace, "spec": {"source": {"testPattern": {}}, "site": "north"}}
    made = ok(http.post("/api/cameras", json=short), 201)
    assert (made["camera_id"], made["site"], made["managed"]) == (f"{namespace}.door", "north", True)
    found = cluster.get(namespace, "door")
    assert found is not None and found["spec"] == short["spec"]
    assert found["metadata"]["annotations"] == {"camfleet.io/added-by": "camfleet-gateway"}
    error(http.post("/api/cameras", json=short), 409, "exists")
    ok(http.delete(f"/api/cameras/{namespace}.door"), 204)
    assert cluster.get(namespace, "door") is None
    error(http.delete(f"/api/cameras/{namespace}.door"), 404, "unknown_camera")
    nowhere = short | {"namespace": "nowhere"}
    assert 'namespaces "nowhere" not found' in error(http.post("/api/cameras", json=nowhere), 422, "invalid")


def test_what_is_made_is_the_callers_camera_and_no_more(
    http: httpx.Client, cluster: Cluster, namespace: str
) -> None:
    document = _whole("door")
    document["metadata"] |= {
        "namespace": namespace,
        "labels": {"team": "north"},
        "annotations": {"note": "by the fence", "camfleet.io/spec-digest": "x", "camfleet.io/replaced": "{}"},
        "finalizers": ["example.com/never"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}],
    }
    document["status"] = {"worker": {"attempt": 7}}
    ok(http.post("/api/cameras", json=document), 201)
    found = cluster.get(namespace, "door")
    assert found is not None
    metadata = found["metadata"]
    assert metadata["labels"] == {"team": "north"}
    assert metadata["annotations"] == {"note": "by the fence", "camfleet.io/added-by": "camfleet-gateway"}
    assert not {"finalizers", "ownerReferences"} & metadata.keys() and "status" not in found


def _rtsp(host: str, secret: str | None = "login") -> Json:
    reference = {"credentialsSecretRef": {"name": secret}} if secret else {}
    return {"source": {"rtsp": {"url": f"rtsp://{host}/live", **reference}}}


def _http(host: str) -> Json:
    return {"source": {"http": {"url": f"http://{host}/live", "credentialsSecretRef": {"name": "login"}}}}


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"source": {"testPattern": {}}, "image": "registry.invalid/mine"}, "spec.image"),
        ({"source": {"testPattern": {}}, "placement": {"nodeSelector": {"a": "b"}}}, "spec.placement"),
        ({"source": {"testPattern": {}}, "resources": {"limits": {"cpu": "1"}}}, "spec.resources"),
        ({"source": {"testPattern": {}}, "gpu": {"count": 16}}, "spec.gpu"),
        ({"source": {"file": {"path": "a.mp4", "claimName": "recordings"}}}, "the source file"),
        ({"source": {"device": {"path": "/dev/video0", "resourceName": "a/b"}}}, "the source device"),
        (_rtsp("evil.example"), "the Secret login may not be sent to rtsp://evil.example:554:"),
        (_rtsp("cam.example", "other"), "the Secret other may not be sent to rtsp://cam.example:554:"),
        (_rtsp("cam.example:8554"), "the Secret login may not be sent to rtsp://cam.example:8554:"),
        (_http("cam.example:554"), "the Secret login may not be sent to http://cam.example:554:"),
    ],
)
def test_what_cannot_be_added_through_this_api(
    http: httpx.Client, cluster: Cluster, namespace: str, spec: Json, problem: str
) -> None:
    cluster.camera(namespace, "door", **_rtsp_only("cam.example"))
    _known(http, namespace)
    body = {"name": "new", "namespace": namespace, "spec": spec}
    assert problem in error(http.post("/api/cameras", json=body), 403, "not_allowed")
    assert cluster.get(namespace, "new") is None


def _rtsp_only(host: str) -> Json:
    return _rtsp(host) | {"site": "north"}


def test_a_secret_may_be_used_where_it_is_used_already(
    http: httpx.Client, cluster: Cluster, namespace: str
) -> None:
    other = cluster.namespace()
    cluster.camera(namespace, "door", **_rtsp("CAM.example"))
    _known(http, namespace)
    body = {"name": "yard", "namespace": namespace, "spec": _rtsp("cam.example:554")}
    ok(http.post("/api/cameras", json=body), 201)
    cluster.delete(namespace, "door")
    deadline = time.monotonic() + 60
    while http.get(f"/api/cameras/{namespace}.door").status_code == 200:
        assert time.monotonic() < deadline
    again = body | {"name": "yard-2"}
    error(http.post("/api/cameras", json=again), 403, "not_allowed")
    elsewhere = body | {"namespace": other}
    error(http.post("/api/cameras", json=elsewhere), 403, "not_allowed")


def test_what_the_api_server_refuses_is_said_in_its_words(
    http: httpx.Client, cluster: Cluster, namespace: str
) -> None:
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": f"no-doors-{namespace}"},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "resourceRules": [
                    {"apiGroups": ["camfleet.io"], "apiVersions": ["*"], "operations": ["CREATE"],
                     "resources": ["cameras"]}
                ],
            },
            "validations": [{"expression": "object.metadata.name != 'door'", "message": "no doors here"}],
        },
    }  # fmt: skip
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": policy["metadata"],
        "spec": {"policyName": f"no-doors-{namespace}", "validationActions": ["Deny"]},
    }
    base = "/apis/admissionregistration.k8s.io/v1"
    cluster.plane.post(f"{base}/validatingadmissionpolicies", policy)
    cluster.plane.post(f"{base}/validatingadmissionpolicybindings", binding)
    body = {"name": "door", "namespace": namespace, "spec": {"source": {"testPattern": {}}}}
    deadline = time.monotonic() + 60
    while (answer := http.post("/api/cameras", json=body)).status_code == 201:
        assert time.monotonic() < deadline, "the policy is in force"
        ok(http.delete(f"/api/cameras/{namespace}.door"), 204)
    assert "no doors here" in error(answer, 422, "invalid")


def test_a_gateway_without_rights_says_which_are_missing(
    start_in_cluster: Callable[..., ClusterGateway], cluster: Cluster, namespace: str
) -> None:
    reads = {"apiGroups": ["camfleet.io"], "resources": ["cameras"], "verbs": ["list", "watch"]}
    gateway = start_in_cluster(cluster.kubeconfig(reads, REVIEW_RULE))
    cluster.camera(namespace, "door")
    with httpx.Client(base_url=gateway.viewer_url, timeout=60) as http:
        path = _known(http, namespace)
        assert "may not get cameras" in error(
            http.post(f"/cameras/{namespace}.door/stream/stop"), 403, "cluster_forbids"
        )
        assert "may not delete cameras" in error(http.delete(path), 403, "cluster_forbids")
        body = {"name": "new", "namespace": namespace, "spec": {"source": {"testPattern": {}}}}
        assert "may not create cameras" in error(http.post("/api/cameras", json=body), 403, "cluster_forbids")
