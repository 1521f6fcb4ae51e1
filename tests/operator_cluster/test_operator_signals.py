"""The direct evaluator over HTTP: gateways behind one name, silent ones, a real one with a worker."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from camfleet_operator.cluster.health import evaluator as evaluator_module
from camfleet_operator.cluster.health import gateways as gateways_module
from camfleet_operator.cluster.health.gateways import Gateways
from camfleet_operator.cluster.health.scrape import FAMILIES
from camfleet_operator.cluster.health.signals import Signals
from camfleet_operator.cluster.health.verdicts import Criteria, Health, Verdict
from camfleet_protocol.local import StateFolder
from support.gateway_process import GatewayProcess, put_camera, test_pattern, worker_token
from support.worker_process import worker_process


class FakeGateway:
    """A metrics page on one address of a loopback port."""

    def __init__(self) -> None:
        self.cameras: dict[str, int] = {}
        self.status = 200
        self.padding = 0
        self.silent = False
        self.foreign = False
        self._stopped = asyncio.Event()
        self.frozen_clock = 0.0
        self.asked: list[web.Request] = []

    async def start(self, address: str, port: int = 0) -> int:
        app = web.Application()
        app.router.add_get("/metrics", self._page)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, address, port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        self._stopped.set()
        await self._runner.cleanup()

    async def _page(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        if self.silent:
            await self._stopped.wait()
        if self.foreign:
            return web.Response(text="# TYPE up gauge\nup 1\n")
        now = self.frozen_clock or time.time()
        text = f"# TYPE camfleet_gateway_time_seconds gauge\ncamfleet_gateway_time_seconds {now}\n"
        for family, value in (
            ("worker_connected", None),
            ("source_connected", 1),
            ("last_frame_timestamp_seconds", now),
            ("last_inference_timestamp_seconds", now),
        ):
            text += f"# TYPE camfleet_camera_{family} gauge\n"
            for name, connected in self.cameras.items():
                if value is None or connected:
                    shown = connected if value is None else value
                    text += f'camfleet_camera_{family}{{namespace="n",camera="{name}"}} {shown}\n'
        return web.Response(text=text + "# " + "x" * self.padding, status=self.status)


@pytest.fixture
async def gateways() -> AsyncIterator[tuple[FakeGateway, FakeGateway, int]]:
    """Two gateways: 127.0.0.1 and 127.0.0.2, same port."""
    one, two = FakeGateway(), FakeGateway()
    port = await one.start("127.0.0.1")
    await two.start("127.0.0.2", port)
    yield one, two, port
    await asyncio.gather(one.stop(), two.stop())


def resolve(monkeypatch: pytest.MonkeyPatch, addresses: Callable[[], list[str]]) -> None:
    """Let `peers.test` have these addresses."""

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        assert host == "peers.test"
        if not addresses():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses()]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


class Watched:
    """Signals with a clock of its own and a record of what it reported."""

    def __init__(self, *urls: str, timeout: float = 30.0, **options: Any) -> None:
        self.now = 100.0
        self.changes: list[set[str]] = []
        self.signals = Signals(
            Gateways(urls, timeout=timeout), self.changes.append, clock=lambda: self.now, **options
        )

    async def tick(self, seconds: float = 10.0) -> set[str]:
        self.now += seconds
        return await self.signals.tick()

    def verdict(self, name: str) -> tuple[Verdict, str] | None:
        health = self.signals.health(f"n.{name}")
        return (health.verdict, health.reason) if health is not None else None


async def test_every_address_of_a_name_is_asked_for_these_families_only(
    gateways: tuple[FakeGateway, FakeGateway, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, port = gateways
    resolve(monkeypatch, lambda: ["127.0.0.1", "127.0.0.2", "127.0.0.1"])
    one.cameras, two.cameras = {"door": 1, "gate": 0}, {"door": 0, "gate": 1}
    watched = Watched(f"http://peers.test:{port}/metrics")
    async with watched.signals.source.open():
        assert await watched.tick() == {"n.door", "n.gate"}
        assert watched.changes == [{"n.door", "n.gate"}]
        assert await watched.tick() == set()
    assert watched.verdict("door") == watched.verdict("gate") == (Verdict.HEALTHY, "Streaming")
    assert [len(one.asked), len(two.asked)] == [2, 2]
    assert one.asked[0].query.getall("name[]") == list(FAMILIES)
    assert one.asked[0].host == f"peers.test:{port}"
    assert watched.signals.judged_at("n.door") == watched.now
    assert watched.signals.counts() == {"Healthy": 2, "Unhealthy": 0, "Unknown": 0}


@pytest.mark.parametrize("trouble", ["down", "silent", "error", "large", "stale", "foreign"])
async def test_a_gateway_in_trouble_takes_only_its_own_cameras_along(
    gateways: tuple[FakeGateway, FakeGateway, int], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    one, two, port = gateways
    resolve(monkeypatch, lambda: ["127.0.0.1", "127.0.0.2"])
    monkeypatch.setattr(gateways_module, "MAX_BYTES", 100_000)
    one.cameras, two.cameras = {"door": 1, "gate": 0}, {"door": 0, "gate": 1}
    watched = Watched(f"http://peers.test:{port}/metrics", timeout=2.0 if trouble == "silent" else 30.0)
    async with watched.signals.source.open():
        if trouble == "stale":
            two.frozen_clock = time.time()
        await watched.tick()
        match trouble:
            case "down":
                await two.stop()
            case "silent":
                two.silent = True
            case "error":
                two.status = 500
            case "large":
                two.padding = 1_000_000
            case "foreign":
                two.foreign = True
        assert [await watched.tick() for _ in range(2)] == [set(), set()]
        assert watched.verdict("gate") == (Verdict.HEALTHY, "Streaming")
        assert list(watched.signals.problems) == [f"127.0.0.2:{port}"]
        assert await watched.tick() == {"n.gate"}
        assert watched.verdict("gate") == (Verdict.UNKNOWN, "GatewayUnreachable")
        assert watched.verdict("door") == (Verdict.HEALTHY, "Streaming")


async def test_a_gateway_that_leaves_the_name_is_still_asked_for_half_a_minute(
    gateways: tuple[FakeGateway, FakeGateway, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, port = gateways
    addresses = ["127.0.0.1", "127.0.0.2"]
    resolve(monkeypatch, lambda: addresses)
    one.cameras, two.cameras = {"door": 0}, {"door": 1}
    watched = Watched(f"http://peers.test:{port}/metrics")
    async with watched.signals.source.open():
        await watched.tick()
        addresses.remove("127.0.0.2")  # not ready, and still holding its worker
        assert [await watched.tick() for _ in range(2)] == [set(), set()]
        assert watched.verdict("door") == (Verdict.HEALTHY, "Streaming")
        assert len(two.asked) == 3
        await watched.tick()
        assert await watched.tick() == {"n.door"}
        assert watched.verdict("door") == (Verdict.UNHEALTHY, "WorkerNotConnected")
        assert len(two.asked) == 3, "gone for good"


async def test_a_name_without_addresses_says_nothing_about_workers(
    gateways: tuple[FakeGateway, FakeGateway, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _, port = gateways
    addresses = ["127.0.0.1"]
    resolve(monkeypatch, lambda: addresses)
    one.cameras = {"door": 1}
    watched = Watched(f"http://peers.test:{port}/metrics", cameras=lambda: ["n.door", "n.new"])
    async with watched.signals.source.open():
        assert await watched.tick() == {"n.door"}
        addresses.clear()
        await one.stop()
        for _ in range(2):
            assert await watched.tick() == set()
        assert await watched.tick() == {"n.door", "n.new"}
    assert watched.verdict("door") == watched.verdict("new") == (Verdict.UNKNOWN, "GatewayUnreachable")
    assert "peers.test" in watched.signals.problems


async def test_without_any_gateway_cameras_are_unknown_in_the_end() -> None:
    watched = Watched(cameras=lambda: ["n.door"])
    async with watched.signals.source.open():
        assert [await watched.tick() for _ in range(4)] == [set(), set(), set(), {"n.door"}]
    assert watched.verdict("door") == (Verdict.UNKNOWN, "GatewayUnreachable")


async def test_hurry_shortens_the_wait_that_is_under_way() -> None:
    reports = asyncio.Queue[float]()
    gateway = FakeGateway()
    port = await gateway.start("127.0.0.1")
    gateway.cameras = {"door": 1}
    signals = Signals(
        Gateways([f"http://127.0.0.1:{port}/metrics"]),
        lambda _: reports.put_nowait(time.monotonic()),
        interval=3600,
        hurry_interval=0.1,
    )
    task = asyncio.create_task(signals.run())
    try:
        await asyncio.wait_for(reports.get(), 60)
        signals.expect("n.door")
        await asyncio.wait_for(reports.get(), 60)
        asked = len(gateway.asked)
        gateway.cameras = {"door": 0}
        await asyncio.wait_for(reports.get(), 60)
        assert len(gateway.asked) > asked
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await gateway.stop()


@pytest.mark.e2e
async def test_a_real_gateway_and_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Healthy once pictures flow, and the right reason for each way in which they do not."""
    monkeypatch.setattr(evaluator_module, "UNKNOWN_AFTER_SECONDS", 3.0)
    state = StateFolder(tmp_path / "state")
    gateway = await asyncio.to_thread(GatewayProcess, state)
    verdicts = asyncio.Queue[Health]()

    def report(cameras: set[str]) -> None:
        assert cameras == {"default.door"}
        health = signals.health("default.door")
        assert health is not None
        verdicts.put_nowait(health)

    signals = Signals(
        Gateways([f"{gateway.internal_url}/metrics"], timeout=10.0),
        report,
        criteria=lambda _: Criteria(stall=5, first_frame=30),
        interval=0.2,
    )

    async def until(reason: str) -> Health:
        async with asyncio.timeout(60):
            while (health := await verdicts.get()).reason != reason:
                pass
        return health

    camera = put_camera(state, test_pattern("door"))
    task = asyncio.create_task(signals.run())
    try:
        assert (await until("WorkerNotConnected")).verdict is Verdict.UNHEALTHY
        async with worker_process(
            tmp_path / "worker",
            camera="default.door",
            gateway_url=gateway.internal_url,
            token=worker_token(state, camera),
            attempt=1,
            source="test",
            detector=("motion",),
        ) as worker:
            healthy = await until("Streaming")
            assert healthy.verdict is Verdict.HEALTHY
            assert healthy.worker_connected and healthy.source_connected and healthy.streaming
            assert healthy.frame_age is not None and healthy.frame_age < 5
            worker.signal(signal.SIGKILL)
            await worker.wait()
            lost = await until("WorkerNotConnected")
            assert (lost.verdict, lost.worker_connected) == (Verdict.UNHEALTHY, False)

        with socket.socket() as nobody:  # bound and not listening: refused
            nobody.bind(("127.0.0.1", 0))
            signals.expect("default.door")
            async with worker_process(
                tmp_path / "refused",
                camera="default.door",
                gateway_url=gateway.internal_url,
                token=worker_token(state, camera),
                attempt=1,
                source=f"rtsp://127.0.0.1:{nobody.getsockname()[1]}/x",
            ):
                refused = await until("SourceRefused")
                assert (refused.worker_connected, refused.source_connected) == (True, False)

        await asyncio.to_thread(gateway.kill)
        assert (await until("GatewayUnreachable")).verdict is Verdict.UNKNOWN
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(gateway.kill)
