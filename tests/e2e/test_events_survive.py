"""Whatever is taken away while things happen: each of them is one event in the end, none is lost or doubled.

The detector writes down what it has shown. `CAMFLEET_FAULTS=full` has every outage last a minute.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from camfleet_protocol.camera import Camera
from camfleet_protocol.local import StateFolder
from support import counted_detector
from support.gateway_process import GatewayProcess, put_camera, test_pattern, worker_token
from support.postgres import Postgres, postgres_server
from support.small_disk import small_disk
from support.worker_process import WorkerProcess, worker_process

OUTAGE = 60.0 if os.environ.get("CAMFLEET_FAULTS") == "full" else 4.0
DEADLINE = 120.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(480 + 5 * OUTAGE)]


async def eventually(check: Callable[[], Any], what: str, within: float = DEADLINE) -> Any:
    """Poll until `check` gives something true."""
    deadline = time.monotonic() + within
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.1)
    return found


class Site:
    """A gateway, a camera whose worker can be killed, and what its detector has shown."""

    def __init__(self, folder: Path, work_dir: Path, **settings: Any) -> None:
        self.folder = folder
        self.work_dir = work_dir
        self.state = StateFolder(folder / "state")
        self.state.create()
        self.camera: Camera = put_camera(
            self.state, test_pattern("door", inference={"detectors": ["counted"], "fps": 15})
        )
        self.gateway = GatewayProcess(self.state, **settings)
        self._shown = folder / "shown"
        self._environment = counted_detector.install(folder / "plugins", self._shown)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[WorkerProcess]:
        async with worker_process(
            self.folder / "worker",
            environment=self._environment,
            gateway_url=self.gateway.internal_url,
            token=worker_token(self.state, self.camera),
            camera=self.camera.id,
            attempt=1,
            source_json='{"testPattern": {"width": 320, "height": 180, "fps": 15}}',
            detector=("counted",),
            work_dir=self.work_dir,
        ) as worker:
            yield worker

    @property
    def shown(self) -> list[str]:
        """What has been in view, as the detector has written it down."""
        return self._shown.read_text().split()

    async def happens(self, more: int) -> None:
        """Wait until so many more things were shown."""
        wanted = len(self.shown) + more
        await eventually(lambda: len(self.shown) >= wanted, f"{more} more things are in view")

    def stored(self) -> list[dict[str, Any]]:
        """All appearances that the gateway has, page by page."""
        events: list[dict[str, Any]] = []
        cursor = ""
        with httpx.Client(base_url=self.gateway.viewer_url, timeout=60) as http:
            while True:
                answer = http.get(f"/api/events?type=appearance&limit=100{cursor}")
                if answer.status_code != 200:
                    return []
                events += answer.json()["events"]
                if not (token := answer.json()["next_cursor"]):
                    return events
                cursor = f"&cursor={token}"

    async def complete(self) -> None:
        """Wait until what was shown by now is stored; nothing may be there twice, now or later."""
        wanted = set(self.shown)
        stored: list[dict[str, Any]] = []

        def all_there() -> bool:
            stored[:] = self.stored()
            return wanted <= {event["label"] for event in stored}

        try:
            await eventually(all_there, "all of it is stored")
        finally:
            labels = Counter(event["label"] for event in stored)
            assert not [label for label, count in labels.items() if count > 1], "doubled"
        assert len({event["id"] for event in stored}) == len(stored)
        orders = [event["order"] for event in sorted(stored, key=lambda event: event["order"])]
        assert len(set(orders)) == len(orders)
        assert all(event["crop_url"] and event["scene_url"] for event in stored)

    def picture(self, event: dict[str, Any]) -> bytes:
        """What an event's thing looked like."""
        return httpx.get(self.gateway.viewer_url + event["crop_url"], timeout=60).raise_for_status().content

    def metrics(self) -> str:
        """Prometheus text."""
        return httpx.get(f"{self.gateway.internal_url}/metrics", timeout=60).text

    def info(self) -> dict[str, Any]:
        """The camera as viewers see it."""
        answer = httpx.get(f"{self.gateway.viewer_url}/api/cameras/door", timeout=60)
        return answer.json() if answer.status_code == 200 else {}


@asynccontextmanager
async def site(folder: Path, work_dir: Path | None = None, **settings: Any) -> AsyncIterator[Site]:
    made = Site(folder, work_dir or folder / "work", **settings)
    try:
        yield made
    finally:
        made.gateway.kill()
    assert "Traceback" not in made.gateway.log, made.gateway.log


async def test_the_gateway_the_worker_and_postgresql_are_killed(tmp_path: Path) -> None:
    with postgres_server() as postgres:
        async with site(tmp_path, database_url=postgres.database()) as s:
            async with s.worker() as worker:
                await s.happens(5)
                await s.complete()
                s.gateway.kill()
                await _outage(s, OUTAGE / 2)
                worker.signal(signal.SIGKILL)
                await worker.wait()
            async with s.worker() as worker:
                await _outage(s, OUTAGE / 2)
                await asyncio.to_thread(s.gateway.restart)
                await s.complete()
                await _postgres_goes(s, postgres)
                await s.complete()
                # An end of PostgreSQL in the middle of whatever it does.
                for _ in range(3):
                    await asyncio.to_thread(postgres.restart, kill=True)
                    await s.happens(1)
                await s.complete()
                assert s.picture(s.stored()[-1]).startswith(b"\xff\xd8\xff")
            assert "events cannot be kept" not in worker.log()


async def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8 * 1024) as disk:
        async with site(tmp_path, disk.path / "work") as s:
            async with s.worker() as worker:
                await s.happens(3)
                await s.complete()
                s.gateway.kill()
                await s.happens(3)
                disk.fill()
                await _outage(s, OUTAGE)
                await worker.logs("events cannot be kept on disk now")
                await asyncio.to_thread(s.gateway.restart)

                def said() -> bool:
                    disk.fill()  # what the gateway has taken meanwhile may have left some room
                    info = s.info()
                    return (info.get("reason"), info.get("message"), info.get("state")) == (
                        "EventsNotKept", "the disk is full", "live",
                    ) and "\ncamfleet_gateway_workers_without_outbox 1.0\n" in s.metrics()  # fmt: skip

                await eventually(said, "the camera says so")
                await s.complete()
                disk.clear()
                await eventually(lambda: s.info().get("reason") == "", "all is well again")
                await s.happens(2)
                await s.complete()
                lost = 'camfleet_camera_events_dropped_total{namespace="default",camera="door"}'
                assert f"\n{lost} 0\n" in s.metrics()
            told = re.findall(r"events (cannot be kept on disk now|can be kept on disk again)", worker.log())
            assert len(told) >= 2 and told[::2] == ["cannot be kept on disk now"] * (len(told) // 2)
            assert told[1::2] == ["can be kept on disk again"] * (len(told) // 2), "once each time"


async def _outage(s: Site, seconds: float) -> None:
    """Let things happen for a while."""
    await s.happens(2)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await s.happens(1)


async def _postgres_goes(s: Site, postgres: Postgres) -> None:
    await asyncio.to_thread(postgres.stop)
    await _outage(s, OUTAGE)
    assert s.info()["state"] == "live", "pictures need no database"
    await asyncio.to_thread(postgres.start)
