"""A real worker process against a gateway: pictures, windows, settings, events, faults of the socket."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pytest

from camfleet_protocol.messages import Command, Demand, FrameAck, GoAway, SourceState
from camfleet_protocol.settings import Settings
from camfleet_protocol.wire import Flags
from camfleet_worker.ports import listening_sockets
from camfleet_worker.sources.pattern import BALL_RADIUS, ball_centre
from camfleet_worker.stamp import read_stamp
from support.fake_gateway import FakeGateway, Received, fake_gateway
from support.require import model_dir, sample
from support.stopwatch import Stopwatch
from support.worker_process import worker_process

PATTERN = '{"testPattern": {"width": 640, "height": 360, "fps": 20}}'
MOCK: dict[str, Any] = {"source_json": PATTERN, "detector": ("mock",)}
BOTH = Demand(plain=True, annotated=True)
PLAIN = Demand(plain=True)


def _image(received: Received) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(received.frame.payload, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


async def _frames(gateway: FakeGateway, more: int, what: str = "pictures") -> list[Received]:
    before = len(gateway.frames)
    await gateway.until(lambda: len(gateway.frames) >= before + more, what)
    return gateway.frames[before:]


async def _pace(gateway: FakeGateway, seconds: float, *, within: float) -> None:
    """Wait until pictures come at a pace, most of twenty in a row: a busy machine holds some up."""

    def kept() -> bool:
        spans = [b.frame.captured_ns - a.frame.captured_ns for a, b in pairwise(gateway.frames[-20:])]
        return median(spans) == pytest.approx(seconds * 1e9, rel=within)

    before = len(gateway.frames)
    await gateway.until(lambda: len(gateway.frames) >= before + 20 and kept(), f"a picture each {seconds} s")


async def test_pictures_are_fresh_numbered_and_carry_the_agreed_id(tmp_path: Path) -> None:
    async with (
        fake_gateway(token="secret-token", demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, token="secret-token", **MOCK) as worker,
    ):
        began = time.time_ns()
        await _frames(gateway, 15)
        hello = gateway.hellos[0]
        assert (hello.camera, hello.source) == ("default.cam", "test pattern")
        for one, two in pairwise(gateway.frames):
            assert two.frame.seq == one.frame.seq + 1
        for received in gateway.frames:
            stamp = read_stamp(_image(received))
            assert stamp is not None and stamp.time_ns == received.frame.captured_ns
            assert began - 5e9 < stamp.time_ns < received.frame.sent_ns < received.at_ns
            assert received.frame.camera_id == 7
        assert abs(gateway.frames[0].frame.seq - time.time_ns() // 1_000_000) < 60_000
        assert gateway.frames[0].frame.flags & Flags.DISCONTINUITY
        assert not gateway.frames[5].frame.flags & Flags.DISCONTINUITY
        assert "secret-token" not in worker.log()


async def test_boxes_stand_on_what_they_were_found_on(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK),
    ):

        def with_boxes(*, carried: bool) -> list[Received]:
            found = [f for f in gateway.frames if f.meta.detections]
            return [f for f in found if bool(f.frame.flags & Flags.DETECTIONS_CARRIED) is carried]

        def enough() -> bool:
            own, carried = with_boxes(carried=False), with_boxes(carried=True)
            captured = {f.frame.captured_ns for f in gateway.frames}
            looked_at = {f.meta.inferred_ns for f in carried} & captured
            return len(own) >= 5 and len(carried) >= 5 and len(looked_at) >= 3

        await gateway.until(lambda: enough() and len(gateway.frames) > 25, "boxes of both kinds")
        own, carried = with_boxes(carried=False), with_boxes(carried=True)
        for received in own:
            assert received.meta.inferred_ns == received.frame.captured_ns
            stamp = read_stamp(_image(received))
            assert stamp is not None
            left, top, across, down = received.meta.detections[0].box
            x, y = ball_centre(stamp.number)
            assert abs(left + across / 2 - x) < 0.01 and abs(top + down / 2 - y) < 0.01
            assert across == pytest.approx(2 * BALL_RADIUS)
        for received in carried:
            assert received.meta.inferred_ns is not None
            assert received.meta.inferred_ns < received.frame.captured_ns


async def test_annotated_form_has_the_boxes_drawn_and_shares_number_and_picture(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=BOTH) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK),
    ):
        await gateway.until(lambda: len([f for f in gateway.frames if f.meta.detections]) > 10, "boxes")
        by_seq: dict[int, dict[bool, Received]] = {}
        for received in gateway.frames:
            by_seq.setdefault(received.frame.seq, {})[received.frame.annotated] = received
        pair = next(p for p in reversed(by_seq.values()) if len(p) == 2 and p[True].meta.detections)
        plain, drawn = _image(pair[False]), _image(pair[True])
        assert pair[False].frame.captured_ns == pair[True].frame.captured_ns
        assert plain.shape == drawn.shape
        left, top, across, _ = pair[True].meta.detections[0].box
        edge = drawn[round(top * 360), round((left + across / 2) * 640)].astype(int)
        before = plain[round(top * 360), round((left + across / 2) * 640)].astype(int)
        assert np.abs(edge - before).max() > 40


async def test_nothing_is_encoded_unless_somebody_watches_and_once_for_all(tmp_path: Path) -> None:
    async with (
        fake_gateway() as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK),
    ):
        await gateway.until(lambda: gateway.stats and gateway.stats[-1].frames.inferred > 5, "inference")
        assert gateway.stats[-1].frames.encoded == 0 and not gateway.frames
        await gateway.watch(max_fps=5)
        await _pace(gateway, 0.2, within=0.2)
        counts = (await gateway.until(lambda: gateway.stats[-1], "stats")).frames
        assert counts.encoded <= counts.published + 2
        await gateway.watch(plain=False)
        seen = len(gateway.stats)
        await gateway.until(lambda: len(gateway.stats) >= seen + 2, "stats")
        encoded = gateway.stats[-1].frames.encoded
        await gateway.until(lambda: len(gateway.stats) >= seen + 4, "stats")
        assert gateway.stats[-1].frames.encoded == encoded


async def test_a_slow_gateway_gets_newest_pictures_within_the_window(tmp_path: Path) -> None:
    async with (
        fake_gateway(ack=False, demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK),
    ):
        await gateway.until(lambda: len(gateway.frames) >= 2, "the window's worth")
        seen = len(gateway.stats)
        await gateway.until(lambda: len(gateway.stats) >= seen + 2, "stats")
        assert len(gateway.frames) <= 3
        stalled = len(gateway.frames)
        encoded = gateway.stats[-1].frames.encoded
        assert encoded <= stalled + 1, "nothing is encoded while the window is full"
        assert gateway.stats[-1].frames.dropped.get("stream_busy", 0) > 5
        opened = time.time_ns()
        await gateway.send(FrameAck(seq=gateway.frames[-1].frame.seq))
        await gateway.until(lambda: len(gateway.frames) > stalled, "a picture")
        assert gateway.frames[stalled].frame.captured_ns > opened - 1e9


async def test_settings_apply_live(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK) as worker,
    ):
        await _frames(gateway, 5)
        assert gateway.frames[-1].meta.width == 640
        settings = Settings.model_validate(
            {
                "inference": {"detectors": ["mock"], "fps": 10, "enabled": False},
                "stream": {"fps": 20, "width": 320, "quality": 30},
            }
        )
        await gateway.configure(settings)
        await gateway.until(lambda: gateway.stats[-1].settings_hash == settings.hash, "the hash in stats")
        frames = (await _frames(gateway, 25))[5:]
        assert all(f.meta.width == 320 and f.meta.height == 180 and not f.meta.detections for f in frames)
        assert _image(frames[-1]).shape == (180, 320, 3)
        await _pace(gateway, 0.05, within=0.3)
        inferred = gateway.stats[-1].frames.inferred
        seen = len(gateway.stats)
        await gateway.until(lambda: len(gateway.stats) >= seen + 2, "stats")
        assert gateway.stats[-1].frames.inferred == inferred, "switched off means no inference"
        await gateway.configure(Settings.model_validate({"inference": {"detectors": ["mock"]}}))
        await gateway.until(lambda: gateway.frames[-1].meta.detections, "boxes again")
        await gateway.send('{"op": "configure", "hash": "x", "settings": {"inference": {"fps": -4}}}')
        await _frames(gateway, 5)
        assert gateway.stats[-1].settings_hash != "x"
        assert "settings that are refused" in worker.log()


async def test_missing_weights_leave_the_camera_running(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(
            tmp_path, gateway_url=gateway.url, source="test", detector=("yunet", "mock"), model_dir=tmp_path
        ) as worker,
    ):
        await gateway.until(lambda: any(f.meta.detections for f in gateway.frames), "the other's boxes")
        await gateway.until(lambda: gateway.stats[-1].inference_reason == "ModelMissing", "the reason")
        assert "yunet_n_dynamic.onnx" in gateway.stats[-1].inference_message
        assert worker.log().count("ModelMissing") == 1


async def test_a_third_partys_engine_takes_over_and_its_errors_do_not_kill(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    info = plugins / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[camfleet.engines]\nacme = acme_engine:Engine\n")
    (plugins / "acme_engine.py").write_text(
        "class Engine:\n"
        "    calls = 0\n"
        "    def process_frame(self, frame):\n"
        "        self.calls += 1\n"
        "        if self.calls % 3 == 0:\n"
        "            raise RuntimeError('every third')\n"
        "        frame[:] = (0, 0, 255)\n"
        "        return frame, [{'kind': 'hat', 'label': 'hat', 'score': 0.9, 'box': (0.1, 0.1, 0.2, 0.2)}]\n"
    )
    settings = Settings.model_validate({"inference": {"engine": "acme"}})
    async with (
        fake_gateway(demand=BOTH) as gateway,
        worker_process(
            tmp_path,
            environment={"PYTHONPATH": str(plugins)},
            gateway_url=gateway.url,
            source_json=PATTERN,
            settings_json=settings.model_dump_json(by_alias=True),
        ) as worker,
    ):
        await gateway.until(lambda: gateway.stats and gateway.stats[-1].frames.inferred > 12, "inferences")
        hats = [f for f in gateway.frames if f.meta.detections and f.frame.annotated]
        assert hats[0].meta.detections[0].kind == "hat"
        red = [f for f in hats if _image(f)[..., 2].mean() > 200 and _image(f)[..., 1].mean() < 60]
        assert red, "the engine's own picture is the annotated form"
        plain = next(f for f in gateway.frames if f.frame.seq == red[0].frame.seq and not f.frame.annotated)
        assert read_stamp(_image(plain)) is not None, "the engine cannot paint the plain form"
        assert gateway.stats[-1].frames.dropped["inference_error"] >= 3
        assert gateway.stats[-1].detections["hat"] >= 6
        assert worker.log().count("every third") <= 3 and worker.process.returncode is None


async def test_events_wait_for_their_acknowledgement(tmp_path: Path) -> None:
    async with fake_gateway(ack_events=False) as gateway:
        async with worker_process(tmp_path, gateway_url=gateway.url, **MOCK) as worker:
            await gateway.until(lambda: len(gateway.events) >= 2, "two events")
            assert set(gateway.event_types()) == {"source.connected", "appearance"}
            sent = gateway.event_sends
            await gateway.stop()
            await gateway.start()
            await gateway.until(lambda: gateway.event_sends >= sent + 2, "the same events again")
            assert len(gateway.events) == 2
            worker.signal(signal.SIGKILL)
            await worker.wait()
        first = set(gateway.events)
        gateway.events.clear()
        gateway.ack_events = True
        async with worker_process(tmp_path, gateway_url=gateway.url, **MOCK):
            await gateway.until(lambda: first <= set(gateway.events), "the events of the killed worker")
            await gateway.until(lambda: len(set(gateway.events) - first) >= 2, "two of its own")
            seen = len(gateway.stats)  # and what has been acknowledged meanwhile is known to the worker
            await gateway.until(lambda: len(gateway.stats) >= seen + 2, "stats")
            sent = gateway.event_sends
            await gateway.stop()
            await gateway.start()
            await gateway.until(lambda: gateway.connections >= 3 and gateway.stats, "a new connection")
            seen = len(gateway.stats)
            await gateway.until(lambda: len(gateway.stats) >= seen + 2, "stats")
            assert len(set(gateway.events) - first) <= 3 and gateway.event_sends <= sent + 2


async def test_a_gateway_that_returns_has_pictures_within_three_seconds(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK),
    ):
        await _frames(gateway, 3)
        await gateway.stop()
        await asyncio.sleep(6)  # long enough for the reconnects to have slowed down
        await gateway.start()
        stopwatch = Stopwatch()
        await _frames(gateway, 1)
        assert stopwatch.seconds < 3


@pytest.mark.parametrize(
    "garbage",
    [
        random.Random(5).randbytes(1000),
        "not json",
        "[]",
        '{"op": "nonsense"}',
        '{"op": "ack", "seq": -1}',
        '{"op": "hello"}',
        '"' + "\\ud800" * 10 + '"',
    ],
    ids=lambda value: repr(value[:12]),
)
async def test_garbage_from_the_gateway_is_passed_over(tmp_path: Path, garbage: str | bytes) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK) as worker,
    ):
        await _frames(gateway, 2)
        for _ in range(3):
            await gateway.send(garbage)
        await _frames(gateway, 5)
        assert gateway.connections == 1 and worker.process.returncode is None


async def test_a_message_of_9_mib_ends_the_connection_not_the_worker(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK) as worker,
    ):
        await _frames(gateway, 2)
        try:
            await gateway.send("x" * (9 << 20))
        except OSError:
            pass
        await gateway.until(lambda: gateway.connections >= 2, "a second connection")
        await _frames(gateway, 3)
        assert worker.resident_bytes() < 220e6


async def test_random_bytes_instead_of_websocket(tmp_path: Path) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(os.urandom(4096))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with worker_process(tmp_path, gateway_url=f"http://127.0.0.1:{port}", **MOCK) as worker:
        await worker.logs("cannot be reached")
        server.close()
        await server.wait_closed()
        async with fake_gateway(port=port, demand=PLAIN) as gateway:
            await _frames(gateway, 3)


async def test_fenced_means_exit_3(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK) as worker,
    ):
        await _frames(gateway, 1)
        await gateway.close(1008, "another worker has this camera")
        assert await worker.wait() == 3
        assert "another worker has this camera" in worker.log()


async def test_fenced_at_the_hello_means_exit_3(tmp_path: Path) -> None:
    async def refuse(connection: Any) -> None:
        await connection.close(1008, "older attempt")

    async with (
        fake_gateway(on_hello=refuse) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK) as worker,
    ):
        assert await worker.wait() == 3


async def test_try_later_and_goaway_are_obeyed(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK) as worker,
    ):
        await _frames(gateway, 1)
        await gateway.close(1013, "not yet")
        left = time.monotonic()
        await gateway.until(lambda: gateway.connections >= 2, "a second connection")
        assert time.monotonic() - left > 0.7
        await _frames(gateway, 1)
        await gateway.send(GoAway(reason="draining", retry_ms=1500))
        left = time.monotonic()
        await gateway.until(lambda: gateway.connections >= 3, "a third connection")
        assert time.monotonic() - left > 1.2
        await _frames(gateway, 1)
        assert worker.process.returncode is None


async def test_a_refused_token_is_tried_again_with_what_the_file_says_then(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old-token\n")
    async with (
        fake_gateway(token="new-token", demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, token_file=token, **MOCK) as worker,
    ):
        await worker.logs("it refuses the token")
        token.write_text("new-token\n")
        await _frames(gateway, 1)
        assert "old-token" not in worker.log() and "new-token" not in worker.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_end_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK) as worker,
    ):
        await _frames(gateway, 1)
        stopwatch = Stopwatch()
        worker.signal(number)
        assert await worker.wait() == 0
        assert stopwatch.seconds < 5


async def test_exits_with_its_parent(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(
            tmp_path, stdin=asyncio.subprocess.PIPE, gateway_url=gateway.url, exit_with_parent=True, **MOCK
        ) as worker,
    ):
        await _frames(gateway, 1)
        assert worker.process.stdin is not None
        stopwatch = Stopwatch()
        worker.process.stdin.close()
        assert await worker.wait() == 0
        assert stopwatch.seconds < 5


async def test_heartbeat_goes_on_while_the_source_is_dead(tmp_path: Path) -> None:
    async with (
        fake_gateway() as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, source=str(tmp_path / "nothing.mp4")),
    ):
        await gateway.until(
            lambda: gateway.stats and gateway.stats[-1].source.state is SourceState.BACKOFF, "backoff"
        )
        heartbeat = tmp_path / "work" / "heartbeat"
        before = heartbeat.stat().st_mtime_ns
        await gateway.until(lambda: heartbeat.stat().st_mtime_ns > before + 1e9, "a beat")


async def test_reopen_opens_the_source_again(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK),
    ):
        await _frames(gateway, 2)
        await gateway.send(Command(name="reopen"))
        await gateway.until(lambda: gateway.stats[-1].source.reconnects == 1, "a reconnect")
        frames = await _frames(gateway, 5)
        assert gateway.stats[-1].source.state is SourceState.CONNECTED and frames


async def test_listens_on_nothing(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=BOTH) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, **MOCK) as worker,
    ):
        for _ in range(10):
            await _frames(gateway, 2)
            assert listening_sockets(worker.pid) == []


async def test_check_ports_tells_the_user(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, check_ports=True, **MOCK) as worker,
    ):
        await _frames(gateway, 1)
        assert await worker.wait() == 0
        assert "listens on nothing" in worker.output()


async def test_start_and_memory_with_faces(tmp_path: Path) -> None:
    async with (
        fake_gateway(demand=BOTH) as gateway,
        worker_process(
            tmp_path,
            gateway_url=gateway.url,
            source=str(sample("people_walking_1080p.mp4")),
            detector=("yunet",),
            model_dir=model_dir(),
        ) as worker,
    ):
        await gateway.until(lambda: gateway.stats and gateway.stats[-1].frames.inferred > 15, "inference")
        faces = [len(f.meta.detections) for f in gateway.frames if f.meta.detections]
        assert faces and max(faces) >= 4
        assert worker.resident_bytes() <= 220e6
        log = worker.log()
        assert "Traceback" not in log and "WARN" not in log
        modules = worker.maps()
        assert "onnxruntime" in modules and "pandas" not in modules
