"""What people see of a Camera with kubectl: explain, get, get -o wide.

Needs an API server and kubectl.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from crd_api import GROUP_PATH, CrdApi, camera, profile
from tests.testbed.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

SOURCES: dict[str, tuple[dict[str, Any], str]] = {
    "gate": ({"rtsp": {"url": "rtsp://192.0.2.10/stream1"}}, "rtsp://192.0.2.10/stream1"),
    "snap": ({"http": {"url": "http://cam.example/mjpg"}}, "http://cam.example/mjpg"),
    "clip": ({"file": {"path": "lobby.mp4", "claimName": "clips"}}, "lobby.mp4"),
    "desk": ({"device": {"path": "/dev/video0"}}, "/dev/video0"),
    "test": ({"testPattern": {"fps": 15}}, "<none>"),
}
MESSAGE = "no node has a free nvidia.com/gpu"


@pytest.fixture(scope="module", autouse=True)
def _objects(plane: ControlPlane) -> Iterator[None]:
    api = CrdApi(plane)
    for name, (source, _) in SOURCES.items():
        assert api.create(camera({"source": source}, name=name), dry=False).accepted
    status = {
        "conditions": [
            {"type": "Scheduled", "status": "False", "reason": "Elsewhere", "message": "not this one"},
            {"type": "Ready", "status": "False", "reason": "InsufficientGPU", "message": MESSAGE},
        ],
        "worker": {"attempt": 4, "podName": "gate-0a1b2c3d4e", "podUID": "u-4", "nodeName": "node-7"},
    }
    assert api.put_status(camera({"source": SOURCES["gate"][0]}, name="gate", status=status)).accepted
    assert api.create(profile({"site": "north", "gpu": {"mode": "Required"}}, "north"), dry=False).accepted
    yield
    for name in SOURCES:
        plane.delete(f"{GROUP_PATH}/cameras/{name}")
    plane.delete(f"{GROUP_PATH}/cameraprofiles/north")


def table(text: str) -> dict[str, dict[str, str]]:
    """What kubectl prints as rows by name: columns stand at the same place in each line."""
    header, *lines = text.rstrip("\n").splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", header)]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    titles = [header[a:b].strip() for a, b in spans]
    rows = [dict(zip(titles, (line[a:b].strip() for a, b in spans), strict=True)) for line in lines]
    return {row["NAME"]: row for row in rows}


def test_get(plane: ControlPlane) -> None:
    rows = table(plane.kubectl("get", "cameras"))
    assert list(rows["gate"]) == ["NAME", "READY", "REASON", "NODE", "AGE"]
    gate = rows["gate"]
    assert (gate["READY"], gate["REASON"], gate["NODE"]) == ("False", "InsufficientGPU", "node-7")
    assert rows["test"]["READY"] == "", "no operator has seen it yet"


def test_get_wide(plane: ControlPlane) -> None:
    rows = table(plane.kubectl("get", "cam", "-o", "wide"))
    titles = ["NAME", "READY", "REASON", "NODE", "AGE", "MESSAGE", "ATTEMPT", "POD", "SOURCE"]
    assert list(rows["gate"]) == titles
    assert (rows["gate"]["MESSAGE"], rows["gate"]["ATTEMPT"], rows["gate"]["POD"]) == (
        MESSAGE,
        "4",
        "gate-0a1b2c3d4e",
    )
    assert {name: row["SOURCE"] for name, row in rows.items()} == {
        name: shown.replace("<none>", "") for name, (_, shown) in SOURCES.items()
    }


@pytest.mark.parametrize("name", ["camera", "cameras", "cam", "cameras.camfleet.io", "camfleet"])
def test_names(plane: ControlPlane, name: str) -> None:
    assert "gate" in plane.kubectl("get", name, "-o", "name")


def test_profiles(plane: ControlPlane) -> None:
    row = table(plane.kubectl("get", "camprofile"))["north"]
    assert (row["SITE"], row["GPU"]) == ("north", "Required")


def explained(plane: ControlPlane, path: str) -> str:
    """What kubectl explains, without its line breaks."""
    return " ".join(plane.kubectl("explain", path).split())


def test_explain_camera(plane: ControlPlane) -> None:
    text = explained(plane, "camera")
    assert "A camera: where its pictures come from" in text
    assert "spec <CameraSpec> -required-" in text or "spec <Object> -required-" in text


def test_explain_spec(plane: ControlPlane) -> None:
    text = explained(plane, "camera.spec")
    assert "What the user wants of the camera. Only source is required." in text
    assert "source <Object> -required- Where the pictures come from: exactly one of rtsp, http, file" in text
    assert "suspend <boolean> Whether the camera is switched off" in text
    assert "profileRef <Object> CameraProfile of the same namespace" in text


def test_explain_rtsp(plane: ControlPlane) -> None:
    text = explained(plane, "camera.spec.source.rtsp")
    assert "A network camera that speaks RTSP." in text
    assert "url <string> -required- Address of the stream, rtsp:// or rtsps://" in text
    assert "transport <string> enum: tcp, udp How the pictures travel" in text
    assert "credentialsSecretRef <Object> Secret with the camera's user and password." in text


def test_explain_says_which_default_applies(plane: ControlPlane) -> None:
    assert "Pictures per second, at most. Unset: 10." in explained(plane, "camera.spec.stream.fps")
    assert "ENUM: Required Preferred Disabled" in explained(plane, "cameraprofile.spec.gpu.mode")


def test_explain_leaves_nothing_out(plane: ControlPlane) -> None:
    for kind in ("camera", "cameraprofile"):
        text = plane.kubectl("explain", kind, "--recursive")
        assert "<no description>" not in text
