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


class OperatorMetrics:
    """One attribute for each metric; docs/metrics.md describes them.

    Attributes:
        reconciles: By `result`.
        reconcile_seconds: From the start to the end of one reconcile, waiting for the API included.
        queue_depth: Cameras that wait to be reconciled.
        last_resync_timestamp: Unix seconds.
        api_writes: By `kind`: the verb and the resource, as `create_pods`.
        verdicts: Cameras by `verdict`.
        moves: Workers replaced for the sake of health, by `reason`.
        frozen: By `scope`: 1 where nothing is moved for the moment.
        leader: 1 if this replica acts.
    """

    def __init__(self) -> None:
        _no_created_series()  # a second series for each counter, which no query here uses
        self.registry = CollectorRegistry()
        to = self.registry
        self.reconciles = Counter(
            f"{_PREFIX}reconciles", "Reconciles by how they ended.", labelnames=["result"], registry=to
        )
        self.reconcile_seconds = Histogram(
            f"{_PREFIX}reconcile_seconds", "Duration of one reconcile.", buckets=_BUCKETS, registry=to
        )
        self.queue_depth = Gauge(f"{_PREFIX}queue_depth", "Cameras that wait to be reconciled.", registry=to)
        self.last_resync_timestamp = Gauge(
            f"{_PREFIX}last_resync_timestamp_seconds", "When everything was listed last.", registry=to
        )
        self.api_writes = Counter(
            f"{_PREFIX}api_writes", "Writes sent to the API server.", labelnames=["kind"], registry=to
        )
        self.verdicts = Gauge(
            f"{_PREFIX}verdicts", "Cameras by verdict.", labelnames=["verdict"], registry=to
        )
        self.moves = Counter(
            f"{_PREFIX}moves", "Workers replaced for the sake of health.", labelnames=["reason"], registry=to
        )
        self.frozen = Gauge(
            f"{_PREFIX}frozen", "1 where nothing is moved for the moment.", labelnames=["scope"], registry=to
        )
        self.leader = Gauge(f"{_PREFIX}leader", "1 if this replica acts.", registry=to)
        ProcessCollector(registry=self.registry)

    def count_write(self, kind: str) -> None:
        """One more write; fits `Api(on_write=…)`."""
        self.api_writes.labels(kind).inc()

    def set_verdicts(self, counts: Mapping[str, int]) -> None:
        """Cameras by verdict, all verdicts named."""
        for verdict, count in counts.items():
            self.verdicts.labels(verdict).set(count)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
