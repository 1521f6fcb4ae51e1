"""The process: starting, listening, stopping."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_clients import FakeViewer, FakeWorker, eventually

from camfleet_gateway.servers import UNSENT_LOW_WATER_BYTES, USER_TIMEOUT_MS, ListenError, listen, port_of
from camfleet_protocol.camera import Camera
from camfleet_protocol.local import StateFolder
from camfleet_protocol.messages import GoAway
from support.gateway_process import GatewayProcess, put_camera, test_pattern, worker_token
from support.stopwatch import Stopwatch


def test_accepted_sockets_inherit_the_bounds() -> None:
    listener = listen("127.0.0.1", 0)
    try:
        client = socket.create_connection(("127.0.0.1", port_of(listener)))
        listener.setblocking(True)
        accepted, _ = listener.accept()
        try:
            option = socket.TCP_NOTSENT_LOWAT
            assert accepted.getsockopt(socket.IPPROTO_TCP, option) == UNSENT_LOW_WATER_BYTES
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == USER_TIMEOUT_MS
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        finally:
            accepted.close()
            client.close()
    finally:
        listener.close()


def test_a_taken_port_is_said_in_one_line(start: Callable[..., GatewayProcess], tmp_path: Path) -> None:
    gateway = start()
    with pytest.raises(ListenError, match="another program uses this port"):
        listen("127.0.0.1", gateway.viewer_port)
    with pytest.raises(AssertionError) as error:
        GatewayProcess(StateFolder(tmp_path / "second"), port=gateway.viewer_port)
    assert "ended with 2" in str(error.value)
    assert f"cannot listen on 127.0.0.1:{gateway.viewer_port}" in str(error.value)
    assert "Traceback" not in str(error.value)
    with pytest.raises(ListenError):
        listen("no.such.host.invalid", 0)


async def test_a_stop_says_goodbye_and_is_quick(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with (
        publish(door) as worker,
        FakeViewer.running(gateway.viewer_url, "door") as viewer,
        httpx.AsyncClient(timeout=60) as http,
        http.stream("GET", f"{gateway.viewer_url}/cameras/door/stream/feed") as feed,
    ):
        await worker.demand(lambda d: d.plain and d.annotated, "both")
        stopwatch = Stopwatch()
        code = await asyncio.to_thread(gateway.stop)
        assert code == 0 and stopwatch.seconds < 5
        await asyncio.wait_for(viewer.closed.wait(), 60)
        assert viewer.of(GoAway)[0].retry_ms is not None
        assert (await worker.closing())[1][0].retry_ms is not None
        await feed.aread()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", gateway.viewer_port)


async def test_a_stop_does_not_wait_for_those_who_read_nothing(
    gateway: GatewayProcess, door: Camera, publish: Any
) -> None:
    async with publish(door) as worker:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.viewer_port, limit=1024)
        writer.write(b"GET /cameras/door/stream/feed HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await worker.demand(lambda d: d.annotated, "annotated")
        streaming = asyncio.create_task(worker.stream(100, size=500_000, annotated=True))

        async def stuck() -> bool:
            async with httpx.AsyncClient(timeout=60) as http:
                debug = (await http.get(f"{gateway.viewer_url}/streaming/debug")).json()
            return bool(debug["traffic"]["mjpeg"]["frames_skipped"] > 50)

        await eventually(stuck, "a reader that reads nothing skips pictures")
        stopwatch = Stopwatch()
        assert await asyncio.to_thread(gateway.stop) == 0
        assert stopwatch.seconds < 5
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)
        writer.transport.abort()
        assert reader is not None


def test_it_ends_with_its_parent(start: Callable[..., GatewayProcess]) -> None:
    gateway = start()
    gateway.close_input()
    assert gateway.process.wait(60) == 0


def test_it_says_where_it_listens(start: Callable[..., GatewayProcess], state: StateFolder) -> None:
    gateway = start()
    announced = json.loads((state.root / "gateway.json").read_text())
    assert announced == {
        "viewer_port": gateway.viewer_port,
        "internal_port": gateway.internal_port,
        "pid": gateway.pid,
    }
    assert "listening" in gateway.log
    assert httpx.get(f"{gateway.internal_url}/livez", timeout=60).text == "ok\n"
    assert httpx.get(f"{gateway.internal_url}/api/cameras", timeout=60).status_code == 404
    assert httpx.get(f"{gateway.viewer_url}/ws/worker", timeout=60).status_code == 404


def test_unreadable_objects_leave_the_others_alone(
    start: Callable[..., GatewayProcess], state: StateFolder
) -> None:
    put_camera(state, test_pattern("door"))
    (state.objects / "default.bad.json").write_text("{")
    (state.objects / "default.wrong.json").write_bytes((state.objects / "default.door.json").read_bytes())
    (state.objects / "default.large.json").write_bytes(b" " * 2_000_000)
    gateway = start()

    def names() -> list[str]:
        cameras = httpx.get(f"{gateway.viewer_url}/api/cameras", timeout=60).json()["cameras"]
        return [camera["name"] for camera in cameras]

    assert names() == ["door"]
    put_camera(state, test_pattern("hall"))
    end = time.monotonic() + 60
    while names() != ["door", "hall"]:
        assert time.monotonic() < end
    (state.objects / "default.door.json").write_text("half a fi")
    (state.objects / "default.hall.json").unlink()
    while names() != ["door"]:
        assert time.monotonic() < end, "an object that cannot be read stays as it was"


def test_without_a_state_folder_cameras_live_in_memory(tmp_path: Path) -> None:
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    program = (
        "import sys; from camfleet_gateway.main import run; "
        "from camfleet_gateway.settings import GatewaySettings; "
        f"sys.exit(run(GatewaySettings(port={ports[0]}, internal_port={ports[1]}, exit_with_parent=True)))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        with httpx.Client(timeout=60, base_url=f"http://127.0.0.1:{ports[0]}") as http:
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert http.get("/readyz").status_code == 200
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            spec = {"source": {"testPattern": {}}}
            assert http.post("/api/cameras", json={"name": "a", "spec": spec}).status_code == 201
            assert http.post("/api/cameras", json={"name": "a", "spec": spec}).status_code == 409
            patched = http.patch("/api/cameras/a", json={"stream": {"quality": 10}})
            assert patched.json()["settings"]["stream"]["quality"] == 10
            assert http.delete("/api/cameras/a").status_code == 204
            assert http.get("/api/cameras").json() == {"cameras": [], "total_cameras": 0}
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


async def test_nobody_is_judged_on_time_in_which_the_gateway_itself_did_not_run(
    start: Callable[..., GatewayProcess], state: StateFolder
) -> None:
    door = put_camera(state, test_pattern("door"))
    gateway = start(stats_timeout_seconds=3.0)
    async with (
        FakeWorker.running(gateway.internal_url, door.id, worker_token(state, door)) as worker,
        FakeViewer.running(gateway.viewer_url, "door") as viewer,
    ):
        await worker.accepted()
        await viewer.state(door.id, "live")
        os.kill(gateway.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(6)
        finally:
            os.kill(gateway.pid, signal.SIGCONT)
        seen = len(viewer.updates())
        await eventually(lambda: len(viewer.updates()) >= seen + 2, "figures go on")
        assert "counted as lost" not in gateway.log
        assert not [info for update in viewer.updates() for info in update.cameras if info.state == "stale"]


_BROKEN = {
    "hub-ticker": "from camfleet_gateway import hub; hub.Hub.tell_figures = broken; ",
    "lag-meter": "from camfleet_gateway import lag; lag.LagMeter.run = ended; ",
    "directory": "from camfleet_gateway import folder_directory as f; f.awatch = broken; ",
}


@pytest.mark.parametrize("task", _BROKEN)
def test_a_task_that_ends_ends_the_gateway(state: StateFolder, task: str) -> None:
    program = (
        "import sys\n"
        "from camfleet_gateway.main import run; from camfleet_gateway.settings import GatewaySettings\n"
        "def broken(*_, **__): raise RuntimeError('injected')\n"
        "async def ended(*_): return\n"
        f"{_BROKEN[task]}\n"
        "sys.exit(run(GatewaySettings(port=0, internal_port=0, state_dir=sys.argv[1])))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(state.root)], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1, ended.stderr
    assert f"the task {task} has ended, the gateway stops" in ended.stderr
    assert "CRITICAL" in ended.stderr and "stopped" in ended.stderr
    if task != "lag-meter":
        assert "Traceback" in ended.stderr and "injected" in ended.stderr
