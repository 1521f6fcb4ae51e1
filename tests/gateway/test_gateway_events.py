"""Events: debounced presence, workers' events stored, acknowledged, told, listed, shown and deleted."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from gateway_clients import FakeViewer, FakeWorker, eventually, ws
from gateway_tokens import Tokens
from store_kit import ANNA, JPEG, NOW, OTHER_JPEG, appearance, event, files
from websockets.asyncio.client import connect

from camfleet_gateway.events import Debounce, Presence
from camfleet_protocol.camera import Camera
from camfleet_protocol.local import StateFolder
from camfleet_protocol.messages import CameraState, EventRecord, WorkerEvent
from support.gateway_process import GatewayProcess, put_camera, test_pattern, worker_token

LIVE, STALE, OFFLINE = CameraState.LIVE, CameraState.STALE, CameraState.OFFLINE
CONNECTING, SUSPENDED = CameraState.CONNECTING, CameraState.SUSPENDED


def record(number: int, camera: str = "default.door") -> EventRecord:
    return EventRecord(id=str(number), time=number, camera=camera, type="detection.started")


@pytest.mark.parametrize(
    ("story", "told"),
    [
        ([(0, LIVE), (1, OFFLINE), (5.9, OFFLINE), (6.1, OFFLINE), (9, OFFLINE)], ["camera.offline"]),
        ([(0, LIVE), (1, OFFLINE), (3, LIVE), (4, OFFLINE), (8, OFFLINE), (8.5, LIVE), (20, LIVE)], []),
        (
            [(0, LIVE), (1, OFFLINE), (7, OFFLINE), (8, CONNECTING), (9, LIVE), (10.5, LIVE), (12, LIVE)],
            ["camera.offline", "camera.online"],
        ),
        ([(0, LIVE), (1, STALE), (5, STALE), (6, LIVE), (8, LIVE)], ["camera.stale", "camera.recovered"]),
        (
            [(0, LIVE), (1, STALE), (5, STALE), (6, OFFLINE), (12, OFFLINE)],
            ["camera.stale", "camera.offline"],
        ),
        ([(0, LIVE), (1, OFFLINE), (7, OFFLINE), (8, SUSPENDED), (9, LIVE), (30, LIVE)], ["camera.offline"]),
        ([(0, SUSPENDED), (100, SUSPENDED), (101, CONNECTING), (200, CONNECTING)], []),
        (
            [(0, OFFLINE), (6, OFFLINE), (14, OFFLINE), (14.5, LIVE), (30, LIVE)],
            [],
        ),  # the gateway has started
        (
            [(0, OFFLINE), (14, OFFLINE), (15, OFFLINE), (40, LIVE), (42, LIVE)],
            ["camera.offline", "camera.online"],
        ),
    ],
)
def test_only_what_lasts_is_told_and_only_once(
    story: list[tuple[float, CameraState]], told: list[str]
) -> None:
    presence = Presence(0.0, Debounce(offline=5, stale=3, back=1))
    found = [presence.observe(state, now) for now, state in story]
    assert [kind for kind in found if kind] == told


async def test_an_event_of_a_worker_is_acknowledged_and_told_once(
    gateway: GatewayProcess, door: Camera, publish: Any
) -> None:
    async with (
        publish(door) as worker,
        FakeViewer.running(gateway.viewer_url) as viewer,
        connect(f"{ws(gateway.viewer_url)}/ws/events") as everything,
        connect(f"{ws(gateway.viewer_url)}/ws/events?camera=door") as of_door,
    ):
        await viewer.hello()
        for count in (1, 2, 3):
            await worker.event(record(7, camera="other.camera"))
            acks = await worker.event_acks(count)
        assert {ack.id for ack in acks} == {"7"}
        for client in (everything, of_door):
            message = json.loads(await asyncio.wait_for(client.recv(), 60))
            assert message["type"] == "event"
            assert message["event"]["id"] == "7"
            assert message["event"]["camera"] == "default.door", "a worker speaks for its own camera only"
        await eventually(lambda: viewer.events(), "the event on the main socket")
        async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as http:
            for query in ("", "?camera=door", "?camera=default.door&limit=1"):
                events = (await http.get("/api/events" + query)).json()["events"]
                assert [event["id"] for event in events] == ["7"]
            assert (await http.get("/api/events?camera=hall")).json()["events"] == []
        await asyncio.sleep(0.3)
        assert len(viewer.events()) == 1


async def test_a_lost_worker_becomes_an_event(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with FakeViewer.running(gateway.viewer_url) as viewer:
        async with publish(door):
            await viewer.state(door.id, "live")
        await eventually(lambda: [e for e in viewer.events() if e.type == "camera.offline"], "camera.offline")
        event = viewer.events()[0]
        assert (event.camera, event.severity, event.data) == (door.id, "warning", {"reason": "NoWorker"})
        async with publish(door):
            await eventually(
                lambda: [e for e in viewer.events() if e.type == "camera.online"], "camera.online"
            )


def message(record: EventRecord, **more: bytes | str) -> str:
    """What a worker sends."""
    encoded = {
        name: base64.b64encode(value).decode() for name, value in more.items() if isinstance(value, bytes)
    }
    return WorkerEvent(event=record, **{**more, **encoded}).encode()  # type: ignore[arg-type]


@pytest.fixture
async def stored(gateway: GatewayProcess, door: Camera, publish: Any) -> list[EventRecord]:
    """Events of the camera `door`: an appearance with pictures, another one, an alarm."""
    records = [
        appearance("anna", person=ANNA),
        appearance("stranger", time=NOW + 1),
        event("alarm", time=NOW + 2, type="source.alarm", severity="critical", data={"zone": "yard"}),
    ]
    async with publish(door) as worker:
        await worker.socket.send(message(records[0], crop=JPEG, scene=OTHER_JPEG))
        for record in records[1:]:
            await worker.event(record)
        await worker.event_acks(3)
    return records


async def test_events_are_listed_in_pages_by_filters_and_outlive_the_gateway(
    gateway: GatewayProcess, stored: list[EventRecord]
) -> None:
    for restarted in (False, True):
        if restarted:
            gateway.kill()
            gateway.restart()
        async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as http:

            async def ids(query: str) -> list[str]:
                answer = await http.get(f"/api/events?type=appearance,source.alarm&{query}")
                assert answer.status_code == 200, answer.text
                return [found["id"] for found in answer.json()["events"]]

            assert await ids("") == ["alarm", "stranger", "anna"]
            assert await ids("camera=door&kind=face") == ["stranger", "anna"]
            assert await ids("camera=default.door&person=p-anna&label=&zone=hall") == ["anna"]
            assert await ids(f"since={NOW + 1}&until={NOW + 2}") == ["stranger"]
            assert await ids("severity=critical&zone=yard") == ["alarm"]
            assert await ids("identity=unknown") == ["stranger"]
            assert await ids("camera=gone") == []
            page = (await http.get("/api/events?type=appearance,source.alarm&limit=2")).json()
            rest = (await http.get(f"/api/events?type=appearance&cursor={page['next_cursor']}")).json()
            assert ([found["id"] for found in rest["events"]], rest["next_cursor"]) == (["anna"], None)
            one = (await http.get("/api/events/anna")).json()
            assert one == rest["events"][0]
            assert one["person"] == {"id": "p-anna", "name": "Anna Muster"}
            assert (one["ended"], one["label"], one["identity"]) == (None, "face", "known")
            assert (one["camera"], one["type"], one["data"]["track"]) == ("default.door", "appearance", 1)
            assert (await http.get("/api/events/nothing")).status_code == 404


async def test_filters_that_cannot_be_are_refused(gateway: GatewayProcess) -> None:
    wrong = (
        "since=soon",
        "until=inf",
        "cursor=abc",
        "limit=0",
        "limit=1001",
        "label=%00",
        f"zone={'x' * 300}",
    )
    async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as http:
        for query in wrong:
            answer = await http.get(f"/api/events?{query}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid"), query
    for query in ("since=soon", "label=%00"):
        async with connect(f"{ws(gateway.viewer_url)}/ws/events?{query}") as client:
            await asyncio.wait_for(client.wait_closed(), 60)
            assert client.close_code == 1008, query


async def test_listeners_hear_what_passes_their_filters_and_of_later_revisions(
    gateway: GatewayProcess, door: Camera, publish: Any
) -> None:
    url = f"{ws(gateway.viewer_url)}/ws/events"
    async with publish(door) as worker, connect(f"{url}?person=p-anna&zone=hall") as of_anna:
        await worker.event(appearance("a"))
        await worker.event(appearance("a", person=ANNA, revision=1))
        await worker.event(event("moved"))
        await worker.event(appearance("b", person=ANNA))
        heard = [json.loads(await asyncio.wait_for(of_anna.recv(), 60)) for _ in range(2)]
        assert [(told["event"]["id"], told["first"]) for told in heard] == [("a", False), ("b", True)]
        assert heard[0]["event"]["person"] == {"id": "p-anna", "name": "Anna Muster"}
        assert {(ack.id, ack.revision) for ack in await worker.event_acks(4)} >= {("a", 0), ("a", 1)}


async def test_pictures_are_for_viewers_and_for_tickets(
    start: Callable[..., GatewayProcess], state: StateFolder, tokens: Tokens
) -> None:
    camera = put_camera(state, test_pattern("door"))
    gateway = start(tokens_file=str(tokens.path))
    token = worker_token(state, camera)
    async with FakeWorker.running(gateway.internal_url, camera.id, token) as worker:
        await worker.accepted()
        await worker.socket.send(message(appearance("anna"), crop=JPEG))
        await worker.event_acks(1)
    viewer = tokens.header("viewer")
    async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as http:
        [found] = (await http.get("/api/events?type=appearance", headers=viewer)).json()["events"]
        assert found["scene_url"] is None
        answer = await http.get(found["crop_url"], headers=viewer)
        assert (answer.status_code, answer.content) == (200, JPEG)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "private, max-age=300"
        assert (await http.get(found["crop_url"])).status_code == 401
        assert (await http.get("/api/events/anna/scene.jpg", headers=viewer)).status_code == 404

        async def ticket(**wanted: str) -> httpx.Response:
            return await http.post("/api/tickets", json=wanted, headers=viewer)

        by_ticket = {"ticket": (await ticket(action="pictures")).json()["ticket"]}
        assert (await http.get(found["crop_url"], params=by_ticket)).content == JPEG
        assert (await http.get("/api/events/anna", params=by_ticket)).status_code == 401, "for pictures only"
        assert (await http.get("/cameras/door/snapshot.jpg", params=by_ticket)).status_code == 401
        of_camera = {"ticket": (await ticket(action="snapshot", camera="door")).json()["ticket"]}
        assert (await http.get(found["crop_url"], params=of_camera)).status_code == 401
        for wrong in ({"action": "pictures", "camera": "door"}, {"action": "feed"}):
            assert (await ticket(**wrong)).status_code == 422


async def test_deleting_an_event_is_for_admins_and_written_down(
    start: Callable[..., GatewayProcess], state: StateFolder, tokens: Tokens
) -> None:
    camera = put_camera(state, test_pattern("door"))
    gateway = start(tokens_file=str(tokens.path))
    async with FakeWorker.running(gateway.internal_url, camera.id, worker_token(state, camera)) as worker:
        await worker.accepted()
        await worker.socket.send(message(appearance("anna", person=ANNA), crop=JPEG))
        await worker.event_acks(1)
    admin = tokens.header("admin")
    async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as http:
        refused = await http.delete("/api/events/anna", headers=tokens.header("operator"))
        assert refused.status_code == 403
        assert (await http.delete("/api/events/anna", headers=admin)).status_code == 204
        for path in ("", "/crop.jpg"):
            assert (await http.get(f"/api/events/anna{path}", headers=admin)).status_code == 404
        assert (await http.delete("/api/events/anna", headers=admin)).status_code == 404
        [entry] = (await http.get("/api/audit?subject=anna", headers=admin)).json()["entries"]
        assert (await http.get("/api/audit?subject=%00", headers=admin)).status_code == 422
        assert (entry["actor"], entry["action"], entry["detail"]) == (
            "the-admin", "event.delete", {"type": "appearance"},
        )  # fmt: skip
    assert not files(state.root / "gateway")


def test_a_gateway_says_why_it_cannot_use_what_is_kept(start: Callable[..., GatewayProcess]) -> None:
    gateway = start()
    gateway.stop()
    (gateway.state.root / "gateway" / "data.key").write_bytes(base64.b64encode(bytes(32)))
    with pytest.raises(AssertionError, match=r"ended with 2[\s\S]*put the right key back"):
        gateway.restart()
