"""Prometheus text: per camera written by hand in chunks, the gateway's own through prometheus_client.

The text format wants all samples of a metric together, so the cameras are gone through once per metric; after
every few hundred lines the event loop gets its turn, and five thousand cameras delay no picture.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from camfleet_gateway.channel import Channel
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.pictures import ViewerKind
from camfleet_gateway.telemetry import Telemetry
from camfleet_protocol.messages import Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LINES_PER_CHUNK = 400

KINDS = ("face", "motion", "object", "person")
"""Kinds of detections with a series of their own; the rest is `other`, so that no worker can add series."""
MAX_DROP_REASONS = 4
MAX_ERROR_REASONS = 5


def escape(value: str) -> str:
    """A label value as the text format wants it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return repr(float(value)) if isinstance(value, float) else str(value)


class Row:
    """One camera at the moment of a scrape."""

    __slots__ = ("channel", "labels", "telemetry")

    def __init__(self, channel: Channel) -> None:
        facts = channel.facts
        self.channel = channel
        self.labels = f'namespace="{escape(facts.namespace)}",camera="{escape(facts.name)}"'
        self.telemetry: Telemetry | None = channel.publisher.telemetry if channel.publisher else None


def _bounded(counts: Mapping[str, int], keep: int) -> dict[str, int]:
    """At most `keep` labels; those beyond, in alphabetical order, count together as `other`."""
    if len(counts) <= keep:
        return dict(counts)
    names = sorted(counts)
    kept = {name: counts[name] for name in names[: keep - 1]}
    kept["other"] = kept.get("other", 0) + sum(counts[name] for name in names[keep - 1 :])
    return kept


def _kinds(counts: Mapping[str, int]) -> dict[str, int]:
    found = {kind: counts[kind] for kind in KINDS if kind in counts}
    rest = sum(count for kind, count in counts.items() if kind not in KINDS)
    return found | ({"other": rest} if rest else {})


def _info(row: Row) -> Iterator[tuple[str, str, float]]:
    channel, facts = row.channel, row.channel.facts
    status = channel.camera.status.worker if channel.camera is not None else None
    hello = channel.publisher.hello if channel.publisher else None
    values = {
        "node": status.node_name if status else "",
        "pod": status.pod_name if status else (hello.pod if hello else ""),
        "attempt": str(status.attempt if status else (hello.attempt if hello else 0)),
        "profile": facts.profile,
        "site": facts.site,
        "source_type": facts.source_type.value if facts.source_type else "",
    }
    yield "", "".join(f',{key}="{escape(value[:253])}"' for key, value in values.items()), 1


_Sampler = Callable[[Row], Iterable[tuple[str, str, float]]]


def _of_stats(read: Callable[[Stats], float]) -> _Sampler:
    def samples(row: Row) -> Iterator[tuple[str, str, float]]:
        if row.telemetry is not None and row.telemetry.stats is not None:
            yield "", "", read(row.telemetry.stats)

    return samples


def _by_label(label: str, read: Callable[[Stats], dict[str, int]]) -> _Sampler:
    def samples(row: Row) -> Iterator[tuple[str, str, float]]:
        if row.telemetry is not None and row.telemetry.stats is not None:
            for value, count in read(row.telemetry.stats).items():
                yield "", f',{label}="{escape(value)}"', count

    return samples


def _of_telemetry(read: Callable[[Telemetry], float]) -> _Sampler:
    def samples(row: Row) -> Iterator[tuple[str, str, float]]:
        if row.telemetry is not None:
            yield "", "", read(row.telemetry)

    return samples


def _inference(row: Row) -> Iterator[tuple[str, str, float]]:
    if row.telemetry is not None and row.telemetry.stats is not None:
        yield "_sum", "", row.telemetry.stats.inference_seconds_sum
        yield "_count", "", row.telemetry.stats.inference_seconds_count


FAMILIES: tuple[tuple[str, str, str, _Sampler], ...] = (
    ("info", "gauge", "Facts about a camera, as labels.", _info),
    (
        "worker_connected",
        "gauge",
        "1 if a worker of this camera is connected to this gateway.",
        lambda row: (("", "", 1 if row.telemetry is not None else 0),),
    ),
    (
        "source_connected",
        "gauge",
        "1 if the worker's source is open.",
        _of_telemetry(lambda t: 1 if t.source_connected else 0),
    ),
    (
        "last_frame_timestamp_seconds",
        "gauge",
        "When a new picture was last heard of, by the gateway's clock; 0 before the first.",
        _of_telemetry(lambda t: t.picture_time),
    ),
    (
        "last_inference_timestamp_seconds",
        "gauge",
        "When a new inference was last heard of, by the gateway's clock; 0 before the first.",
        _of_telemetry(lambda t: t.inference_time),
    ),
    (
        "frames_captured_total",
        "counter",
        "Pictures captured by the worker since its start.",
        _of_stats(lambda s: s.frames.captured),
    ),
    (
        "frames_inferred_total",
        "counter",
        "Pictures that inference has seen.",
        _of_stats(lambda s: s.frames.inferred),
    ),
    (
        "frames_encoded_total",
        "counter",
        "Pictures encoded, each form counted.",
        _of_stats(lambda s: s.frames.encoded),
    ),
    (
        "frames_published_total",
        "counter",
        "Pictures sent to the gateway.",
        _of_stats(lambda s: s.frames.published),
    ),
    (
        "frames_dropped_total",
        "counter",
        "Pictures the worker has dropped.",
        _by_label("reason", lambda s: _bounded(s.frames.dropped, MAX_DROP_REASONS)),
    ),
    (
        "source_reconnects_total",
        "counter",
        "How often the source was opened again.",
        _of_stats(lambda s: s.source.reconnects),
    ),
    (
        "source_errors_total",
        "counter",
        "Errors of the source.",
        _by_label("reason", lambda s: _bounded(s.source.errors, MAX_ERROR_REASONS)),
    ),
    ("inference_seconds", "summary", "Time spent in inference.", _inference),
    (
        "detections_total",
        "counter",
        "Things found in pictures.",
        _by_label("kind", lambda s: _kinds(s.detections)),
    ),
    (
        "worker_cpu_seconds_total",
        "counter",
        "CPU time of the worker.",
        _of_stats(lambda s: s.cpu_seconds),
    ),
    (
        "worker_resident_memory_bytes",
        "gauge",
        "Resident memory of the worker.",
        _of_stats(lambda s: s.resident_bytes),
    ),
    (
        "worker_gpu_memory_bytes",
        "gauge",
        "GPU memory of the worker.",
        _of_stats(lambda s: s.gpu_bytes),
    ),
    (
        "viewers",
        "gauge",
        "Viewers of the camera on this gateway.",
        lambda row: (("", "", row.channel.viewers),),
    ),
)


