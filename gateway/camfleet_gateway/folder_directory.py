"""The directory of one box: objects that the local runtime writes, overlays that we write.

`objects/` is followed with the kernel's file notifications, and listed again every few seconds in case one
was lost. A change of ours counts as made when the runtime has turned it into an object.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from watchfiles import awatch

from camfleet_gateway.directory import (
    CameraExistsError,
    CameraUnknownError,
    DirectoryBase,
    NotAppliedError,
    StorageError,
)
from camfleet_gateway.tasks import start_task
from camfleet_protocol.camera import Camera, CameraStatus
from camfleet_protocol.local import (
    SPEC_DIGEST_ANNOTATION,
    Controls,
    Overlay,
    StateFolder,
    apply_overlay,
    spec_digest,
    write_atomic,
)
from camfleet_protocol.settings import merge

logger = logging.getLogger(__name__)

APPLY_SECONDS = 3.0
RELIST_SECONDS = 3.0
REWRITE_SECONDS = 15.0
"""How long cameras outlive a lost folder: the runtime looks every ten seconds, and writes them again."""
_MAX_OBJECT_BYTES = 1024 * 1024

_Stamp = tuple[int, int, int]
_LOST: _Stamp = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Listing:
    stamps: dict[Path, _Stamp]
    changed: dict[Path, Camera | None]
    """Files that are new or different; None where one is not readable as a Camera."""
    inode: int | None
    """Of the folder, after all else was read; None if it is not there."""


def _list(folder: Path, known: dict[Path, _Stamp]) -> _Listing:
    """Read what is new in the folder. Blocks; runs in a thread."""
    stamps: dict[Path, _Stamp] = {}
    changed: dict[Path, Camera | None] = {}
    for path in folder.glob("*.json"):
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if known.get(path) != stamp:
                changed[path] = _read(path, stat.st_size)
        except FileNotFoundError:
            continue  # deleted since it was listed
        stamps[path] = stamp
    return _Listing(stamps, changed, _inode(folder))


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def _read(path: Path, size: int) -> Camera | None:
    if size > _MAX_OBJECT_BYTES:
        logger.error("ignoring %s: larger than %d bytes", path.name, _MAX_OBJECT_BYTES)
        return None
    try:
        camera = Camera.model_validate_json(path.read_bytes())
    except ValidationError as error:
        logger.error("ignoring %s: not a Camera, %d mistakes", path.name, error.error_count())
        return None
    if path.stem != camera.id:
        logger.error("ignoring %s: it holds the camera %s", path.name, camera.id)
        return None
    return camera


class FolderDirectory(DirectoryBase):
    """Cameras of a `StateFolder`."""

    def __init__(
        self,
        state: StateFolder,
        *,
        apply_seconds: float = APPLY_SECONDS,
        rewrite_seconds: float = REWRITE_SECONDS,
    ) -> None:
        super().__init__()
        self._state = state
        self._apply_seconds = apply_seconds
        self._rewrite_seconds = rewrite_seconds
        self._stamps: dict[Path, _Stamp] = {}
        self._inode: int | None = None
        self._handle: int | None = None
        self._lost_until = 0.0
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._changed = asyncio.Condition()
        self._writing = asyncio.Lock()

    async def start(self, failed: Callable[[], None]) -> None:
        """List the folder and follow it."""
        self._state.create()
        self._hold()
        await self._relist()
        self._ready = True
        self._task = start_task(
            self._follow(), name="directory", failed=failed, may_end=self._stopping.is_set
        )

    async def stop(self) -> None:
        """Stop following."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait({self._task})  # if it has failed, that is told already
        self._release()

    async def _follow(self) -> None:
        """Follow the folder; when it is deleted and made again, follow the new one."""
        told = ""
        while not self._stopping.is_set():
            try:
                await asyncio.to_thread(self._state.create)
                await self._follow_one()
                told = ""
            except OSError as error:
                text = error.strerror or type(error).__name__
                if text != told:
                    logger.error("the state folder cannot be used, keeping what is known: %s", text)
                told = text
                await self._pause(RELIST_SECONDS)

    async def _follow_one(self) -> None:
        """Follow the folder as long as it is the same one: the kernel tells nothing of another."""
        changes = awatch(
            self._state.objects,
            stop_event=self._stopping,
            step=10,
            debounce=100,
            rust_timeout=int(RELIST_SECONDS * 1000),
            yield_on_timeout=True,
            recursive=False,
        )
        async with contextlib.aclosing(changes):
            await self._relist()
            followed = self._inode
            while self._inode == followed and await anext(changes, None) is not None:
                await self._relist()

    def _hold(self) -> None:
        """Take the folder for the one followed. Kept open, so that no other one gets its inode."""
        self._release()
        try:
            self._handle = os.open(self._state.objects, os.O_RDONLY | os.O_DIRECTORY)
            self._inode = os.fstat(self._handle).st_ino
        except FileNotFoundError:
            self._inode = None

    def _release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _relist(self) -> None:
        """List again."""
        listing = await asyncio.to_thread(_list, self._state.objects, self._stamps)
        if listing.inode != self._inode:
            logger.warning("the objects of the state folder were deleted; waiting for the local runtime")
            self._lost_until = time.monotonic() + self._rewrite_seconds
            self._stamps = dict.fromkeys(self._stamps, _LOST)
            self._hold()
        gone = self._stamps.keys() - listing.stamps.keys()
        if time.monotonic() < self._lost_until:
            # That a folder is lost does not say that its cameras are: their workers stay meanwhile.
            lost = {path for path in gone if self._stamps[path] == _LOST}
            listing.stamps.update(dict.fromkeys(lost, _LOST))
            gone -= lost
        self._stamps = listing.stamps
        for path in gone:
            if path.stem in self._cameras:
                self._apply(path.stem, None)
        for path, camera in listing.changed.items():
            if camera is not None:  # an unreadable object leaves the last good one in force
                self._apply(path.stem, camera)
        if gone or listing.changed:
            async with self._changed:
                self._changed.notify_all()

    async def create(self, camera: Camera) -> None:
        """Write an overlay that holds the whole camera."""
        camera = camera.model_copy(update={"status": CameraStatus()})
        async with self._writing:
            if camera.id in self._cameras:
                raise CameraExistsError(f"there is a camera {camera.id} already")
            before = await self._overlay(camera.id)
            deleted = before.deleted_digest
            if deleted == spec_digest(camera):
                deleted = None  # the very camera that was deleted comes back
            await self._write(camera.id, Overlay(camera=camera, deleted_digest=deleted))
            try:
                await self._until(lambda: camera.id in self._cameras)
            except NotAppliedError:
                if deleted is None:
                    raise
                await self._write(camera.id, before)
                raise CameraExistsError(
                    f"the file of the deleted camera {camera.id} still exists; remove it or take another name"
                ) from None

    async def control(self, camera_id: str, controls: Controls) -> None:
        """Lay `controls` over what was laid before."""
        async with self._writing:
            self._known(camera_id)
            before = await self._overlay(camera_id)
            given = controls.model_dump(mode="json", by_alias=True, exclude_unset=True)
            merged = _without_nulls(
                merge(before.controls.model_dump(mode="json", by_alias=True, exclude_none=True), given)
            )
            after = before.model_copy(update={"controls": Controls.model_validate(merged)})
            if after == before:
                return
            seen = self._cameras.get(camera_id)
            await self._write(camera_id, after)
            overlay = Overlay(controls=after.controls)

            def applied() -> bool:
                camera = self._cameras.get(camera_id)
                return camera is None or (
                    apply_overlay(camera, overlay) == camera and (camera != seen or not _has_null(given))
                )

            await self._until(applied)

    async def delete(self, camera_id: str) -> None:
        """Hide a camera that has a file; forget one that has none."""
        async with self._writing:
            camera = self._known(camera_id)
            digest = camera.metadata.annotations.get(SPEC_DIGEST_ANNOTATION)
            if digest is None:
                path = self._overlay_path(camera_id)
                try:
                    await asyncio.to_thread(path.unlink, missing_ok=True)
                except OSError as error:
                    raise _storage("cannot be written", error) from None
            else:
                await self._write(camera_id, Overlay(deleted_digest=digest))
            await self._until(lambda: camera_id not in self._cameras)

    def _known(self, camera_id: str) -> Camera:
        camera = self._cameras.get(camera_id)
        if camera is None:
            raise CameraUnknownError(f"there is no camera {camera_id}")
        return camera

    def _overlay_path(self, camera_id: str) -> Path:
        return self._state.overlay / f"{camera_id}.json"

    async def _overlay(self, camera_id: str) -> Overlay:
        try:
            content = await asyncio.to_thread(self._overlay_path(camera_id).read_bytes)
            return Overlay.model_validate_json(content)
        except FileNotFoundError:
            return Overlay()
        except OSError as error:
            raise _storage("cannot be read", error) from None
        except ValidationError:
            logger.error("replacing the overlay of %s: it is not one of this version", camera_id)
            return Overlay()

    async def _write(self, camera_id: str, overlay: Overlay) -> None:
        content = overlay.model_dump_json(by_alias=True, exclude_none=True).encode()

        def write() -> None:
            try:
                write_atomic(self._overlay_path(camera_id), content)
            except FileNotFoundError:  # the folder itself is gone
                self._state.create()
                write_atomic(self._overlay_path(camera_id), content)

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise _storage("cannot be written", error) from None

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            try:
                async with asyncio.timeout(self._apply_seconds):
                    await self._changed.wait_for(condition)
            except TimeoutError:
                raise NotAppliedError(
                    f"stored, but the local runtime has not acted on it within {self._apply_seconds:g} s"
                ) from None


def _storage(problem: str, error: OSError) -> StorageError:
    reason = error.strerror or type(error).__name__
    logger.error("the state folder %s: %s", problem, reason)
    return StorageError(f"the change is not made: the state folder {problem}: {reason}")


def _without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in document.items()
        if value is not None
    }


def _has_null(document: dict[str, Any]) -> bool:
    return any(v is None or (isinstance(v, dict) and _has_null(v)) for v in document.values())
