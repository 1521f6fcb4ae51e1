"""RTSP against a real server: credentials, faults and returns. A password used here is a canary."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from camfleet_protocol.messages import Demand, SourceState
from camfleet_protocol.settings import Settings
from support.fake_gateway import DEADLINE, FakeGateway, fake_gateway
from support.require import need
from support.rtsp_server import counting_server, rtsp_available, rtsp_server
from support.stopwatch import Stopwatch
from support.worker_process import WorkerProcess, worker_process

pytestmark = pytest.mark.rtsp

CANARY = "p@ss/w:rd#é%"
SECOND_CANARY = "s3cond-Kanarie?&"
PLAIN = Demand(plain=True)
UNAUTHORIZED = (
    b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n"
    b'WWW-Authenticate: Basic realm="cam"\r\nContent-Length: 0\r\n\r\n'
)


@pytest.fixture(autouse=True, scope="module")
def _gstreamer() -> None:
    need(rtsp_available(), "GStreamer's RTSP server for the system's Python, and x264enc")


def _credentials(folder: Path, password: str, username: str = "admin") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "username").write_text(username)
    (folder / "password").write_text(password + "\n")
    return folder


def _leaks(secret: str, gateway: FakeGateway, worker: WorkerProcess) -> Iterator[str]:
    forms = {secret, quote(secret, safe=""), quote(secret), repr(secret)[1:-1]}
    said = {
        "log": worker.log(),
        "output": worker.output(),
        "stats": "".join(stats.encode() for stats in gateway.stats),
        "events": "".join(event.encode() for event in gateway.events.values()),
        "hello": "".join(hello.encode() for hello in gateway.hellos),
    }
    process = psutil.Process(worker.pid) if psutil.pid_exists(worker.pid) else None
    if process is not None:
        said["cmdline"] = " ".join(process.cmdline())
        said["environ"] = str(process.environ())
    for place, text in said.items():
        if any(form in text for form in forms):
            yield place


async def _state(
    gateway: FakeGateway, state: SourceState, reason: str = "", seconds: float = DEADLINE
) -> None:
    def there() -> bool:
        source = gateway.stats[-1].source if gateway.stats else None
        return source is not None and source.state is state and source.reason == reason

    await gateway.until(there, f"{state} {reason}", seconds)


async def test_frames_flow_with_a_difficult_password_that_nobody_sees(tmp_path: Path) -> None:
    folder = _credentials(tmp_path / "credentials", CANARY)
    async with (
        rtsp_server("admin", CANARY) as server,
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(
            tmp_path,
            gateway_url=gateway.url,
            source=server.url,
            credentials_dir=folder,
            detector=("motion",),
            log_level="DEBUG",
        ) as worker,
    ):
        await gateway.until(lambda: len(gateway.frames) > 20, "pictures")
        await gateway.until(lambda: "source.connected" in gateway.event_types(), "the event")
        source = gateway.stats[-1].source
        assert (source.codec, source.width, source.height) == ("h264", 320, 240)
        assert list(_leaks(CANARY, gateway, worker)) == []
        for path in (tmp_path / "work").iterdir():
            assert CANARY.encode() not in path.read_bytes()


async def test_a_wrong_password_is_tried_once_until_the_files_change(tmp_path: Path) -> None:
    folder = _credentials(tmp_path / "credentials", SECOND_CANARY)
    async with rtsp_server("admin", CANARY) as server, fake_gateway(demand=PLAIN) as gateway:
        options = {"gateway_url": gateway.url, "source": server.url, "credentials_dir": folder}
        async with worker_process(tmp_path, **options) as worker:
            await _state(gateway, SourceState.AUTH_STOP, "AuthFailed")
            await gateway.until(lambda: "source.auth_failed" in gateway.event_types(), "the event")
            assert gateway.stats[-1].source.errors == {"auth_failed": 1}
            assert list(_leaks(SECOND_CANARY, gateway, worker)) == []
            worker.signal(signal.SIGTERM)
            assert await worker.wait() == 0
        # A new process remembers: it does not try again.
        gateway.stats.clear()
        async with worker_process(tmp_path, **options) as worker:
            await _state(gateway, SourceState.AUTH_STOP, "AuthFailed")
            await gateway.until(lambda: len(gateway.stats) > 4, "stats")
            assert gateway.stats[-1].source.errors == {}
            (folder / "password").write_text(CANARY)
            await gateway.until(lambda: gateway.frames, "pictures with the right password")
            await _state(gateway, SourceState.CONNECTED)
            assert list(_leaks(CANARY, gateway, worker)) == []
            assert list(_leaks(SECOND_CANARY, gateway, worker)) == []
            assert not (tmp_path / "work" / "auth_stop.json").exists()


async def test_refused_credentials_mean_no_second_visit(tmp_path: Path) -> None:
    folder = _credentials(tmp_path / "credentials", CANARY)
    async with (
        counting_server(UNAUTHORIZED) as (port, visits),
        fake_gateway() as gateway,
        worker_process(
            tmp_path, gateway_url=gateway.url, source=f"rtsp://127.0.0.1:{port}/x", credentials_dir=folder
        ),
    ):
        await _state(gateway, SourceState.AUTH_STOP, "AuthFailed")
        seen, before = len(gateway.stats), len(visits)
        await gateway.until(lambda: len(gateway.stats) >= seen + 5, "five more seconds")
        assert len(visits) == before


async def test_a_camera_that_vanishes_and_returns(tmp_path: Path) -> None:
    async with (
        rtsp_server() as server,
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, source=server.url, detector=("motion",)) as worker,
    ):
        await gateway.until(lambda: len(gateway.frames) > 5, "pictures")
        await server.kill()
        await gateway.until(lambda: "source.lost" in gateway.event_types(), "the event")
        await _state(gateway, SourceState.BACKOFF, "SourceRefused")
        seen = len(gateway.stats)
        await gateway.until(lambda: len(gateway.stats) >= seen + 4, "stats go on while the source is down")
        assert gateway.stats[-1].source.errors["source_refused"] >= 3
        assert worker.log().count("connection was refused") == 1, "a dead camera must not fill the log"
        frames = len(gateway.frames)
        await server.start()
        await gateway.until(lambda: len(gateway.frames) > frames + 5, "pictures again")
        await _state(gateway, SourceState.CONNECTED)
        source = gateway.stats[-1].source
        assert source.reconnects >= 1 and source.errors["source_refused"] >= 1
        assert gateway.event_types().count("source.lost") == 1
        await gateway.until(lambda: gateway.event_types().count("source.connected") == 2, "the event")
        assert worker.process.returncode is None


async def test_a_silent_server_is_a_timeout_in_bounded_time(tmp_path: Path) -> None:
    stopwatch = Stopwatch()
    async with (
        counting_server(None) as (port, _),
        fake_gateway() as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, source=f"rtsp://127.0.0.1:{port}/x"),
    ):
        await _state(gateway, SourceState.BACKOFF, "SourceTimeout")
        assert stopwatch.seconds < 20


async def test_sigterm_is_obeyed_while_ffmpeg_waits(tmp_path: Path) -> None:
    async with (
        counting_server(None) as (port, visits),
        fake_gateway() as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, source=f"rtsp://127.0.0.1:{port}/x") as worker,
    ):
        await gateway.until(lambda: visits and gateway.stats, "the worker waits for the server")
        stopwatch = Stopwatch()
        worker.signal(signal.SIGTERM)
        assert await worker.wait() == 0
        assert stopwatch.seconds < 5


async def test_a_stall_is_noticed_by_the_cameras_own_timeout(tmp_path: Path) -> None:
    settings = Settings.model_validate({"health": {"stallTimeoutSeconds": 2}})
    async with (
        rtsp_server() as server,
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(
            tmp_path,
            gateway_url=gateway.url,
            source=server.url,
            settings_json=settings.model_dump_json(by_alias=True),
        ),
    ):
        await gateway.until(lambda: len(gateway.frames) > 5, "pictures")
        server.pause()
        await gateway.until(
            lambda: gateway.stats[-1].source.reason in ("SourceStalled", "SourceTimeout"), "the stall"
        )
        assert gateway.stats[-1].source.errors["source_stalled"] == 1
        server.resume()
        frames = len(gateway.frames)
        await gateway.until(lambda: len(gateway.frames) > frames + 5, "pictures again")


async def test_a_frozen_picture_is_opened_anew_once_and_then_told(tmp_path: Path) -> None:
    settings = Settings.model_validate({"health": {"frozenTimeoutSeconds": 5}})
    async with (
        rtsp_server() as server,
        fake_gateway(demand=PLAIN) as gateway,
        worker_process(
            tmp_path,
            gateway_url=gateway.url,
            source=server.url,
            settings_json=settings.model_dump_json(by_alias=True),
        ),
    ):
        await gateway.until(lambda: len(gateway.frames) > 5, "pictures")
        await server.show("smpte75")
        await gateway.until(lambda: gateway.stats[-1].source.frozen, "it is told")
        source = gateway.stats[-1].source
        assert source.state is SourceState.CONNECTED and source.reconnects == 1
        assert source.errors == {"picture_frozen": 1}
        frames, stats = len(gateway.frames), len(gateway.stats)
        await gateway.until(lambda: len(gateway.stats) > stats + 4, "some time")
        source = gateway.stats[-1].source
        assert len(gateway.frames) > frames + 10, "pictures keep coming"
        assert source.frozen and source.reconnects == 1
        await server.show("ball")
        await gateway.until(lambda: not gateway.stats[-1].source.frozen, "the picture moves again")
        assert gateway.stats[-1].source.reconnects == 1
        types = gateway.event_types()
        assert types[-2:] == ["source.frozen", "source.unfrozen"] and "source.lost" not in types


@pytest.mark.parametrize(
    ("path", "reason"), [("/nothing", "SourceNotFound"), ("", "SourceNotFound")], ids=["path", "root"]
)
async def test_no_such_stream(tmp_path: Path, path: str, reason: str) -> None:
    async with rtsp_server() as server, fake_gateway() as gateway:
        url = f"rtsp://127.0.0.1:{server.port}{path}"
        async with worker_process(tmp_path, gateway_url=gateway.url, source=url):
            await _state(gateway, SourceState.BACKOFF, reason)


async def test_random_bytes_instead_of_rtsp(tmp_path: Path) -> None:
    async with (
        counting_server(bytes(range(256)) * 16) as (port, _),
        fake_gateway() as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, source=f"rtsp://127.0.0.1:{port}/x") as worker,
    ):
        await gateway.until(
            lambda: gateway.stats and gateway.stats[-1].source.state is SourceState.BACKOFF, "backoff", 30
        )
        assert re.fullmatch(r"Source[A-Z][a-z]+", gateway.stats[-1].source.reason)
        assert worker.process.returncode is None
