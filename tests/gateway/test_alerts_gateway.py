"""Alerts, webhooks and face search through a real gateway: a worker tells, programs read, it starts again."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from aiohttp import web
from gateway_clients import FakeWorker, eventually, ws
from gateway_tokens import Tokens
from people_office import portrait
from websockets.asyncio.client import connect

from camfleet_gateway.people.embeddings import to_bytes
from camfleet_gateway.people.faces_client import FacesClient
from camfleet_protocol.camera import Camera
from camfleet_protocol.local import StateFolder
from camfleet_protocol.messages import EventRecord, WorkerEvent
from support.gateway_process import GatewayProcess, put_camera, test_pattern, worker_token
from support.require import model_dir

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(480)]

RULES = [
    {"name": "stranger", "when": "UnknownPerson", "severity": "critical", "cooldownSeconds": 600},
    {"name": "blocked", "when": "BlockedPerson", "zone": "door"},
]
MODEL = "numbers@0123456789ab"


@pytest.fixture
def door(state: StateFolder) -> Camera:
    recognition = {"inference": {"faceRecognition": {"enabled": True}}, "privacy": {"retentionDays": 7}}
    return put_camera(state, test_pattern("door", alerts=RULES, **recognition))


class Hook:
    """A receiver of messages."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.status = 204
        self.url = ""


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    found = Hook()

    async def handle(request: web.BaseRequest) -> web.Response:
        found.events.append(json.loads(await request.read())["event"])
        return web.Response(status=found.status)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield found
    await runner.cleanup()


