"""Who is in which zone, and for how long. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from camfleet_protocol.appearance import ZoneStay
from camfleet_protocol.vision import Point, ZoneSpec

LEAVE_SECONDS = 2.0
"""Whoever is outside for longer has left."""
_EDGE = 0.015
"""So far outside, in fractions of the picture, somebody who was inside still is."""
_LAST = 1 - 1e-6
"""What the edge of the picture cuts off stands on it, and a zone's own edges there are not inside of it."""

Box = tuple[float, float, float, float]
Spot = tuple[float, float]


def spot_of(kind: str, box: Box) -> Spot:
    """The point that must be in a zone: where it stands, or the middle of a face."""
    left, top, width, height = box
    x, y = left + width / 2, top + (height / 2 if kind == "face" else height)
    return min(x, _LAST), min(y, _LAST)


def contains(points: Sequence[Point], spot: Spot) -> bool:
    """Whether a point is in a polygon (even-odd rule, so its corners may run either way)."""
    x, y = spot
    inside = False
    for one, other in _edges(points):
        if (one.y > y) != (other.y > y) and x < one.x + (other.x - one.x) * (y - one.y) / (other.y - one.y):
            inside = not inside
    return inside


def distance(points: Sequence[Point], spot: Spot) -> float:
    """How far a point is from the nearest edge."""
    return min(_to_edge(one, other, spot) for one, other in _edges(points))


@dataclass(slots=True)
class _Stay:
    points: tuple[Point, ...]
    seconds: float = 0.0
    since: float | None = None
    last: float = 0.0
    counted: bool = False
    counts_now: bool = False


@dataclass(slots=True)
class ZoneWatch:
    """The zones of one thing."""

    _stays: dict[str, _Stay] = field(default_factory=dict)

    def update(
        self,
        zones: Sequence[ZoneSpec],
        *,
        kind: str,
        label: str,
        box: Box,
        at: float,
        patience: float = LEAVE_SECONDS,
    ) -> None:
        """It was seen.

        Args:
            zones: Those of the settings in force.
            kind: As of its detections.
            label: Its class.
            box: Where it is.
            at: Unix seconds of capture.
            patience: Seconds without being seen inside after which it has left.
        """
        spot = spot_of(kind, box)
        about = {zone.name: zone for zone in zones if zone.classes is None or label in zone.classes}
        for name, zone in about.items():
            stay = self._stays.get(name)
            if stay is None or stay.points != zone.points:
                stay = self._stays[name] = _Stay(zone.points)
            _update(stay, zone, spot, at, patience)
        for name in self._stays.keys() - about.keys():
            self._stays[name].since, self._stays[name].counts_now = None, False

    @property
    def stays(self) -> tuple[ZoneStay, ...]:
        """Zones that it has been in for as long as they ask, in the order of the settings."""
        counted = [(name, stay) for name, stay in self._stays.items() if stay.counted]
        return tuple(ZoneStay(name=name, seconds=round(stay.seconds, 1)) for name, stay in counted[:16])

    @property
    def now(self) -> tuple[str, ...]:
        """Zones that it counts as being in at present."""
        return tuple(name for name, stay in self._stays.items() if stay.counts_now)


def _update(stay: _Stay, zone: ZoneSpec, spot: Spot, at: float, patience: float) -> None:
    if stay.since is not None and at - stay.last > patience:
        stay.since, stay.counts_now = None, False
    inside = contains(zone.points, spot)
    if not inside and stay.since is not None:
        inside = distance(zone.points, spot) <= _EDGE
    if not inside:
        return
    if stay.since is None:
        stay.since = at
    else:
        stay.seconds += max(0.0, at - stay.last)
    stay.last = at
    if at - stay.since >= (zone.dwell_seconds or 0):
        stay.counted = stay.counts_now = True


def _edges(points: Sequence[Point]) -> list[tuple[Point, Point]]:
    return list(zip(points, (*points[1:], points[0]), strict=True))


def _to_edge(one: Point, other: Point, spot: Spot) -> float:
    dx, dy = other.x - one.x, other.y - one.y
    length = dx * dx + dy * dy
    along = 0.0
    if length > 0:
        along = min(1.0, max(0.0, ((spot[0] - one.x) * dx + (spot[1] - one.y) * dy) / length))
    return math.hypot(spot[0] - one.x - along * dx, spot[1] - one.y - along * dy)
