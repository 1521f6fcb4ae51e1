"""The whole thing on a real node: Helm, Cameras, pods that stream, a viewer, and no password anywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.testbed.cluster import Cluster, RtspCamera
from tests.testbed.components import find
from tests.testbed.processes import wait_until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from camfleet.demo_media import make_faces_clip
from camfleet_protocol.cluster import TOKEN_AUDIENCE
from camfleet_protocol.messages import WorkerHello
from camfleet_protocol.wire import SUBPROTOCOL
from support.require import model_dir
from support.stopwatch import Stopwatch
from support.viewer import viewing

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

USER, CANARY = "viewer", "c4n@ry/p:ss w0rd"
READY_SECONDS = 20
NAMES = ("door", "hall", "yard")


@dataclass
class Fleet:
    """Camfleet on the node, with three cameras in a namespace of their own."""

    cluster: Cluster
    namespace: str
    viewers: str
    internal: str
    token: str
    rtsp: RtspCamera
    ready_after: float

    def camera(self, name: str) -> dict[str, Any]:
        found = self.cluster.plane.get(
            f"/apis/camfleet.io/v1alpha1/namespaces/{self.namespace}/cameras/{name}"
        )
        assert found is not None
        return found

    def ready(self, name: str) -> bool:
        conditions = self.camera(name).get("status", {}).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def pods(self) -> list[dict[str, Any]]:
        return self.cluster.plane.items(
            f"/api/v1/namespaces/{self.namespace}/pods", labelSelector="app.kubernetes.io/component=worker"
        )

    def pod(self, camera: str) -> dict[str, Any]:
        return next(p for p in self.pods() if p["metadata"]["labels"]["camfleet.io/camera"] == camera)

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        return self.cluster.plane.kubectl("-n", self.namespace, *arguments, check=check)

    def apply(self, manifest: str) -> None:
        self.cluster.plane.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=manifest)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.internal}/metrics", timeout=60) as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def fleet(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The chart installed from the working tree, and three Cameras applied as a user would."""
    namespace = "cameras"
    plane = cluster.plane
    plane.create_namespace(namespace, {"pod-security.kubernetes.io/enforce": "restricted"})
    clip = make_faces_clip(tmp_path_factory.mktemp("media") / "faces.mp4")
    media = cluster.load_media(clip, namespace=namespace)
    models = cluster.load_media(model_dir(), namespace=namespace, claim="models")
    cluster.install(
        {
            "worker": {"models": {"claimName": models}, "resources": {"requests": {"cpu": "50m"}}},
            "gateway": {"resources": {"requests": {"cpu": "50m"}}},
            "operator": {"resources": {"requests": {"cpu": "50m"}}},
        }
    )
    secret = plane.get("/api/v1/namespaces/camfleet/secrets/camfleet-viewer-tokens")
    assert secret is not None
    with cluster.run_rtsp_server(USER, CANARY) as rtsp:
        stopwatch = Stopwatch()
        plane.kubectl("apply", "-n", namespace, "-f", "-", stdin=manifests(media, rtsp.url))
        plane.kubectl("wait", "-n", namespace, "--for=condition=Ready", "camera", "--all", "--timeout=240s")
        ready_after = stopwatch.seconds
        yield Fleet(
            cluster,
            namespace,
            f"http://127.0.0.1:{cluster.forward_service('camfleet', 'camfleet-gateway', 8080)}",
            f"http://127.0.0.1:{cluster.forward_service('camfleet', 'camfleet-gateway', 8081)}",
            base64.b64decode(secret["data"]["admin-token"]).decode(),
            rtsp,
            ready_after,
        )
    plane.kubectl("delete", "namespace", namespace, "--wait=false")


def manifests(claim: str, rtsp_url: str) -> str:
    def camera(name: str, **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": "camfleet.io/v1alpha1",
            "kind": "Camera",
            "metadata": {"name": name},
            "spec": spec,
        }

    documents = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hall-login"},
            "stringData": {"username": USER, "password": CANARY},
        },
        camera(
            "door",
            source={"file": {"path": "faces.mp4", "claimName": claim, "loop": True}},
            inference={"detectors": ["yunet"]},
        ),
        camera(
            "hall",
            source={"rtsp": {"url": rtsp_url, "credentialsSecretRef": {"name": "hall-login"}}},
            inference={"detectors": ["motion"]},
        ),
        camera(
            "yard",
            source={"testPattern": {"width": 640, "height": 360, "fps": 15}},
            inference={"detectors": ["motion"]},
        ),
    ]
    return "\n---\n".join(json.dumps(document) for document in documents)


