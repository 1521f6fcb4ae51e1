"""The main job, whole: cameras from YAML, live pictures, faults, changes while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from support.fleet import Fleet, eventually, running_fleet
from support.viewer import viewing

PATTERN = {
    "source": {"testPattern": {"width": 640, "height": 360, "fps": 15}},
    "inference": {"detectors": ["motion"]},
}

pytestmark = pytest.mark.e2e


async def test_pictures_and_motion_come_and_ctrl_c_leaves_no_process(fleet: Fleet) -> None:
    cameras = {"default.one", "default.two", "default.three"}
    seen: set[str] = set()
    moved = False
    async with viewing(fleet.url, *cameras) as viewer, asyncio.timeout(60):
        async for item in viewer.frames():
            assert bytes(item.frame.payload[:2]) == b"\xff\xd8", "every payload is a JPEG"
            seen.add(item.camera)
            moved = moved or bool(item.meta.detections)
            if seen == cameras and moved:  # the moving pattern is motion
                break
    assert fleet.interrupt() == 0
    assert fleet.survivors() == []


async def test_settings_change_without_a_restart(fleet: Fleet) -> None:
    pid = fleet.find("worker", "--camera=default.one").pid
    fleet.write("one", {**PATTERN, "stream": {"width": 320, "quality": 40}, "inference": {"enabled": False}})
    async with viewing(fleet.url, "default.one") as viewer:
        async with asyncio.timeout(60):
            async for item in viewer.frames():
                if item.meta.width == 320 and not item.meta.detections:
                    break
    assert fleet.find("worker", "--camera=default.one").pid == pid
    camera = await asyncio.to_thread(
        eventually, lambda: (c := fleet.cameras()["one"]) and not c["ai_enabled"] and c, "ai is off"
    )
    assert camera["settings"]["stream"]["width"] == 320


async def test_another_source_starts_another_worker(fleet: Fleet) -> None:
    before = fleet.object("one")["status"]["worker"]
    fleet.write("one", {**PATTERN, "source": {"testPattern": {"width": 320, "height": 240, "fps": 15}}})
    async with viewing(fleet.url, "default.one") as viewer:
        async with asyncio.timeout(60):
            async for item in viewer.frames():
                if (item.meta.width, item.meta.height) == (320, 240):
                    break
    after = fleet.object("one")["status"]["worker"]
    assert after["attempt"] == before["attempt"] + 1
    assert after["podUID"] != before["podUID"]


def test_cameras_come_and_go_with_their_files(fleet: Fleet) -> None:
    path = fleet.write("late", PATTERN)
    fleet.wait_state("late", "live")
    path.unlink()
    eventually(lambda: "late" not in fleet.cameras(), "late is gone")
    eventually(lambda: not (fleet.state / "objects" / "default.late.json").exists(), "its object is gone")


def test_cameras_are_added_changed_and_removed_through_the_api(fleet: Fleet) -> None:
    created = fleet.request("POST", "/api/cameras", json={"name": "extra", "spec": PATTERN})
    assert created.status_code == 201, created.text
    fleet.wait_state("extra", "live")
    changed = fleet.request("PATCH", "/api/cameras/default.extra", json={"inference": {"enabled": False}})
    assert changed.status_code == 200
    assert changed.json()["ai_enabled"] is False
    assert fleet.request("POST", "/cameras/extra/stream/stop").status_code == 200
    fleet.wait_state("extra", "suspended")
    assert fleet.request("POST", "/cameras/extra/stream/start").status_code == 200
    fleet.wait_state("extra", "live")
    assert fleet.request("DELETE", "/api/cameras/default.extra").status_code == 204
    assert "extra" not in fleet.cameras()


def test_a_users_file_is_never_written_to(fleet: Fleet) -> None:
    path = fleet.folder / "one.yaml"
    text = path.read_text()
    assert fleet.request("PATCH", "/api/cameras/default.one", json={"stream": {"fps": 3}}).status_code == 200
    assert fleet.request("DELETE", "/api/cameras/default.one").status_code == 204
    assert "one" not in fleet.cameras()
    assert path.read_text() == text
    fleet.write("one", {**PATTERN, "site": "hall"})
    fleet.wait_state("one", "live")


def test_a_bad_file_is_told_and_everything_else_keeps_running(fleet: Fleet) -> None:
    before = {p.pid for p in fleet.processes()}
    (fleet.folder / "bad.yaml").write_text("apiVersion: camfleet.io/v1alpha1\nkind: Camera\nspec: {source: [")
    eventually(lambda: "bad.yaml: line" in fleet.log, "the broken YAML is named")
    fleet.write("worse", {"source": {"testPattern": {}}, "colour": "red"})
    eventually(
        lambda: "worse.yaml: Camera worse: spec.colour: no such field" in fleet.log,
        "the unknown field is named",
    )
    fleet.write("leaky", {"source": {"rtsp": {"url": "rtsp://admin:sesame-7@127.0.0.1/live"}}})
    eventually(lambda: "leaky.yaml" in fleet.log, "the URL with a password is named")
    assert "sesame" not in fleet.log
    assert sorted(fleet.cameras()) == ["one", "three", "two"]
    assert {p.pid for p in fleet.processes()} == before


def test_bad_media_is_told_on_the_camera_and_hurts_nobody(fleet: Fleet) -> None:
    (fleet.folder / "notes.txt").write_text("this is no video\n" * 100)
    fleet.write("text", {"source": {"file": {"path": "notes.txt"}}})
    fleet.write("missing", {"source": {"file": {"path": "nothing.mp4"}}})

    def reasons() -> dict[str, str]:
        return {name: camera["reason"] for name, camera in fleet.cameras().items()}

    eventually(lambda: reasons().get("text") == "SourceInvalid", "a text file is no video")
    eventually(lambda: reasons().get("missing") == "SourceNotFound", "a missing file is named")
    states = {name: camera["state"] for name, camera in fleet.cameras().items()}
    assert {states[name] for name in ("one", "two", "three")} == {"live"}


def test_a_camera_added_through_the_api_cannot_read_any_file(fleet: Fleet, tmp_path: Path) -> None:
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(b"\0" * 1000)
    spec = {"source": {"file": {"path": "../outside.mp4"}}}
    assert fleet.request("POST", "/api/cameras", json={"name": "sneak", "spec": spec}).status_code == 422
    spec = {"source": {"file": {"path": str(outside)}}}
    assert fleet.request("POST", "/api/cameras", json={"name": "sneak", "spec": spec}).status_code == 201
    eventually(lambda: fleet.cameras()["sneak"]["reason"] == "MediaNotAllowed", "the file is refused")


def test_two_runtimes_do_not_share_a_state_folder(fleet: Fleet, tmp_path: Path) -> None:
    second = Fleet(tmp_path)
    try:
        eventually(lambda: second.exit_code is not None, "the second one ends")
        assert second.exit_code == 1
        assert "another camfleet is using" in second.log
    finally:
        second.close()


def test_a_taken_port_is_a_clear_error_and_no_process_stays(fleet: Fleet, tmp_path: Path) -> None:
    port = fleet.url.rpartition(":")[2]
    second = Fleet(tmp_path / "second", f"--port={port}")
    try:
        second.processes()
        eventually(lambda: second.exit_code is not None, "the second one ends")
        assert second.exit_code == 1
        assert port in second.log
        assert "could not start" in second.log
    finally:
        second.close()


def test_nothing_survives_a_killed_runtime(fleet: Fleet) -> None:
    runtime, *children = fleet.processes()
    runtime.kill()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    assert len(gone) == 4, "a gateway and three workers"


def test_a_vanished_source_is_stale_and_comes_back(tmp_path: Path) -> None:
    """Stale is said of the one camera; its last picture is not passed off as live."""
    from camfleet.demo_media import make_faces_clip

    clip = tmp_path / "cameras" / "clip.mp4"
    make_faces_clip(clip, seconds=2)
    cameras = {
        "one": PATTERN,
        "clip": {"source": {"file": {"path": "clip.mp4"}}, "inference": {"enabled": False}},
    }
    with running_fleet(tmp_path, cameras=cameras) as fleet:
        fleet.wait_state("clip", "live")
        hidden = clip.rename(clip.with_suffix(".away"))
        camera = fleet.wait_state("clip", "stale")
        assert camera["reason"] == "SourceNotFound"
        assert fleet.cameras()["one"]["state"] == "live"
        hidden.rename(clip)
        fleet.wait_state("clip", "live")
