"""What the rules of a camera say of an appearance, of a camera's state and of what is in view. Pure.

A rule about appearances speaks at most once of each. What appears while a rule is cooling down is told when
the cooldown has ended, if it is still there: who has come and gone meanwhile is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from camfleet_gateway.alerts.schedule import applies
from camfleet_protocol.appearance import Appearance, Identity
from camfleet_protocol.messages import Present
from camfleet_protocol.vision import AlertSpec, AlertWhen

BLOCKED = "blocked"
"""The group of people that BlockedPerson is about."""
DEFAULT_CLASSES = ("person",)
DEFAULT_COOLDOWN_SECONDS = 300
DEFAULT_SEVERITY = "warning"
_DEFAULT_FOR_SECONDS = {AlertWhen.CAMERA_OFFLINE: 60, AlertWhen.COUNT_ABOVE: 5}

LASTING = frozenset(_DEFAULT_FOR_SECONDS)
"""What must last, and has an end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """That a rule applies.

    Attributes:
        since: Unix seconds; when what it is about began, as far as the cooldown is concerned.
        at: Unix seconds; when it last was so.
        text: For people; names nobody.
        data: For programs, a part of the alert's data.
    """

    since: float
    at: float
    text: str
    data: dict[str, Any] = field(default_factory=dict)


def severity_of(rule: AlertSpec) -> str:
    """How much an alert of the rule matters."""
    return rule.severity or DEFAULT_SEVERITY


def must_last(rule: AlertSpec) -> float:
    """Seconds for which what the rule is about must last."""
    default = _DEFAULT_FOR_SECONDS.get(rule.when, 0)
    return float(default if rule.for_seconds is None else rule.for_seconds)


def cooldown_of(rule: AlertSpec) -> float:
    """Seconds between two alerts of the rule, at least.

    That goes for the moments that they are about, in either direction: what a worker has kept while the
    gateway was away comes late, and an alert long before the newest one is not too soon after it.
    """
    return float(DEFAULT_COOLDOWN_SECONDS if rule.cooldown_seconds is None else rule.cooldown_seconds)


def judge(rule: AlertSpec, appearance: Appearance) -> Finding | None:
    """What a rule says of an appearance as far as it is known now; None if nothing."""
    stays = tuple(stay.name for stay in appearance.zones)
    if rule.zone is not None and rule.zone not in stays:
        return None
    if not applies(rule.schedule, appearance.seen):
        return None
    match rule.when:
        case AlertWhen.IN_ZONE if appearance.label in (rule.classes or DEFAULT_CLASSES):
            text = f"{appearance.label} in the zone {rule.zone}"
        case AlertWhen.BLOCKED_PERSON if _blocked(appearance):
            text = _somewhere("somebody of the group blocked", rule)
        case AlertWhen.UNKNOWN_PERSON if appearance.identity is Identity.UNKNOWN:
            text = _somewhere("somebody unknown", rule)
        case _:
            return None
    data: dict[str, Any] = {
        "label": appearance.label,
        "identity": appearance.identity.value,
        "zones": list(stays),
        "track": appearance.track,
    }
    if appearance.person is not None:
        person = appearance.person
        data["person"] = {"id": person.id, "name": person.name, "group": person.group}
    gone = appearance.ended is not None
    return Finding(
        since=appearance.started if gone else appearance.seen, at=appearance.seen, text=text, data=data
    )


def count(rule: AlertSpec, present: Iterable[Present]) -> int:
    """How many things in view a CountAbove rule is about."""
    classes = rule.classes or DEFAULT_CLASSES
    return sum(item.count for item in present if item.label in classes and item.zone == (rule.zone or ""))


def _blocked(appearance: Appearance) -> bool:
    known = appearance.identity is Identity.KNOWN
    return known and appearance.person is not None and appearance.person.group == BLOCKED


def _somewhere(who: str, rule: AlertSpec) -> str:
    return who if rule.zone is None else f"{who} in the zone {rule.zone}"
