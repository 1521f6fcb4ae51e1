"""The node itself: restricted pods run, and find each other, Services and the API server.

Needs root, containerd, runc, the CNI plugins, and buildah with debootstrap for the images.
"""

from __future__ import annotations

import json
import socket
import subprocess
import textwrap
import urllib.request
from pathlib import Path

import pytest
from restricted import pod, run, start
from tests.testbed.cluster import Cluster
from tests.testbed.processes import wait_until

from support.require import need
from support.rtsp_server import rtsp_available

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

SERVE = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8000, bind='0.0.0.0')"
ASK_API = textwrap.dedent(
    """
    import json, ssl, urllib.request
    folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
    context = ssl.create_default_context(cafile=folder + "ca.crt")
    request = urllib.request.Request(
        "https://kubernetes.default.svc/version",
        headers={"Authorization": "Bearer " + open(folder + "token").read()},
    )
    print(json.load(urllib.request.urlopen(request, context=context))["gitVersion"])
    """
)


def python(name: str, cluster: Cluster, text: str, **spec: object) -> dict[str, object]:
    return pod(name, cluster.images["gateway"].reference, "-c", text, command=("python3",), **spec)


def test_a_pod_that_asks_for_more_than_restricted_is_refused(cluster: Cluster, namespace: str) -> None:
    manifest = pod("root", cluster.images["gateway"].reference)
    manifest["spec"]["securityContext"]["runAsUser"] = 0
    with pytest.raises(RuntimeError, match="violates PodSecurity"):
        cluster.plane.post(f"/api/v1/namespaces/{namespace}/pods", manifest)


def test_a_pod_asks_the_api_server_by_name_with_its_own_token(cluster: Cluster, namespace: str) -> None:
    assert run(cluster, namespace, python("asker", cluster, ASK_API)).startswith("v1.")


def test_a_pod_reaches_another_through_a_service_by_name(cluster: Cluster, namespace: str) -> None:
    start(cluster, namespace, python("web", cluster, SERVE))
    service = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]}
    cluster.plane.post(
        f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": "web"}, "spec": service}
    )
    ask = f"""
import time, urllib.error, urllib.request
for _ in range(600):
    try:
        print(urllib.request.urlopen("http://web.{namespace}.svc/", timeout=5).status)
        break
    except urllib.error.URLError:
        time.sleep(0.1)
"""
    assert run(cluster, namespace, python("visitor", cluster, ask)).strip() == "200"
    # This machine reaches it as well, by a port of its loopback.
    port = cluster.forward_service(namespace, "web", 80)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
        assert answer.status == 200


def test_a_headless_service_names_each_pod(cluster: Cluster, namespace: str) -> None:
    cluster.plane.post(
        f"/api/v1/namespaces/{namespace}/services",
        {
            "metadata": {"name": "peers"},
            "spec": {"clusterIP": "None", "selector": {"peer": "yes"}, "ports": [{"port": 8000}]},
        },
    )
    for name in ("one", "two"):
        manifest = python(name, cluster, SERVE)
        manifest["metadata"]["labels"]["peer"] = "yes"  # type: ignore[index]
        start(cluster, namespace, manifest)
    ask = f"""
import socket, time
found = set()
for _ in range(600):
    try:
        found = {{entry[4][0] for entry in socket.getaddrinfo("peers.{namespace}.svc", 8000)}}
    except socket.gaierror:
        pass
    if len(found) == 2:
        break
    time.sleep(0.1)
print(len(found))
"""
    assert run(cluster, namespace, python("visitor", cluster, ask)).strip() == "2"


def test_logs_and_exec(cluster: Cluster, namespace: str) -> None:
    start(
        cluster, namespace, python("echo", cluster, "print('here', flush=True); import time; time.sleep(600)")
    )
    kubectl = cluster.plane.kubectl
    wait_until(lambda: kubectl("logs", f"--namespace={namespace}", "echo") == "here\n", "the log")
    assert kubectl("exec", f"--namespace={namespace}", "echo", "--", "id", "-u") == "10001\n"


def test_fake_gpus_are_counted(cluster: Cluster, namespace: str) -> None:
    cluster.node.set_capacity("camfleet.io/test-gpu", 1)
    for name in ("first", "second"):
        manifest = python(name, cluster, "import time; time.sleep(600)")
        manifest["spec"]["containers"][0]["resources"] = {"limits": {"camfleet.io/test-gpu": "1"}}  # type: ignore[index]
        cluster.plane.post(f"/api/v1/namespaces/{namespace}/pods", manifest)
    pods = f"/api/v1/namespaces/{namespace}/pods"

    def counted() -> bool:
        phases = sorted(item["status"]["phase"] for item in cluster.plane.items(pods))
        return phases == ["Pending", "Running"]

    wait_until(counted, "one pod to get the GPU")
    waiting = next(
        i["metadata"]["name"] for i in cluster.plane.items(pods) if i["status"]["phase"] == "Pending"
    )
    wait_until(
        lambda: "Insufficient camfleet.io/test-gpu" in json.dumps(cluster.plane.get(f"{pods}/{waiting}")),
        "the scheduler's word",
    )


def test_media_are_mounted_from_a_claim(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "clip.txt").write_text("moving pictures")
    claim = cluster.load_media(tmp_path / "clip.txt", namespace=namespace)
    manifest = python(
        "reader",
        cluster,
        "print(open('/media/clip.txt').read())",
        volumes=[{"name": "media", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}],
        mounts=[{"name": "media", "mountPath": "/media", "readOnly": True}],
    )
    assert run(cluster, namespace, manifest) == "moving pictures\n"


def test_a_pod_sees_an_rtsp_camera_with_a_password(cluster: Cluster, namespace: str) -> None:
    need(rtsp_available(), "GStreamer's RTSP server")
    with cluster.run_rtsp_server("viewer", "p@ss/w:rd") as camera:
        url = camera.url.replace("rtsp://", "rtsp://viewer:p%40ss%2Fw%3Ard@")
        look = f"""
import av
camera = av.open({url!r}, options={{"rtsp_transport": "tcp"}}, timeout=(10, 10))
print(next(camera.decode(video=0)).width)
"""
        manifest = pod("eye", cluster.images["worker"].reference, "-c", look, command=("python3",))
        assert run(cluster, namespace, manifest).strip() == "320"


def test_nothing_of_the_node_shows_on_this_machine(cluster: Cluster) -> None:
    links = subprocess.run(["ip", "-json", "address"], capture_output=True, text=True, check=True).stdout
    assert "10.88." not in links
    mounts = Path("/proc/self/mounts").read_text()
    assert str(cluster.folder) not in mounts
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 10250)) != 0