PREFIX = "camfleet_camera_"


def family_of(name: str) -> str:
    """The family of a sample or a family, by its name."""
    return next((name.removesuffix(end) for end in ("_sum", "_count") if name.endswith(end)), name)


def camera_chunks(channels: Iterable[Channel], names: frozenset[str] = frozenset()) -> Iterator[str]:
    """The per-camera metrics as pieces of text, each small enough not to delay the event loop.

    Args:
        channels: The cameras.
        names: Families to give, by their whole names; none for all.
    """
    families = [family for family in FAMILIES if not names or f"{PREFIX}{family[0]}" in names]
    if not families:
        return
    rows: list[Row] = []
    for channel in channels:
        rows.append(Row(channel))
        if len(rows) % LINES_PER_CHUNK == 0:
            yield ""
    for suffix, kind, text, sampler in families:
        name = f"{PREFIX}{suffix}"
        lines = [f"# HELP {name} {text}\n# TYPE {name} {kind}\n"]
        for row in rows:
            for ending, labels, value in sampler(row):
                lines.append(f"{name}{ending}{{{row.labels}{labels}}} {_number(value)}\n")
            if len(lines) >= LINES_PER_CHUNK:
                yield "".join(lines)
                lines.clear()
        yield "".join(lines)


class GatewayCollector(Collector):
    """The gateway's own metrics."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        """Read them off."""
        gateway = self._gateway
        name = "camfleet_gateway_"
        yield GaugeMetricFamily(
            f"{name}time_seconds", "The gateway's clock at this scrape.", value=gateway.clock.wall()
        )
        viewers = GaugeMetricFamily(f"{name}viewers", "Viewers' connections.", labels=["kind"])
        sent = CounterMetricFamily(f"{name}frames_sent", "Pictures sent to viewers.", labels=["kind"])
        skipped = CounterMetricFamily(
            f"{name}frames_skipped", "Pictures not sent because a viewer was not ready.", labels=["kind"]
        )
        octets = CounterMetricFamily(
            f"{name}bytes_sent", "Bytes of pictures sent to viewers.", labels=["kind"]
        )
        counts = gateway.roster.counts()
        for kind in ViewerKind:
            traffic = gateway.hub.traffic[kind]
            if kind is not ViewerKind.SNAPSHOT:
                viewers.add_metric([kind.value], counts[kind])
            if kind is not ViewerKind.EVENTS:
                sent.add_metric([kind.value], traffic.frames_sent)
                skipped.add_metric([kind.value], traffic.frames_skipped)
                octets.add_metric([kind.value], traffic.bytes_sent)
        yield from (viewers, sent, skipped, octets)
        refused = CounterMetricFamily(f"{name}sessions_refused", "Connections refused.", labels=["reason"])
        for reason, count in sorted(gateway.refused.items()):
            refused.add_metric([reason], count)
        yield refused
        yield GaugeMetricFamily(
            f"{name}event_loop_lag_seconds",
            "Worst lateness of the event loop in the last seconds.",
            value=gateway.lag.seconds,
        )


class _Only:
    """A registry with some families of another one."""

    def __init__(self, registry: CollectorRegistry, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterator[Metric]:
        """The families that are asked for."""
        for metric in self._registry.collect():
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            if name in self._names:
                yield metric


class MetricsPage:
    """Renders the metrics."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(GatewayCollector(gateway))

    async def chunks(self, names: Iterable[str] = ()) -> AsyncIterator[bytes]:
        """The text in pieces, with a turn of the event loop after each.

        Args:
            names: Families to give, or samples of them; none for all. Unknown ones give nothing.
        """
        wanted = frozenset(map(family_of, names))
        registry = _Only(self._registry, wanted) if wanted else self._registry
        yield generate_latest(registry)
        for chunk in camera_chunks(list(self._gateway.hub.channels.values()), wanted):
            if chunk:
                yield chunk.encode()
            await asyncio.sleep(0)
