"""A camera that goes: said, and not cured by a move. Its worker waits, and streams when it is back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from support.fault_site import FULL, FaultSite, Pace
from support.require import need
from support.rtsp_server import RtspServer, rtsp_available
from support.stopwatch import Stopwatch

pytestmark = [pytest.mark.cluster, pytest.mark.rtsp, pytest.mark.timeout(1200)]

PROMISED_SECONDS = 25
_ALERT = 'ALERTS{alertname="CamfleetCameraOffline", camera="door", alertstate="firing"}'


async def test_a_source_that_goes_moves_nothing(
    start_site: Callable[..., FaultSite], pace: Pace, measured: Callable[..., None]
) -> None:
    need(rtsp_available(), "GStreamer's RTSP server for the system's Python, and x264enc")
    server = RtspServer()
    await server.start()
    try:
        site = start_site()
        site.create_all("door", source={"rtsp": {"url": server.url}})
        site.create_all("hall", "yard")
        before, uid = site.look(), site.pod("door")["metadata"]["uid"]
        worker = site.worker("door")
        began = time.time()
        await server.kill()
        site.wait(
            lambda: site.conditions("door")["SourceConnected"][0] == "False",
            "SourceConnected=False",
            seconds=90,
        )
        measured("SourceConnected=False", time.time() - began)
        assert site.conditions("door")["Ready"][0] == "False"
        alerted = 0.0
        while time.time() < began + pace.outage:
            await asyncio.sleep(1)
            assert site.look() == before, "nothing is moved"
            if not alerted and site.prometheus.query(_ALERT):
                alerted = time.time() - began
        if pace is FULL:
            measured("alert", alerted)
            assert 60 <= alerted <= 90
        assert site.conditions("door")["SourceConnected"] == ("False", "SourceRefused")
        said = site.explain("door")
        assert (said["fault"], said["decision"]["action"]) == ("Source", "None")
        assert worker.restarts == 0, "the container is not restarted either"
        measured("moves while it was away", sum(attempt - 1 for attempt in site.attempts().values()))
        back, stopwatch = time.time(), Stopwatch()
        await server.start()
        times = site.wait_streaming(["door"], back, seconds=6 * PROMISED_SECONDS)
        measured(f"streams after {'ten minutes' if pace is FULL else 'a while'} away", times["door"])
        assert stopwatch.seconds <= PROMISED_SECONDS
        site.wait_ready("door")
        assert site.look() == before and site.pod("door")["metadata"]["uid"] == uid
        assert site.last_move("door") == {}
    finally:
        await server.kill()
