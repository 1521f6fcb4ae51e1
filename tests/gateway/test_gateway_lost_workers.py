"""Workers that stand still, links that go dead, gateways that restart: lost in time, back by themselves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gateway_clients import FakeViewer, eventually

from camfleet_protocol.local import StateFolder
from camfleet_protocol.messages import FrameCounts, SourceState, SourceStats, Stats, WorkerHello
from camfleet_protocol.settings import Settings
from camfleet_worker.counters import Counters
from camfleet_worker.live import Live
from camfleet_worker.outbox import Outbox
from camfleet_worker.publisher import Hooks, Publisher
from support.gateway_process import GatewayProcess, put_camera, test_pattern, worker_token
from support.relay import Relay
from support.stopwatch import Stopwatch
from support.worker_process import worker_process

LOST = "counted as lost"
CONNECTED = "worker connected, session"
QUICK = 3.0
"""Seconds of silence in these tests; 5 otherwise. A worker speaks every second, if nothing holds it up."""
STATS = Stats(source=SourceStats(state=SourceState.CONNECTED), frames=FrameCounts())


async def test_a_worker_that_stood_still_is_lost_once_and_comes_back_by_itself(
    start: Callable[..., GatewayProcess], state: StateFolder, tmp_path: Path
) -> None:
    door = put_camera(state, test_pattern("door"))
    gateway = start(stats_timeout_seconds=QUICK)
    token = worker_token(state, door)
    async with (
        worker_process(
            tmp_path, gateway_url=gateway.internal_url, token=token, camera=door.id, attempt=1, source="test"
        ) as worker,
        FakeViewer.running(gateway.viewer_url, "door") as viewer,
    ):
        await viewer.state(door.id, "live")
        worker.signal(signal.SIGSTOP)
        try:
            stopwatch = Stopwatch()
            await viewer.state(door.id, "offline")
            assert QUICK - 1.1 < stopwatch.wall, "by the last figures"
            assert stopwatch.seconds < QUICK + 3, "and not by a pong"
            await asyncio.sleep(5)  # its socket is cut off meanwhile, which nobody may count again
        finally:
            worker.signal(signal.SIGCONT)
        before = len(viewer.frames)
        await viewer.state(door.id, "live")
        await eventually(lambda: len(viewer.frames) > before + 5, "pictures again")
        assert gateway.log.count(LOST) == 1 and gateway.log.count(CONNECTED) == 2
        assert worker.process.returncode is None and "late while" not in worker.log()


async def test_a_link_that_goes_dead_is_noticed_on_both_sides(
    start: Callable[..., GatewayProcess], state: StateFolder, tmp_path: Path
) -> None:
    door = put_camera(state, test_pattern("door"))
    gateway = start(stats_timeout_seconds=QUICK)
    relay = Relay(gateway.internal_port)
    async with (
        relay.listening() as port,
        worker_process(
            tmp_path,
            gateway_url=f"http://127.0.0.1:{port}",
            token=worker_token(state, door),
            camera=door.id,
            attempt=1,
            source="test",
            patch="from camfleet_worker import publisher as p; p._PING_SECONDS, p._PING_TIMEOUT = 1.0, 3.0",
        ) as worker,
        FakeViewer.running(gateway.viewer_url, "door") as viewer,
    ):
        await viewer.state(door.id, "live")
        relay.freeze()
        await viewer.state(door.id, "offline")
        before = len(viewer.frames)
        await viewer.state(door.id, "live")
        await eventually(lambda: len(viewer.frames) > before + 2, "pictures on a new connection")
        assert gateway.log.count(LOST) == 1 and gateway.log.count(CONNECTED) == 2
        assert worker.process.returncode is None


@asynccontextmanager
async def fleet(port: int, state: StateFolder, folder: Path, size: int) -> AsyncIterator[None]:
    """The connections of so many workers, without the rest of them."""
    outboxes: list[Outbox] = []
    tasks: list[asyncio.Task[None]] = []
    for number in range(size):
        camera = put_camera(state, test_pattern(f"cam-{number}"))
        hello = WorkerHello(camera=camera.id, attempt=1, pod=f"pod-{number}")
        token = worker_token(state, camera)
        counters = Counters()
        (folder / str(number)).mkdir()
        outboxes.append(Outbox(folder / str(number), camera.id))
        settings = Settings()
        publisher = Publisher(
            f"ws://127.0.0.1:{port}/ws/worker",
            read_token=lambda token=token: token,  # type: ignore[misc]
            live=Live(settings, settings.hash),
            counters=counters,
            outbox=outboxes[-1],
            hooks=Hooks(
                hello=lambda hello=hello: hello,  # type: ignore[misc]
                stats=lambda: STATS,
                configure=lambda settings, digest: None,
                command=lambda name: None,
                demanded=lambda: None,
                set_ready=lambda ready: None,
            ),
        )
        tasks.append(asyncio.create_task(publisher.run(), name=f"publisher-{number}"))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for outbox in outboxes:
            outbox.close()


@pytest.mark.parametrize("orderly", [True, False], ids=["stopped", "killed"])
async def test_a_gateway_that_restarts_has_its_workers_back_within_five_seconds_and_no_storm(
    start: Callable[..., GatewayProcess], state: StateFolder, tmp_path: Path, orderly: bool
) -> None:
    size = 12
    gateway = start()
    relay = Relay(gateway.internal_port)
    async with relay.listening() as port, fleet(port, state, tmp_path, size):
        await eventually(lambda: gateway.log.count(CONNECTED) == size, "all are connected")
        left, before = asyncio.get_running_loop().time(), len(relay.visits)
        await asyncio.to_thread(gateway.stop if orderly else gateway.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(gateway.restart)
        back, stopwatch = asyncio.get_running_loop().time(), Stopwatch()
        await eventually(lambda: gateway.log.count(CONNECTED) == 2 * size, "all are back")
        assert stopwatch.seconds < 5
        visits = [at - left for at in relay.visits[before:]]
        tries = len(visits) / size
        assert tries <= 5 + (back - left) / 0.9, "each tries ever less often"
        first = sorted(visits)[:size]
        assert first[-1] - first[0] > (0.2 if orderly else 0.02), "not all at the same moment"
        assert gateway.log.count(LOST) == 0
