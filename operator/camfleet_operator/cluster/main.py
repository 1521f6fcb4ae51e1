"""`camfleet operator`: everything put together, started, watched over and stopped in order.

```
kopf events, pods ┐
listings          ├─► Store ─► WorkQueue(camera) ─► Reconciler ─► API server
signals           ┘                 (gated by the Lease)
```
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from camfleet_operator.cluster.api import Api
from camfleet_operator.cluster.api_errors import ApiError
from camfleet_operator.cluster.balance import node_load
from camfleet_operator.cluster.balance.balancer import Balancer
from camfleet_operator.cluster.camera_writes import NotLeadingError
from camfleet_operator.cluster.connection import ConnectionConfigError
from camfleet_operator.cluster.events import EventRecorder
from camfleet_operator.cluster.health import promql
from camfleet_operator.cluster.health.explain import Explainer
from camfleet_operator.cluster.health.healer import Healer
from camfleet_operator.cluster.health.nodes import Nodes
from camfleet_operator.cluster.health.queries import QueriesError, read_queries
from camfleet_operator.cluster.health.signals import Signals
from camfleet_operator.cluster.health.sources import prometheus_server, signal_source
from camfleet_operator.cluster.health.verdicts import Criteria, Health, Verdict
from camfleet_operator.cluster.inforce import seconds_in, settings_block
from camfleet_operator.cluster.lease import LeaderElection
from camfleet_operator.cluster.metrics import OperatorMetrics
from camfleet_operator.cluster.pod_watch import PodWatch
from camfleet_operator.cluster.probes import Check, Probes, ProbesError
from camfleet_operator.cluster.reconciler import Reconciler
from camfleet_operator.cluster.resync import Resync
from camfleet_operator.cluster.rollout import Rollout
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_operator.cluster.store import Store
from camfleet_operator.cluster.watch import Watch
from camfleet_operator.cluster.writes import WriteBudget
from camfleet_operator.workqueue import WorkQueue
from camfleet_protocol.camera import CameraProfileSpec, problem_lines
from camfleet_protocol.cluster import PAUSE_ANNOTATION
from camfleet_protocol.logs import configure_logging

logger = logging.getLogger(__name__)

CONCURRENCY = 200
"""Cameras reconciled at once; most of them wait for the write budget, which lets the urgent ones go first."""
STUCK_SECONDS = 120.0
RENEW_SHARE, RETRY_SHARE = 10 / 15, 2 / 15
"""Of the Lease's duration: when a replica that cannot renew stops to act, and how often it tries."""
DRAIN_SECONDS = 5.0
ELECTION_SECONDS = 1.0
FIRST_PASS_SECONDS = 30.0


class DefaultsError(ValueError):
    """The file with the installation's defaults cannot be used; the text names every mistake."""


def run(settings: OperatorSettings) -> int:
    """Run until SIGTERM or SIGINT.

    Returns:
        0 after an orderly stop, 1 if a part of it broke, 2 if it could not start.
    """
    configure_logging(settings.log_level, settings.log_format)
    try:
        return asyncio.run(Operator(settings).run())
    except (ConnectionConfigError, DefaultsError, ProbesError, QueriesError) as error:
        logger.error("%s", error)
        return 2


class NoGateway:
    """Stands for the gateways where none is configured: of no camera anything is known."""

    _HEALTH = Health(
        Verdict.UNKNOWN, None, None, None, None, "NoGateway", "no gateway's metrics are configured"
    )

    def health(self, camera_id: str) -> Health | None:
        """Unknown."""
        return self._HEALTH

    def expect(self, camera_id: str) -> None:
        """Nothing comes."""


