"""The operator is killed in the middle of many moves: the budget holds, and no camera is lost or doubled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import pytest

from support.fault_site import FaultSite, Pace, freeze

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CAMERAS = [f"cam-{number}" for number in range(9)]
SECONDS_PER_MOVE = 5.0


def test_a_kill_in_the_middle_of_many_moves(
    start_site: Callable[..., FaultSite], pace: Pace, measured: Callable[..., None]
) -> None:
    # With a kubelet that is in no hurry: it would restart the containers itself meanwhile.
    pace = replace(pace, probe_speed=0.1)
    site = start_site(f"--moves-per-second={1 / SECONDS_PER_MOVE}", "--moves-burst=1", pace=pace)
    site.create_all(*CAMERAS)
    before = site.look()
    # One on each of four nodes, so that it is no node's fault; and less than the share that freezes all.
    bad = [site.cameras_on(node)[0] for node in site.nodes.names if len(site.cameras_on(node)) > 1][:4]
    assert len(bad) == 4, {node: site.cameras_on(node) for node in site.nodes.names}
    began = time.time()
    old = {camera: site.pod(camera)["metadata"]["name"] for camera in bad}
    for camera in bad:
        freeze(site.worker(camera))
    for kills in range(1, 4):
        site.wait(
            lambda kills=kills: sum(site.attempt(c) > 1 for c in bad) >= kills, "the next move", seconds=180
        )
        site.operator.kill()
        site.operator.start()
    times = site.wait_streaming(bad, began, elsewhere=old, seconds=240)
    measured(
        f"{len(bad)} moves with three kills in between, one each {SECONDS_PER_MOVE:.0f} s",
        max(times.values()),
    )
    site.wait_ready(*CAMERAS)

    attempts = site.attempts()
    assert {camera: attempts[camera] for camera in bad} == dict.fromkeys(bad, 2), "each is moved once"
    moved = sorted(datetime.fromisoformat(site.last_move(camera)["time"]).timestamp() for camera in bad)
    pauses = [later - earlier for earlier, later in pairwise(moved)]
    measured("seconds between the moves", ", ".join(f"{pause:.0f}" for pause in pauses))
    assert min(pauses) >= SECONDS_PER_MOVE - 1, "times in a status are whole seconds"
    site.wait(lambda: len(site.plane.items(site.pods_path)) == len(CAMERAS), "the old pods to go")
    pods = Counter(pod["metadata"]["labels"]["camfleet.io/camera"] for pod in site.pods())
    assert pods == Counter(CAMERAS)
    now = site.look()
    assert {c: now[c] for c in CAMERAS if c not in bad} == {c: before[c] for c in CAMERAS if c not in bad}
