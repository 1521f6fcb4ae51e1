"""What the gateway counts about itself, as a table that the page and its documentation are written from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from camfleet_gateway.gateway import Gateway
from camfleet_gateway.pictures import Traffic, ViewerKind
from camfleet_protocol.messages import Stats

_Values = Iterable[tuple[tuple[str, ...], float]]
"""Values of the labels, in their order, and of the metric."""


def _traffic(read: Callable[[Traffic], float]) -> Callable[[Gateway], _Values]:
    def values(gateway: Gateway) -> Iterator[tuple[tuple[str, ...], float]]:
        for kind in ViewerKind:
            if kind is not ViewerKind.EVENTS:
                yield (kind.value,), read(gateway.hub.traffic[kind])

    return values


def _viewers(gateway: Gateway) -> Iterator[tuple[tuple[str, ...], float]]:
    counts = gateway.roster.counts()
    for kind in ViewerKind:
        if kind is not ViewerKind.SNAPSHOT:
            yield (kind.value,), counts[kind]


def _of_workers(read: Callable[[Stats], float]) -> Callable[[Gateway], _Values]:
    """The sum over the workers that are connected."""

    def values(gateway: Gateway) -> _Values:
        told = [session.telemetry.stats for session in gateway.workers.sessions]
        return (((), sum(read(stats) for stats in told if stats is not None)),)

    return values


@dataclass(frozen=True, slots=True)
class Own:
    """A metric of the gateway itself; like `Family`, its name is the one after `OWN_PREFIX`."""

    suffix: str
    kind: str
    text: str
    values: Callable[[Gateway], _Values]
    labels: tuple[str, ...] = ()


OWN_PREFIX = "camfleet_gateway_"
OWN = (
    Own("time_seconds", "gauge", "The gateway's clock at this scrape.", lambda g: (((), g.clock.wall()),)),
    Own("viewers", "gauge", "Viewers' connections.", _viewers, ("kind",)),
    Own(
        "frames_sent_total",
        "counter",
        "Pictures sent to viewers.",
        _traffic(lambda t: t.frames_sent),
        ("kind",),
    ),
    Own(
        "frames_skipped_total",
        "counter",
        "Pictures not sent because a viewer was not ready.",
        _traffic(lambda t: t.frames_skipped),
        ("kind",),
    ),
    Own(
        "bytes_sent_total",
        "counter",
        "Bytes of pictures sent to viewers.",
        _traffic(lambda t: t.bytes_sent),
        ("kind",),
    ),
    Own(
        "sessions_refused_total",
        "counter",
        "Connections turned away.",
        lambda g: (((reason,), count) for reason, count in sorted(g.refused.items())),
        ("reason",),
    ),
    Own(
        "events_pending",
        "gauge",
        "Events that connected workers keep because they are not stored here yet.",
        _of_workers(lambda s: s.events_pending),
    ),
    Own(
        "workers_without_outbox",
        "gauge",
        "Connected workers that cannot keep events on disk now: it is full, say.",
        _of_workers(lambda s: 1 if s.outbox_problem else 0),
    ),
    Own(
        "galleries_outdated",
        "gauge",
        "Connected workers that compare faces with other people than those who are enrolled now.",
        lambda g: (((), g.gallery_push.outdated()),),
    ),
    Own(
        "gallery_bytes_sent_total",
        "counter",
        "Bytes of enrolled people sent to workers.",
        lambda g: (((), g.gallery_push.bytes_sent),),
    ),
    Own(
        "event_loop_lag_seconds",
        "gauge",
        "Worst lateness of the event loop in the last seconds; above 0.1 the gateway is overloaded.",
        lambda g: (((), g.lag.seconds),),
    ),
    Own(
        "alerts_total",
        "counter",
        "Alerts raised, by what the rule is about.",
        lambda g: (((when,), count) for when, count in sorted(g.alerts.raised.items())),
        ("when",),
    ),
    Own(
        "webhook_deliveries_total",
        "counter",
        "Calls of webhooks by result: delivered; failed, to be tried again or given up; dead, given up; "
        "dropped, as too many messages waited.",
        lambda g: ((key, count) for key, count in sorted(g.webhooks.totals().items())),
        ("webhook", "result"),
    ),
    Own(
        "webhook_messages",
        "gauge",
        "Messages to webhooks that wait, and that were given up, as of the last seconds.",
        lambda g: ((key, count) for key, count in sorted(g.webhooks.messages().items())),
        ("webhook", "state"),
    ),
)


class GatewayCollector(Collector):
    """The gateway's own metrics."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        """Read them off."""
        for own in OWN:
            make = CounterMetricFamily if own.kind == "counter" else GaugeMetricFamily
            metric = make(f"{OWN_PREFIX}{own.suffix}", own.text, labels=own.labels)
            for labels, value in own.values(self._gateway):
                metric.add_metric(labels, value)
            yield metric
