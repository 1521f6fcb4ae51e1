"""What the operator counts about itself, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_no_created_series: Callable[[], None] = disable_created_metrics
_PREFIX = "camfleet_operator_"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds. A reconcile that writes nothing takes under a millisecond; one that waits for its turn, many."""

MOVE_REASONS = ("NodeLost", "NodeFault", "WorkerFault", "Relief", "Requested")
HELD_CAUSES = ("DryRun", "Paused", "Never", "Frozen", "Budget", "Backoff")
"""Known beforehand, so that each is 0 before it happens."""


class OperatorMetrics:
    """One method for whatever is counted; docs/metrics.md describes the names."""

    def __init__(self) -> None:
        _no_created_series()  # a second series for each counter, which no query here uses
        self.registry = CollectorRegistry()
        to = self.registry
        self._reconciles = Counter(
            f"{_PREFIX}reconciles",
            "Cameras looked at and brought in line, by how that ended.",
            labelnames=["result"],
            registry=to,
        )
        self._reconcile_seconds = Histogram(
            f"{_PREFIX}reconcile_seconds",
            "How long one of these took, the API server's answers included.",
            buckets=_BUCKETS,
            registry=to,
        )
        self._queue_depth = Gauge(f"{_PREFIX}queue_depth", "Cameras that wait to be reconciled.", registry=to)
        self._last_resync_timestamp = Gauge(
            f"{_PREFIX}last_resync_timestamp_seconds",
            "When everything was listed last; its age should stay below ten minutes.",
            registry=to,
        )
        self._api_writes = Counter(
            f"{_PREFIX}api_writes",
            "Writes sent to the API server; at rest only update_leases grows.",
            labelnames=["kind"],
            registry=to,
        )
        self._verdicts = Gauge(
            f"{_PREFIX}verdicts",
            "Cameras by verdict: Healthy, Unhealthy or Unknown.",
            labelnames=["verdict"],
            registry=to,
        )
        self._moves = Counter(
            f"{_PREFIX}moves", "Workers replaced for the sake of health.", labelnames=["reason"], registry=to
        )
        self._frozen = Gauge(
            f"{_PREFIX}frozen",
            "1 where so much is bad at once that nothing is moved.",
            labelnames=["scope"],
            registry=to,
        )
        self._moves_held = Counter(
            f"{_PREFIX}moves_held",
            "Moves that were due and were not made, by what held them.",
            labelnames=["cause"],
            registry=to,
        )
        self._faults = Gauge(
            f"{_PREFIX}faults", "Cameras by whose fault it is.", labelnames=["fault"], registry=to
        )
        self._nodes = Gauge(
            f"{_PREFIX}nodes",
            "Nodes with cameras, by state: Healthy, Suspect, Faulty or Dead.",
            labelnames=["state"],
            registry=to,
        )
        self._signals_blind = Gauge(
            f"{_PREFIX}signals_blind",
            "1 while nothing can be known of the cameras; absent otherwise.",
            labelnames=["reason"],
            registry=to,
        )
        self._last_signals = Gauge(
            f"{_PREFIX}last_signals_timestamp_seconds", "When all cameras were judged last.", registry=to
        )
        self._tick_seconds = Histogram(
            f"{_PREFIX}tick_seconds",
            "Duration of judging all cameras once, without waiting for their metrics.",
            buckets=_BUCKETS,
            registry=to,
        )
        self._rollout_waiting = Gauge(
            f"{_PREFIX}rollout_waiting",
            "Cameras whose changed profile or defaults wait until others are well with them.",
            registry=to,
        )
        self._leader = Gauge(f"{_PREFIX}leader", "1 on the replica that acts, 0 on the others.", registry=to)
        for reason in MOVE_REASONS:
            self._moves.labels(reason)
        for cause in HELD_CAUSES:
            self._moves_held.labels(cause)
        ProcessCollector(registry=self.registry)

    def reconciled(self, result: str, seconds: float) -> None:
        """One camera was looked at; `result` is one of a fixed set."""
        self._reconciles.labels(result).inc()
        self._reconcile_seconds.observe(seconds)

    def queue_depth(self, cameras: int) -> None:
        """So many cameras wait."""
        self._queue_depth.set(cameras)

    def resynced(self) -> None:
        """Everything has been listed, just now."""
        self._last_resync_timestamp.set_to_current_time()

    def wrote(self, kind: str) -> None:
        """One more write; `kind` as in `Api(on_write=…)`."""
        self._api_writes.labels(kind).inc()

    def judged(self, counts: Mapping[str, int]) -> None:
        """Cameras by verdict, with every verdict named."""
        for verdict, count in counts.items():
            self._verdicts.labels(verdict).set(count)

    def moved(self, reason: str) -> None:
        """A worker was replaced for the sake of health."""
        self._moves.labels(reason).inc()

    def held(self, cause: str) -> None:
        """A move was due and is not made, for one of a fixed set of causes."""
        self._moves_held.labels(cause).inc()

    def frozen(self, scope: str, is_frozen: bool) -> None:
        """Nothing is moved in this scope for the moment, or is again."""
        self._frozen.labels(scope).set(is_frozen)

    def attributed(self, faults: Mapping[str, int], nodes: Mapping[str, int]) -> None:
        """Cameras by fault and nodes by state, with every one named."""
        for fault, count in faults.items():
            self._faults.labels(fault).set(count)
        for state, count in nodes.items():
            self._nodes.labels(state).set(count)

    def ticked(self, seconds: float) -> None:
        """All cameras were judged, just now, in so many seconds."""
        self._tick_seconds.observe(seconds)
        self._last_signals.set_to_current_time()

    def blind(self, reason: str | None) -> None:
        """Why nothing can be known of the cameras; None while it can."""
        self._signals_blind.clear()
        if reason is not None:
            self._signals_blind.labels(reason).set(1)

    def rollout_waiting(self, cameras: int) -> None:
        """So many cameras have not got a changed profile or new defaults yet."""
        self._rollout_waiting.set(cameras)

    def leading(self, leads: bool) -> None:
        """Whether this replica acts."""
        self._leader.set(leads)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