class Operator:
    """One replica of the operator.

    Raises:
        DefaultsError: The defaults file cannot be used.
        QueriesError: The file with queries cannot be used.
    """

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._led = asyncio.Event()
        """Set once this replica has taken over for the first time."""
        self.metrics = OperatorMetrics()
        self.store = Store(time.monotonic)
        self.queue = WorkQueue(expected=(ApiError, NotLeadingError))
        self.budget = WriteBudget(settings.write_rate, settings.write_burst)
        self.api = Api(settings.kubeconfig, on_write=self.metrics.wrote, on_throttled=self.budget.pause)
        self.resync = Resync(
            self.api,
            self.store,
            self.queue.add,
            namespaces=settings.namespace,
            interval=settings.resync_seconds,
            done=self.metrics.resynced,
        )
        self.pods = PodWatch(self.api, self.store, self.queue.add, self.resync)
        self.watch = Watch(self.store, self.queue.add, self.api.connection_info, settings.namespace)
        self.lease = LeaderElection(
            self.api,
            settings.lease_namespace,
            settings.lease_name,
            settings.identity,
            lease=settings.lease_seconds,
            renew_deadline=settings.lease_seconds * RENEW_SHARE,
            retry=settings.lease_seconds * RETRY_SHARE,
            on_change=self._leading,
        )
        self.events = EventRecorder(self.api, self.budget, leading=lambda: self.lease.is_leader)
        self.prometheus = prometheus_server(settings)
        queries = read_queries(settings.queries_file, known={*promql.NAMES, *node_load.NAMES})
        self._hears = bool(settings.gateway_metrics) or self.prometheus is not None
        self.signals = Signals(
            signal_source(settings, self.prometheus, queries),
            self._health_changed,
            criteria=self._criteria,
            cameras=self.store.keys,
        )
        self.nodes = Nodes(self.api, stale=settings.node_lease_stale_seconds)
        self.balancer = Balancer(
            self.prometheus,
            nodes=self.nodes.all,
            cameras=lambda: self.healer.loads(),
            queries=queries,
            relief=settings.relief,
            high=settings.load_high,
            low=settings.load_low,
            interval=settings.load_seconds,
        )
        self.healer = Healer(
            settings=settings,
            store=self.store,
            hearing=self.signals,
            nodes=self.nodes,
            balance=self.balancer,
            events=self.events,
            metrics=self.metrics,
            again=self.queue.add,
            leading=lambda: self._led.is_set() and self.lease.is_leader and not self._stop.is_set(),
            paused=self._paused,
        )
        self.signals.on_tick = self._ticked
        self.rollout = Rollout(
            self.queue.add, first=settings.rollout_first, soak=settings.rollout_soak_seconds
        )
        self.reconciler = Reconciler(
            api=self.api,
            store=self.store,
            budget=self.budget,
            leading=lambda: self.lease.is_leader and not self._stop.is_set(),
            health=self.signals if self._hears else NoGateway(),
            moves=self.healer,
            events=self.events,
            rollout=self.rollout,
            again=self._again,
            settings=settings,
            defaults=read_defaults(settings.defaults_file),
        )
        self.explainer = Explainer(
            store=self.store,
            hearing=self.signals,
            nodes=self.nodes,
            mover=self.healer.mover,
            facts=self.healer.facts,
            facts_of=self.healer.facts_of,
            general=self._general,
            loads=self.balancer.loads,
            needed=settings.unhealthy_readings,
            clock=time.monotonic,
            wall=time.time,
        )
        self.probes = Probes(
            settings.probe_host,
            settings.probe_port,
            live=(Check("queue", self._queue_check), Check("resync", self._resync_check)),
            ready=(Check("listed", self._listed_check),),
            metrics=self.metrics,
            explain=self._explain,
        )

    # ── Life ────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> int:
        """Run until told to stop; the exit code."""
        self._handle_signals()
        async with self.api:
            await self.probes.start()
            try:
                return await self._run_parts()
            finally:
                await self.probes.stop()

    async def _run_parts(self) -> int:
        kopf_stop = asyncio.Event()
        parts = {
            name: asyncio.create_task(part, name=name)
            for name, part in {
                "resync": self.resync.run(),
                "lease": self.lease.run(),
                **({"signals": self._watch_health()} if self._hears else {}),
                "healer": self.healer.run(),
                "balancer": self.balancer.run(),
                **({"nodes": self.nodes.run()} if self._settings.watch_nodes else {}),
                "events": self.events.run(),
                "reconcile": self.queue.run(self._handle, concurrency=CONCURRENCY),
                "pods": self._follow_pods(),
                "watch": self._follow_cameras(kopf_stop),
            }.items()
        }
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        done, _ = await asyncio.wait({stop, *parts.values()}, return_when=asyncio.FIRST_COMPLETED)
        broken = [task for task in done if task is not stop]
        for task in broken:
            error = task.exception()
            logger.critical("%s has ended: %s", task.get_name(), error or "no reason", exc_info=error)
        self._stop.set()
        await self._drain()
        self.queue.close()
        kopf_stop.set()
        for name, task in parts.items():
            if name != "watch":
                task.cancel()
        await asyncio.wait(parts.values(), timeout=DRAIN_SECONDS)
        stop.cancel()
        logger.info("stopped")
        return 1 if broken else 0

    async def _drain(self) -> None:
        """Let writes in flight end, then hand the Lease over."""
        logger.info("stopping, %d cameras in hand", self.queue.active)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.queue.idle()
        try:
            await self.lease.release()
        except ApiError as error:
            logger.warning("the Lease could not be handed over: %s", error.message)

    async def _follow_pods(self) -> None:
        await self._first_pass()
        await self.pods.run()

    async def _follow_cameras(self, stop: asyncio.Event) -> None:
        await self._first_pass()
        # When kopf ends, it ends every task that was made after it: all of ours run by now.
        await self.watch.run(stop, self._handle_signals)

    async def _first_pass(self) -> None:
        """Wait until every camera has been looked at once, if this replica leads at once; not for ever.

        News has no use before that, for a listing has just told everything, and what it costs would be
        missed by the cameras that wait for their first pod.
        """
        await self.resync.first.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ELECTION_SECONDS):
                await self._led.wait()
        if self._led.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_PASS_SECONDS):
                    await self.queue.idle()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    # ── Reconciling ─────────────────────────────────────────────────────────────────────────────────

    async def _handle(self, key: str) -> None:
        if not self.resync.first.is_set() or not self.lease.is_leader or self._stop.is_set():
            return  # whoever leads, queues everything at that moment
        started = time.monotonic()
        result = "error"
        try:
            result = await self.reconciler.reconcile(key)
        finally:
            self.metrics.reconciled(result, time.monotonic() - started)
            self.metrics.queue_depth(self.queue.depth)
            self.metrics.rollout_waiting(self.rollout.waiting())

    def _again(self, key: str, delay: float) -> None:
        if delay > 0:
            self.queue.add_after(key, delay)
        else:
            self.queue.add(key)

    def _leading(self, leader: bool) -> None:
        self.metrics.leading(leader)
        logger.info("this replica %s", "acts now" if leader else "stands by")
        self.healer.reset()
        if not leader:
            self.reconciler.reset()
        else:
            asyncio.get_running_loop().create_task(self._take_over(), name="take-over")

    async def _take_over(self) -> None:
        await self.resync.first.wait()
        for key in self.store.keys():
            self.queue.add(key)
        self._led.set()

    async def _watch_health(self) -> None:
        await self.resync.first.wait()
        await self.signals.run()

    def _criteria(self, key: str) -> Criteria:
        """A camera's timeouts, as its worker has them."""
        entry = self.store.camera(key)
        usual = Criteria()
        if entry is None or entry.camera is None:
            return usual
        health = settings_block(entry.camera.status, "health")
        inference = settings_block(entry.camera.status, "inference")
        return Criteria(
            stall=seconds_in(health, "stallTimeoutSeconds", usual.stall),
            first_frame=seconds_in(health, "firstFrameTimeoutSeconds", usual.first_frame),
            expects_inference=inference.get("enabled") is not False,
        )

    def _ticked(self, seconds: float) -> None:
        started = time.monotonic()
        self.healer.tick()
        blind = self.signals.blind()
        self.metrics.blind(blind.reason if blind is not None else None)
        self.explainer.history.keep(set(self.store.keys()))
        self.metrics.ticked(seconds + time.monotonic() - started)

    def _paused(self) -> str:
        """What pauses all moves."""
        if self.lease.annotations.get(PAUSE_ANNOTATION) != "true":
            return ""
        return f"Lease {self._settings.lease_namespace}/{self._settings.lease_name}"

    def _health_changed(self, cameras: set[str]) -> None:
        self.metrics.judged(self.signals.counts())
        for key in cameras:
            self.explainer.history.note(key, self.signals.health(key), time.time())
        for key in cameras:
            if self.store.camera(key) is not None:
                self.queue.add(key)

    # ── Probes and explanations ─────────────────────────────────────────────────────────────────────

    def _explain(self, camera: str | None) -> dict[str, Any] | None:
        return self.explainer.fleet() if camera is None else self.explainer.camera(camera)

    def _general(self) -> dict[str, Any]:
        return {
            "identity": self._settings.identity,
            "leader": self.lease.is_leader,
            "dryRun": self._settings.dry_run,
            "paused": bool(self._paused()),
            "nodesProblem": self.nodes.problem,
            "balance": self.balancer.describe(),
        }

    def _queue_check(self) -> str | None:
        stuck = self.queue.stuck_for
        if stuck > STUCK_SECONDS:
            return f"{self.queue.depth} cameras wait, and none was finished for {stuck:.0f} s"
        return None

    def _resync_check(self) -> str | None:
        limit = 2 * self._settings.resync_seconds + 60
        if self.resync.age > limit:
            return f"the last complete listing is {self.resync.age:.0f} s old"
        return None

    def _listed_check(self) -> str | None:
        return None if self.resync.first.is_set() else "the first listing is not complete"


def read_defaults(path: Path | None) -> CameraProfileSpec | None:
    """Read the installation's defaults: the spec of a CameraProfile, in YAML.

    Raises:
        DefaultsError: It cannot be read, or is not one.
    """
    if path is None:
        return None
    try:
        document = yaml.safe_load(path.read_text()) or {}
        return CameraProfileSpec.model_validate(document)
    except OSError as error:
        raise DefaultsError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise DefaultsError(f"{path} is not YAML: {error}") from None
    except ValidationError as error:
        raise DefaultsError(f"{path}: " + "; ".join(problem_lines(error))) from None
