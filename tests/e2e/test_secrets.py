"""The password canary: a password, right or wrong, turns up nowhere that people or programs look."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote, quote_plus

import psutil
import pytest

from support.fleet import Fleet, environment_of, eventually, process_list, running_fleet
from support.require import need
from support.rtsp_server import rtsp_available, rtsp_server
from support.viewer import viewing

pytestmark = [pytest.mark.e2e, pytest.mark.rtsp]

CANARY = "c4nary/p@ss:w#rd %é7391"
WRONG = "wr0ng@c4nary/5528"


def spellings(secret: str) -> set[str]:
    return {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), secret.split("@")[-1]}


def write_secret(fleet_folder: Path, password: str) -> None:
    folder = fleet_folder / "secrets" / "login"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "username").write_text("viewer")
    (folder / "password").write_text(password)


def everything_visible(fleet: Fleet) -> dict[str, str]:
    """All that logs, answers, metrics, state files and the kernel's process tables show."""
    seen = {"log": fleet.log, "ps": process_list()}
    for path in (
        "/api/cameras",
        "/api/cameras/rtsp",
        "/cameras/rtsp/stream/status",
        "/streaming/debug",
        "/api/events?limit=1000",
        "/metrics",
        "/cameras/rtsp/snapshot.jpg",
        "/openapi.json",
    ):
        seen[path] = fleet.get(path).text
    for process in fleet.processes():
        try:
            seen[f"environ {process.pid}"] = environment_of(process)
        except (OSError, psutil.Error):
            continue
    for path in fleet.state.rglob("*"):
        if path.is_file():
            seen[str(path.relative_to(fleet.state))] = path.read_bytes().decode(errors="replace")
    return seen


def assert_nowhere(fleet: Fleet, secret: str) -> None:
    for place, text in everything_visible(fleet).items():
        for spelling in spellings(secret):
            assert spelling not in text, f"the password is in {place}"


async def test_a_password_works_and_is_seen_nowhere(tmp_path: Path) -> None:
    need(rtsp_available(), "GStreamer's RTSP server for the system's python3 (gir1.2-gst-rtsp-server-1.0)")
    write_secret(tmp_path / "cameras", WRONG)
    async with rtsp_server("viewer", CANARY) as server:
        spec = {
            "source": {"rtsp": {"url": server.url, "credentialsSecretRef": {"name": "login"}}},
            "inference": {"detectors": ["motion"]},
        }
        with running_fleet(tmp_path, "--log-level=DEBUG", cameras={"rtsp": spec}) as fleet:
            refused = await asyncio.to_thread(
                eventually,
                lambda: (c := fleet.cameras()["rtsp"])["reason"] == "AuthFailed" and c,
                "the wrong password is refused",
            )
            assert refused["state"] == "connecting"
            assert_nowhere(fleet, WRONG)

            write_secret(tmp_path / "cameras", CANARY)
            await asyncio.to_thread(fleet.wait_state, "rtsp", "live")
            async with viewing(fleet.url, "default.rtsp") as viewer:
                await viewer.first()
            assert_nowhere(fleet, CANARY)

            await server.kill()
            await asyncio.to_thread(fleet.wait_state, "rtsp", "stale")
            await server.start()
            await asyncio.to_thread(fleet.wait_state, "rtsp", "live")
            for secret in (CANARY, WRONG):
                assert_nowhere(fleet, secret)


async def test_a_password_in_an_api_request_is_refused_and_not_repeated(fleet: Fleet) -> None:
    spec = {"source": {"rtsp": {"url": f"rtsp://viewer:{quote(CANARY, safe='')}@127.0.0.1/live"}}}
    answer = fleet.request("POST", "/api/cameras", json={"name": "leaky", "spec": spec})
    assert answer.status_code == 422
    assert "credentialsSecretRef" in answer.text
    for spelling in spellings(CANARY):
        assert spelling not in answer.text
        assert spelling not in fleet.log
