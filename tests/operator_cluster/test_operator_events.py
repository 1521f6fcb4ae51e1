"""Events: what a reader sees in kubectl, how few writes that takes, and that their trouble is nobody's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.testbed.control_plane import ControlPlane

from camfleet_operator.cluster import events as events_module
from camfleet_operator.cluster.api import Api
from camfleet_operator.cluster.api_errors import Forbidden, NotFound, Unavailable
from camfleet_operator.cluster.events import EventRecorder
from camfleet_operator.cluster.writes import Priority, WriteBudget

REFERENCE = {
    "apiVersion": "camfleet.io/v1alpha1",
    "kind": "Camera",
    "namespace": "site",
    "name": "door",
    "uid": "uid-1",
}


class MemoryApi:
    """As much of the API as Events need."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []
        self.error: Exception | None = None
        self.written = asyncio.Event()

    async def create(self, path: str, body: dict[str, Any], *, metadata_only: bool) -> dict[str, Any]:
        self._note("create")
        self.objects[f"{path}/{body['metadata']['name']}"] = body
        return body

    async def patch_merge(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._note("patch")
        if path not in self.objects:
            raise NotFound(404, "NotFound", path)
        self.objects[path] |= body
        return self.objects[path]

    def _note(self, verb: str) -> None:
        self.writes.append(verb)
        self.written.set()
        if self.error is not None:
            raise self.error


class Bench:
    def __init__(self, api: Any) -> None:
        self.now = 1000.0
        self.api = api
        self.budget = WriteBudget(0, 1)
        self.leads = True
        self.recorder = EventRecorder(
            api,
            self.budget,
            leading=lambda: self.leads,
            clock=lambda: self.now,
            wall=lambda: 1.7e9 + self.now,
        )

    def record(self, reason: str = "Moved", note: str = "the worker was replaced", **ref: str) -> None:
        self.recorder.record({**REFERENCE, **ref}, "Normal", reason, note)

    async def settle(self) -> None:
        """Wait until nothing is left to write."""
        async with asyncio.timeout(60):
            while self.recorder._waiting or self.budget.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    task = asyncio.create_task(bench.recorder.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_same_again_is_one_write_in_ten_minutes_and_counted() -> None:
    bench = Bench(MemoryApi())
    async with running(bench):
        for _ in range(50):
            bench.record()
            await bench.settle()
            bench.now += 10
        assert bench.api.writes == ["create"]
        bench.now += 200
        bench.record()
        await bench.settle()
        assert bench.api.writes == ["create", "patch"]
        [event] = bench.api.objects.values()
        assert event["count"] == 51
        assert event["firstTimestamp"] < event["lastTimestamp"]
        bench.record(reason="Other")
        bench.record(note="something else")
        bench.record(uid="uid-2")
        await bench.settle()
        assert len(bench.api.objects) == 4


async def test_an_event_that_has_expired_is_written_anew() -> None:
    bench = Bench(MemoryApi())
    async with running(bench):
        bench.record()
        await bench.settle()
        bench.api.objects.clear()
        bench.now += 4000
        bench.record()
        await bench.settle()
    assert bench.api.writes == ["create", "patch", "create"]
    [event] = bench.api.objects.values()
    assert event["count"] == 1
    assert event["firstTimestamp"] == event["lastTimestamp"]


async def test_notes_are_redacted_and_short() -> None:
    bench = Bench(MemoryApi())
    async with running(bench):
        bench.record(note="cannot open rtsp://admin:hunter2@camera/ " + "é" * 2000)
        await bench.settle()
    [event] = bench.api.objects.values()
    assert "hunter2" not in event["message"]
    assert len(event["message"].encode()) <= 1024
    assert event["message"].endswith("é…")


@pytest.mark.parametrize("error", [Unavailable(0, "Timeout", "x"), Forbidden(403, "Forbidden", "x")])
async def test_a_failure_ends_nothing(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(MemoryApi())
    bench.api.error = error
    async with running(bench):
        for number in range(5):
            bench.record(note=str(number))
        await bench.settle()
        assert bench.recorder.dropped == 5
        assert len(caplog.records) == 1, "told once"
        bench.api.error = None
        bench.record(note="0")
        await bench.settle()
        # What was refused will be refused again; what merely failed is tried the next time it happens.
        assert len(bench.api.objects) == (0 if isinstance(error, Forbidden) else 1)
        bench.now += 600
        bench.record(note="1")
        await bench.settle()
    assert any(event["message"] == "1" for event in bench.api.objects.values())


async def test_a_starved_recorder_drops_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "MAX_WAITING", 20)
    monkeypatch.setattr(events_module, "MAX_REMEMBERED", 30)
    bench = Bench(MemoryApi())
    bench.budget.pause(3600)
    async with running(bench):
        for number in range(500):
            bench.record(note=str(number))
        await asyncio.sleep(0)
        assert bench.api.writes == []
        assert bench.recorder.dropped == 480
        assert len(bench.recorder._waiting) == 20
        assert len(bench.recorder._known) <= 30
        async with asyncio.timeout(60):
            waiting = asyncio.create_task(bench.budget.acquire(Priority.CREATE))
            await asyncio.sleep(0)
            assert bench.budget.waiting == 2, "one place, however many Events wait"
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def test_who_has_lost_the_lease_while_waiting_writes_nothing() -> None:
    bench = Bench(MemoryApi())
    bench.budget = WriteBudget(0, 1, in_flight=1)
    bench.recorder._budget = bench.budget
    await bench.budget.acquire(Priority.CREATE)
    async with running(bench):
        for number in range(3):
            bench.record(note=str(number))
        async with asyncio.timeout(60):
            while not bench.budget.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0)
        bench.leads = False
        bench.budget.release()
        await bench.settle()
        assert bench.api.writes == []
        assert bench.recorder.dropped == 3
        bench.leads = True
        bench.record(note="1")
        await bench.settle()
    [event] = bench.api.objects.values()
    assert (event["message"], event["count"]) == ("1", 1), "it is told by whoever leads when it happens again"


@pytest.mark.cluster
async def test_kubectl_shows_them(api: Api, plane: ControlPlane, namespace: str) -> None:
    """`describe` looks for Events by UID, kind and name; a Pod stands for the camera here."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "door"},
        "spec": {"containers": [{"name": "w", "image": "none"}]},
    }
    made = await api.create(f"/api/v1/namespaces/{namespace}/pods", pod)
    reference = {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": namespace,
        "name": "door",
        "uid": made["metadata"]["uid"],
    }
    bench = Bench(api)
    start = bench.now
    bench.recorder._wall = lambda: time.time() - 700 + bench.now - start
    async with running(bench):
        for _ in range(2):
            bench.recorder.record(reference, "Warning", "AuthFailed", "the camera refuses the password")
            await bench.settle()
            bench.now += 700
    text = await asyncio.to_thread(plane.kubectl, "describe", "pod", "door", "-n", namespace)
    line = next(line for line in text.splitlines() if "AuthFailed" in line)
    assert "Warning" in line
    assert "(x2 over" in line
    assert "camfleet-operator" in line
    assert "the camera refuses the password" in line
