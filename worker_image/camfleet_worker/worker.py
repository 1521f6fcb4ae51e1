"""One worker, put together: threads for capture, inference and stream, an event loop for the gateway."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Unpack

from camfleet_protocol import __version__
from camfleet_protocol.messages import FrameCounts, SourceStats, Stats, WorkerHello
from camfleet_protocol.redaction import redact
from camfleet_protocol.settings import Settings
from camfleet_worker.auth_stop import AuthStop
from camfleet_worker.capture import Capture
from camfleet_worker.counters import Counters
from camfleet_worker.detectors.base import DetectorContext
from camfleet_worker.dispatch import Dispatcher
from camfleet_worker.inference import Inference
from camfleet_worker.lifetime import Lifetime
from camfleet_worker.live import Live
from camfleet_worker.log import get_logger
from camfleet_worker.outbox import RETRY_SECONDS as OUTBOX_RETRY_SECONDS
from camfleet_worker.outbox import EventFields, Outbox
from camfleet_worker.presence import Presence
from camfleet_worker.publisher import FencedError, Hooks, Publisher
from camfleet_worker.settings import WorkerSettings
from camfleet_worker.sources.base import SourceContext
from camfleet_worker.sources.factory import make_source
from camfleet_worker.stream import Stream
from camfleet_worker.tracking.facade import Tracks
from camfleet_worker.tracking.left import end_left
from camfleet_worker.watchdog import Stage, Watchdog

logger = get_logger(__name__)

FENCED = 3
_JOIN_SECONDS = 1.5
LOOP_DEADLINE = 20.0
_PORT_CHECK_SECONDS = 5.0


class Worker:
    """Runs until told to stop."""

    def __init__(self, settings: WorkerSettings, work_dir: Path) -> None:
        self._settings = settings
        self._source = settings.camera_source
        initial = settings.initial
        self._live = Live(initial, initial.hash)
        self._started = time.monotonic()
        self._counters = Counters()
        self._outbox = Outbox(work_dir, settings.camera_id)
        end_left(self._outbox.going_on(), self._outbox.put)
        self._dispatcher = Dispatcher(self._live, self._counters)
        self._dispatcher.for_stream.set_open(False)
        stages = {name: Stage(name) for name in ("capture", "inference", "stream", "loop")}
        self._loop_stage = stages["loop"]
        self._watchdog = Watchdog(list(stages.values()), work_dir / "heartbeat")
        models = DetectorContext(
            settings.model_dir,
            threads=settings.threads,
            provider=settings.provider,
            gpu_memory_mib=settings.gpu_memory_mib,
            engine_cache_dir=settings.engine_cache_dir,
        )
        self._tracks = Tracks(models, put=self._put_event)
        self._inference = Inference(
            models,
            live=self._live,
            dispatcher=self._dispatcher,
            counters=self._counters,
            stage=stages["inference"],
            presence=Presence(self._detection_started, self._detection_ended, time.monotonic),
            tracking=self._tracks,
        )
        self._capture = Capture(
            self._source,
            make_source,
            SourceContext(
                wait=lambda seconds: True,
                media_root=settings.media_root,
                credentials_dir=settings.credentials_dir,
                threads=settings.threads,
            ),
            live=self._live,
            dispatcher=self._dispatcher,
            counters=self._counters,
            stage=stages["capture"],
            auth_stop=AuthStop(work_dir, settings.credentials_dir, self._source.describe(), now=time.time),
            report=self._report,
        )
        self._publisher = Publisher(
            settings.websocket_url,
            read_token=self._read_token,
            live=self._live,
            counters=self._counters,
            outbox=self._outbox,
            hooks=Hooks(
                hello=self._hello,
                stats=self.stats,
                configure=self._configure,
                command=self._command,
                demanded=self._dispatcher.demanded,
                set_ready=self._dispatcher.for_stream.set_open,
                gallery=self._tracks.apply_gallery,
            ),
        )
        self._stream = Stream(
            live=self._live,
            dispatcher=self._dispatcher,
            inference=self._inference,
            counters=self._counters,
            stage=stages["stream"],
            deliver=self._publisher.offer,
            cover=self._tracks.cover,
            threads=settings.threads,
        )
        self._lifetime = Lifetime()

    async def run(self) -> int:
        """Run until a signal, the end of standard input (if asked for), or fencing; returns an exit code."""
        self._lifetime.begin(with_parent=self._settings.exit_with_parent)
        threads = (self._capture, self._inference, self._stream)
        for owner in threads:
            owner.start()
        self._watchdog.start()
        tasks = [
            asyncio.create_task(self._publish(), name="publisher"),
            asyncio.create_task(self._beat(), name="beat"),
            asyncio.create_task(self._tend_outbox(), name="outbox"),
        ]
        if self._settings.check_ports:
            tasks.append(asyncio.create_task(self._check_ports(), name="check-ports"))
        for task in tasks:
            self._lifetime.watch(task)
        try:
            await self._lifetime.over()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for owner in threads:
                owner.stop()
            deadline = time.monotonic() + _JOIN_SECONDS
            for owner in threads:
                await asyncio.to_thread(owner.thread.join, max(0.0, deadline - time.monotonic()))
            self._watchdog.stop()
            self._lifetime.end()
            if not self._inference.thread.is_alive() and not self._capture.thread.is_alive():
                self._outbox.close()
        return self._lifetime.exit_code

    @property
    def hangs(self) -> list[str]:
        """Names of threads that have not ended in time."""
        owners = (self._capture, self._inference, self._stream)
        return [owner.thread.name for owner in owners if owner.thread.is_alive()]

    def stats(self) -> Stats:
        """What the worker says of itself, every second."""
        status = self._capture.status
        counters = self._counters
        return Stats(
            source=SourceStats(
                state=status.state,
                reason=status.reason,
                message=status.message,
                width=status.width,
                height=status.height,
                fps=round(self._dispatcher.captured.value(), 2),
                codec=status.codec,
                frozen=self._capture.frozen,
                reconnects=counters.get("reconnects"),
                errors=counters.labelled("source_errors"),
            ),
            frames=FrameCounts(
                captured=counters.get("captured"),
                inferred=counters.get("inferred"),
                encoded=counters.get("encoded"),
                published=counters.get("published"),
                dropped=counters.labelled("dropped"),
            ),
            last_frame_ns=self._dispatcher.last_captured_ns,
            last_inference_ns=self._inference.last_captured_ns,
            inference_seconds_sum=counters.inference_seconds,
            inference_seconds_count=counters.get("inferred"),
            detections=counters.labelled("detections"),
            inference_reason=self._inference.reason,
            inference_message=redact(self._inference.message)[:512],
            settings_hash=self._live.settings_hash,
            events_dropped=self._outbox.dropped,
            events_pending=len(self._outbox),
            outbox_problem=self._outbox.problem,
            embedder=self._tracks.embedder,
            gallery_version=self._tracks.gallery_version,
            present=self._tracks.present,
            cpu_seconds=time.process_time(),
            resident_bytes=_resident_bytes(),
            uptime_seconds=time.monotonic() - self._started,
        )

    def _hello(self) -> WorkerHello:
        return WorkerHello(
            camera=self._settings.camera_id,
            attempt=self._settings.attempt,
            pod=self._settings.pod_name,
            worker_version=__version__,
            source_type=self._source.type,
            source=redact(self._source.describe()),
            settings_hash=self._live.settings_hash,
            settings=self._live.settings.values(),
        )

    def _configure(self, settings: Settings, digest: str) -> None:
        changed = settings != self._live.settings
        self._live.settings = settings
        self._live.settings_hash = digest or settings.hash
        if changed:
            # Whoever is switched on or off must not wait for a picture to notice.
            self._dispatcher.for_inference.wake()
            logger.info("settings %s are in force", self._live.settings_hash)

    def _command(self, name: str) -> None:
        if name == "reopen":
            logger.info("reopening the source, as the gateway asks")
            self._capture.reopen()
        else:
            logger.warning("the gateway asks for something unknown")

    def _report(self, kind: str, severity: str, message: str, data: dict[str, object]) -> None:
        self._outbox.add(kind, severity, message, data)
        self._publisher.wake_events()

    def _put_event(self, event_id: str, **fields: Unpack[EventFields]) -> None:
        self._outbox.put(event_id, **fields)
        self._publisher.wake_events()

    def _detection_started(self, kind: str) -> None:
        self._report("detection.started", "info", f"{kind.capitalize()} in view.", {"kind": kind})

    def _detection_ended(self, kind: str, seconds: float) -> None:
        data: dict[str, object] = {"kind": kind, "seconds": round(seconds, 1)}
        self._report("detection.ended", "info", f"{kind.capitalize()} gone.", data)

    def _read_token(self) -> str | None:
        token = self._settings.token
        if self._settings.token_file is not None:
            token = self._settings.token_file.read_text(encoding="ascii", errors="replace").strip()
        if token:
            redact.add_secret(token)
        return token

    async def _publish(self) -> None:
        try:
            await self._publisher.run()
        except FencedError as error:
            logger.error("the gateway wants no more of this worker (exit code %d): %s", FENCED, error)
            self._lifetime.stop(FENCED)

    async def _beat(self) -> None:
        while True:
            self._loop_stage.expect(LOOP_DEADLINE, "running the event loop")
            await asyncio.sleep(0.5)

    async def _tend_outbox(self) -> None:
        while True:
            await asyncio.sleep(OUTBOX_RETRY_SECONDS)
            await asyncio.to_thread(self._outbox.tend)

    async def _check_ports(self) -> None:
        from camfleet_worker.ports import format_sockets, listening_sockets

        seen = set()
        end = time.monotonic() + _PORT_CHECK_SECONDS
        while time.monotonic() < end:
            seen.update(await asyncio.to_thread(listening_sockets, os.getpid()))
            await asyncio.sleep(0.25)
        print(format_sockets(sorted(seen)), flush=True)
        self._lifetime.stop(1 if seen else 0)


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
