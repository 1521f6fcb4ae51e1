"""Prometheus text: per camera written by hand in chunks, the gateway's own through prometheus_client.

The text format wants all samples of a metric together, so the cameras are gone through once per metric; after
every few hundred lines the event loop gets its turn, and five thousand cameras delay no picture.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from camfleet_gateway.channel import Channel
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.own_metrics import GatewayCollector
from camfleet_gateway.telemetry import Telemetry
from camfleet_protocol.messages import Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LINES_PER_CHUNK = 400

KINDS = ("face", "motion", "object")
"""Kinds of detections with a series of their own; the rest is `other`, so that no worker can add series."""
INFO_LABELS = ("node", "pod", "attempt", "profile", "site", "source_type")
MAX_DROP_REASONS = 4
MAX_ERROR_REASONS = 4


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


def _bounded(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """At most `most` labels: the first ones to come, and `other`. No series ends when another one begins."""
    names = [name for name in counts if name != "other"]
    found = {name: counts[name] for name in names[: most - 1]}
    rest = counts.get("other", 0) + sum(counts[name] for name in names[most - 1 :])
    return found | ({"other": rest} if rest else {})


def _kinds(counts: Mapping[str, int]) -> dict[str, int]:
    found = {kind: counts[kind] for kind in KINDS if kind in counts}
    rest = sum(count for kind, count in counts.items() if kind not in KINDS)
    return found | ({"other": rest} if rest else {})


def _info(row: Row) -> Iterator[tuple[str, str, float]]:
    channel, facts = row.channel, row.channel.facts
    status = channel.camera.status.worker if channel.camera is not None else None
    hello = channel.publisher.hello if channel.publisher else None
    values = (
        status.node_name if status else "",
        status.pod_name if status else (hello.pod if hello else ""),
        str(status.attempt if status else (hello.attempt if hello else 0)),
        facts.profile,
        facts.site,
        facts.source_type.value if facts.source_type else "",
    )
    yield (
        "",
        "".join(f',{key}="{escape(value[:253])}"' for key, value in zip(INFO_LABELS, values, strict=True)),
        1,
    )


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


def _gpu_memory(row: Row) -> Iterator[tuple[str, str, float]]:
    if row.telemetry is not None and row.telemetry.stats is not None and row.telemetry.stats.gpu_bytes:
        yield "", "", row.telemetry.stats.gpu_bytes


@dataclass(frozen=True, slots=True)
class Family:
    """A metric of every camera; docs/metrics.md is written from these.

    Attributes:
        suffix: Its name after `PREFIX`.
        kind: Its type in the text format.
        text: Its help.
        samples: What it says of a camera: an ending of the name, labels as text, a value.
        labels: Names of its labels, `namespace` and `camera` aside.
    """

    suffix: str
    kind: str
    text: str
    samples: _Sampler
    labels: tuple[str, ...] = ()


FAMILIES = (
    Family("info", "gauge", "Always 1; its labels are facts about a camera.", _info, INFO_LABELS),
    Family(
        "worker_connected",
        "gauge",
        "1 if a worker of this camera is connected to this gateway, else 0, for every camera there is.",
        lambda row: (("", "", 1 if row.telemetry is not None else 0),),
    ),
    Family(
        "suspended",
        "gauge",
        "1 while the camera is paused; absent otherwise.",
        lambda row: (("", "", 1),) if row.channel.facts.suspended else (),
    ),
    Family(
        "source_connected",
        "gauge",
        "1 if the worker has its source open.",
        _of_telemetry(lambda t: 1 if t.source_connected else 0),
    ),
    Family(
        "picture_frozen",
        "gauge",
        "1 while pictures come and are all the same, bit for bit, also after the source was opened anew.",
        _of_stats(lambda s: 1 if s.source.frozen else 0),
    ),
    Family(
        "last_frame_timestamp_seconds",
        "gauge",
        "When the worker last told of a new picture, by the gateway's clock: its age is "
        "camfleet_gateway_time_seconds minus this. 0 until the first one after the worker has connected.",
        _of_telemetry(lambda t: t.picture_time),
    ),
    Family(
        "last_inference_timestamp_seconds",
        "gauge",
        "The same of pictures that were examined.",
        _of_telemetry(lambda t: t.inference_time),
    ),
    Family(
        "frames_captured_total",
        "counter",
        "Pictures captured by the worker since its start.",
        _of_stats(lambda s: s.frames.captured),
    ),
    Family(
        "frames_inferred_total",
        "counter",
        "Pictures examined.",
        _of_stats(lambda s: s.frames.inferred),
    ),
    Family(
        "frames_encoded_total",
        "counter",
        "Pictures encoded, each form counted; stands still while nobody watches.",
        _of_stats(lambda s: s.frames.encoded),
    ),
    Family(
        "frames_published_total",
        "counter",
        "Pictures sent to the gateway.",
        _of_stats(lambda s: s.frames.published),
    ),
    Family(
        "frames_dropped_total",
        "counter",
        "Pictures that the worker has given up for newer ones.",
        _by_label("reason", lambda s: _bounded(s.frames.dropped, MAX_DROP_REASONS)),
        ("reason",),
    ),
    Family(
        "source_reconnects_total",
        "counter",
        "How often the worker tried to open the source again.",
        _of_stats(lambda s: s.source.reconnects),
    ),
    Family(
        "source_errors_total",
        "counter",
        "Errors of the source, by reason.",
        _by_label("reason", lambda s: _bounded(s.source.errors, MAX_ERROR_REASONS)),
        ("reason",),
    ),
    Family("inference_seconds", "summary", "Time spent on inference.", _inference),
    Family(
        "detections_total",
        "counter",
        "Things found in pictures.",
        _by_label("kind", lambda s: _kinds(s.detections)),
        ("kind",),
    ),
    Family(
        "events_dropped_total",
        "counter",
        "Events that the worker has lost since its start: its outbox was full, or its disk for too long.",
        _of_stats(lambda s: s.events_dropped),
    ),
    Family(
        "worker_cpu_seconds_total",
        "counter",
        "CPU time of the worker's process.",
        _of_stats(lambda s: s.cpu_seconds),
    ),
    Family(
        "worker_resident_memory_bytes",
        "gauge",
        "Resident memory of the worker.",
        _of_stats(lambda s: s.resident_bytes),
    ),
    Family(
        "worker_gpu_memory_bytes",
        "gauge",
        "GPU memory of the worker. Absent where unknown: NVIDIA's driver tells nothing inside a pod, "
        "but the DCGM exporter has it by pod.",
        _gpu_memory,
    ),
    Family(
        "viewers",
        "gauge",
        "Who watches the camera on this gateway now.",
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
    families = [family for family in FAMILIES if not names or f"{PREFIX}{family.suffix}" in names]
    if not families:
        return
    rows: list[Row] = []
    for channel in channels:
        rows.append(Row(channel))
        if len(rows) % LINES_PER_CHUNK == 0:
            yield ""
    for family in families:
        name = f"{PREFIX}{family.suffix}"
        lines = [f"# HELP {name} {family.text}\n# TYPE {name} {family.kind}\n"]
        for row in rows:
            for ending, labels, value in family.samples(row):
                lines.append(f"{name}{ending}{{{row.labels}{labels}}} {_number(value)}\n")
            if len(lines) >= LINES_PER_CHUNK:
                yield "".join(lines)
                lines.clear()
        yield "".join(lines)


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
