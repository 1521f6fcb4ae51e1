"""Recognition in a cluster: the chart with its volumes, somebody enrolled, a gateway that goes and returns.

Needs weights and portraits besides a node.
"""

from __future__ import annotations

import base64
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest
from tests.testbed.cluster import Cluster
from tests.testbed.processes import StartError, wait_until

from support.require import model_dir, sample

pytestmark = [pytest.mark.node, pytest.mark.timeout(600)]

RELEASE, NAMESPACE, CAMERA = "camfleet", "people", "people.lobby"
NAME = "Xanthippe Quill"
USER = 10001
IN_VIEW, AWAY, FPS = 4, 12, 10
"""Seconds of the clip, which loops: away for longer than what counts as one appearance."""
WIDTH, HEIGHT = 640, 480
PROFILE = {
    "inference": {
        "detectors": ["yunet"],
        "detectorOptions": [{"name": "yunet", "confidence": 0.6, "minSize": 0.05}],
        "zones": [{"name": "desk", "points": [[0, 0], [1, 0], [1, 1], [0, 1]], "dwellSeconds": 1}],
        "masks": [{"name": "screen", "points": [[0.95, 0.95], [1, 0.95], [1, 1]]}],
        "faceRecognition": {"enabled": True, "groups": ["staff"]},
    },
    "privacy": {"retentionDays": 7},
    "alerts": [{"name": "at-desk", "when": "InZone", "zone": "desk", "classes": ["face"]}],
}
LOOK = """
import json, os
def takes(path):
    try:
        open(path + "/probe", "w").close()
    except OSError:
        return False
    os.unlink(path + "/probe")
    return True
print(json.dumps({
    "user": os.getuid(),
    "writable": [
        path for path in ("/", "/opt/camfleet", "/models", "/var/lib/camfleet", "/tmp") if takes(path)
    ],
    "left in /tmp": sorted(os.listdir("/tmp")),
}))
"""
MEMORY = """
cd /sys/fs/cgroup
if [ -d memory ]; then cat memory/memory.usage_in_bytes memory/memory.max_usage_in_bytes
else cat memory.current memory.peak
fi
"""


