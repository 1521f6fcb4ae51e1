"""Prometheus is killed, and lies in every way: nothing is moved, and a real fault afterwards is handled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from support.fault_site import FULL, FaultSite, Pace, freeze
from support.lying_prometheus import LIES
from support.stopwatch import Stopwatch

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

CAMERAS = [f"cam-{number}" for number in range(6)]
PROMISED_SECONDS = 60
BLIND_SECONDS = 30
"""After so long without a word it is said that nothing is known."""
CONTRADICTED = ("contradictory", "partial")
"""Lies about cameras, not about everything: those cameras are Unknown, the server is believed to be there."""


@pytest.fixture
def nothing_moves(pace: Pace) -> Callable[[FaultSite, float], Iterator[None]]:
    """Look again and again for so many seconds; nothing is moved, and every camera streams."""

    def watch(site: FaultSite, seconds: float) -> Iterator[None]:
        before, began = site.look(), time.time()
        while time.time() < began + seconds:
            time.sleep(0.5)
            assert site.look() == before
            yield
        assert max(site.watcher.longest_gap(site.id_of(c), began) for c in CAMERAS) < 5

    return watch


@pytest.fixture(scope="module")
def site(start_shared_site: Callable[..., FaultSite]) -> FaultSite:
    made = start_shared_site()
    made.create_all(*CAMERAS)
    return made


def test_nothing_is_moved_by_what_prometheus_does(
    site: FaultSite,
    pace: Pace,
    nothing_moves: Callable[[FaultSite, float], Iterator[None]],
    measured: Callable[..., None],
) -> None:
    before = site.look()
    for lie in LIES:
        site.proxy.lie(lie)
        asked, reasons = site.proxy.queries, set()
        for _ in nothing_moves(site, pace.lie):
            reasons.add(site.blind())
        site.proxy.lie("")
        assert site.proxy.queries > asked
        if pace is FULL:
            verdicts = site.explain()["verdicts"]
            measured(
                f"Prometheus tells a lie ({lie}), {pace.lie:.0f} s", f"{', '.join(reasons - {''})} {verdicts}"
            )
            assert lie in CONTRADICTED or reasons - {""}, f"{lie}: it is said that nothing is known"
        site.wait(lambda: not site.blind() and site.explain()["verdicts"]["Healthy"] == len(CAMERAS), "sight")

    site.prometheus.kill()
    reasons = set()
    for _ in nothing_moves(site, pace.outage):
        reasons.add(site.blind())
    if pace.outage > BLIND_SECONDS:
        assert "PrometheusUnreachable" in reasons
        assert all(site.conditions(camera)["Ready"][0] == "Unknown" for camera in CAMERAS)
    measured(f"moves while Prometheus was away for {pace.outage:.0f} s", 0)
    site.prometheus.start()
    site.wait_ready(*CAMERAS)
    assert site.look() == before

    old = site.pod("cam-3")["metadata"]["name"]
    began, stopwatch = time.time(), Stopwatch()
    freeze(site.worker("cam-3"))
    times = site.wait_streaming(["cam-3"], began, elsewhere={"cam-3": old}, seconds=3 * PROMISED_SECONDS)
    measured("then a worker hangs; streams again", times["cam-3"])
    assert stopwatch.seconds <= PROMISED_SECONDS
    assert {c: now for c, now in site.look().items() if c != "cam-3"} == {
        c: was for c, was in before.items() if c != "cam-3"
    }


def test_a_fault_while_prometheus_is_away_waits_for_its_return(
    site: FaultSite, pace: Pace, measured: Callable[..., None]
) -> None:
    """Blind means blind: no guess about the worker that does hang, and none about the others."""
    before = site.look()
    site.proxy.lie("503")
    old = site.pod("cam-0")["metadata"]["name"]
    freeze(site.worker("cam-0"))
    time.sleep(min(pace.outage, 60))
    assert site.look() == before
    site.proxy.lie("")
    began = time.time()
    times = site.wait_streaming(["cam-0"], began, elsewhere={"cam-0": old}, seconds=3 * PROMISED_SECONDS)
    measured("streams after Prometheus is back", times["cam-0"])
    now = site.look()
    assert {c: now[c] for c in CAMERAS[1:]} == {c: before[c] for c in CAMERAS[1:]}
