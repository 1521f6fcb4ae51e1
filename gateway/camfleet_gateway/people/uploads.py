"""Bodies that are larger than JSON: pictures are read into memory, archives go to the disk.

How many are taken at once is bounded, for a picture may have 20 MiB and an archive 256.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from starlette.requests import ClientDisconnect

from camfleet_gateway.guard import MAX_ARCHIVE_BYTES, MAX_PICTURE_BYTES
from camfleet_gateway.people.problems import RefusedError, no_room

PICTURES_AT_ONCE = 8
_NOT_PICTURES = ("multipart/", "application/json", "application/x-www-form-urlencoded", "text/")
_CHUNK_BYTES = 1024 * 1024
SILENT_SECONDS = 30.0
"""A sender that is silent for so long gives its place to others."""


class Uploads:
    """What is being taken in."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._pictures = 0
        self._archives = 0

    @asynccontextmanager
    async def picture(self, request: Request) -> AsyncIterator[bytes]:
        """The picture that is the body of a request.

        Raises:
            RefusedError: It is too large or none, or too many come at once.
        """
        kind = request.headers.get("content-type", "").lower()
        if kind.startswith(_NOT_PICTURES):
            raise RefusedError(
                "unsupported", "the body must be the picture itself: image/jpeg, png or webp", status=415
            )
        if self._pictures >= PICTURES_AT_ONCE:
            raise RefusedError("Busy", "too many pictures come at once; try again soon", status=503)
        self._pictures += 1
        try:
            body = bytearray()
            try:
                async for chunk in _chunks(request):
                    body += chunk
                    if len(body) > MAX_PICTURE_BYTES:
                        raise too_large(MAX_PICTURE_BYTES)
            except ClientDisconnect:
                raise too_large(MAX_PICTURE_BYTES) from None
            if not body:
                raise RefusedError("NotAPicture", "the body is empty; it must be the picture itself")
            yield bytes(body)
        finally:
            self._pictures -= 1

    @asynccontextmanager
    async def archive(self, request: Request) -> AsyncIterator[Path]:
        """The body of a request in a file, removed afterwards.

        Raises:
            RefusedError: It is too large, the disk is full, or another one is being sent.
        """
        if self._archives:
            raise RefusedError("Busy", "another archive is being sent; try again later", status=409)
        self._archives += 1
        try:
            async with self._file(request) as path:
                yield path
        finally:
            self._archives -= 1

    @asynccontextmanager
    async def _file(self, request: Request) -> AsyncIterator[Path]:
        try:
            file = await asyncio.to_thread(self._temporary)
        except OSError:
            raise no_room() from None
        path = Path(file.name)
        try:
            try:
                await _spool(request, file)
            except OSError:
                raise no_room() from None
            finally:
                await asyncio.to_thread(file.close)
            yield path
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    def _temporary(self) -> BinaryIO:
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.NamedTemporaryFile(dir=self._scratch, prefix="upload-", delete=False)  # type: ignore[return-value]


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise RefusedError("timeout", "the body did not come to its end", status=408) from None
        if chunk is None:
            return
        yield chunk


async def _spool(request: Request, file: BinaryIO) -> None:
    taken = 0
    waiting = bytearray()
    try:
        async for chunk in _chunks(request):
            taken += len(chunk)
            if taken > MAX_ARCHIVE_BYTES:
                raise too_large(MAX_ARCHIVE_BYTES)
            waiting += chunk
            if len(waiting) >= _CHUNK_BYTES:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
    except ClientDisconnect:
        raise too_large(MAX_ARCHIVE_BYTES) from None
    await asyncio.to_thread(file.write, bytes(waiting))
    await asyncio.to_thread(file.flush)


def too_large(most: int) -> RefusedError:
    """More than is taken."""
    return RefusedError("too_large", f"at most {most // 2**20} MiB are taken", status=413)
