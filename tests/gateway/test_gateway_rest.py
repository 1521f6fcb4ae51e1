"""The REST API, with a stand-in for the local runtime that turns overlays into objects."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gateway_clients import FakeWorker

from camfleet_protocol.camera import Camera
from camfleet_protocol.local import SPEC_DIGEST_ANNOTATION, Overlay, StateFolder
from camfleet_protocol.messages import EventRecord
from support.gateway_process import (
    GatewayProcess,
    LocalRuntimeDouble,
    put_camera,
    test_pattern,
    worker_token,
)

PASSWORD = "Tr0ub4dor-canary"


@pytest.fixture
def runtime(state: StateFolder) -> Iterator[LocalRuntimeDouble]:
    double = LocalRuntimeDouble(state)
    double.add_file(test_pattern("garden"))
    with double:
        yield double


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.viewer_url, timeout=60) as client:
        yield client


def overlay(state: StateFolder, camera_id: str) -> Overlay:
    return Overlay.model_validate_json((state.overlay / f"{camera_id}.json").read_bytes())


def test_a_camera_comes_changes_and_goes(
    http: httpx.Client, state: StateFolder, runtime: LocalRuntimeDouble
) -> None:
    created = http.post(
        "/api/cameras", json={"name": "hall", "spec": {"source": {"testPattern": {"fps": 5}}}}
    )
    assert created.status_code == 201, created.text
    body = created.json()
    assert body["camera_id"] == "default.hall" and body["source_type"] == "testPattern"
    assert body["state"] == "offline" and body["settings"]["stream"]["quality"] == 80
    assert (
        http.post("/api/cameras", json={"name": "hall", "spec": {"source": {"testPattern": {}}}}).status_code
        == 409
    )

    patch = {"stream": {"quality": 40}, "inference": {"enabled": False}}
    changed = http.patch("/api/cameras/hall", json=patch).json()
    assert changed["settings"]["stream"]["quality"] == 40
    assert changed["ai_enabled"] is False
    changed = http.patch("/api/cameras/hall", json={"stream": {"fps": 3}}).json()
    assert (changed["settings"]["stream"]["quality"], changed["settings"]["stream"]["fps"]) == (40, 3)
    changed = http.patch("/api/cameras/hall", json={"stream": {"quality": None}}).json()
    assert changed["settings"]["stream"]["quality"] == 80, "null gives the field back"

    stopped = http.post("/cameras/hall/stream/stop")
    assert stopped.status_code == 200
    assert (stopped.json()["suspended"], stopped.json()["state"]) == (True, "suspended")
    assert http.get("/cameras/hall/stream/status").json()["streaming"] is False
    assert http.post("/cameras/hall/stream/start").json()["suspended"] is False

    assert http.delete("/api/cameras/hall").status_code == 204
    assert http.get("/api/cameras/hall").status_code == 404
    assert not (state.overlay / "default.hall.json").exists()


def test_a_camera_of_a_file_can_be_hidden_and_comes_back(
    http: httpx.Client, state: StateFolder, runtime: LocalRuntimeDouble
) -> None:
    deadline = time.monotonic() + 60
    while http.get("/api/cameras/garden").status_code != 200:
        assert time.monotonic() < deadline, "the file's camera"
    assert http.delete("/api/cameras/garden").status_code == 204
    assert overlay(state, "default.garden").deleted_digest
    assert http.get("/api/cameras/garden").status_code == 404
    other = http.post(
        "/api/cameras", json={"name": "garden", "spec": {"source": {"testPattern": {"fps": 9}}}}
    )
    assert other.status_code == 409, "its file would win"
    same = http.post("/api/cameras", json={"name": "garden", "spec": {"source": {"testPattern": {}}}})
    assert same.status_code == 201


def test_a_whole_object_and_its_false_claims(
    http: httpx.Client, state: StateFolder, runtime: LocalRuntimeDouble
) -> None:
    document = {
        "apiVersion": "camfleet.io/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": "yard", "namespace": "north", "annotations": {SPEC_DIGEST_ANNOTATION: "0" * 64}},
        "spec": {"source": {"file": {"path": "/etc/passwd"}}},
        "status": {"worker": {"attempt": 9, "podUID": "mine"}},
    }
    assert http.post("/api/cameras", json=document).status_code == 201
    camera = overlay(state, "north.yard").camera
    assert camera is not None
    assert SPEC_DIGEST_ANNOTATION not in camera.metadata.annotations, "it does not come from a user's file"
    assert camera.status.worker is None, "status is not the caller's to set"
    assert http.get("/api/cameras/yard").json()["camera_id"] == "north.yard"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (
            {"name": "a", "spec": {"source": {"testPattern": {}}, "colour": "red"}},
            "spec.colour: no such field",
        ),
        ({"name": "a", "specs": {}}, "specs: no such field"),
        ({"name": "A b", "spec": {"source": {"testPattern": {}}}}, "metadata.name"),
        (
            {"name": "a", "spec": {"source": {"rtsp": {"url": f"rtsp://u:{PASSWORD}@h/s"}}}},
            "user or password",
        ),
        ({"name": "a", "spec": {"source": {}}}, "exactly one"),
        ({"name": "a"}, "spec is missing"),
        (
            {
                "kind": "CameraProfile",
                "apiVersion": "camfleet.io/v1alpha1",
                "metadata": {"name": "p"},
                "spec": {},
            },
            "kind",
        ),
        ([1, 2], "not an object"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"name": "\xff"}', "not JSON"),
    ],
)
def test_what_is_wrong_is_named_and_never_quoted(
    http: httpx.Client, gateway: GatewayProcess, body: Any, part: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = http.post("/api/cameras", content=content)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "invalid" and any(part in problem for problem in error["problems"]), error
    assert PASSWORD not in answer.text and PASSWORD not in gateway.log


def test_controls_are_checked(http: httpx.Client) -> None:
    for body in (
        {"stream": {"quality": 0}},
        {"stream": {"fps": 1e9}},
        {"source": {}},
        {"suspend": "perhaps"},
    ):
        answer = http.patch("/api/cameras/door", json=body)
        assert answer.status_code == 422, body
        assert answer.json()["error"]["problems"]
    assert http.patch("/api/cameras/nowhere", json={}).status_code == 404
    assert http.patch("/api/cameras/door", json={}).status_code == 200, "nothing to change"


def test_without_a_runtime_the_change_is_stored_and_said_so(http: httpx.Client, state: StateFolder) -> None:
    answer = http.patch("/api/cameras/door", json={"suspend": True})
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "not_applied"
    assert overlay(state, "default.door").controls.suspend is True


def test_too_large_bodies(http: httpx.Client) -> None:
    assert http.post("/api/cameras", content=b"x" * 300_000).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 10_000

    assert http.post("/api/cameras", content=endless()).status_code == 413


def test_session_and_errors_have_one_form(http: httpx.Client) -> None:
    assert http.get("/api/session").json() == {"role": "admin", "authentication": False, "version": "0.1.0"}
    for path, code in (("/nothing", "not_found"), ("/api/cameras/none", "unknown_camera")):
        answer = http.get(path)
        assert answer.status_code == 404 and answer.json()["error"]["code"] == code
    assert http.put("/api/cameras").json()["error"]["code"] == "method_not_allowed"
    assert http.get("/api/events?limit=0").json()["error"]["problems"]
    page = http.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert page.headers["x-content-type-options"] == "nosniff"


def test_docs_describe_every_operation(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert document["info"]["title"] == "Camfleet gateway"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert operation["responses"], (method, path)
    schema = document["components"]["schemas"]["CameraView"]["properties"]
    wanted = {"camera_id", "source", "source_type", "connected", "fps", "dropped_frames"}
    wanted |= {"uptime_seconds", "ai_enabled"}
    assert wanted <= set(schema)
    docs = http.get("/docs")
    assert "POST /api/cameras" in docs.text and "<script" not in docs.text


async def test_a_password_told_by_a_worker_shows_nowhere(
    gateway: GatewayProcess, state: StateFolder, door: Camera, http: httpx.Client
) -> None:
    secret = f"rtsp://admin:{PASSWORD}@10.0.0.9/stream"
    async with FakeWorker.running(gateway.internal_url, door.id, worker_token(state, door)) as worker:
        await worker.accepted()
        stats = worker.stats()
        source = stats.source.model_copy(
            update={"state": "backoff", "reason": "SourceRefused", "message": f"refused: {secret}"}
        )
        document = json.loads(stats.encode()) | {"last_frame_ns": 0, "source": {}}
        document["source"] = {
            "state": "backoff",
            "reason": source.reason,
            "message": source.message,
        }
        await worker.socket.send(json.dumps(document))
        await worker.event(
            EventRecord(
                id="1",
                time=1,
                camera=door.id,
                type="source.lost",
                message=secret,
                data={"url": secret, "n": 1},
            )
        )
        await worker.event_acks(1)
        texts = [
            (await asyncio.to_thread(http.get, path)).text
            for path in (
                "/api/cameras",
                "/api/events",
                "/metrics",
                "/streaming/debug",
                "/cameras/door/stream/status",
            )
        ]
        assert "10.0.0.9" in texts[1], "the rest of the message is there"
        for text in texts:
            assert PASSWORD not in text
    assert PASSWORD not in gateway.log
    put_camera(state, door)
