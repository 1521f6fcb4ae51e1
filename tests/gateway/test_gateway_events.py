"""Events: debounced presence, workers' events acknowledged and told once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from gateway_clients import FakeViewer, eventually, ws
from websockets.asyncio.client import connect

from camfleet_gateway.events import Debounce, Presence
from camfleet_protocol.camera import Camera
from camfleet_protocol.messages import CameraState, EventRecord
from support.gateway_process import GatewayProcess

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
            [(0, OFFLINE), (6, OFFLINE), (7, CONNECTING), (8, LIVE), (9.5, LIVE), (11, LIVE)],
            ["camera.offline", "camera.online"],
        ),
        ([(0, LIVE), (1, STALE), (5, STALE), (6, LIVE), (8, LIVE)], ["camera.stale", "camera.recovered"]),
        (
            [(0, LIVE), (1, STALE), (5, STALE), (6, OFFLINE), (12, OFFLINE)],
            ["camera.stale", "camera.offline"],
        ),
        ([(0, OFFLINE), (6, OFFLINE), (7, SUSPENDED), (8, LIVE), (30, LIVE)], ["camera.offline"]),
        ([(0, SUSPENDED), (100, SUSPENDED), (101, CONNECTING), (200, CONNECTING)], []),
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
            message = json.loads(await asyncio.wait_for(client.recv(), 15))
            assert message["type"] == "event"
            assert message["event"]["id"] == "7"
            assert message["event"]["camera"] == "default.door", "a worker speaks for its own camera only"
        await eventually(lambda: viewer.events(), "the event on the main socket")
        async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=15) as http:
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
