"""The gateway goes, or most of the fleet goes bad together: no camera is at fault, so nothing moves."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from support.fault_site import FULL, FaultSite, Pace, freeze, thaw

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

CAMERAS = [f"cam-{number}" for number in range(8)]


@pytest.fixture(scope="module")
def site(start_shared_site: Callable[..., FaultSite]) -> FaultSite:
    made = start_shared_site()
    made.create_all(*CAMERAS)
    return made


def test_a_gateway_that_goes_and_returns_moves_nothing(
    site: FaultSite, pace: Pace, measured: Callable[..., None]
) -> None:
    before = site.look()

    # A rollout: the old one ends in order, the new one starts.
    began = time.time()
    site.gateway.stop()
    site.gateway.restart()
    times = site.wait_streaming(CAMERAS, time.time(), seconds=120)
    measured("after a rollout all stream", time.time() - began)
    assert len(times) == len(CAMERAS) and site.look() == before

    # Killed, and away for a while.
    away = 90.0 if pace is FULL else pace.outage
    site.gateway.kill()
    began = time.time()
    while time.time() < began + away:
        time.sleep(0.5)
        assert site.look() == before
    if pace is FULL:
        conditions = [site.conditions(camera)["Ready"] for camera in CAMERAS]
        assert {status for status, _ in conditions} == {"Unknown"}, conditions
        assert site.blind(), "it is said that nothing is known"
        measured(f"gateway away for {away:.0f} s", f"{site.blind()}, {conditions[0][1]}")
    site.gateway.restart()
    back = time.time()
    times = site.wait_streaming(CAMERAS, back, seconds=120)
    measured("after its return all stream", max(times.values()))
    site.wait_ready(*CAMERAS)
    time.sleep(5 * pace.scrape)
    assert site.look() == before, "no storm afterwards"


def test_most_of_the_fleet_bad_together_moves_nothing(
    site: FaultSite, pace: Pace, measured: Callable[..., None]
) -> None:
    site.wait(lambda: not site.frozen(), "moves to be free", seconds=300)  # whatever was before
    before = site.look()
    bad = spread(site, 5)  # of eight: 62 %
    began = time.time()
    for camera in bad:
        freeze(site.worker(camera))
    site.wait(lambda: site.frozen(), "moves to be frozen", seconds=90)
    measured("frozen", time.time() - began)
    hold = 80.0 if pace is FULL else 10.0  # else the kubelet's own restarts would interfere
    while time.time() < began + hold:
        time.sleep(0.5)
        assert site.look() == before
    assert site.metric("camfleet_operator_frozen") >= 1
    for camera in bad:
        assert site.conditions(camera)["Ready"][0] != "True"
        site.wait(lambda c=camera: "MoveHeld" in site.reasons(c), f"{camera}'s Event")
    measured(
        "it is said", f"{site.frozen()}; {[text for why, text in site.events(bad[0]) if why == 'MoveHeld']}"
    )
    for camera in bad:
        thaw(site.worker(camera))
    back = time.time()
    times = site.wait_streaming(bad, back, seconds=120)
    measured("all stream again", max(times.values()))
    site.wait_ready(*CAMERAS)
    site.wait(lambda: not site.frozen(), "moves to be free again", seconds=300)
    measured("free to move again", time.time() - back)
    time.sleep(5 * pace.scrape)
    assert site.look() == before, "no storm afterwards"


def spread(site: FaultSite, count: int) -> list[str]:
    """So many cameras, on as many nodes as there are."""
    by_node = {node: site.cameras_on(node) for node in site.nodes.names}
    turn: list[str] = []
    while any(by_node.values()):
        turn += [cameras.pop() for cameras in by_node.values() if cameras]
    return turn[:count]
