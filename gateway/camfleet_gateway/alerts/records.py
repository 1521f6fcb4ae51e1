"""Alerts as events: their ids, which are the same however often they are made, and their data."""

from __future__ import annotations

import hashlib
from typing import Any

from camfleet_gateway.alerts.rules import severity_of
from camfleet_protocol.messages import EventRecord
from camfleet_protocol.vision import AlertSpec

ALERT = "alert"
ENDED = "alert.ended"
"""Types of the events."""
_ALERT_PREFIX, _ENDED_PREFIX = "al-", "ae-"
_DIGITS = 40


def alert_id(rule: AlertSpec, camera: str, cause: str) -> str:
    """The id of the alert that a rule of a camera raises for a cause, such as the id of an event."""
    text = "\0".join((camera, rule.name, rule.when.value, cause))
    return _ALERT_PREFIX + hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def ended_id(alert: str) -> str:
    """The id of the event that tells the end of an alert."""
    return _ENDED_PREFIX + alert.removeprefix(_ALERT_PREFIX)


def is_ours(record: EventRecord) -> bool:
    """Whether an event is an alert of this gateway: what a worker calls one has a number of its own."""
    return record.type == ALERT and record.id.startswith(_ALERT_PREFIX) and record.order == 0


def alert_record(
    rule: AlertSpec, camera: str, *, id_: str, time: float, text: str, data: dict[str, Any]
) -> EventRecord:
    """The event of an alert.

    Args:
        rule: The rule that raises it.
        camera: Id of its camera.
        id_: `alert_id`.
        time: Unix seconds; when what it tells of was so.
        text: For people; names nobody.
        data: What is known besides.
    """
    return EventRecord.model_validate(
        {
            "id": id_,
            "time": time,
            "camera": camera,
            "type": ALERT,
            "severity": severity_of(rule),
            "message": f"{rule.name}: {text}"[:512],
            "data": {"rule": rule.name, "when": rule.when.value, "zone": rule.zone or "", **data},
        }
    )


def ended_record(rule: str, when: str, zone: str, camera: str, *, alert: str, time: float) -> EventRecord:
    """The event of an alert's end; the rule may be gone, so it is told by its name."""
    return EventRecord.model_validate(
        {
            "id": ended_id(alert),
            "time": time,
            "camera": camera,
            "type": ENDED,
            "message": f"{rule}: over"[:512],
            "data": {"rule": rule, "when": when, "zone": zone, "alert_id": alert},
        }
    )
