"""`camfleet demo`, as `make demo` runs it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from support.fleet import Fleet, eventually
from support.require import model_dir
from support.viewer import viewing

pytestmark = pytest.mark.e2e


def detected(fleet: Fleet, camera: str, kind: str) -> bool:
    line = f'camera="{camera}",kind="{kind}"'
    return any(
        line in text and not text.rstrip().endswith((" 0", " 0.0"))
        for text in fleet.get("/metrics").text.splitlines()
        if text.startswith("camfleet_camera_detections_total")
    )


async def test_three_cameras_stream_one_has_faces_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    model_dir()
    fleet = Fleet(tmp_path, "--dir", str(tmp_path / "demo"), command="demo")
    try:
        fleet.wait_ready()
        cameras = fleet.cameras()
        assert len(cameras) >= 3
        for name in cameras:
            fleet.wait_state(name, "live")
        eventually(lambda: detected(fleet, "lobby", "face"), "faces in the generated clip")
        async with viewing(fleet.url, "default.lobby") as viewer, asyncio.timeout(60):
            async for item in viewer.frames():  # until viewers see the faces' boxes
                if any(box.kind == "face" and box.score >= 0.7 for box in item.meta.detections):
                    break
        assert fleet.interrupt() == 0
        assert fleet.survivors() == []
    finally:
        fleet.close()


def test_without_weights_the_demo_says_so_in_one_line_and_finds_motion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMFLEET_MODEL_DIR", str(tmp_path / "no-models"))
    # Nothing is downloaded by a test: the proxy that urllib is told to use is a closed port.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    fleet = Fleet(tmp_path, "--dir", str(tmp_path / "demo"), command="demo")
    try:
        fleet.wait_ready()
        said = [line for line in fleet.log.splitlines() if "motion detection instead" in line]
        assert len(said) == 1, fleet.log
        eventually(lambda: detected(fleet, "car-park", "motion"), "motion in the test pattern")
        assert fleet.cameras()["lobby"]["settings"]["inference"]["detectors"] == ["motion"]
    finally:
        fleet.close()
