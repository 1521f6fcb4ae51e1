"""The few families of a gateway's metrics page that health is judged by, read fast. Pure.

Five thousand cameras make 25,000 lines every tick, so this is no general parser: each family is found by its
TYPE line, and one regular expression turns its lines into a dictionary. A line that looks otherwise is as
good as missing, and what is missing moves nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

FAMILIES = (
    "camfleet_camera_worker_connected",
    "camfleet_camera_source_connected",
    "camfleet_camera_last_frame_timestamp_seconds",
    "camfleet_camera_last_inference_timestamp_seconds",
    "camfleet_camera_source_errors_total",
    "camfleet_gateway_time_seconds",
    "camfleet_camera_picture_frozen",
)
"""What to ask the gateway for."""

Labels = bytes
"""A camera as its series name it: `namespace="N",camera="C"`."""
Values = dict[Labels, bytes]

_LABELS = rb'(namespace="[^"\\]+",camera="[^"\\]+")'
_WORKER, _SOURCE, _FRAME, _INFERENCE, _FROZEN = (
    re.compile(rb"^" + name.encode() + rb"\{" + _LABELS + rb"\} (\S+)", re.MULTILINE)
    for name in (*FAMILIES[:4], FAMILIES[6])
)
_ERRORS = re.compile(
    rb"^camfleet_camera_source_errors_total\{" + _LABELS + rb',reason="([^"\\]+)"\} (\S+)', re.MULTILINE
)
_TIME = re.compile(rb"^camfleet_gateway_time_seconds (\S+)", re.MULTILINE)


def labels_of(camera_id: str) -> Labels:
    """The labels of a camera, `namespace.name`."""
    namespace, _, name = camera_id.partition(".")
    return f'namespace="{namespace}",camera="{name}"'.encode()


def camera_of(labels: Labels) -> str:
    """The camera of such labels."""
    _, namespace, _, name, _ = labels.decode(errors="replace").split('"')
    return f"{namespace}.{name}"


def number(text: bytes | None) -> float | None:
    """A sample's value; None where there is none or it is not a finite number."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(slots=True)
class Scrape:
    """One gateway at one moment; values as text, for most are never looked at more closely.

    Attributes:
        time: The gateway's clock, Unix seconds.
        instance: Which gateway: `host:port`.
        frozen: Whether the picture stands still; empty with gateways that do not tell.
        contradictory: Cameras of which the page says two things.
    """

    time: float
    instance: str = ""
    worker: Values = field(default_factory=dict)
    source: Values = field(default_factory=dict)
    frame: Values = field(default_factory=dict)
    inference: Values = field(default_factory=dict)
    errors: dict[Labels, dict[str, float]] = field(default_factory=dict)
    frozen: Values = field(default_factory=dict)
    contradictory: set[Labels] = field(default_factory=set)


def parse(page: bytes, instance: str = "") -> Scrape | None:
    """Read the metrics page of a gateway; None if it is none's."""
    times = {number(text) for text in _TIME.findall(_family(page, FAMILIES[5]))}
    time = times.pop() if len(times) == 1 else None
    if time is None or b"# TYPE camfleet_camera_worker_connected " not in page:
        return None
    scrape = Scrape(time, instance)
    scrape.worker = _values(page, 0, _WORKER, scrape.contradictory)
    scrape.source = _values(page, 1, _SOURCE, scrape.contradictory)
    scrape.frame = _values(page, 2, _FRAME, scrape.contradictory)
    scrape.inference = _values(page, 3, _INFERENCE, scrape.contradictory)
    scrape.frozen = _values(page, 6, _FROZEN, scrape.contradictory)
    for labels, reason, text in _ERRORS.findall(_family(page, FAMILIES[4])):
        if (count := number(text)) is not None:
            scrape.errors.setdefault(labels, {})[reason.decode(errors="replace")] = count
    return scrape


def _family(page: bytes, name: str) -> bytes:
    start = page.find(b"# TYPE %s " % name.encode())
    if start < 0:
        return b""
    end = page.find(b"\n# ", start)
    return page[start : end if end >= 0 else len(page)]


def _values(page: bytes, family: int, pattern: re.Pattern[bytes], contradictory: set[Labels]) -> Values:
    samples = pattern.findall(_family(page, FAMILIES[family]))
    values: Values = dict(samples)
    if len(values) != len(samples):
        contradictory.update(labels for labels, text in samples if values[labels] != text)
    return values
