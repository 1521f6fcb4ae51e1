"""The faces processes of a gateway: started when needed, ended when idle, replaced when lost.

A picture that breaks a process breaks no second one unless the first was not fresh, so that a process that
died in its sleep costs nobody an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from camfleet_gateway.people.face_process import (
    Analysis,
    FaceCommand,
    FaceProcess,
    ProcessLostError,
    Ready,
)
from camfleet_gateway.people.problems import RefusedError

logger = logging.getLogger(__name__)

POOL = 2
WAITING = 32
IDLE_SECONDS = 300.0
PICTURE_SECONDS = 20.0
MAX_FACES = 20

T = TypeVar("T")


class FacesClient:
    """Analyses pictures, a few at a time. Lives on the event loop."""

    def __init__(
        self,
        model_dir: Path | None,
        embedder: str,
        *,
        pool: int = POOL,
        waiting: int = WAITING,
        idle_seconds: float = IDLE_SECONDS,
        picture_seconds: float = PICTURE_SECONDS,
    ) -> None:
        self._command = FaceCommand(model_dir, embedder) if model_dir is not None else None
        self._embedder = embedder
        self._slots = asyncio.Semaphore(pool)
        self._waiting = 0
        self._most_waiting = waiting
        self._idle_seconds = idle_seconds
        self._picture_seconds = picture_seconds
        self._idle: list[FaceProcess] = []
        self._timers: dict[FaceProcess, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ready: Ready | None = None
        self._on_disk = ""
        self._stopped = False

    async def look(self) -> None:
        """Learn which model there is without starting a process; a pack is known only by the process."""
        if self._command is not None:
            self._on_disk = await asyncio.to_thread(_identity, self._command)

    @property
    def identity(self) -> str:
        """Name and hash of the model in use; empty while that is not known."""
        return self._ready.embedder if self._ready is not None else self._on_disk

    @property
    def ready(self) -> Ready | None:
        """What the newest process has said of itself; None before the first."""
        return self._ready

    @property
    def processes(self) -> tuple[int, ...]:
        """Ids of the idle processes."""
        return tuple(process.pid for process in self._idle)

    async def embedder(self) -> Ready:
        """The model in use; starts a process if there was none yet.

        Raises:
            RefusedError: Faces cannot be analysed here.
        """
        return self._ready if self._ready is not None else await self._run(self._look)

    async def analyze(self, picture: bytes, *, max_faces: int = MAX_FACES) -> Analysis:
        """The faces of a picture, largest first.

        Raises:
            RefusedError: The picture or the weights do not allow it, or too many wait.
        """

        async def analyze() -> Analysis:
            return await self._analyze(picture, max_faces)

        return await self._run(analyze)

    async def stop(self) -> None:
        """End all processes."""
        self._stopped = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        idle, self._idle = self._idle, []
        await asyncio.gather(*(process.stop() for process in idle))

    async def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Work in a task of ours: who goes away meanwhile leaves no half-read answer behind."""
        if self._command is None:
            raise RefusedError(
                "ModelMissing",
                "the gateway has no folder of models: set model_dir (CAMFLEET_MODEL_DIR) to one with "
                f"{self._embedder}.onnx and yunet_n_dynamic.onnx (camfleet models fetch)",
                status=503,
            )
        if self._stopped:
            raise RefusedError("FacesUnavailable", "the gateway stops", status=503)
        if self._waiting >= self._most_waiting:
            raise RefusedError("Busy", "too many pictures wait to be analysed; try again soon", status=503)
        self._waiting += 1
        task = asyncio.create_task(self._in_turn(work), name="faces")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._waiting -= 1
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have gone

    async def _in_turn(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async with self._slots:
            return await work()

    async def _look(self) -> Ready:
        process, _ = await self._take()
        self._put(process)
        return process.ready

    async def _analyze(self, picture: bytes, max_faces: int) -> Analysis:
        while True:
            process, fresh = await self._take()
            try:
                found = await process.analyze(picture, max_faces=max_faces, seconds=self._picture_seconds)
            except ProcessLostError as error:
                logger.warning("a faces process was lost: %s", error)
                if fresh:
                    raise RefusedError(
                        "FacesFailed", "this picture could not be analysed", status=503
                    ) from None
                continue
            except RefusedError:
                self._put(process)
                raise
            self._put(process)
            return found

    async def _take(self) -> tuple[FaceProcess, bool]:
        while self._idle:
            process = self._idle.pop()
            self._timers.pop(process).cancel()
            if process.alive:
                return process, False
            await process.stop()
        assert self._command is not None
        try:
            process = await FaceProcess.start(self._command)
        except ProcessLostError as error:
            logger.warning("a faces process was not started: %s", error)
            raise RefusedError(
                "FacesUnavailable",
                "faces cannot be analysed here now; the gateway's log says why",
                status=503,
            ) from None
        if self._ready is not None and self._ready.embedder != process.ready.embedder:
            logger.warning("the embedding model is another one now: %s", process.ready.embedder)
        self._ready = process.ready
        return process, True

    def _put(self, process: FaceProcess) -> None:
        if self._stopped:
            self._spawn(process.stop())
            return
        self._idle.append(process)
        loop = asyncio.get_running_loop()
        self._timers[process] = loop.call_later(self._idle_seconds, self._expire, process)

    def _expire(self, process: FaceProcess) -> None:
        self._timers.pop(process, None)
        if process in self._idle:
            self._idle.remove(process)
            self._spawn(process.stop())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="faces-stop")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _identity(command: FaceCommand) -> str:
    """NAME@first 12 hex digits of the SHA-256 of its file, as the process says it; empty without one."""
    try:
        with (command.model_dir / f"{command.embedder}.onnx").open("rb") as file:
            return f"{command.embedder}@{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"
    except OSError:
        return ""
