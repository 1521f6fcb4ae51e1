"""One suite for both sources: the gateways' pages read directly, and as a real Prometheus has scraped them.

Time goes by as the test says, eleven seconds from one look to the next; each look is at new scrapes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from camfleet_operator.cluster.health import prometheus_source
from camfleet_operator.cluster.health.gateways import Gateways
from camfleet_operator.cluster.health.prometheus import Prometheus
from camfleet_operator.cluster.health.prometheus_source import PrometheusSource
from camfleet_operator.cluster.health.signals import Signals, SignalSource
from camfleet_operator.cluster.health.verdicts import Verdict
from support.gateway_board import GONE, Cam, GatewayBoard
from support.prometheus_process import PrometheusProcess

STEP_SECONDS = 11.0
SCRAPE_SECONDS = 2.0
"""More than Prometheus really takes, so that a slow machine makes nothing stale."""

Boards = tuple[GatewayBoard, GatewayBoard]


@pytest.fixture(scope="module")
def boards() -> Iterator[Boards]:
    """Two gateways."""
    with GatewayBoard() as one, GatewayBoard() as two:
        yield one, two


@pytest.fixture(scope="module")
def prometheus(boards: Boards) -> Iterator[PrometheusProcess]:
    """A server that scrapes both; of the second it puts our label `namespace` aside."""
    aside = {
        "job_name": "without-honor-labels",
        "static_configs": [{"targets": [boards[1].instance], "labels": {"namespace": "monitoring"}}],
    }
    with PrometheusProcess([boards[0].url], scrape_configs=[aside], scrape_interval="250ms") as server:
        yield server


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch, boards: Boards) -> None:
    """Scrapes come so fast here that one often comes in between; and pages begin well."""
    monkeypatch.setattr(prometheus_source, "SETTLE_SHARES", (0.0,) * 50)
    for board in boards:
        board.status, board.clock, board.cameras = 200, None, {}


class World:
    """Signals over one of the sources, looked at whenever the test says."""

    def __init__(self, source: SignalSource, boards: Boards, server: PrometheusProcess | None) -> None:
        self.now = 1000.0
        self.ticks = 0
        self.names: set[str] = set()
        self.signals = Signals(
            source,
            lambda changed: self.changed.update(changed),
            on_tick=self._ticked,
            cameras=lambda: {f"n.{name}" for name in self.names},
            clock=lambda: self.now,
        )
        self.changed: set[str] = set()
        self._boards = boards
        self._server = server

    def _ticked(self, seconds: float) -> None:
        assert 0 <= seconds < 10
        self.ticks += 1

    async def look(self) -> None:
        """Look at what the pages say now."""
        if self._server is not None and self._server.running:
            wanted = f"count(timestamp(up) > {time.time()!r}) == {len(self._boards)}"
            await asyncio.to_thread(self._server.until, wanted)
        await self.tick()

    async def tick(self) -> None:
        """Look, whatever there is to see."""
        self.now += STEP_SECONDS
        self.changed = set()
        await self.signals.tick()

    def said(self, name: str) -> tuple[str, int]:
        """What is published, and how many bad readings in a row there are."""
        health, evidence = self.signals.health(f"n.{name}"), self.signals.evidence(f"n.{name}")
        reason = health.reason if health is not None else ""
        if health is not None and health.verdict is Verdict.UNKNOWN:
            reason = f"?{reason}"
        return reason, evidence.readings if evidence is not None else 0

    def absent(self, name: str) -> bool:
        """Whether those gateways that could be asked do not hold the worker."""
        evidence = self.signals.evidence(f"n.{name}")
        assert evidence is not None
        return evidence.absent

    def unhealthy(self) -> int:
        return self.signals.counts()["Unhealthy"]


@asynccontextmanager
async def world_of(kind: str, boards: Boards, server: PrometheusProcess) -> AsyncIterator[World]:
    if kind == "direct":
        source: SignalSource = Gateways([board.url for board in boards])
        world = World(source, boards, None)
    else:
        source = PrometheusSource(Prometheus(server.url, timeout=10.0), scrape=SCRAPE_SECONDS)
        world = World(source, boards, server)
    async with source.open():
        yield world


@pytest.fixture(params=["direct", "prometheus"])
async def world(
    request: pytest.FixtureRequest, boards: Boards, prometheus: PrometheusProcess
) -> AsyncIterator[World]:
    async with world_of(request.param, boards, prometheus) as made:
        yield made


GOOD = Cam()
REFUSED = Cam(source=0, frame=15.0, inference=15.0, errors={"source_refused": 3})
STALE_FRAMES = Cam(frame=25.0, inference=25.0)
UNREADABLE = Cam(frame="NaN")
WELL = "Streaming"
Looks = list[Cam | tuple[Cam, Cam]]
SCRIPTS: dict[str, tuple[Looks, list[str], list[int]]] = {
    # name: what the gateways say (one for both: the second has no worker), what is published, bad readings
    "healthy": ([GOOD] * 5, [WELL] * 5, [0] * 5),
    "elsewhere": ([(GONE, GOOD)] * 5, [WELL] * 5, [0] * 5),
    "comes-over": ([GOOD, (GONE, GOOD), GOOD, (GONE, GOOD), GOOD], [WELL] * 5, [0] * 5),
    "worker-gone": (
        [GOOD, GONE, GONE, GONE, GOOD],
        [WELL, WELL, "WorkerNotConnected", "WorkerNotConnected", WELL],
        [0, 1, 2, 3, 0],
    ),
    "blinks": ([GOOD, GONE, GOOD, GONE, GOOD], [WELL] * 5, [0, 1, 0, 1, 0]),
    "never-there": ([GONE] * 5, ["WorkerNotConnected"] * 5, [1, 2, 3, 4, 5]),
    "refused": (
        [GOOD, *[REFUSED] * 3, GOOD],
        [WELL, WELL, "SourceRefused", "SourceRefused", WELL],
        [0, 1, 2, 3, 0],
    ),
    "starting": (
        [Cam(source=0, frame=None, inference=None), Cam(frame=None, inference=None), GOOD, GOOD, GOOD],
        ["WaitingForFirstFrame", "WaitingForFirstFrame", WELL, WELL, WELL],
        [1, 2, 0, 0, 0],
    ),
    "stalled": (
        [GOOD, *[STALE_FRAMES] * 4],
        [WELL, WELL, "Stalled", "Stalled", "Stalled"],
        [0, 1, 2, 3, 4],
    ),
    "inference": (
        [GOOD, *[Cam(inference=25.0)] * 4],
        [WELL, WELL, "InferenceStalled", "InferenceStalled", "InferenceStalled"],
        [0, 1, 2, 3, 4],
    ),
    "frozen": (
        [GOOD, *[Cam(frozen=1)] * 3, GOOD],
        [WELL, WELL, "PictureFrozen", "PictureFrozen", WELL],
        [0, 1, 2, 3, 0],
    ),
    "old-gateway": ([Cam(frozen=None)] * 5, [WELL] * 5, [0] * 5),
    "nan": ([GOOD, *[UNREADABLE] * 4], [WELL, WELL, WELL, "?InvalidMetrics", "?InvalidMetrics"], [0] * 5),
    "infinite": ([GOOD, *[Cam(inference="+Inf")] * 4], [WELL, WELL, WELL, *["?InvalidMetrics"] * 2], [0] * 5),
    "no-number": ([GOOD, *[Cam(worker="2")] * 4], [WELL, WELL, WELL, *["?InvalidMetrics"] * 2], [0] * 5),
    "half-told": ([GOOD, *[Cam(source=None)] * 4], [WELL, WELL, WELL, *["?InvalidMetrics"] * 2], [0] * 5),
    "future": ([GOOD, *[Cam(frame=-60.0)] * 4], [WELL, WELL, WELL, *["?ContradictoryMetrics"] * 2], [0] * 5),
    "held-twice": (
        [GOOD, *[(GOOD, GOOD)] * 4],
        [WELL, WELL, WELL, *["?ContradictoryMetrics"] * 2],
        [0] * 5,
    ),
    "begins-anew": (
        [GONE, GONE, UNREADABLE, GONE, GONE],
        ["WorkerNotConnected"] * 5,
        [1, 2, 0, 1, 2],
    ),
    "nobody-knows": ([], ["", "", "", "?NotReported", "?NotReported"], [0] * 5),
}


async def test_cameras(world: World, boards: Boards) -> None:
    """Every way in which one camera is well, unwell or unclear, all at once."""
    world.names = set(SCRIPTS)
    seen: dict[str, list[tuple[str, int]]] = {name: [] for name in SCRIPTS}
    for step in range(5):
        for number, board in enumerate(boards):
            board.cameras = {
                name: looks[step][number] if isinstance(looks[step], tuple) else (looks[step], GONE)[number]  # type: ignore[index]
                for name, (looks, _, _) in SCRIPTS.items()
                if looks
            }
        await world.look()
        for name, found in seen.items():
            found.append(world.said(name))
    assert seen == {
        name: list(zip(published, readings, strict=True))
        for name, (_, published, readings) in SCRIPTS.items()
    }
    assert world.ticks == 5
    assert not world.signals.problems
    assert world.signals.blind() is None
    evidence = world.signals.evidence("n.elsewhere")
    assert evidence is not None
    assert evidence.gateway == boards[1].instance
    stalled = world.signals.evidence("n.stalled")
    assert stalled is not None
    assert stalled.health.frame_age == pytest.approx(25, abs=1)
    assert stalled.at - stalled.since == pytest.approx(3 * STEP_SECONDS, abs=2)
    assert world.now - stalled.at < 2


@pytest.mark.parametrize("trouble", ["down", "stands-still"])
async def test_a_gateway_in_trouble_takes_only_its_own_cameras_along(
    world: World, boards: Boards, trouble: str
) -> None:
    one, two = boards
    one.cameras = {"here": GOOD, "there": GONE, "nowhere": GONE}
    two.cameras = {"here": GONE, "there": GOOD, "nowhere": GONE}
    world.names = set(one.cameras)
    if trouble == "stands-still":
        two.clock = time.time()
    await world.look()
    assert world.said("nowhere") == ("WorkerNotConnected", 1)
    if trouble == "down":
        two.status = 503
    for _ in range(2):
        await world.look()
        assert [world.said(name) for name in ("here", "there")] == [(WELL, 0), (WELL, 0)]
        assert world.said("nowhere") == ("WorkerNotConnected", 0), "it may be there by now"
        assert {name: world.absent(name) for name in one.cameras} == {
            "here": False,
            "there": True,
            "nowhere": True,
        }
        assert list(world.signals.problems) == [two.instance]
    await world.look()
    assert world.said("here") == (WELL, 0)
    assert world.said("there") == ("?GatewayUnreachable", 0)
    assert world.said("nowhere") == ("?GatewayUnreachable", 0)
    assert world.signals.blind() is None, "one gateway is seen"
    one.cameras["there"] = GOOD
    await world.look()
    assert world.said("there") == (WELL, 0), "it came over"
    two.status, two.clock = 200, None
    two.cameras["there"] = GONE
    await world.look()
    assert world.said("nowhere") == ("WorkerNotConnected", 1)
    assert not world.signals.problems


async def test_all_gateways_gone_is_blindness_and_nobodys_fault(world: World, boards: Boards) -> None:
    for board in boards:
        board.cameras = {"door": GOOD, "gate": GONE} if board is boards[0] else {"door": GONE, "gate": GONE}
    world.names = {"door", "gate"}
    for _ in range(2):
        await world.look()
    assert world.said("gate") == ("WorkerNotConnected", 2)
    boards[0].status = boards[1].status = 503
    await world.look()
    assert (world.said("door"), world.said("gate")) == ((WELL, 0), ("WorkerNotConnected", 0))
    assert world.signals.blind() is None
    boards[0].status = boards[1].status = 200
    await world.look()
    assert world.said("gate") == ("WorkerNotConnected", 3), "a short silence only suspends"
    since = world.now
    boards[0].status = boards[1].status = 503
    for _ in range(2):
        await world.look()
        assert world.signals.blind() is None
    await world.look()
    blind = world.signals.blind()
    assert blind is not None
    assert (blind.reason, blind.since) == (
        "GatewayUnreachable" if world.signals.source.kind == "direct" else "NoGateway",
        since,
    )
    assert world.said("door") == world.said("gate") == (f"?{blind.reason}", 0)
    assert world.unhealthy() == 0
    assert world.signals.describe()["blind"]["reason"] == blind.reason
    boards[0].status = boards[1].status = 200
    await world.look()
    assert (world.said("door"), world.said("gate")) == ((WELL, 0), ("WorkerNotConnected", 1)), "begins anew"
    assert world.signals.blind() is None


async def test_prometheus_itself_in_trouble(boards: Boards, prometheus: PrometheusProcess) -> None:
    """Paused, killed and back without data: never anybody's fault; and then a real fault is seen."""
    boards[0].cameras = {"door": GOOD, "gate": GOOD}
    client = Prometheus(prometheus.url, timeout=30.0)
    source = PrometheusSource(client, scrape=SCRAPE_SECONDS)
    world = World(source, boards, prometheus)
    world.names = {"door", "gate"}
    async with source.open():
        await world.look()
        assert world.signals.counts()["Healthy"] == 2

        async def blind(reason: str) -> None:
            for _ in range(3):
                await world.tick()
                assert world.unhealthy() == 0
            found = world.signals.blind()
            assert found is not None
            assert found.reason == reason
            assert world.said("door") == world.said("gate") == (f"?{reason}", 0)
            assert list(world.signals.problems) == ["prometheus"]

        prometheus.pause()
        client._timeout = 1.0
        await blind("PrometheusTimeout")
        client._timeout = 30.0
        prometheus.resume()
        await world.look()
        assert world.signals.counts()["Healthy"] == 2
        prometheus.kill()
        boards[0].cameras = {"door": GOOD, "gate": GONE}
        await blind("PrometheusUnreachable")
        for board in boards:
            board.status = 503  # or it might have scraped them before we look
        prometheus.restart(empty=True)
        await blind("NoGateway")
        for board in boards:
            board.status = 200
        for readings in (1, 2, 3):
            await world.look()
            assert world.said("gate") == ("WorkerNotConnected" if readings > 1 else "?NoGateway", readings)
            assert world.said("door") == (WELL, 0)