def test_three_cameras_are_ready_in_time(fleet: Fleet) -> None:
    assert fleet.ready_after <= READY_SECONDS
    for pod in fleet.pods():
        assert pod["status"]["phase"] == "Running"
        assert pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    print(fleet.kubectl("get", "cameras", "-o", "wide"))
    print(fleet.kubectl("describe", "camera", "hall"))


async def test_frames_with_detections_reach_a_viewer(fleet: Fleet) -> None:
    cameras = [f"{fleet.namespace}.{name}" for name in NAMES]
    kinds: dict[str, set[str]] = {camera: set() for camera in cameras}
    async with viewing(fleet.viewers, *cameras, token=fleet.token) as viewer, asyncio.timeout(120):
        async for seen in viewer.frames():
            kinds.setdefault(seen.camera, set()).update(box.kind for box in seen.meta.detections)
            if "face" in kinds[cameras[0]] and "motion" in kinds[cameras[2]] and seen.camera == cameras[1]:
                break
    assert "face" in kinds[cameras[0]]


def test_what_kubectl_says_reads_well(fleet: Fleet) -> None:
    wide = fleet.kubectl("get", "cam", "-o", "wide").splitlines()
    assert wide[0].split() == [
        "NAME",
        "READY",
        "REASON",
        "NODE",
        "AGE",
        "MESSAGE",
        "ATTEMPT",
        "POD",
        "SOURCE",
    ]
    wait_until(
        lambda: all(
            "True" in line and "Streaming" in line
            for line in fleet.kubectl("get", "cam", "-o", "wide").splitlines()[1:]
        ),
        "all to be said to stream",
    )
    assert "rtsp" in fleet.kubectl("explain", "camera.spec.source")
    described = fleet.kubectl("describe", "camera", "hall")
    assert "Observed Generation" in described and "Streaming" in described


