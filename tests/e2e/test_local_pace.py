"""The pace of a whole fleet: how steady and how fresh pictures come, and how soon somebody is back.

Nothing else runs beside these tests: see `support.parallel`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import time
from contextlib import suppress

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus

from camfleet_protocol.wire import SUBPROTOCOL
from support.fleet import Fleet, eventually
from support.viewer import Seen, Viewer, viewing

pytestmark = pytest.mark.e2e


async def test_nobody_watching_means_no_encode_and_many_cost_as_much_as_one(fleet: Fleet) -> None:
    encoded, inferred = "camfleet_camera_frames_encoded_total", "camfleet_camera_frames_inferred_total"
    assert fleet.metric(encoded) == 0
    async with asyncio.TaskGroup() as group:
        watchers = [group.create_task(_watch(fleet.url, "default.one", until := asyncio.Event()))]
        alone = await asyncio.to_thread(lambda: (fleet.rate(encoded, "one"), fleet.rate(inferred, "one")))
        watchers += [group.create_task(_watch(fleet.url, "default.one", until)) for _ in range(49)]
        await asyncio.to_thread(eventually, lambda: fleet.cameras()["one"]["viewers"] == 50, "fifty viewers")
        crowd = await asyncio.to_thread(lambda: (fleet.rate(encoded, "one"), fleet.rate(inferred, "one")))
        assert fleet.metric(encoded, "two") == 0, "the unwatched neighbour encodes nothing"
        until.set()
    assert alone[0] == pytest.approx(10, rel=0.35)
    assert crowd[0] <= alone[0] * 1.3
    assert crowd[1] <= alone[1] * 1.3
    assert all(task.result() > 0 for task in watchers), "every viewer had pictures"


async def _watch(url: str, camera: str, until: asyncio.Event) -> int:
    count = 0
    async with viewing(url, camera) as viewer:
        stop = asyncio.create_task(until.wait())
        stop.add_done_callback(lambda _: asyncio.ensure_future(viewer.socket.close()))
        with suppress(ConnectionClosedOK):  # in the middle of an acknowledgement
            async for _ in viewer.frames():
                count += 1
    return count


async def test_a_killed_worker_streams_again_within_three_seconds_and_hurts_nobody(fleet: Fleet) -> None:
    async with viewing(fleet.url, "default.one", "default.two", "default.three") as viewer:
        await viewer.collect(2)
        fleet.find("worker", "--camera=default.one").kill()
        killed = time.monotonic()
        seen = await viewer.collect(5)
    back = [item.at for item in seen if item.camera == "default.one" and item.at > killed + 0.3]
    assert back, "pictures of the killed worker's camera came back"
    assert back[0] - killed < 3.0
    for name in ("default.two", "default.three"):
        _assert_steady([item for item in seen if item.camera == name])
    assert fleet.object("one")["status"]["worker"]["attempt"] == 2


def _assert_steady(seen: list[Seen]) -> None:
    gaps = [after.at - before.at for before, after in itertools.pairwise(seen)]
    assert statistics.median(gaps) == pytest.approx(0.1, abs=0.05)
    assert max(gaps) < 0.6, f"the longest gap was {max(gaps):.2f} s"


async def test_a_killed_gateway_returns_and_everybody_with_it(fleet: Fleet) -> None:
    workers = {p.pid for p in fleet.processes() if "worker" in p.cmdline()}
    fleet.find("gateway").kill()

    await asyncio.to_thread(eventually, fleet.answers, "the gateway is back")
    returned = time.monotonic()
    async with viewing(fleet.url, "default.one", "default.two", "default.three") as viewer:
        firsts: dict[str, float] = {}
        while len(firsts) < 3:
            seen = await viewer.first()
            firsts.setdefault(seen.camera, time.monotonic() - returned)
    assert max(firsts.values()) < 3.0, firsts
    assert {p.pid for p in fleet.processes() if "worker" in p.cmdline()} == workers, "no worker restarted"


async def test_random_bytes_on_every_socket_disturb_nobody(fleet: Fleet) -> None:
    base = fleet.url.replace("http", "ws", 1)

    async def abuse(path: str, message: bytes | str) -> None:
        try:
            async with connect(
                base + path, subprotocols=[SUBPROTOCOL], max_size=None, compression=None
            ) as socket:  # type: ignore[list-item]
                await socket.send(message)
                async with asyncio.timeout(2):
                    async for _ in socket:
                        pass
        except (ConnectionClosed, InvalidStatus, TimeoutError, OSError):
            return
        except AttributeError as error:
            # asyncio's transport of this client, aborted twice when the gateway closes during a large send.
            if "call_soon" not in str(error):
                raise

    async with viewing(fleet.url, "default.one") as viewer:
        await viewer.first()
        watching = asyncio.create_task(viewer.collect(6))
        async with asyncio.TaskGroup() as group:
            for path in ("/ws", "/ws/stream", "/ws/stream/default.two", "/ws/events"):
                for message in (os.urandom(200), "{" * 500, b"\0" * (9 * 1024 * 1024)):
                    group.create_task(abuse(path, message))
        seen = await watching
    _assert_steady(seen)


async def _age_of_pictures(viewer: Viewer) -> float:
    return statistics.median(item.age for item in await viewer.collect(3))


async def test_pictures_are_fresh(fleet: Fleet) -> None:
    async with viewing(fleet.url, "default.one") as viewer:
        assert await _age_of_pictures(viewer) < 0.5
