"""What a viewer should think of a camera: pure functions of what is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from camfleet_gateway.telemetry import Telemetry
from camfleet_protocol.camera import Camera, ConditionStatus, SourceType
from camfleet_protocol.messages import CameraState, SourceState, WorkerHello
from camfleet_protocol.redaction import redact
from camfleet_protocol.settings import Settings, effective_settings
from camfleet_protocol.vision import AlertSpec

STALE_SECONDS = 2.0

_TELLING = ("Scheduled", "Ready", "SourceConnected")
"""Conditions of the operator that say why there is no worker, the one nearest to the cause first."""
_SOURCE_REASONS = {
    SourceState.CONNECTING: "Connecting",
    SourceState.BACKOFF: "SourceUnavailable",
    SourceState.AUTH_STOP: "AuthFailed",
    SourceState.ENDED: "SourceEnded",
    SourceState.CONNECTED: "NoFrames",
}

SHOWN = ("inference", "stream", "privacy")
"""Blocks of the settings that viewers are told."""


@dataclass(frozen=True, slots=True)
class View:
    """State, reason for programs, message for people."""

    state: CameraState
    reason: str = ""
    message: str = ""


NO_WORKER = View(CameraState.OFFLINE, "NoWorker", "no worker is connected")
FROZEN = View(CameraState.LIVE, "PictureFrozen", "pictures come and are all the same")


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change while a camera runs: derived once from its object or from the worker's hello."""

    name: str
    namespace: str
    source: str
    source_type: SourceType | None
    suspended: bool
    settings: dict[str, Any]
    settings_hash: str
    ai_enabled: bool
    site: str
    profile: str
    without_worker: View
    """How it is while no worker is connected."""
    alerts: tuple[AlertSpec, ...] = ()
    """The rules that raise alerts."""
    recognition: bool = False
    """Whether faces are recognised: it is switched on, and said how long anything is kept."""
    retention_days: int | None = None
    """How long its events are kept; None: as the installation says."""


def facts_of(camera: Camera) -> Facts:
    """The facts of a camera of the directory."""
    status = camera.status.settings
    if status is not None and status.values:
        settings = Settings.model_validate(status.values)
        digest = status.hash
    else:
        settings = effective_settings(camera)
        digest = ""
    values = settings.values()
    return Facts(
        name=camera.metadata.name,
        namespace=camera.metadata.namespace,
        source=redact(camera.spec.source.describe()),
        source_type=camera.spec.source.type,
        suspended=bool(camera.spec.suspend),
        settings={key: values[key] for key in SHOWN},
        settings_hash=digest,
        ai_enabled=settings.inference.enabled,
        site=settings.site or "",
        profile=camera.spec.profile_ref.name if camera.spec.profile_ref else "",
        without_worker=_without_worker(camera),
        recognition=settings.recognition,
        retention_days=settings.privacy.retention_days,
        alerts=settings.alerts,
    )


def facts_by_hand(camera_id: str, hello: WorkerHello | None) -> Facts:
    """The facts of a camera that only its worker knows."""
    namespace, _, name = camera_id.partition(".")
    settings = _said(hello.settings) if hello and hello.settings else None
    values = settings.values() if settings else {}
    return Facts(
        name=name,
        namespace=namespace,
        source=redact(hello.source) if hello else "",
        source_type=hello.source_type if hello else None,
        suspended=False,
        settings={key: values[key] for key in SHOWN if key in values},
        settings_hash=hello.settings_hash if hello else "",
        ai_enabled=bool(settings and settings.inference.enabled),
        site=(settings.site or "") if settings else "",
        profile="",
        without_worker=NO_WORKER,
        recognition=bool(settings and settings.recognition),
        retention_days=settings.privacy.retention_days if settings else None,
        alerts=settings.alerts if settings else (),
    )


def _said(values: dict[str, Any]) -> Settings | None:
    """The settings that a worker says it runs with; None for rubbish."""
    try:
        return Settings.model_validate(values)
    except ValidationError:
        return None


def view_of(facts: Facts, telemetry: Telemetry | None, now: float) -> View:
    """Decide the state of a camera.

    Args:
        facts: Its facts.
        telemetry: That of its connected worker, or None if none is connected.
        now: Monotonic seconds.
    """
    if facts.suspended:
        return View(CameraState.SUSPENDED, "Suspended", "paused by a user")
    if telemetry is None:
        return facts.without_worker
    age = telemetry.age(now)
    stats = telemetry.stats
    if age is None:
        if stats is None or stats.source.state is SourceState.CONNECTING:
            return View(
                CameraState.CONNECTING, "Connecting", _text(telemetry, "waiting for the first picture")
            )
        return View(CameraState.CONNECTING, _reason(telemetry), _text(telemetry, "no picture yet"))
    limit = max(STALE_SECONDS, 2.0 / telemetry.expected_fps) if telemetry.expected_fps else STALE_SECONDS
    if age > limit:
        return View(CameraState.STALE, _reason(telemetry), _text(telemetry, "no new picture from the source"))
    if stats is not None and stats.source.frozen:
        return FROZEN
    if stats is not None and stats.inference_reason:
        return View(CameraState.LIVE, stats.inference_reason, redact(stats.inference_message))
    if stats is not None and stats.outbox_problem:
        return View(CameraState.LIVE, "EventsNotKept", redact(stats.outbox_problem))
    return View(CameraState.LIVE)


def _without_worker(camera: Camera) -> View:
    """What the operator's conditions say about it."""
    said = {condition.type: condition for condition in camera.status.conditions}
    for kind in _TELLING:
        condition = said.get(kind)
        if condition is not None and condition.status is ConditionStatus.FALSE and condition.reason:
            return View(CameraState.OFFLINE, condition.reason, redact(condition.message))
    scheduled = said.get("Scheduled")
    if scheduled is not None and scheduled.status is ConditionStatus.UNKNOWN and scheduled.message:
        return View(CameraState.OFFLINE, scheduled.reason, redact(scheduled.message))
    return NO_WORKER


def _reason(telemetry: Telemetry) -> str:
    if telemetry.stats is None:
        return "NoFrames"
    source = telemetry.stats.source
    return source.reason or _SOURCE_REASONS[source.state]


def _text(telemetry: Telemetry, otherwise: str) -> str:
    message = telemetry.stats.source.message if telemetry.stats else ""
    return redact(message) if message else otherwise
