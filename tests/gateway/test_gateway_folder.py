"""The folder directory when its folder is taken from it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from gateway_clients import eventually

from camfleet_gateway.directory import NotAppliedError, StorageError
from camfleet_gateway.folder_directory import FolderDirectory
from camfleet_protocol.camera import Camera
from camfleet_protocol.local import StateFolder
from support.gateway_process import GatewayProcess, put_camera, remove_camera, test_pattern


@asynccontextmanager
async def following(state: StateFolder, *, rewrite_seconds: float) -> AsyncIterator[FolderDirectory]:
    directory = FolderDirectory(state, apply_seconds=0.2, rewrite_seconds=rewrite_seconds)
    failed = asyncio.Event()
    await directory.start(failed.set)
    try:
        yield directory
        assert not failed.is_set()
    finally:
        await directory.stop()


async def test_a_deleted_state_folder_is_made_and_followed_again(state: StateFolder) -> None:
    put_camera(state, test_pattern("door"))
    put_camera(state, test_pattern("hall"))
    told: list[tuple[str, bool]] = []
    async with following(state, rewrite_seconds=8.0) as directory:
        directory.watch(lambda camera_id, camera: told.append((camera_id, camera is not None)))
        shutil.rmtree(state.root)
        await eventually(state.objects.exists, "the folder is made again")
        await eventually(state.worker_key.exists, "and all that is in it")
        assert set(directory.cameras()) == {"default.door", "default.hall"} and not told
        put_camera(state, test_pattern("hall"))
        put_camera(state, test_pattern("yard"))
        await eventually(lambda: "default.yard" in directory.cameras(), "the new object")
        remove_camera(state, "default.yard")
        await eventually(lambda: "default.yard" not in directory.cameras(), "a removal is one")
        await eventually(lambda: "default.door" not in directory.cameras(), "it did not come back")
        yard = [there for camera_id, there in told if camera_id == "default.yard"]
        assert yard == [True, False]
        assert [told_of for told_of in told if told_of[0] != "default.yard"] == [("default.door", False)]


async def test_a_missing_folder_of_overlays_is_made_and_a_useless_one_is_said(state: StateFolder) -> None:
    async with following(state, rewrite_seconds=1.0) as directory:
        shutil.rmtree(state.overlay)
        with pytest.raises(NotAppliedError):
            await directory.create(test_pattern("door"))
        assert (state.overlay / "default.door.json").exists()
        shutil.rmtree(state.overlay)
        state.overlay.write_text("a file in its place")
        with pytest.raises(StorageError, match="state folder"):
            await directory.create(test_pattern("door"))


async def test_a_change_that_cannot_be_stored_is_answered_with_503(
    gateway: GatewayProcess, state: StateFolder, door: Camera
) -> None:
    shutil.rmtree(state.overlay)
    state.overlay.write_text("a file in its place")
    async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as http:
        for answer in (
            await http.patch("/api/cameras/door", json={"suspend": True}),
            await http.delete("/api/cameras/door"),
            await http.post("/api/cameras", json={"name": "a", "spec": {"source": {"testPattern": {}}}}),
        ):
            assert answer.status_code == 503, answer.text
            assert answer.json()["error"]["code"] == "storage"
            assert str(state.root) not in answer.text
        assert (await http.get("/api/cameras/door")).status_code == 200
