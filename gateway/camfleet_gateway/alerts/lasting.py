"""What lasts: cameras without pictures, and too many things in view. Looked at once a second.

What is told of has an end also if its rule or its camera is taken away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from camfleet_gateway.alerts.episodes import Episode, Turn
from camfleet_gateway.alerts.records import alert_id, alert_record, ended_record
from camfleet_gateway.alerts.rules import DEFAULT_CLASSES, LASTING, Finding, count, must_last
from camfleet_gateway.alerts.schedule import applies
from camfleet_gateway.channel import Channel
from camfleet_gateway.clock import Clock
from camfleet_protocol.messages import CameraState, EventRecord
from camfleet_protocol.vision import AlertSpec, AlertWhen

GRACE_SECONDS = 15.0
"""After the start, in which workers find their way back: no camera is offline for lack of one."""
_Key = tuple[str, str, str]
"""Id of the camera, name of the rule, what raises it."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is to be told of an episode; then it wants to hear that it was."""

    camera: str
    rule: AlertSpec | None
    """None if it tells an end."""
    episode: Episode
    record: EventRecord


class Lasting:
    """The episodes of all cameras. Lives on the event loop."""

    def __init__(self, channels: Mapping[str, Channel], clock: Clock, known: Callable[[], bool]) -> None:
        """Begin to watch.

        Args:
            channels: All cameras, as they are at any time.
            clock: For what lasts, and for when it was.
            known: Whether all cameras are known by now; until then none is taken for deleted.
        """
        self._channels = channels
        self._clock = clock
        self._known = known
        self._started = clock.monotonic()
        self._episodes: dict[_Key, Episode] = {}
        self._zones: dict[_Key, str] = {}

    def recall(self, camera: str, rule: str, when: str, *, zone: str, alert: str) -> None:
        """Take an alert for on that an earlier process has raised."""
        key = (camera, rule, when)
        self._episodes[key], self._zones[key] = Episode(told=alert), zone

    def look(self) -> list[Told]:
        """What is to be told now; the same again at the next look if nobody did."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        turns: list[Told] = []
        seen: set[_Key] = set()
        for camera, channel in self._channels.items():
            for rule in channel.facts.alerts:
                if rule.when not in LASTING:
                    continue
                key = (camera, rule.name, rule.when.value)
                seen.add(key)
                episode = self._episodes.get(key)
                if episode is None:
                    episode = self._episodes[key] = Episode()
                self._zones[key] = rule.zone or ""
                turn = episode.observe(self._holds(rule, channel, now), now, lasts=must_last(rule))
                if turn is Turn.END:
                    turns.append(self._ended(key, episode, wall))
                elif turn is Turn.RAISE and applies(rule.schedule, wall):
                    since = wall - (now - (episode.since or now))
                    record = _raised(rule, channel, since=since, now=now, wall=wall)
                    turns.append(Told(camera, rule, episode, record))
        return turns + self._unseen(seen, now, wall)

    def _unseen(self, seen: set[_Key], now: float, wall: float) -> list[Told]:
        """The ends of those whose rule or camera is gone; forgets what has nothing to tell."""
        turns: list[Told] = []
        for key in self._episodes.keys() - seen:
            episode = self._episodes[key]
            if not episode.alert:
                del self._episodes[key], self._zones[key]
            elif self._known() and episode.observe(False, now, lasts=math.inf) is Turn.END:
                turns.append(self._ended(key, episode, wall))
        return turns

    def _ended(self, key: _Key, episode: Episode, wall: float) -> Told:
        camera, rule, when = key
        record = ended_record(rule, when, self._zones[key], camera, alert=episode.alert, time=wall)
        return Told(camera, None, episode, record)

    def _holds(self, rule: AlertSpec, channel: Channel, now: float) -> bool | None:
        """Whether what the rule is about is so; None if nobody knows."""
        if rule.when is AlertWhen.CAMERA_OFFLINE:
            state = channel.look(now).state
            if channel.publisher is None and now - self._started < GRACE_SECONDS:
                return None
            return state not in (CameraState.LIVE, CameraState.SUSPENDED)
        stats = channel.publisher.telemetry.stats if channel.publisher is not None else None
        return None if stats is None else count(rule, stats.present) > (rule.above or 0)


def _raised(rule: AlertSpec, channel: Channel, *, since: float, now: float, wall: float) -> EventRecord:
    found = _offline(channel, now) if rule.when is AlertWhen.CAMERA_OFFLINE else _crowd(rule, channel)
    data = {"event_id": None, "since": round(since, 3), **found.data}
    id_ = alert_id(rule, channel.id, f"{since:.0f}")
    text = f"{found.text} for {wall - since:.0f} s"
    return alert_record(rule, channel.id, id_=id_, time=wall, text=text, data=data)


def _offline(channel: Channel, now: float) -> Finding:
    view = channel.look(now)
    reason = f" ({view.reason})" if view.reason else ""
    return Finding(0, 0, f"no pictures{reason}", {"state": view.state.value, "reason": view.reason})


def _crowd(rule: AlertSpec, channel: Channel) -> Finding:
    stats = channel.publisher.telemetry.stats if channel.publisher is not None else None
    found = count(rule, stats.present) if stats is not None else 0
    what = ", ".join(rule.classes or DEFAULT_CLASSES)
    where = f" in the zone {rule.zone}" if rule.zone else ""
    text = f"{found} of {what}{where}, more than {rule.above},"
    return Finding(
        0, 0, text, {"count": found, "above": rule.above, "classes": list(rule.classes or DEFAULT_CLASSES)}
    )
