"""What is to be said of a fleet: its cameras and what the operator explains of them, put together. Pure.

The Camera's status says how a camera does, the operator what it makes of that. Where the operator was not
asked, or tells of 500 cameras while more are bad, the conditions have to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from camfleet.kubectl.fleet import CameraView
from camfleet.kubectl.text import clock

MOVING_SECONDS = 300.0
"""A camera that is not ready so long after a move still counts as being moved."""

_WHAT = {
    "None": "nothing",
    "Wait": "waits",
    "Move": "moves it",
    "WouldMove": "would move it (dry run)",
    "Held": "holds back",
}
_UNASKED = "not known without the operator"
_SOURCE = "nothing: another node would not help"


@dataclass(frozen=True, slots=True)
class Row:
    """One camera.

    Attributes:
        camera: `NAMESPACE/NAME`.
        state: `Ready`, `NotReady`, `Suspended`.
        moving: Whether a move is under way or asked for.
        reason: CamelCase, from the condition Ready.
        message: A sentence.
        since: RFC 3339, when Ready last changed.
        node: Where its worker runs.
        fault: Whose fault it is, as the operator judges; empty if not known.
        action: The operator's decision, `None` … `Held`; empty if not known.
        next: What the operator does about it, for people.
        why: CamelCase reason of that.
    """

    camera: str
    state: str
    moving: bool
    reason: str
    message: str
    since: str
    node: str
    fault: str
    action: str
    next: str
    why: str


@dataclass(frozen=True, slots=True)
class Group:
    """Cameras with the same trouble."""

    count: int
    reason: str
    fault: str
    action: str
    next: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """A fleet."""

    rows: tuple[Row, ...]

    @property
    def bad(self) -> tuple[Row, ...]:
        """Those that should be ready and are not, the most frequent trouble first."""
        found = [row for row in self.rows if row.state == "NotReady"]
        often = Counter(_trouble(row) for row in found)
        return tuple(sorted(found, key=lambda row: (-often[_trouble(row)], _trouble(row), row.camera)))

    @property
    def groups(self) -> tuple[Group, ...]:
        """The troubles, the most frequent first."""
        by_trouble: dict[tuple[str, ...], list[Row]] = {}
        for row in self.bad:
            by_trouble.setdefault(_trouble(row), []).append(row)
        return tuple(
            Group(len(rows), rows[0].reason, rows[0].fault, rows[0].action, _shared_next(rows))
            for rows in by_trouble.values()
        )

    def count(self, state: str) -> int:
        """How many are in a state."""
        return sum(row.state == state for row in self.rows)

    @property
    def moving(self) -> int:
        """How many are being moved."""
        return sum(row.moving for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """For programs: every camera that is not ready, none left out."""
        return {
            "cameras": len(self.rows),
            "ready": self.count("Ready"),
            "notReady": self.count("NotReady"),
            "suspended": self.count("Suspended"),
            "moving": self.moving,
            "groups": [asdict(group) for group in self.groups],
            "notReadyCameras": [asdict(row) for row in self.bad],
        }


def assess(cameras: Iterable[CameraView], explained: Mapping[str, Any] | None, now: datetime) -> Assessment:
    """Put both together.

    Args:
        cameras: The cameras in question.
        explained: The operator's `/explain`, or None if it was not to be had.
        now: For times.
    """
    by_key = {str(e.get("camera")): e for e in (explained or {}).get("cameras") or () if isinstance(e, dict)}
    asked = explained is not None
    return Assessment(tuple(_row(camera, by_key.get(camera.key), asked, now) for camera in cameras))


def spread(rows: Sequence[Row], most: int) -> list[Row]:
    """At most `most` rows, from every trouble in turn: the frequent one must not hide the odd one out."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(_trouble(row), []).append(row)
    taken = dict.fromkeys(groups, 0)
    left = most
    while left > 0 and (open_ones := [k for k in groups if taken[k] < len(groups[k])]):
        for key in open_ones[:left]:
            taken[key] += 1
        left -= len(open_ones[:left])
    return [row for key, found in groups.items() for row in found[: taken[key]]]


def next_text(decision: Mapping[str, Any], now: datetime) -> str:
    """A decision of the operator as a person says it."""
    action = str(decision.get("action") or "")
    text = _WHAT.get(action, action or _UNASKED)
    if action == "Wait" and decision.get("notBefore"):
        text += f" until {clock(decision['notBefore'], now)}"
    message = str(decision.get("message") or decision.get("reason") or "")
    if action == "Held" and message.startswith("not moved"):
        return message
    return f"{text}: {message}" if message else text


def _row(camera: CameraView, explained: Mapping[str, Any] | None, asked: bool, now: datetime) -> Row:
    ready = camera.conditions.get("Ready", {})
    state = "Suspended" if camera.suspended else "Ready" if camera.ready else "NotReady"
    decision = (explained or {}).get("decision") or {}
    moving = state == "NotReady" and camera.moved_within(MOVING_SECONDS, now)
    return Row(
        camera=camera.id,
        state=state,
        moving=bool(moving or camera.requested or decision.get("action") == "Move"),
        reason=str(ready.get("reason") or "NoStatus"),
        message=str(ready.get("message") or ("" if ready else "the operator has not looked at it yet")),
        since=str(ready.get("lastTransitionTime") or camera.raw["metadata"].get("creationTimestamp") or ""),
        node=camera.node,
        fault=str((explained or {}).get("fault") or _fault(camera)),
        action=str(decision.get("action") or ""),
        next=next_text(decision, now) if decision else _guess(camera, asked),
        why=str(decision.get("reason") or ""),
    )


def _fault(camera: CameraView) -> str:
    """Only what a condition says for certain: a worker that is there says its source is not."""
    return "Source" if camera.conditions.get("SourceConnected", {}).get("status") == "False" else ""


def _guess(camera: CameraView, asked: bool) -> str:
    if _fault(camera):
        return _SOURCE
    return "the operator does not count it as unhealthy" if asked else _UNASKED


def _trouble(row: Row) -> tuple[str, ...]:
    return row.reason, row.fault, row.action


def _shared_next(rows: Sequence[Row]) -> str:
    """What is done about all of them: the commonest sentence, or only its first word where they differ."""
    text, often = Counter(row.next for row in rows).most_common(1)[0]
    return text if often == len(rows) else text.partition(":")[0].partition(" until ")[0]
