"""The five conditions of a camera, worked out from its plan, its pod and its pictures. Pure.

`Ready` sums the others up: its reason is the first thing that stands in the way, in the order in which a
picture comes about (a place, a container, a worker at the gateway, a source, frames). Messages are stable:
what changes every second (ages, rates) is a metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from camfleet_operator.cluster.health.verdicts import Health, Verdict
from camfleet_operator.cluster.pods import CRASH_LOOP, PodSeen
from camfleet_operator.cluster.scheduling import scheduling_reason
from camfleet_protocol.camera import Condition, ConditionStatus
from camfleet_protocol.settings import Settings

READY, SCHEDULED, SOURCE_CONNECTED, STREAMING, DEGRADED = (
    "Ready",
    "Scheduled",
    "SourceConnected",
    "Streaming",
    "Degraded",
)
TYPES = (READY, SCHEDULED, SOURCE_CONNECTED, STREAMING, DEGRADED)

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_MAX_MESSAGE = 512


@dataclass(frozen=True, slots=True)
class Fact:
    """One condition before it knows since when."""

    status: ConditionStatus
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the conditions depend on.

    Attributes:
        blocked: Why no worker should run or start (suspended, no such profile, waiting to restart), if that
            is so.
        pod: The newest pod that is alive, if there is one.
        health: What the gateways say of the camera since that pod runs; None if they have not said anything
            yet.
        before: What was said of this very pod before. It stands as long as the gateways have not been
            heard, for an operator that has just started knows less than the one before it.
        gpu_resource: The resource that stands for a GPU with this camera.
        on_cpu_instead: Whether it runs on a CPU though it prefers a GPU.
        shortfall: What its settings ask for and cannot have, if there is such a thing.
        held: Why a bad worker is not moved, in a sentence, if that is so.
    """

    blocked: Fact | None = None
    pod: PodSeen | None = None
    health: Health | None = None
    before: Mapping[str, Fact] = field(default_factory=dict)
    gpu_resource: str = ""
    on_cpu_instead: bool = False
    shortfall: Fact | None = None
    held: str = ""


def facts(situation: Situation) -> dict[str, Fact]:
    """Work out all five conditions."""
    scheduled = _scheduled(situation)
    streaming = _streaming(situation, scheduled)
    source = _source(situation, streaming)
    degraded = _degraded(situation, streaming)
    return {
        READY: _ready(scheduled, streaming),
        SCHEDULED: scheduled,
        SOURCE_CONNECTED: source,
        STREAMING: streaming,
        DEGRADED: degraded,
    }


def as_conditions(
    wanted: Mapping[str, Fact], before: Iterable[Condition], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Give facts their times: a condition keeps its transition time as long as its status stays."""
    old = {condition.type: condition for condition in before}
    made: list[Condition] = []
    for kind in TYPES:
        fact, known = wanted[kind], old.get(kind)
        same = known is not None and known.status is fact.status and known.last_transition_time is not None
        made.append(
            Condition(
                type=kind,
                status=fact.status,
                reason=fact.reason,
                message=fact.message[:_MAX_MESSAGE],
                observed_generation=generation,
                last_transition_time=known.last_transition_time if known is not None and same else now,
            )
        )
    return tuple(made)


def _scheduled(situation: Situation) -> Fact:
    pod = situation.pod
    if pod is None or pod.deleting:
        return situation.blocked or Fact(_UNKNOWN, "Pending", "the worker's pod is being created")
    if pod.scheduled:
        return Fact(_TRUE, "Scheduled")
    if pod.scheduled is False:
        reason = scheduling_reason(pod.scheduling_message, situation.gpu_resource)
        said = situation.before.get(SCHEDULED)
        if said is not None and said.status is _FALSE and said.reason == reason:
            return said  # the scheduler's sentence counts nodes: it changes with each, and means the same
        return Fact(_FALSE, reason, pod.scheduling_message)
    return Fact(_UNKNOWN, "Pending", "the scheduler has not placed the worker yet")


def _streaming(situation: Situation, scheduled: Fact) -> Fact:
    pod, health = situation.pod, situation.health
    if scheduled.status is not _TRUE or pod is None:
        return Fact(_FALSE, scheduled.reason, scheduled.message)
    if pod.image_trouble:
        return Fact(_FALSE, "ImagePullFailed", pod.waiting_message or pod.waiting)
    if pod.config_trouble:
        return Fact(_FALSE, "ContainerNotCreated", pod.waiting_message or pod.waiting)
    if pod.waiting == CRASH_LOOP:
        how = f" with code {pod.exit_code}" if pod.exit_code is not None else ""
        message = f"the worker keeps ending{how}; see its log"
        return Fact(_FALSE, "WorkerCrashLoop", _joined(message, situation.held))
    if pod.running and health is None and STREAMING in situation.before:
        return situation.before[STREAMING]
    if not pod.running or health is None:
        return Fact(_FALSE, "WorkerStarting", "the worker is starting")
    if health.verdict is Verdict.UNKNOWN:
        return Fact(_UNKNOWN, health.reason, health.message)
    if health.streaming:
        return Fact(_TRUE, "Streaming")
    return Fact(_FALSE, health.reason, _joined(health.message, situation.held))


def _source(situation: Situation, streaming: Fact) -> Fact:
    health = situation.health
    if situation.pod is not None and situation.pod.running:
        if health is None:
            return situation.before.get(SOURCE_CONNECTED) or Fact(
                _UNKNOWN, streaming.reason, streaming.message
            )
        if health.source_connected:
            return Fact(_TRUE, "SourceConnected")
        if health.source_connected is False and health.worker_connected:
            return Fact(_FALSE, health.reason, health.message)
    return Fact(_UNKNOWN, streaming.reason, streaming.message)


def _degraded(situation: Situation, streaming: Fact) -> Fact:
    if streaming.status is not _TRUE:
        return Fact(_UNKNOWN, streaming.reason)
    health = situation.health
    if health is None and DEGRADED in situation.before:
        return situation.before[DEGRADED]
    if health is not None and health.verdict is Verdict.UNHEALTHY:
        return Fact(_TRUE, health.reason, _joined(health.message, situation.held))
    if situation.on_cpu_instead:
        return Fact(_TRUE, "GPUUnavailable", "no GPU was free; the worker runs on a CPU")
    return situation.shortfall or Fact(_FALSE, "AsExpected")


def shortfall(settings: Settings) -> Fact | None:
    """What settings that are each right ask for and cannot have together."""
    if settings.retention_missing:
        return Fact(_TRUE, "RetentionMissing", "no face is recognised: privacy.retentionDays is not set")
    zones = {zone.name for zone in settings.inference.zones}
    for alert in settings.alerts:
        if alert.zone is not None and alert.zone not in zones:
            message = f"the alert {alert.name} never comes: there is no zone {alert.zone}"
            return Fact(_TRUE, "ZoneUnknown", message)
    return None


def _joined(message: str, held: str) -> str:
    return f"{message}; {held}" if message and held else message or held


def _ready(scheduled: Fact, streaming: Fact) -> Fact:
    if streaming.status is _TRUE:
        return Fact(_TRUE, "Streaming")
    if scheduled.status is not _TRUE:
        return Fact(_FALSE, scheduled.reason, scheduled.message)
    return Fact(streaming.status, streaming.reason, streaming.message)
