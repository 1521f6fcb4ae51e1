"""`camfleet local`: the reconcile loop of one box.

```
YAML folder ┐
overlay     ├─► Desired ─► WorkQueue(camera) ─► plan_worker ─► LocalRuntime (processes)
child ended ┘                                        └───────► ObjectStore (what the gateway watches)
```

The gateway is one more key of the queue, kept running by the same plan.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from watchfiles import awatch

from camfleet_operator.local.commands import worker_command, worker_fingerprint
from camfleet_operator.local.desired import Desired, DesiredState
from camfleet_operator.local.gateway import GATEWAY_KEY, GatewayKeeper
from camfleet_operator.local.objects import ObjectStore
from camfleet_operator.local.processes import Command
from camfleet_operator.local.readiness import GatewayAddress
from camfleet_operator.local.runtime import LocalRuntime
from camfleet_operator.local.secrets import HOSTS_FILE
from camfleet_operator.local.settings import LocalSettings
from camfleet_operator.plan import (
    DesiredWorker,
    ForgetRun,
    Observed,
    PlannedCondition,
    StartWorker,
    StopWorker,
    plan_worker,
)
from camfleet_operator.workqueue import WorkQueue
from camfleet_protocol.camera import (
    Camera,
    CameraStatus,
    Condition,
    ConditionStatus,
    SettingsStatus,
    WorkerStatus,
)
from camfleet_protocol.local import StateFolder, WorkerIdentity, sign_worker_token, write_atomic

logger = logging.getLogger(__name__)

_RESYNC_SECONDS = 10.0
_MISSING_SECONDS = 1.0
_TELLING = (".yaml", ".yml", f"/{HOSTS_FILE}")
"""How the names of files end that the desired state depends on."""
_DEBOUNCE_MS = 100
_CONCURRENCY = 8
_SETTLED_SECONDS = 1.0
"""A new worker is called running when it has lived this long."""


class LocalRuntimeError(RuntimeError):
    """The local runtime cannot start; the text says why."""


@dataclass(slots=True)
class _Record:
    """What is remembered of one camera between reconciles."""

    last_attempt: int = 0
    failures: int = 0
    worker: WorkerStatus | None = None
    condition: Condition | None = None


class Supervisor:
    """Runs the gateway and one worker per camera of a folder until told to stop."""

    def __init__(self, settings: LocalSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._state = StateFolder(settings.state_dir)
        self._store = ObjectStore(self._state)
        self._queue = WorkQueue()
        self._runtime = LocalRuntime(self._queue.add, clock)
        self._gateway = GatewayKeeper(settings, self._runtime, clock=clock)
        self._reader = DesiredState(settings.folder, self._state)
        self._desired = Desired()
        self._records: dict[str, _Record] = {}
        self._trouble = ""
        self._stopping = False

    async def run(self, stop: asyncio.Event, on_ready: Callable[[GatewayAddress, int], None]) -> None:
        """Run until `stop` is set, then stop every child.

        Args:
            stop: Set by a signal handler.
            on_ready: Called once with the gateway's address and the number of cameras that should run.

        Raises:
            LocalRuntimeError: The folder cannot be used, another runtime has the state folder, or the gateway
                ended before it was ready for the first time.
        """
        lock = self._lock()
        try:
            self._prepare()
            async with asyncio.TaskGroup() as group:
                reconcile = self._queue.run(self._reconcile, concurrency=_CONCURRENCY)
                loops = [
                    group.create_task(reconcile, name="reconcile"),
                    group.create_task(self._watch(), name="watch"),
                ]
                try:
                    await self._until_ready(stop, on_ready)
                    await stop.wait()
                finally:
                    self._stopping = True
                    for task in loops:
                        task.cancel()
                    await self._stop_children()
        except* LocalRuntimeError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._queue.close()
            os.close(lock)

    def kill(self) -> None:
        """End every child now; for the second Ctrl-C."""
        self._runtime.kill_all()

    # ── Start and stop ──────────────────────────────────────────────────────────────────────────────

    def _lock(self) -> int:
        try:
            self._state.create()
            descriptor = os.open(self._state.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LocalRuntimeError(f"{self._state.root} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise LocalRuntimeError(f"another camfleet is using {self._state.root}") from None
        return descriptor

    def _prepare(self) -> None:
        (self._state.root / "gateway.json").unlink(missing_ok=True)
        left = self._store.load()
        for camera_id, camera in left.items():
            worker = camera.status.worker
            self._records[camera_id] = _Record(last_attempt=worker.attempt if worker else 0)
        try:
            self._desired = self._reader.read()
        except OSError as error:
            raise LocalRuntimeError(f"{self._settings.folder} cannot be read: {error.strerror}") from None
        for camera_id in left.keys() - self._desired.cameras.keys():
            self._store.delete(camera_id)
        self._queue.add(GATEWAY_KEY)

    async def _until_ready(
        self, stop: asyncio.Event, on_ready: Callable[[GatewayAddress, int], None]
    ) -> None:
        events = {"stop": stop, "up": self._gateway.up, "failed": self._gateway.failed}
        waits = {asyncio.create_task(event.wait(), name=name) for name, event in events.items()}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self._gateway.failed.is_set():
            raise LocalRuntimeError("the gateway could not start; its own message is above")
        if self._gateway.address is not None and not stop.is_set():
            for camera_id in sorted(self._desired.cameras):
                self._queue.add(camera_id)
            wanted = sum(not camera.spec.suspend for camera in self._desired.cameras.values())
            on_ready(self._gateway.address, wanted)

    async def _stop_children(self) -> None:
        logger.info("stopping %d processes", len(self._runtime.keys()))
        await self._runtime.stop_all(except_key=GATEWAY_KEY)
        await self._runtime.stop_all()

    # ── Loops ───────────────────────────────────────────────────────────────────────────────────────

    async def _watch(self) -> None:
        """Follow the files; when a folder is replaced by another one of its name, follow that."""
        while True:
            with _held(self._settings.folder, self._state.overlay):
                watched = self._identity()
                if None not in watched:
                    async for _ in self._changes():
                        await self._refresh()
                        if self._identity() != watched:
                            break
                    continue
            await asyncio.sleep(_MISSING_SECONDS)
            await self._refresh()

    def _changes(self) -> AsyncGenerator[object, None]:
        overlay = str(self._state.overlay)
        return awatch(
            self._settings.folder,
            self._state.overlay,
            watch_filter=lambda _, path: path.endswith(_TELLING) or path.startswith(overlay),
            debounce=_DEBOUNCE_MS,
            step=20,
            rust_timeout=int(_RESYNC_SECONDS * 1000),
            yield_on_timeout=True,
        )

    def _identity(self) -> tuple[int | None, ...]:
        """Which folders are watched: their inodes, None for one that is not there."""
        return tuple(_inode(folder) for folder in (self._settings.folder, self._state.overlay))

    async def _refresh(self) -> None:
        """Read what is wanted, and queue every camera that differs or whose files have gone."""
        try:
            self._state.create()
            desired = await asyncio.to_thread(self._reader.read)
        except OSError as error:
            self._tell(f"cannot be read, keeping what runs: {error.filename}: {error.strerror}")
            return
        except Exception:  # whatever is wrong with one file must not end the cameras of the others
            logger.exception("%s cannot be read, keeping what runs", self._settings.folder)
            return
        self._tell("")
        changed = desired.changed_since(self._desired) | self._store.forget_missing()
        changed |= {key for key in self._records if not self._has_files(key)}
        self._desired = desired
        for camera_id in sorted(changed):
            self._queue.add(camera_id)

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            logger.error("%s %s", self._settings.folder, trouble)
        elif self._trouble and not trouble:
            logger.info("%s can be read again", self._settings.folder)
        self._trouble = trouble

    async def _reconcile(self, key: str) -> None:
        if self._stopping:
            return
        if key != GATEWAY_KEY:
            await self._reconcile_camera(key)
        elif (again := await self._gateway.reconcile()) is not None:
            self._queue.add_after(GATEWAY_KEY, again)

    async def _reconcile_camera(self, key: str) -> None:
        address = self._gateway.address
        if address is None:
            return  # every camera is queued when the gateway is up
        camera = self._desired.cameras.get(key)
        record = self._records.setdefault(key, _Record())
        if camera is None:
            self._store.delete(key)
        suspended = camera is not None and bool(camera.spec.suspend)
        refusal = self._desired.refusals.get(key)
        wanted = camera is not None and not suspended and refusal is None
        observed = Observed(
            desired=DesiredWorker(worker_fingerprint(camera)) if camera and wanted else None,
            suspended=suspended,
            runs=self._runtime.observe(key),
            last_attempt=record.last_attempt,
            failures=record.failures,
        )
        plan = plan_worker(observed, self._clock())
        for action in plan.actions:
            match action:
                case ForgetRun(uid, failures):
                    self._runtime.forget(key, uid)
                    record.failures = failures
                case StopWorker(uid, reason):
                    logger.info("stopping the worker: %s", reason, extra={"camera": key})
                    self._runtime.stop_worker(key, uid)
                case StartWorker() if camera is not None:
                    await self._start_worker(camera, record, action, address)
        if camera is not None:
            if record.worker is not None and wanted and not self._has_files(key):
                self._write_files(camera.id, record.worker)
            condition = plan.condition
            if refusal is not None:
                condition = PlannedCondition("Scheduled", ConditionStatus.FALSE, "SecretNotAllowed", refusal)
            self._publish(camera, record, condition)
        elif not self._runtime.observe(key):
            self._cleanup(key)
        if plan.requeue_after is not None:
            self._queue.add_after(key, plan.requeue_after)

    async def _start_worker(
        self, camera: Camera, record: _Record, start: StartWorker, address: GatewayAddress
    ) -> None:
        key = camera.id

        def command(uid: str) -> Command:
            self._write_files(key, WorkerStatus(attempt=start.attempt, pod_uid=uid))
            return worker_command(
                camera,
                self._desired.settings_of(camera),
                identity=WorkerIdentity(camera=key, attempt=start.attempt, pod_uid=uid),
                internal_url=address.internal_url,
                settings=self._settings,
            )

        uid = await self._runtime.ensure_worker(
            key, attempt=start.attempt, fingerprint=start.fingerprint, command=command
        )
        record.last_attempt = start.attempt
        record.worker = WorkerStatus(
            attempt=start.attempt, pod_name=f"pid-{self._runtime.pid(key)}", pod_uid=uid, node_name="local"
        )
        self._queue.add_after(key, _SETTLED_SECONDS)

    def _has_files(self, key: str) -> bool:
        return (self._state.tokens / key).exists() and (self._state.work / key).exists()

    def _write_files(self, key: str, worker: WorkerStatus) -> None:
        """The worker's folder, and the token that proves who it is."""
        (self._state.work / key).mkdir(mode=0o700, exist_ok=True)
        identity = WorkerIdentity(camera=key, attempt=worker.attempt, pod_uid=worker.pod_uid)
        token = sign_worker_token(self._state.worker_key.read_bytes(), identity)
        write_atomic(self._state.tokens / key, token.encode())

    # ── Status ──────────────────────────────────────────────────────────────────────────────────────

    def _publish(self, camera: Camera, record: _Record, planned: PlannedCondition) -> None:
        before = record.condition
        since = before.last_transition_time if before and before.status is planned.status else None
        record.condition = Condition(
            type=planned.type,
            status=planned.status,
            reason=planned.reason,
            message=planned.message,
            last_transition_time=since or datetime.now(UTC),
        )
        effective = self._desired.settings_of(camera)
        status = CameraStatus(
            conditions=(record.condition,),
            worker=record.worker,
            settings=SettingsStatus(hash=effective.hash, values=effective.values()),
        )
        self._store.put(camera.model_copy(update={"status": status}))

    def _cleanup(self, key: str) -> None:
        """Remove what is left of a camera that is gone and whose last run has ended."""
        self._records.pop(key, None)
        (self._state.tokens / key).unlink(missing_ok=True)
        shutil.rmtree(self._state.work / key, ignore_errors=True)


@contextlib.contextmanager
def _held(*folders: Path) -> Iterator[None]:
    """Keep folders open, so that no other folder gets the inode of one that is deleted meanwhile."""
    with contextlib.ExitStack() as stack:
        for folder in folders:
            with contextlib.suppress(OSError):
                stack.callback(os.close, os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        yield


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except OSError:
        return None
