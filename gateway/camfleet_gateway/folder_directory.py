"""The directory of one box: objects that the local runtime writes, overlays that we write.

`objects/` is followed with the kernel's file notifications, and listed again every few seconds in case one
was lost. A change of ours counts as made when the runtime has turned it into an object.
"""

from __future__ import annotations

import asyncio
import logging
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
_AGAIN_SECONDS = 0.2
_MAX_OBJECT_BYTES = 1024 * 1024

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Listing:
    stamps: dict[Path, _Stamp]
    changed: dict[Path, Camera | None]
    """Files that are new or different; None where one is not readable as a Camera."""


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
    return _Listing(stamps, changed)


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

    def __init__(self, state: StateFolder, *, apply_seconds: float = APPLY_SECONDS) -> None:
        super().__init__()
        self._state = state
        self._apply_seconds = apply_seconds
        self._stamps: dict[Path, _Stamp] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._changed = asyncio.Condition()
        self._writing = asyncio.Lock()

    async def start(self, failed: Callable[[], None]) -> None:
        """List the folder and follow it."""
        self._state.create()
        await self._relist()
        self._ready = True
        self._task = start_task(self._follow(), name="directory", failed=failed)

    async def stop(self) -> None:
        """Stop following."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _follow(self) -> None:
        """Follow the folder; when it is deleted and made again, follow the new one."""
        while not self._stopping.is_set():
            try:
                self._state.create()
                watched = self._state.objects.stat().st_ino
            except OSError as error:
                logger.error("the state folder cannot be used: %s", error.strerror)
                await asyncio.sleep(RELIST_SECONDS)
                continue
            changes = awatch(
                self._state.objects,
                stop_event=self._stopping,
                step=10,
                debounce=100,
                rust_timeout=int(RELIST_SECONDS * 1000),
                yield_on_timeout=True,
                recursive=False,
            )
            async for _ in changes:
                try:
                    await self._relist()
                    if self._state.objects.stat().st_ino != watched:
                        break
                except OSError as error:
                    logger.error("the objects of the state folder cannot be read: %s", error.strerror)
                    break
            else:
                return
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _relist(self) -> None:
        listing = await asyncio.to_thread(_list, self._state.objects, self._stamps)
        gone = self._stamps.keys() - listing.stamps.keys()
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
                await asyncio.to_thread(path.unlink, missing_ok=True)
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
        except ValidationError:
            logger.error("replacing the overlay of %s: it is not one of this version", camera_id)
            return Overlay()

    async def _write(self, camera_id: str, overlay: Overlay) -> None:
        content = overlay.model_dump_json(by_alias=True, exclude_none=True).encode()
        try:
            await asyncio.to_thread(write_atomic, self._overlay_path(camera_id), content)
        except OSError as error:
            raise StorageError(f"the change cannot be stored: {error.strerror}") from None

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            try:
                async with asyncio.timeout(self._apply_seconds):
                    await self._changed.wait_for(condition)
            except TimeoutError:
                raise NotAppliedError(
                    f"stored, but the local runtime has not acted on it within {self._apply_seconds:g} s"
                ) from None


def _without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in document.items()
        if value is not None
    }


def _has_null(document: dict[str, Any]) -> bool:
    return any(v is None or (isinstance(v, dict) and _has_null(v)) for v in document.values())