def test_the_plugin_has_reasons_logs_pictures_and_no_password(fleet: Fleet, tmp_path: Path) -> None:
    """The parts of `kubectl camfleet` that take a kubelet: pod proxy, logs and port-forward."""
    programs = f"{Path(sys.executable).parent}:{find('kubectl').parent}"
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    environment["KUBECONFIG"] = str(fleet.cluster.plane.kubeconfig)

    def plugin(*arguments: str) -> str:
        done = subprocess.run(
            ["kubectl", "camfleet", "-n", fleet.namespace, *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "leads; evaluator direct" in plugin("status")
    assert "connected to the gateway" in plugin("logs", "door")
    plugin("watch", "door", "--dump", "pictures", "--frames=2")
    pictures = [file.read_bytes() for file in (tmp_path / "pictures").iterdir()]
    assert [picture[:3] for picture in pictures] == [b"\xff\xd8\xff"] * 2
    plugin("report", "-o", "report.tar.gz")
    with tarfile.open(tmp_path / "report.tar.gz") as archive:
        files = {name: archive.extractfile(name) for name in archive.getnames()}
        texts = {name: file.read().decode() for name, file in files.items() if file is not None}
    assert json.loads(texts["report/manifest.json"])["missing"] == []
    assert any("created pod" in text for name, text in texts.items() if "operator" in name)
    for secret in (CANARY, quote(CANARY, safe=""), fleet.token):
        assert [name for name, text in texts.items() if secret in text] == []


def test_the_password_is_nowhere(fleet: Fleet) -> None:
    secrets = [CANARY, base64.b64encode(CANARY.encode()).decode(), "c4n%40ry", "c4n@ry"]
    plane = fleet.cluster.plane
    pod = fleet.pod("hall")["metadata"]["name"]
    places = {
        "worker log": fleet.kubectl("logs", pod),
        "worker environment": fleet.kubectl("exec", pod, "--", "cat", "/proc/1/environ"),
        "worker command line": fleet.kubectl("exec", pod, "--", "cat", "/proc/1/cmdline"),
        "operator log": plane.kubectl("-n", "camfleet", "logs", "-l", "app.kubernetes.io/component=operator"),
        "gateway log": plane.kubectl("-n", "camfleet", "logs", "-l", "app.kubernetes.io/component=gateway"),
        "events": plane.kubectl("get", "events", "-A", "-o", "json"),
        "cameras": fleet.kubectl("get", "cameras", "-o", "json"),
        "describe camera": fleet.kubectl("describe", "camera", "hall"),
        "describe pod": fleet.kubectl("describe", "pod", pod),
        "pods": fleet.kubectl("get", "pods", "-o", "json"),
        "gateway metrics": fleet.metrics(),
    }
    assert all(places.values()), [name for name, text in places.items() if not text]
    found = [(place, secret) for place, text in places.items() for secret in secrets if secret in text]
    assert found == []


async def test_a_worker_that_is_not_the_cameras_own_is_refused_and_counted(fleet: Fleet) -> None:
    plane = fleet.cluster.plane
    pod = fleet.pod("yard")["metadata"]["name"]
    before = refused(fleet)
    wrong_audience = plane.pod_token(fleet.namespace, pod, audience="somebody-else")
    assert await rejected_with(fleet, wrong_audience, "yard", 1) == 1008
    own = plane.pod_token(fleet.namespace, pod, audience=TOKEN_AUDIENCE)
    assert await rejected_with(fleet, own, "hall", 1) == 1008
    assert await rejected_with(fleet, "not.a.token", "yard", 1) == 1008
    assert refused(fleet) >= before + 3
    assert fleet.ready("yard")


def refused(fleet: Fleet) -> float:
    lines = fleet.metrics().splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("camfleet_gateway_sessions_refused_total")
    )


async def rejected_with(fleet: Fleet, token: str, camera: str, attempt: int) -> int:
    """The code the gateway closes such a session with, be it before or after the hello."""
    url = fleet.internal.replace("http", "ws", 1) + "/ws/worker"
    hello = WorkerHello(camera=f"{fleet.namespace}.{camera}", attempt=attempt, pod="impostor")
    async with connect(
        url,
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
        additional_headers={"Authorization": f"Bearer {token}"},
    ) as socket:
        with suppress(ConnectionClosed):
            async with asyncio.timeout(60):
                await socket.send(hello.encode())
                while True:
                    await socket.recv()
    assert socket.close_code is not None
    return socket.close_code


def test_a_worker_that_dies_comes_back_and_the_others_do_not_notice(fleet: Fleet) -> None:
    others = {name: fleet.pod(name)["metadata"]["uid"] for name in ("door", "hall")}
    pod = fleet.pod("yard")["metadata"]["name"]
    fleet.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    wait_until(
        lambda: fleet.camera("yard")["status"]["worker"]["attempt"] == 2 and fleet.ready("yard"),
        "the next attempt to be Ready",
    )
    assert {name: fleet.pod(name)["metadata"]["uid"] for name in ("door", "hall")} == others


def test_a_source_that_goes_is_named_and_its_return_is_enough(fleet: Fleet) -> None:
    pod = fleet.pod("hall")["metadata"]["uid"]
    fleet.cluster.plane.patch(
        f"/apis/camfleet.io/v1alpha1/namespaces/{fleet.namespace}/cameras/hall",
        {"spec": {"health": {"stallTimeoutSeconds": 5}}},
    )
    fleet.rtsp.process.send_signal(19)  # SIGSTOP
    try:
        wait_until(lambda: not fleet.ready("hall"), "hall to be not Ready")
    finally:
        fleet.rtsp.process.send_signal(18)  # SIGCONT
    wait_until(lambda: fleet.ready("hall"), "hall to be Ready again")
    assert fleet.pod("hall")["metadata"]["uid"] == pod, "a source's fault moves nothing"


def test_a_secret_that_comes_late_and_is_corrected_is_taken_up(fleet: Fleet) -> None:
    def reason() -> str:
        conditions = fleet.camera("gate").get("status", {}).get("conditions", [])
        return next((c["reason"] for c in conditions if c["type"] == "Ready"), "")

    def login(password: str) -> str:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gate-login"}}
        return json.dumps({**secret, "stringData": {"username": USER, "password": password}})

    camera = {
        "apiVersion": "camfleet.io/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": "gate"},
        "spec": {
            "source": {"rtsp": {"url": fleet.rtsp.url, "credentialsSecretRef": {"name": "gate-login"}}},
            "inference": {"detectors": ["motion"]},
        },
    }
    fleet.apply(json.dumps(camera))
    wait_until(lambda: reason() == "CredentialsMissing", "CredentialsMissing")
    pod = fleet.pod("gate")["metadata"]["uid"]
    # The kubelet brings a changed Secret into the pod within a minute or two.
    fleet.apply(login("wrong"))
    wait_until(lambda: reason() == "AuthFailed", "AuthFailed", seconds=240)
    fleet.apply(login(CANARY))
    wait_until(lambda: fleet.ready("gate"), "gate to be Ready", seconds=240)
    assert fleet.pod("gate")["metadata"]["uid"] == pod


def test_deleting_a_camera_removes_its_pod(fleet: Fleet) -> None:
    fleet.kubectl("delete", "camera", "yard")
    wait_until(
        lambda: all(p["metadata"]["labels"]["camfleet.io/camera"] != "yard" for p in fleet.pods()),
        "the pod to go",
    )


def page_title(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


def test_the_page_is_served(fleet: Fleet) -> None:
    assert "<title>" in page_title(fleet.viewers + "/")
