"""Is a camera healthy? What the gateways say of it, turned into a verdict. Pure; the clock is handed in.

`judge` decides on one reading. `Evaluator` makes readings of the gateways' pages and decides what is
published: good news at once, bad news when two readings in a row agree (unless the camera has not been well
before), and that nothing is known when that has been so for half a minute. Whatever is missing, not a number,
late or contradictory is Unknown, and Unknown moves nothing. Beside what is published, `Evidence` keeps the
last reading as it was and how often in a row it was bad: moves rest on that.

Ages are differences between two times of the same gateway on the same page, so no two clocks are compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from camfleet_operator.cluster.health.scrape import Scrape, camera_of, labels_of, number

UNKNOWN_AFTER_SECONDS = 30.0
BAD_READINGS = 2
_RENDERING_SECONDS = 5.0
"""A page is written from top to bottom: a picture may be newer than the page's own time by so much."""
_FRESH_SECONDS = 1.0
"""Younger than any timeout that can be configured."""


class Verdict(Enum):
    """What is known of a camera."""

    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Criteria:
    """When a camera is late, in seconds."""

    stall: float = 20.0
    first_frame: float = 60.0
    expects_inference: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """A verdict, and what it rests on; None where that is not known.

    Attributes:
        frame_age: Seconds since the last picture at the time of the scrape.
        streaming: Whether pictures come.
        reason: CamelCase, stable: fit for a condition.
        message: A sentence that does not change while the reason does not.
    """

    verdict: Verdict
    worker_connected: bool | None
    source_connected: bool | None
    frame_age: float | None
    streaming: bool | None
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The last reading of a camera as it was, whatever is published.

    Attributes:
        health: What the reading was judged to be.
        readings: Unhealthy readings in a row, each of a scrape of its own; 0 if the last was Healthy or
            Unknown. They begin anew after a Healthy one, after one that is Unknown for this camera alone,
            and after half a minute in which nothing at all was known. A shorter silence of all gateways
            (or of Prometheus) only suspends them.
        since: When the scrape of the first of them began; of the last reading if there are none.
            Monotonic seconds.
        at: When the scrape of the last reading began. Monotonic seconds.
        gateway: `host:port` of the gateway that holds the worker; empty if none does or it is not known.
        absent: Whether the reading is Unknown only because some gateway cannot be asked: those that can be
            say that the worker is not with them. If its node is silent as well, it is lost all the same.
    """

    health: Health
    readings: int
    since: float
    at: float
    gateway: str = ""
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """One camera at one moment.

    Attributes:
        worker: Whether a worker is connected to any gateway; None if that cannot be told.
        unknown: Why nothing can be told, as a reason; empty if it can.
        source: Whether the worker has its source.
        frame_age: Seconds since the last picture; None before the first.
        inference_age: Seconds since the last inference; None before the first.
        error: The source's error that was counted last, in snake_case; empty if there was none.
        waited: Seconds that the worker has been seen connected.
        flowed: Seconds that pictures have been seen to come.
        frozen: Whether all pictures are the same.
        silent: Whether nobody could be asked at all, about any camera.
        gateway: `host:port` of the gateway that holds the worker.
        absent: Whether all gateways that could be asked say that the worker is not with them.
    """

    worker: bool | None
    unknown: str = ""
    source: bool | None = None
    frame_age: float | None = None
    inference_age: float | None = None
    error: str = ""
    waited: float = 0.0
    flowed: float = 0.0
    frozen: bool = False
    silent: bool = False
    gateway: str = ""
    absent: bool = False


_MESSAGES = {
    "GatewayUnreachable": "a gateway does not answer, so nothing is known of this camera",
    "NotReported": "no gateway knows this camera yet",
    "ContradictoryMetrics": "the gateways contradict each other about this camera",
    "InvalidMetrics": "the gateway's figures for this camera are incomplete",
    "WorkerNotConnected": "the worker is not connected to a gateway",
    "WaitingForFirstFrame": "the worker is connected and waits for the first picture",
    "NoFirstFrame": "the worker is connected and the source has brought no picture in time",
    "SourceDisconnected": "the worker has lost its source and tries to reach it again",
    "Stalled": "the source is connected and brings no pictures any more",
    "InferenceStalled": "pictures come and are not examined any more",
    "PictureFrozen": "pictures come and are all the same",
    "AuthFailed": "the camera refuses the user or password",
    "CredentialsMissing": "the Secret with user and password is missing or incomplete",
    "MediaNotAllowed": "the file may not be read",
    "SourceEnded": "the file has been played to its end",
    "SourceInvalid": "what the source sends is not a video that can be decoded",
    "SourceLost": "the connection to the source was lost",
    "SourceNotFound": "there is no such file or stream",
    "SourceRefused": "the connection to the source was refused",
    "SourceStalled": "the source had stopped to bring pictures, and is opened again",
    "SourceTimeout": "the source does not answer in time",
    "SourceUnreachable": "the source's address cannot be reached",
    "SourceUnsupported": "the worker cannot read this kind of source",
    "SourceError": "the source cannot be read; the worker's log says more",
}
_BLIND = "the operator gets no figures of any gateway, so nothing is known of this camera"
_STREAMING = Health(Verdict.HEALTHY, True, True, None, True, "Streaming")
_LABEL = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", re.ASCII)
_AUTH_FAILED = "auth_failed"


def error_reason(label: str) -> str:
    """CamelCase of a metric label; `SourceError` for one that is none of ours."""
    reason = "".join(part.capitalize() for part in label.split("_")) if _LABEL.fullmatch(label) else ""
    return reason if reason in _MESSAGES else "SourceError"


def judge(reading: Reading, criteria: Criteria) -> Health:
    """Decide on one reading."""
    if reading.unknown or reading.worker is None:
        reason = reading.unknown or "InvalidMetrics"
        return Health(Verdict.UNKNOWN, None, None, None, None, reason, _MESSAGES.get(reason, _BLIND))
    if not reading.worker:
        return _bad("WorkerNotConnected", worker=False, source=None, age=None)
    age, source = reading.frame_age, reading.source
    if not source:
        starting = age is None and reading.waited < criteria.first_frame
        quiet = "WaitingForFirstFrame" if starting else "SourceDisconnected"
        return _bad(error_reason(reading.error) if reading.error else quiet, source=source, age=age)
    if age is None:
        late = reading.waited >= criteria.first_frame
        return _bad("NoFirstFrame" if late else "WaitingForFirstFrame", source=source, age=age)
    if age >= criteria.stall:
        return _bad("Stalled", source=source, age=age)
    if criteria.expects_inference:
        patience = criteria.first_frame if reading.inference_age is None else criteria.stall
        since = reading.flowed if reading.inference_age is None else reading.inference_age
        if since >= patience:
            return _bad("InferenceStalled", source=source, age=age, streaming=True)
    if reading.frozen:
        return _bad("PictureFrozen", source=source, age=age, streaming=True)
    return replace(_STREAMING, frame_age=age)


def _bad(
    reason: str, *, source: bool | None, age: float | None, worker: bool = True, streaming: bool = False
) -> Health:
    return Health(Verdict.UNHEALTHY, worker, source, age, streaming, reason, _MESSAGES[reason])


class _Camera:
    """What is remembered of a camera between two scrapes."""

    __slots__ = (
        "absent", "age", "bad", "bad_since", "error", "errors", "flowing_since", "gateway", "health",
        "judged_at", "known_at", "labels", "raw", "raw_age", "raw_at", "started_at", "streak", "was_healthy",
        "worker_since",
    )  # fmt: skip

    def __init__(self, camera_id: str, now: float) -> None:
        self.labels = labels_of(camera_id)
        self.health: Health | None = None
        """What is published, without its age."""
        self.age: float | None = None
        self.judged_at = 0.0
        self.known_at = now
        """When a reading last told anything, or we began to look."""
        self.started_at = float("-inf")
        self.bad = 0
        self.was_healthy = False
        self.worker_since: float | None = None
        self.flowing_since: float | None = None
        self.errors: dict[str, float] | None = None
        self.error = ""
        self.raw: Health | None = None
        """What the last reading was judged to be, without its age."""
        self.raw_age: float | None = None
        self.raw_at = now
        self.gateway = ""
        self.absent = False
        self.streak = 0
        """Readings in a row that were Unhealthy; a short silence of all gateways counts for nothing."""
        self.bad_since = now


class Evaluator:
    """Verdicts of all cameras, from one scrape of all gateways to the next.

    Args:
        criteria: Timeouts of a camera; asked only when one of them matters, and should be cheap.
    """

    def __init__(self, criteria: Callable[[str], Criteria] = lambda _: Criteria()) -> None:
        self._criteria = criteria
        self._cameras: dict[str, _Camera] = {}
        self._trouble = ""

    def health(self, camera_id: str) -> Health | None:
        """What is published of a camera; None if nothing is yet."""
        camera = self._cameras.get(camera_id)
        if camera is None or camera.health is None:
            return None
        return replace(camera.health, frame_age=camera.age)

    def judged_at(self, camera_id: str) -> float:
        """When the scrape began that the published verdict rests on; 0 if there is none."""
        camera = self._cameras.get(camera_id)
        return camera.judged_at if camera is not None and camera.health is not None else 0.0

    def evidence(self, camera_id: str) -> Evidence | None:
        """The last reading of a camera; None if there is none yet of its present worker."""
        camera = self._cameras.get(camera_id)
        if camera is None or camera.raw is None:
            return None
        health = replace(camera.raw, frame_age=camera.raw_age)
        if health.verdict is Verdict.UNHEALTHY:
            return Evidence(health, camera.streak, camera.bad_since, camera.raw_at, camera.gateway)
        absent = camera.absent and health.verdict is Verdict.UNKNOWN
        return Evidence(health, 0, camera.raw_at, camera.raw_at, camera.gateway, absent)

    def counts(self) -> dict[str, int]:
        """Cameras by published verdict; those without one are Unknown."""
        found = {verdict.value: 0 for verdict in Verdict}
        for camera in self._cameras.values():
            found[(camera.health.verdict if camera.health else Verdict.UNKNOWN).value] += 1
        return found

    def expect(self, camera_id: str, now: float) -> None:
        """A new worker begins: what was said is of another one, and the next verdict is reported anyhow."""
        camera = self._cameras[camera_id] = _Camera(camera_id, now)
        camera.started_at = now

    def tick(
        self,
        now: float,
        scrapes: Sequence[Scrape],
        *,
        complete: bool,
        cameras: Iterable[str] | None = None,
        trouble: str = "",
    ) -> set[str]:
        """Take in what the gateways say. No scrape may be handed in twice.

        Args:
            now: When the first of the scrapes began; monotonic seconds.
            scrapes: What those say that have answered.
            complete: Whether all have.
            cameras: Which cameras there are; None for those that the gateways name.
            trouble: Why there are no scrapes, as a reason.

        Returns:
            The cameras of which something else is published now, their ages aside.
        """
        wanted = self._reported(scrapes) if cameras is None else set(cameras)
        for gone in self._cameras.keys() - wanted:
            del self._cameras[gone]
        self._trouble = trouble or "GatewayUnreachable"
        changed: set[str] = set()
        for camera_id in wanted:
            camera = self._cameras.get(camera_id)
            if camera is None:
                camera = self._cameras[camera_id] = _Camera(camera_id, now)
            if now >= camera.started_at and self._update(camera_id, camera, now, scrapes, complete):
                changed.add(camera_id)
        return changed

    def _reported(self, scrapes: Sequence[Scrape]) -> set[str]:
        named = {labels for scrape in scrapes for labels in scrape.worker}
        return {camera_of(labels) for labels in named} if scrapes else set(self._cameras)

    def _update(
        self, camera_id: str, camera: _Camera, now: float, scrapes: Sequence[Scrape], complete: bool
    ) -> bool:
        if _flows(camera, now, scrapes):
            return _publish(camera, _STREAMING, camera.raw_age, now)
        reading = self._read(camera, now, scrapes, complete)
        health = judge(reading, self._criteria(camera_id))
        _remember(camera, health, reading, now)
        return _publish(camera, health, reading.frame_age, now)

    def _read(self, camera: _Camera, now: float, scrapes: Sequence[Scrape], complete: bool) -> Reading:
        labels, holder, reported = camera.labels, None, False
        for scrape in scrapes:
            text = scrape.worker.get(labels)
            if text is None:
                continue
            reported = True
            value = number(text)
            if value not in (0.0, 1.0):
                return Reading(None, "InvalidMetrics")
            if labels in scrape.contradictory or (value and holder is not None):
                return Reading(None, "ContradictoryMetrics")
            if value:
                holder = scrape
        if holder is None:
            if not scrapes:
                return Reading(None, self._trouble, silent=True)
            if not complete:
                return Reading(None, "GatewayUnreachable", absent=reported)
            if not reported:
                return Reading(None, "NotReported")
            camera.worker_since = camera.flowing_since = None
            return Reading(False)
        return _read_holder(camera, now, holder)


def _flows(camera: _Camera, now: float, scrapes: Sequence[Scrape]) -> bool:
    """Whether all is plainly well: the common case, at a fraction of the cost of a reading."""
    labels = camera.labels
    holder: Scrape | None = None
    for scrape in scrapes:
        text = scrape.worker.get(labels)
        if text == b"1" and holder is None:
            holder = scrape
        elif text is not None and text != b"0":
            return False
    if holder is None or holder.source.get(labels) != b"1" or labels in holder.contradictory:
        return False
    if holder.frozen.get(labels, b"0") != b"0":
        return False
    try:
        age = holder.time - float(holder.frame[labels])
        inference_age = holder.time - float(holder.inference[labels])
    except (KeyError, ValueError):
        return False
    # Not so for a NaN, either.
    if not (-_RENDERING_SECONDS < age < _FRESH_SECONDS > inference_age > -_RENDERING_SECONDS):
        return False
    camera.raw, camera.raw_at, camera.raw_age = _STREAMING, now, age if age > 0 else 0.0
    camera.streak, camera.gateway = 0, holder.instance
    if camera.flowing_since is None:
        camera.flowing_since = now
        if camera.worker_since is None:
            camera.worker_since = now
    camera.errors = holder.errors.get(labels) or {}
    camera.error = ""
    return True


def _read_holder(camera: _Camera, now: float, scrape: Scrape) -> Reading:
    labels = camera.labels
    source = number(scrape.source.get(labels))
    frame = number(scrape.frame.get(labels))
    inference = number(scrape.inference.get(labels))
    frozen = number(scrape.frozen.get(labels, b"0"))
    if source not in (0.0, 1.0) or frozen not in (0.0, 1.0) or frame is None or inference is None:
        return Reading(None, "InvalidMetrics")
    if max(frame, inference) > scrape.time + _RENDERING_SECONDS:
        return Reading(None, "ContradictoryMetrics")
    if camera.worker_since is None:
        camera.worker_since = now
    if not frame or not source:
        camera.flowing_since = None
    elif camera.flowing_since is None:
        camera.flowing_since = now
    _note_errors(camera, scrape.errors.get(labels) or {})
    if source and frame and scrape.time - frame < _FRESH_SECONDS:
        camera.error = ""  # overcome: the next trouble has a reason of its own
    return Reading(
        True,
        source=source == 1.0,
        frame_age=max(0.0, scrape.time - frame) if frame else None,
        inference_age=max(0.0, scrape.time - inference) if inference else None,
        error=camera.error,
        waited=now - camera.worker_since,
        flowed=now - camera.flowing_since if camera.flowing_since is not None else 0.0,
        frozen=frozen == 1.0,
        gateway=scrape.instance,
    )


def _note_errors(camera: _Camera, errors: dict[str, float]) -> None:
    """Remember which error was counted last."""
    before = camera.errors
    if errors == before:
        return
    camera.errors = errors
    if not errors:
        return
    if before is None:
        # Which of several came last is not known; but after a refusal nothing is tried for half an hour.
        grown = errors if _AUTH_FAILED not in errors else {_AUTH_FAILED: errors[_AUTH_FAILED]}
    else:
        # A count that has fallen is a new worker's.
        grown = {
            label: count - (old if (old := before.get(label, 0.0)) <= count else 0.0)
            for label, count in errors.items()
            if count != before.get(label, 0.0)
        }
    if grown:
        camera.error = max(grown, key=lambda label: (grown[label], label))


def _remember(camera: _Camera, health: Health, reading: Reading, now: float) -> None:
    """Keep the reading as evidence."""
    camera.raw, camera.raw_at, camera.raw_age = health, now, reading.frame_age
    camera.gateway, camera.absent = reading.gateway, reading.absent
    if health.verdict is Verdict.UNHEALTHY:
        if not camera.streak:
            camera.bad_since = now
        camera.streak += 1
    elif not reading.silent or now - camera.known_at >= UNKNOWN_AFTER_SECONDS:
        camera.streak = 0


def _publish(camera: _Camera, health: Health, age: float | None, now: float) -> bool:
    """Decide whether a verdict is published; returns whether that changes anything but the age."""
    published = camera.health
    if published is health is _STREAMING:
        camera.bad, camera.judged_at, camera.known_at, camera.age = 0, now, now, age
        return False
    if health.verdict is Verdict.UNKNOWN:
        if now - camera.known_at < UNKNOWN_AFTER_SECONDS:
            return False
        camera.bad = 0
    else:
        camera.known_at = now
        if health.verdict is Verdict.UNHEALTHY:
            camera.bad += 1
            if camera.was_healthy and camera.bad < BAD_READINGS:
                return False
        else:
            camera.bad, camera.was_healthy = 0, True
    camera.judged_at, camera.age = now, age
    health = _STREAMING if health.verdict is Verdict.HEALTHY else replace(health, frame_age=None)
    if published == health:
        return False
    camera.health = health
    return True
