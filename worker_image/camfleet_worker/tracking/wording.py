"""What an appearance is called in a sentence. Pure."""

from __future__ import annotations

from camfleet_protocol.appearance import Appearance, Identity

_BLOCKED = "blocked"


def message_of(appearance: Appearance) -> str:
    """One sentence for people, such as "Alex Smith in view." or "Person in zone door."."""
    who, where = _subject(appearance), _place(appearance)
    if appearance.ended is None:
        return f"{who} {where}."
    seconds = max(0.0, appearance.ended - appearance.started)
    return f"{who} was {where} for {_duration(seconds)}."


def severity_of(appearance: Appearance) -> str:
    """`warning` for a person of the group blocked, `info` for everybody else."""
    person = appearance.person
    return "warning" if person is not None and person.group == _BLOCKED else "info"


def _subject(appearance: Appearance) -> str:
    if appearance.identity is Identity.KNOWN and appearance.person is not None:
        return appearance.person.name or appearance.person.id
    if appearance.identity is Identity.UNKNOWN:
        return "An unknown person"
    if appearance.kind == "face":
        return "A face"
    return appearance.label[:1].upper() + appearance.label[1:]


def _place(appearance: Appearance) -> str:
    names = [stay.name for stay in appearance.zones]
    if not names:
        return "in view"
    if len(names) == 1:
        return f"in zone {names[0]}"
    return f"in zones {', '.join(names[:-1])} and {names[-1]}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
