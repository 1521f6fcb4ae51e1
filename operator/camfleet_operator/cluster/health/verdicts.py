"""Is a camera healthy? One reading of it, turned into a verdict with its reason and its sentence. Pure.

Whatever is missing, not a number, late or contradictory is Unknown, and Unknown moves nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum


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


MESSAGES = {
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
STREAMING = Health(Verdict.HEALTHY, True, True, None, True, "Streaming")
_LABEL = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", re.ASCII)


def error_reason(label: str) -> str:
    """CamelCase of a metric label; `SourceError` for one that is none of ours."""
    reason = "".join(part.capitalize() for part in label.split("_")) if _LABEL.fullmatch(label) else ""
    return reason if reason in MESSAGES else "SourceError"


def judge(reading: Reading, criteria: Criteria) -> Health:
    """Decide on one reading."""
    if reading.unknown or reading.worker is None:
        reason = reading.unknown or "InvalidMetrics"
        return Health(Verdict.UNKNOWN, None, None, None, None, reason, MESSAGES.get(reason, _BLIND))
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
    return replace(STREAMING, frame_age=age)


def _bad(
    reason: str, *, source: bool | None, age: float | None, worker: bool = True, streaming: bool = False
) -> Health:
    return Health(Verdict.UNHEALTHY, worker, source, age, streaming, reason, MESSAGES[reason])
