"""One camera to many viewers: what each gets, and when the worker is asked for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from gateway_clients import DEADLINE, FakeViewer, eventually, picture

from camfleet_protocol.camera import Camera, CameraStatus, SettingsStatus
from camfleet_protocol.detections import parse_meta
from camfleet_protocol.local import StateFolder
from camfleet_protocol.messages import Command, Configure, Ping, Pong, SourceState, StatusUpdate, Unsubscribe
from camfleet_protocol.wire import encode_frame
from support.gateway_process import GatewayProcess, put_camera, remove_camera, test_pattern


async def test_every_viewer_gets_every_picture(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with publish(door) as worker, AsyncExitStack() as stack:
        viewers = [
            await stack.enter_async_context(FakeViewer.running(gateway.viewer_url, "door", window=8))
            for _ in range(10)
        ]
        await worker.demand(lambda d: d.plain and not d.annotated, "plain only")
        sent = []
        for _ in range(20):
            sent.append(await worker.send(size=60_000, camera_id=77))
            await eventually(lambda: all(sent[-1] in v.seqs() for v in viewers), "the picture everywhere")
        number = (await worker.accepted()).id
        for viewer in viewers:
            assert viewer.seqs() == sent
            _, frame = viewer.frames[-1]
            assert frame.camera_id == number, "a wrong camera id of a worker is put right"
            assert len(frame.payload) == 60_000 and bytes(frame.payload[:8]) == sent[-1].to_bytes(8, "big")
            assert parse_meta(frame.meta).detections[0].kind == "face"
        await eventually(lambda: len(worker.window) == 0, "all acknowledged to the worker")


async def test_forms_do_not_mix(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with (
        publish(door) as worker,
        FakeViewer.running(gateway.viewer_url, "door") as plain,
        FakeViewer.running(gateway.viewer_url, "door", annotated=True) as boxed,
    ):
        await worker.demand(lambda d: d.plain and d.annotated, "both forms")
        for _ in range(3):
            seq = await worker.send()
            await worker.socket.send(picture(seq, annotated=True))
            await eventually(lambda seq=seq: seq in plain.seqs() and seq in boxed.seqs(), "both forms")  # type: ignore[misc]
        assert not any(f.annotated for _, f in plain.frames)
        assert all(f.annotated for _, f in boxed.frames)
        await boxed.subscribe("door", annotated=False)
        await worker.demand(lambda d: d.plain and not d.annotated, "plain alone again")


async def test_the_window_bounds_what_is_under_way_and_the_newest_waits(
    gateway: GatewayProcess, door: Camera, publish: Any
) -> None:
    async with (
        publish(door) as worker,
        FakeViewer.running(gateway.viewer_url, "door", acknowledge=False, window=2) as slow,
        FakeViewer.running(gateway.viewer_url, "door", window=2) as fast,
    ):
        await eventually(lambda: worker.received, "demand")
        sent = []
        for _ in range(10):
            sent.append(await worker.send())
            await eventually(lambda: sent[-1] in fast.seqs(), "the fast one's picture")
        assert slow.seqs() == sent[:2]
        await slow.ack(slow.frames[0][1])
        await eventually(lambda: len(slow.frames) == 3, "one more after one acknowledgement")
        assert slow.seqs() == [sent[0], sent[1], sent[9]], "the newest one, not the next one"
        await slow.ack(slow.frames[2][1])
        for count in (4, 5):  # one after the other: of two that come together the gateway keeps the newer
            await worker.send()
            await eventually(
                lambda count=count: len(slow.frames) == count, "both places are free: cumulative"
            )  # type: ignore[misc]
        assert fast.seqs()[:10] == sent


async def test_slow_viewers_stay_near_and_fast_ones_lose_nothing(
    gateway: GatewayProcess, door: Camera, publish: Any
) -> None:
    """45 fast beside 5 slow, 60 KB pictures; the slow ones take two a second."""
    seconds, fps, lateness = 6.0, 10.0, []

    async def slowly(viewer: FakeViewer, end: float) -> None:
        done = 0
        while time.monotonic() < end:
            await asyncio.sleep(0.5)
            if len(viewer.frames) > done:
                _, frame = viewer.frames[done]
                done += 1
                newest = worker.seq
                # Pictures of its own it is behind: those received, not yet taken.
                lateness.append(len(viewer.frames) - done)
                assert newest - frame.seq <= 2.5 * fps, "more than two of its own pictures old"
                await viewer.ack(frame)

    async with publish(door) as worker, AsyncExitStack() as stack:
        fast = [
            await stack.enter_async_context(FakeViewer.running(gateway.viewer_url, "door", window=8))
            for _ in range(45)
        ]
        slow = [
            await stack.enter_async_context(
                FakeViewer.running(gateway.viewer_url, "door", acknowledge=False, window=2)
            )
            for _ in range(5)
        ]
        await worker.demand(lambda d: d.plain, "plain")
        streaming = asyncio.create_task(worker.stream(fps, size=60_000))
        end = time.monotonic() + seconds
        await asyncio.gather(*(slowly(viewer, end) for viewer in slow))
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)
        last = worker.seq
        await eventually(lambda: all(last in v.seqs() for v in fast), "the last picture at the fast ones")
        for viewer in fast:
            assert viewer.seqs() == list(range(viewer.seqs()[0], last + 1)), "no picture is missing"
            assert len(viewer.frames) >= seconds * fps * 0.7
        assert lateness and max(lateness) <= 2


async def test_max_fps_is_kept_and_told_to_the_worker(
    gateway: GatewayProcess, door: Camera, publish: Any
) -> None:
    async with (
        publish(door) as worker,
        FakeViewer.running(gateway.viewer_url, "door", max_fps=5) as viewer,
    ):
        await worker.demand(lambda d: d.plain and d.max_fps == 5, "5 a second")
        async with FakeViewer.running(gateway.viewer_url, "door", max_fps=9):
            await worker.demand(lambda d: d.max_fps == 9, "the highest wish")
            async with FakeViewer.running(gateway.viewer_url, "door"):
                await worker.demand(lambda d: d.max_fps is None, "no bound")
            await worker.demand(lambda d: d.max_fps == 9, "the bound is back")
        await worker.demand(lambda d: d.max_fps == 5, "5 again")
        streaming = asyncio.create_task(worker.stream(40))
        await eventually(lambda: len(viewer.frames) >= 12, "a dozen pictures")
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)
        span = viewer.frames[11][0] - viewer.frames[1][0]
        # The first of them may have waited for us. Without a bound it would be a quarter of a second.
        assert span >= 10 / 5 * 0.5, f"10 pictures in {span:.2f} s are more than 5 a second"


async def test_demand_lingers_and_ends(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with publish(door) as worker:
        await worker.demand(lambda d: not d.plain and not d.annotated, "nobody watches")
        async with FakeViewer.running(gateway.viewer_url, "door") as viewer:
            await worker.demand(lambda d: d.plain, "somebody watches")
            await viewer.socket.send(Unsubscribe(cameras=("default.door",)).encode())
            left = time.monotonic()
            await worker.demand(lambda d: not d.plain, "nobody any more")
            assert time.monotonic() - left >= 0.4, "the worker goes on for the time of the linger"
            before = len(worker.received)
            await viewer.subscribe("door")
            await worker.demand(lambda d: d.plain, "somebody again")
            await viewer.socket.send(Unsubscribe(cameras=("default.door",)).encode())
            await viewer.subscribe("door")
            await asyncio.sleep(0.8)
            told = [m for m in worker.received[before:] if getattr(m, "op", "") == "demand"]
            assert len(told) == 1, "coming back within the linger changes nothing for the worker"


async def test_a_restarted_worker_is_seen_at_once_even_with_lower_numbers(
    gateway: GatewayProcess, door: Camera, publish: Any
) -> None:
    async with FakeViewer.running(gateway.viewer_url, "door", acknowledge=False, window=2) as viewer:
        async with publish(door) as worker:
            await worker.demand(lambda d: d.plain, "plain")
            for count in (1, 2, 2):
                await worker.send()
                await eventually(lambda count=count: len(viewer.frames) == count, "the window is full")  # type: ignore[misc]
        async with publish(door) as worker:
            await worker.demand(lambda d: d.plain, "demand after a reconnect, without anybody asking anew")
            worker.seq = 1000
            seq = await worker.send()
            await eventually(
                lambda: seq in viewer.seqs(), "a picture although old ones were never acknowledged"
            )
            await worker.socket.send(picture(seq))
            await worker.socket.send(picture(seq - 1))
            after = await worker.send()
            await eventually(lambda: after in viewer.seqs(), "the next picture")
            assert viewer.seqs()[-2:] == [seq, after], "repeated and older numbers are dropped"


async def test_many_cameras_on_one_socket_take_turns(
    gateway: GatewayProcess, state: StateFolder, publish: Any
) -> None:
    cameras = [put_camera(state, test_pattern(f"cam-{n}")) for n in range(4)]
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(publish(camera)) for camera in cameras]
        viewer = await stack.enter_async_context(
            FakeViewer.running(gateway.viewer_url, *(camera.id for camera in cameras))
        )
        await asyncio.gather(*(worker.demand(lambda d: d.plain, "plain") for worker in workers))
        rates = (60.0, 10.0, 10.0, 10.0)
        tasks = [
            asyncio.create_task(worker.stream(rate, size=60_000))
            for worker, rate in zip(workers, rates, strict=True)
        ]
        numbers = [(await worker.accepted()).id for worker in workers]
        await eventually(lambda: len(viewer.seqs(numbers[0])) >= 90, "a busy camera's pictures")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number in numbers[1:]:
            assert len(viewer.seqs(number)) >= 8, "a busy camera leaves the others their turn"


async def test_unknown_cameras_and_the_rest_goes_on(
    gateway: GatewayProcess, state: StateFolder, door: Camera, publish: Any
) -> None:
    async with publish(door) as worker, FakeViewer.running(gateway.viewer_url) as viewer:
        await viewer.subscribe("default.nowhere", "door")
        assert "default.nowhere" in (await viewer.problem("unknown_camera")).message
        await worker.demand(lambda d: d.plain, "plain")
        seq = await worker.send()
        await eventually(lambda: seq in viewer.seqs(), "pictures of the known camera")
        put_camera(state, test_pattern("door", "other"))
        await viewer.state("other.door", "offline")
        remove_camera(state, "other.door")
        await eventually(lambda: any("other.door" in u.removed for u in viewer.updates()), "removed")
        await viewer.socket.send(Ping(t=4.5).encode())
        await eventually(lambda: viewer.of(Pong), "pong")
        assert viewer.of(Pong)[0].t == 4.5


async def test_states_are_told_as_they_change(
    gateway: GatewayProcess, state: StateFolder, door: Camera, publish: Any
) -> None:
    async with FakeViewer.running(gateway.viewer_url, "door") as viewer:
        hello = await viewer.hello()
        assert [(c.camera, c.state) for c in hello.cameras] == [("default.door", "offline")]
        assert hello.role == "admin"
        async with publish(door, stats=False) as worker:
            await viewer.state("default.door", "connecting")
            # One says which picture was the last, the next one that there is a newer one.
            info = None
            end = time.monotonic() + DEADLINE
            while info is None:
                assert time.monotonic() < end, "never live"
                await worker.socket.send(worker.stats().encode())
                await asyncio.sleep(0.1)
                info = next((i for u in viewer.updates() for i in u.cameras if i.state == "live"), None)
            assert (info.width, info.height, info.fps) == (640, 360, 10.0)
            stalled = worker.stats()
            end = time.monotonic() + DEADLINE
            while not any(info.state == "stale" for update in viewer.updates() for info in update.cameras):
                assert time.monotonic() < end, "never stale"
                await worker.socket.send(
                    stalled.model_copy(
                        update={
                            "last_frame_ns": 5,
                            "source": stalled.source.model_copy(
                                update={
                                    "state": SourceState.BACKOFF,
                                    "reason": "SourceRefused",
                                    "message": "refused",
                                }
                            ),
                        }
                    ).encode()
                )
                await asyncio.sleep(0.1)
            stale = await viewer.state("default.door", "stale")
            assert (stale.reason, stale.message) == ("SourceRefused", "refused")
        offline = await viewer.state("default.door", "offline")
        assert offline.reason == "NoWorker"
        put_camera(state, test_pattern("door", suspend=True))
        await viewer.state("default.door", "suspended")
        assert all(isinstance(u, StatusUpdate) for u in viewer.updates())


async def test_settings_are_relayed_without_a_restart(
    gateway: GatewayProcess, state: StateFolder, door: Camera, publish: Any
) -> None:
    async with publish(door) as worker:
        first = await worker.configured()
        assert first.settings["stream"]["quality"] == 80
        values = {**first.settings, "stream": {**first.settings["stream"], "quality": 30}}
        changed = CameraStatus(
            worker=door.status.worker, settings=SettingsStatus(hash="0123456789abcdef", values=values)
        )
        put_camera(state, door, changed)
        await eventually(lambda: worker.of(Configure)[-1].hash == "0123456789abcdef", "new settings")
        assert worker.of(Configure)[-1].settings["stream"]["quality"] == 30
        assert not worker.of(Command)
        assert not worker.closed.is_set()


async def test_pictures_that_are_no_pictures_are_dropped(
    gateway: GatewayProcess, door: Camera, publish: Any
) -> None:
    async with publish(door) as worker, FakeViewer.running(gateway.viewer_url, "door") as viewer:
        await worker.demand(lambda d: d.plain, "plain")
        await worker.socket.send(b"")
        await worker.socket.send(b"\xff" * 100)
        await worker.socket.send(
            encode_frame(opcode=2, codec=2, camera_id=1, seq=1, captured_ns=0, sent_ns=0)
        )  # type: ignore[arg-type]
        seq = await worker.send()
        await eventually(lambda: seq in viewer.seqs(), "the good picture")
        assert viewer.seqs() == [seq]
        for _ in range(30):
            await worker.socket.send(b"rubbish")
        assert (await worker.closing())[0] == 1008


async def test_viewers_come_back_after_the_gateway_was_killed(
    gateway: GatewayProcess, state: StateFolder, door: Camera, publish: Any
) -> None:
    async with publish(door) as worker, FakeViewer.running(gateway.viewer_url, "door") as viewer:
        await worker.demand(lambda d: d.plain, "plain")
        gateway.kill()
        await asyncio.wait_for(viewer.closed.wait(), DEADLINE)
        await asyncio.wait_for(worker.closed.wait(), DEADLINE)
    gateway.restart()
    async with publish(door) as again, FakeViewer.running(gateway.viewer_url, "door") as viewer:
        await again.demand(lambda d: d.plain, "plain")
        seq = await again.send()
        await eventually(lambda: seq in viewer.seqs(), "a picture")