def face(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    values = np.random.default_rng(seed).standard_normal(128).astype(np.float32)
    return np.asarray(values / np.linalg.norm(values), np.float32)


def seen(id_: str, vector: Any = None, *, embedder: str = MODEL, **data: Any) -> str:
    """What a worker says of an appearance."""
    now = time.time()
    basis = {"kind": "face", "label": "face", "track": 1, "started": now, "seen": now}
    record = EventRecord(
        id=id_, time=now, camera="default.door", type="appearance", data=basis | data, order=1
    )
    if vector is None:
        return WorkerEvent(event=record).encode()
    text = base64.b64encode(to_bytes(vector[None, :])).decode()
    return WorkerEvent(event=record, embedding=text, embedder=embedder).encode()


async def get(gateway: GatewayProcess, path: str, **params: Any) -> Any:
    async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as client:
        answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_alert_reaches_pages_programs_and_webhooks_once(
    start: Callable[..., GatewayProcess],
    tmp_path: Path,
    door: Camera,
    hook: Hook,
    state: StateFolder,
) -> None:
    webhooks = tmp_path / "webhooks.yaml"
    (tmp_path / "secret").write_text("a-secret-of-the-receiver")
    webhooks.write_text(
        json.dumps({"webhooks": [{"name": "desk", "url": hook.url, "secret_file": "secret"}]})
    )
    gateway = start(webhooks_file=str(webhooks))
    hook.status = 500
    async with (
        FakeWorker.running(gateway.internal_url, door.id, worker_token(state, door)) as worker,
        connect(f"{ws(gateway.viewer_url)}/ws/events?type=alert") as live,
    ):
        await worker.accepted()
        for _ in range(2):
            await worker.socket.send(seen("e1", identity="unknown"))
        await worker.event_acks(1)
        told = json.loads(await asyncio.wait_for(live.recv(), 60))
        assert told["first"] and told["event"]["data"]["rule"] == "stranger"
        alert = told["event"]["id"]
        await eventually(lambda: len(hook.events) == 1, "a first call")
    gateway.kill()  # with the message not taken
    hook.status = 204
    gateway.restart()
    async with FakeWorker.running(gateway.internal_url, door.id, worker_token(state, door)) as worker:
        await worker.accepted()
        await worker.socket.send(seen("e1", identity="unknown"))
        await worker.socket.send(seen("e2", identity="unknown"))
        await worker.event_acks(2)
    found = await get(gateway, "/api/alerts", camera="door", rule="stranger", acknowledged="false")
    assert [(item["id"], item["event_id"], item["severity"]) for item in found["alerts"]] == [
        (alert, "e1", "critical")
    ]
    assert found["alerts"][0]["data"]["when"] == "UnknownPerson" and found["next_cursor"] is None
    await eventually(lambda: len(hook.events) == 2, "the call that is taken")
    assert {event["id"] for event in hook.events} == {alert}

    async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as client:
        first = (await client.post(f"/api/alerts/{alert}/acknowledge")).json()
        again = (await client.post(f"/api/alerts/{alert}/acknowledge")).json()
        assert first["acknowledged"] == again["acknowledged"] and first["acknowledged_by"] == "anonymous"
        assert (await client.post("/api/alerts/none/acknowledge")).status_code == 404
    assert (await get(gateway, "/api/alerts", acknowledged="false"))["alerts"] == []
    audit = (await get(gateway, "/api/audit", subject=alert))["entries"]
    assert [entry["action"] for entry in audit] == ["alert.acknowledge"]
    event = await get(gateway, f"/api/events/{alert}")
    assert event["data"]["acknowledged_by"] == "anonymous" and event["type"] == "alert"
    await eventually(lambda: len(hook.events) == 3, "the acknowledgement as an update")
    [view] = (await get(gateway, "/api/webhooks"))["webhooks"]
    assert (view["name"], view["host"], view["signed"], view["dead"]) == ("desk", "127.0.0.1", True, 0)
    assert hook.url not in gateway.log and "a-secret" not in gateway.log


async def test_what_each_role_may_do(start: Callable[..., GatewayProcess], tokens: Tokens) -> None:
    gateway = start(tokens_file=str(tokens.path))
    expected = {
        ("GET", "/api/alerts"): (200, 200, 200),
        ("GET", "/api/alerts?cursor=nonsense"): (422, 422, 422),
        ("GET", "/api/alerts?since=soon"): (422, 422, 422),
        ("POST", "/api/alerts/none/acknowledge"): (403, 404, 404),
        ("GET", "/api/webhooks"): (403, 200, 200),
        ("GET", "/api/webhooks/dead"): (403, 200, 200),
        ("GET", "/api/webhooks/dead?cursor=x"): (403, 422, 422),
        ("POST", "/api/webhooks/dead/none/retry"): (403, 403, 404),
        ("DELETE", "/api/webhooks/dead/none%00"): (403, 403, 404),
        ("GET", "/api/faces/search"): (403, 422, 422),
        ("GET", "/api/faces/search?event=none"): (403, 422, 422),
        ("GET", "/api/faces/search?person=none"): (403, 404, 404),
        ("GET", "/api/faces/search?event=a&person=b"): (403, 422, 422),
        ("GET", "/api/faces/search?event=a&minimum=nan"): (403, 422, 422),
        ("POST", "/api/faces/search"): (403, 422, 422),
    }
    async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as client:
        for (method, path), statuses in expected.items():
            found = []
            for role in ("viewer", "operator", "admin"):
                answer = await client.request(method, path, headers=tokens.header(role))
                found.append(answer.status_code)
            assert tuple(found) == statuses, (method, path)
            assert (await client.request(method, path)).status_code == 401


async def test_a_face_is_found_by_event_person_and_picture(
    start: Callable[..., GatewayProcess], door: Camera, state: StateFolder
) -> None:
    client_of_faces = FacesClient(model_dir(), "mobilefacenet")
    try:
        vectors = {}
        for name in ("obama1.jpg", "biden.jpg"):
            analysis = await client_of_faces.analyze(portrait(name), max_faces=1)
            vectors[name] = np.frombuffer(base64.b64decode(analysis.faces[0].embedding), "<f2").astype("f4")
        embedder = (await client_of_faces.embedder()).embedder
    finally:
        await client_of_faces.stop()
    gateway = start(model_dir=str(model_dir()))
    async with FakeWorker.running(gateway.internal_url, door.id, worker_token(state, door)) as worker:
        await worker.accepted()
        await worker.socket.send(seen("obama", vectors["obama1.jpg"], embedder=embedder))
        await worker.socket.send(seen("biden", vectors["biden.jpg"], embedder=embedder))
        await worker.socket.send(seen("numbers", face(1)))
        await worker.socket.send(seen("numbers-2", face(1) + 0.01 * face(2)))
        await worker.event_acks(4)

    async def alike() -> Any:
        found = await get(gateway, "/api/faces/search", event="numbers")
        return found if found["faces"] else None

    found = await eventually(alike, "the vectors in the index", within=120)
    assert [item["event"]["id"] for item in found["faces"]] == ["numbers-2"]
    assert found["faces"][0]["similarity"] > 0.99 and "milvus-lite" in found["index"]
    assert found["embedder"] == MODEL and found["people"] == [] and found["took_ms"] >= 0

    async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as client:
        ada = (await client.post("/api/people", json={"name": "Barack", "group": "staff"})).json()["id"]
        picture = {"content": portrait("obama.jpg"), "headers": {"Content-Type": "image/jpeg"}}
        assert (await client.post(f"/api/people/{ada}/faces", **picture)).status_code == 201
        answer = await client.post("/api/faces/search", **picture)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert [item["event"]["id"] for item in found["faces"]] == ["obama"]
        assert [person["name"] for person in found["people"]] == ["Barack"]
        nothing = await client.post("/api/faces/search?camera=default.hall", **picture)
        assert nothing.json()["faces"] == []
        nobody = {"content": b"\xff\xd8\xff nothing", "headers": {"Content-Type": "image/jpeg"}}
        assert (await client.post("/api/faces/search", **nobody)).status_code == 422
        by_person = (await client.get("/api/faces/search", params={"person": ada})).json()
        assert [item["event"]["id"] for item in by_person["faces"]] == ["obama"]
        assert (await client.delete("/api/events/obama")).status_code == 204
        gone = (await client.get("/api/faces/search", params={"person": ada})).json()
        assert gone["faces"] == []
    searches = (await get(gateway, "/api/audit", limit=100))["entries"]
    assert {entry["detail"]["by"] for entry in searches if entry["action"] == "faces.search"} == {
        "event",
        "person",
        "picture",
    }
    assert "Barack" not in gateway.log