def camfleet(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An object of ours."""
    return {"apiVersion": "camfleet.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def eventually(check: Callable[[], Any], what: str, site: Site, seconds: float = 180) -> Any:
    """Wait for something true, and return it."""
    found: list[Any] = []

    def holds() -> bool:
        found[:] = [check()]
        return bool(found[0])

    try:
        wait_until(holds, what, seconds=seconds)
    except StartError as error:
        raise AssertionError(f"{error}\n{site.cluster.troubles()}\n{site.logs()}") from error
    return found[0]


@dataclass
class Site:
    """The chart on the node, and a camera whose clip shows somebody again and again."""

    cluster: Cluster
    api: httpx.Client
    internal: str
    past: str = ""
    """Logs of pods that are gone."""

    def pod(self, program: str) -> str:
        """The pod of a program that is there to stay."""
        namespace = NAMESPACE if program == "worker" else RELEASE
        pods = self.cluster.plane.items(
            f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app.kubernetes.io/component={program}"
        )
        names = [p["metadata"]["name"] for p in pods if "deletionTimestamp" not in p["metadata"]]
        assert names, f"no pod of {program}"
        return f"{namespace}/{names[0]}"

    def inside(self, program: str, *command: str) -> str:
        """Run something in its pod."""
        namespace, _, name = self.pod(program).partition("/")
        return self.cluster.plane.kubectl("exec", f"--namespace={namespace}", name, "--", *command)

    def memory(self, program: str) -> tuple[int, int]:
        """Bytes of its pod's control group, now and at most."""
        now, most = self.inside(program, "sh", "-c", MEMORY).split()
        return int(now), int(most)

    def logs(self) -> str:
        """All that all pods have said."""
        kubectl, texts = self.cluster.plane.kubectl, [self.past]
        for namespace in (RELEASE, NAMESPACE):
            pods = kubectl("get", "pods", f"--namespace={namespace}", "--output=name").split()
            texts += [kubectl("logs", f"--namespace={namespace}", pod, check=False) for pod in pods]
        return "\n".join(texts)

    def metric(self, name: str) -> float:
        """One of the gateway's own, without labels."""
        try:
            text = httpx.get(f"{self.internal}/metrics", timeout=60).text
        except httpx.TransportError:
            return math.nan
        return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Events of a type, newest first; none while nobody answers."""
        try:
            answer = self.api.get("/api/events", params={"type": kind, "limit": 100})
        except httpx.TransportError:
            return []
        return answer.json()["events"] if answer.status_code == 200 else []

    def named(self) -> list[dict[str, Any]]:
        """Appearances of who is enrolled."""
        return [event for event in self.events("appearance") if event["person"]]

    def people(self) -> list[dict[str, Any]]:
        """Who is enrolled."""
        found: list[dict[str, Any]] = self.api.get("/api/people").json()["people"]
        return found

    def enrol(self, person: str, picture: str) -> None:
        """Add a portrait."""
        answer = self.api.post(
            f"/api/people/{person}/faces",
            content=sample(f"people/{picture}").read_bytes(),
            headers={"Content-Type": "image/jpeg"},
        )
        assert answer.status_code == 201, answer.text


def write_clip(path: Path) -> Path:
    """A portrait that drifts over a grey wall, and then the wall alone."""
    image = cv2.imread(str(sample("people/obama1.jpg")))
    assert image is not None
    image = cv2.resize(image, (round(image.shape[1] * HEIGHT / image.shape[0]), HEIGHT))[:, :WIDTH]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range((IN_VIEW + AWAY) * FPS):
            wall = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            if number < IN_VIEW * FPS:
                left = min(number, WIDTH - image.shape[1])
                wall[:, left : left + image.shape[1]] = image
            wall[:8, :8] = number % 255  # or the picture would count as frozen
            container.mux(stream.encode(av.VideoFrame.from_ndarray(wall, format="bgr24")))
        container.mux(stream.encode())
    return path


def make_data_volume(cluster: Cluster) -> None:
    """A volume for the chart's own claim, as drivers give them: root's, and open to the pod's fsGroup."""
    folder = cluster.folder / "media" / "gateway-data"
    folder.mkdir(parents=True)
    os.chown(folder, 0, USER)
    folder.chmod(0o2775)
    spec = {
        "capacity": {"storage": "20Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "",
        "hostPath": {"path": str(folder), "type": "Directory"},
        "claimRef": {"namespace": RELEASE, "name": "camfleet-gateway-data"},
    }
    cluster.plane.post("/api/v1/persistentvolumes", {"metadata": {"name": "gateway-data"}, "spec": spec})


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The chart with volumes and weights, and the camera, Ready."""
    plane = cluster.plane
    clip = write_clip(tmp_path_factory.mktemp("media") / "lobby.mp4")
    for namespace in (RELEASE, NAMESPACE):
        if plane.get(f"/api/v1/namespaces/{namespace}") is None:
            plane.create_namespace(namespace, {"pod-security.kubernetes.io/enforce": "restricted"})
        cluster.load_media(model_dir(), namespace=namespace, claim="weights")
    media = cluster.load_media(clip, namespace=NAMESPACE)
    make_data_volume(cluster)
    small = {"resources": {"requests": {"cpu": "50m"}}}
    weights = {"models": {"claimName": "weights"}}
    cluster.install(
        {"gateway": {"persistence": {"enabled": True}, **weights, **small}, "worker": weights | small}
    )
    source = {"file": {"path": clip.name, "claimName": media, "loop": True}}
    documents = [
        camfleet("CameraProfile", "reception", PROFILE),
        camfleet("Camera", "lobby", {"source": source, "profileRef": {"name": "reception"}}),
    ]
    plane.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin="\n---\n".join(map(json.dumps, documents)))
    plane.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "camera/lobby", "--timeout=240s")
    secret = plane.get(f"/api/v1/namespaces/{RELEASE}/secrets/camfleet-viewer-tokens")
    assert secret is not None
    token = base64.b64decode(secret["data"]["admin-token"]).decode()
    viewers, internal = (cluster.forward_service(RELEASE, "camfleet-gateway", port) for port in (8080, 8081))
    with httpx.Client(
        base_url=f"http://127.0.0.1:{viewers}", headers={"Authorization": f"Bearer {token}"}, timeout=120
    ) as api:
        yield Site(cluster, api, f"http://127.0.0.1:{internal}")
    plane.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def person(site: Site) -> str:
    """Somebody enrolled from a portrait, whom the worker knows of."""
    print("gateway at rest:", site.memory("gateway"))
    made = site.api.post("/api/people", json={"name": NAME, "group": "staff"})
    assert made.status_code == 201, made.text
    person = str(made.json()["id"])
    for picture in ("obama.jpg", "obama2.jpg"):
        sent, started = site.metric("camfleet_gateway_gallery_bytes_sent_total"), time.monotonic()
        site.enrol(person, picture)
        enrolled = time.monotonic()
        eventually(
            lambda sent=sent: (
                site.metric("camfleet_gateway_gallery_bytes_sent_total") > sent
                and site.metric("camfleet_gateway_galleries_outdated") == 0
            ),
            "the worker to have the gallery",
            site,
        )
        print(f"enrolled in {enrolled - started:.1f} s, at the worker {time.monotonic() - enrolled:.1f} s on")
    return person


def test_the_gateway_keeps_things_as_nobody_with_a_read_only_root(site: Site) -> None:
    seen = json.loads(site.inside("gateway", "python3", "-c", LOOK))
    assert (seen["user"], seen["writable"]) == (USER, ["/var/lib/camfleet", "/tmp"])
    claim = site.cluster.plane.get(
        f"/api/v1/namespaces/{RELEASE}/persistentvolumeclaims/camfleet-gateway-data"
    )
    assert claim is not None and claim["spec"]["volumeName"] == "gateway-data"
    modes = site.inside("gateway", "sh", "-c", "stat -c %a /var/lib/camfleet/camfleet.db*")
    assert set(modes.split()) == {"600"}
    assert "events and people are kept in sqlite" in site.logs()


def test_what_the_profile_says_reaches_the_camera_as_it_is(site: Site) -> None:
    camera = site.cluster.plane.get(f"/apis/camfleet.io/v1alpha1/namespaces/{NAMESPACE}/cameras/lobby")
    assert camera is not None
    values = camera["status"]["settings"]["values"]
    assert values["privacy"] == {"retentionDays": 7, "blurFaces": "Never"}
    for field in ("zones", "masks", "detectorOptions"):
        (given,), (resolved,) = PROFILE["inference"][field], values["inference"][field]
        assert resolved.items() >= given.items()
    assert values["alerts"][0].items() >= PROFILE["alerts"][0].items()  # type: ignore[index]


TRIANGLE = {"name": "desk", "points": [[0, 0], [1, 0], [1, 1]]}
BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"inference": {"zones": [{"name": "desk", "points": [[0, 0], [1, 1]]}]}},
        "should have at least 3 items",
    ),
    (
        {"inference": {"zones": [{"name": "desk", "points": [[0, 0], [1.2, 0], [1, 1]]}]}},
        "spec.inference.zones[0].points[1][0] in body should be less than or equal to 1",
    ),
    ({"inference": {"zones": [TRIANGLE, TRIANGLE]}}, 'zones[1]: Duplicate value: {"name":"desk"}'),
    ({"alerts": [{"name": "waits", "when": "InZone"}]}, "InZone needs a zone"),
]


@pytest.mark.parametrize(("spec", "words"), BAD)
def test_what_cannot_be_is_refused_in_words(site: Site, spec: dict[str, Any], words: str) -> None:
    document = json.dumps(camfleet("Camera", "bad", {"source": {"testPattern": {}}, **spec}))
    apply = ("apply", "-n", NAMESPACE, "--dry-run=server", "-f", "-")
    said = site.cluster.plane.kubectl(*apply, stdin=document, check=False)
    assert words in said and "created" not in said


def test_kubectl_explains_zones(site: Site) -> None:
    said = site.cluster.plane.kubectl("explain", "camera.spec.inference.zones")
    assert "dwellSeconds" in said and "Corners of the polygon" in said


def test_who_is_enrolled_is_named_with_pictures_zone_and_alert(site: Site, person: str) -> None:
    event = eventually(lambda: next(iter(site.named()), None), "an appearance with a name", site)
    assert (event["camera"], event["identity"]) == (CAMERA, "known")
    assert event["person"] == {"id": person, "name": NAME}
    for url in (event["crop_url"], event["scene_url"]):
        assert site.api.get(url).content.startswith(b"\xff\xd8\xff")
    alert = eventually(lambda: next(iter(site.events("alert")), None), "the alert of the profile", site)
    assert (alert["data"]["rule"], alert["data"]["zone"]) == ("at-desk", "desk")
    assert NAME not in alert["message"]


def test_a_gateway_that_was_away_has_it_all_exactly_once(site: Site, person: str) -> None:
    plane = site.cluster.plane
    before = {event["id"]: event for event in eventually(site.named, "an appearance with a name", site)}
    scale = ("scale", f"--namespace={RELEASE}", "deployment/camfleet-gateway")
    namespace, _, name = site.pod("gateway").partition("/")
    print("gateway before it goes:", site.memory("gateway"))
    site.past = plane.kubectl("logs", f"--namespace={namespace}", name)
    plane.kubectl(*scale, "--replicas=0")
    plane.kubectl("wait", f"--namespace={namespace}", "--for=delete", f"pod/{name}", "--timeout=180s")
    gone, last = time.time(), max(event["data"]["started"] for event in before.values())
    # The clip shows somebody again once in each turn; nobody but the worker knows when that has happened.
    turn = IN_VIEW + AWAY
    shown = last + turn * math.ceil((gone - last) / turn) + 2
    wait_until(lambda: time.time() > shown, "somebody to appear meanwhile")
    plane.kubectl(*scale, "--replicas=1")
    back = time.monotonic()
    plane.kubectl("rollout", "status", f"--namespace={RELEASE}", "deployment/camfleet-gateway")
    print(f"gateway Ready after {time.monotonic() - back:.1f} s")

    def meanwhile() -> list[dict[str, Any]]:
        return [event for event in site.named() if gone < event["data"]["started"] < shown]

    (missed,) = eventually(meanwhile, "the appearance of the meantime", site)
    assert site.api.get(missed["crop_url"]).content.startswith(b"\xff\xd8\xff")
    eventually(lambda: site.metric("camfleet_gateway_events_pending") == 0, "the worker to keep none", site)
    after = site.named()
    assert before.keys() <= {event["id"] for event in after}
    starts = sorted(event["data"]["started"] for event in after)
    assert all(later - earlier > turn / 2 for earlier, later in pairwise(starts)), starts
    assert len({event["order"] for event in after}) == len({event["id"] for event in after}) == len(after)
    assert [(entry["id"], entry["name"], entry["faces"]) for entry in site.people()] == [(person, NAME, 2)]

    # The vectors are there as well, and the key opens those of the database.
    def found() -> set[str]:
        answer = site.api.get("/api/faces/search", params={"person": person})
        assert answer.status_code == 200, answer.text
        return {face["event"]["id"] for face in answer.json()["faces"]}

    eventually(lambda: before.keys() <= found(), "the faces in the index", site)
    with_picture = site.api.post("/api/faces/search", content=sample("people/obama2.jpg").read_bytes())
    assert with_picture.json()["people"][0]["id"] == person
    print("gateway after searches:", site.memory("gateway"))


def test_nothing_says_the_name_or_reports_anywhere_and_memory_is_bounded(site: Site, person: str) -> None:
    eventually(site.named, "an appearance with a name", site)
    plane = site.cluster.plane
    places = {
        "logs": site.logs(),
        "metrics": httpx.get(f"{site.internal}/metrics", timeout=60).text,
        "objects": plane.kubectl("get", "pods,events,cameras", "-A", "-o", "json"),
    }
    assert "worker connected" in places["logs"] and "faces are recognised by" in places["logs"]
    assert [place for place, text in places.items() for part in NAME.split() if part in text] == []
    for program, most in (("worker", 300_000_000), ("gateway", 1 << 30)):
        now, peak = site.memory(program)
        print(f"{program}: {now / 1e6:.0f} MB, at most {peak / 1e6:.0f} MB")
        assert peak < most
        # ONNX Runtime's reports would lie there before they are sent; the socket of the index may.
        left = json.loads(site.inside(program, "python3", "-c", LOOK))["left in /tmp"]
        assert [name for name in left if not name.startswith("camfleet-")] == []
    pods = [pod for where in (RELEASE, NAMESPACE) for pod in plane.items(f"/api/v1/namespaces/{where}/pods")]
    assert all(status["restartCount"] == 0 for pod in pods for status in pod["status"]["containerStatuses"])
