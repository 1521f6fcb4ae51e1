"""Rules, schedules and episodes, as tables."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from camfleet_gateway.alerts.episodes import ENDS_AFTER_SECONDS, Episode, Turn
from camfleet_gateway.alerts.rules import cooldown_of, count, judge, must_last
from camfleet_gateway.alerts.schedule import applies
from camfleet_protocol.appearance import Appearance
from camfleet_protocol.messages import Present
from camfleet_protocol.vision import AlertSpec, Schedule

NOON = datetime(2026, 6, 3, 12, 0, tzinfo=ZoneInfo("UTC")).timestamp()  # a Wednesday


def rule(when: str, **fields: Any) -> AlertSpec:
    return AlertSpec.model_validate({"name": "rule", "when": when, **fields})


def appearance(**fields: Any) -> Appearance:
    basis = {"kind": "face", "label": "face", "track": 1, "started": NOON - 5, "seen": NOON}
    return Appearance.model_validate(basis | fields)


def somebody(group: str = "staff") -> dict[str, Any]:
    return {"identity": "known", "person": {"id": "p1", "name": "Ada", "group": group, "similarity": 0.8}}


def at(*zones: str) -> dict[str, Any]:
    return {"zones": [{"name": name, "seconds": 3} for name in zones]}


PERSON = {"kind": "object", "label": "person"}
IN_DOOR = rule("InZone", zone="door")


@pytest.mark.parametrize(
    ("alert", "seen", "speaks"),
    [
        (IN_DOOR, appearance(**PERSON, **at("door")), True),
        (IN_DOOR, appearance(**PERSON, **at("hall", "door")), True),
        (IN_DOOR, appearance(**PERSON, **at("hall")), False),
        (IN_DOOR, appearance(**PERSON), False),
        (IN_DOOR, appearance(**at("door")), False),
        (IN_DOOR, appearance(kind="object", label="car", **at("door")), False),
        (
            rule("InZone", zone="door", classes=("car",)),
            appearance(kind="object", label="car", **at("door")),
            True,
        ),
        (rule("InZone", zone="door", classes=("face", "dog")), appearance(**at("door")), True),
        (rule("BlockedPerson"), appearance(**somebody("blocked")), True),
        (rule("BlockedPerson"), appearance(**somebody("staff")), False),
        (rule("BlockedPerson"), appearance(**{**somebody("blocked"), "identity": "unsure"}), False),
        (rule("BlockedPerson", zone="door"), appearance(**somebody("blocked")), False),
        (rule("BlockedPerson", zone="door"), appearance(**somebody("blocked"), **at("door")), True),
        (rule("UnknownPerson"), appearance(identity="unknown"), True),
        (rule("UnknownPerson"), appearance(identity="unsure"), False),
        (rule("UnknownPerson"), appearance(identity="none"), False),
        (rule("UnknownPerson"), appearance(**somebody()), False),
        (rule("UnknownPerson", zone="door"), appearance(identity="unknown", **at("door")), True),
        (rule("CameraOffline"), appearance(identity="unknown"), False),
        (rule("CountAbove", above=0), appearance(**PERSON), False),
        (
            rule("UnknownPerson", schedule={"start": "11:00", "end": "13:00"}),
            appearance(identity="unknown"),
            True,
        ),
        (rule("UnknownPerson", schedule={"start": "13:00"}), appearance(identity="unknown"), False),
    ],
)
def test_a_rule_speaks_of_what_it_is_about(alert: AlertSpec, seen: Appearance, speaks: bool) -> None:
    assert (judge(alert, seen) is not None) is speaks


def test_what_is_told_names_people_in_the_data_alone() -> None:
    found = judge(rule("BlockedPerson", zone="door"), appearance(**somebody("blocked"), **at("door")))
    assert found is not None
    assert "Ada" not in found.text and "door" in found.text
    assert found.data["person"] == {"id": "p1", "name": "Ada", "group": "blocked"}
    assert (found.since, found.at) == (NOON, NOON)


def test_who_is_still_there_counts_from_now_and_who_has_gone_from_when_they_came() -> None:
    stays = judge(rule("UnknownPerson"), appearance(identity="unknown", started=NOON, seen=NOON + 70))
    left = judge(
        rule("UnknownPerson"), appearance(identity="unknown", started=NOON, seen=NOON + 70, ended=NOON + 70)
    )
    assert stays is not None and (stays.since, stays.at) == (NOON + 70, NOON + 70)
    assert left is not None and (left.since, left.at) == (NOON, NOON + 70)


def test_the_cooldown() -> None:
    assert cooldown_of(rule("UnknownPerson")) == 300
    assert cooldown_of(rule("UnknownPerson", cooldown_seconds=0)) == 0


BERLIN = "Europe/Berlin"
NIGHT = {"start": "22:00", "end": "06:00", "timezone": BERLIN}


@pytest.mark.parametrize(
    ("schedule", "local", "zone", "holds"),
    [
        ({}, "2026-06-03 00:00", "UTC", True),
        ({"start": "08:00", "end": "17:00"}, "2026-06-03 08:00", "UTC", True),
        ({"start": "08:00", "end": "17:00"}, "2026-06-03 16:59", "UTC", True),
        ({"start": "08:00", "end": "17:00"}, "2026-06-03 17:00", "UTC", False),
        ({"end": "06:00"}, "2026-06-03 05:59", "UTC", True),
        ({"start": "22:00"}, "2026-06-03 23:59", "UTC", True),
        ({"start": "22:00"}, "2026-06-04 00:00", "UTC", False),
        (NIGHT, "2026-06-03 21:59", BERLIN, False),
        (NIGHT, "2026-06-03 22:00", BERLIN, True),
        (NIGHT, "2026-06-03 20:00", "UTC", True),
        (NIGHT, "2026-12-03 20:59", "UTC", False),
        (NIGHT, "2026-06-04 05:59", BERLIN, True),
        (NIGHT, "2026-06-04 06:00", BERLIN, False),
        # Of the weekday on which it begins: Friday's night goes on into Saturday.
        (NIGHT | {"days": ["Fri"]}, "2026-06-05 05:00", BERLIN, False),
        (NIGHT | {"days": ["Fri"]}, "2026-06-05 23:00", BERLIN, True),
        (NIGHT | {"days": ["Fri"]}, "2026-06-06 05:00", BERLIN, True),
        (NIGHT | {"days": ["Fri"]}, "2026-06-06 23:00", BERLIN, False),
        ({"days": ["Sat", "Sun"]}, "2026-06-06 12:00", "UTC", True),
        ({"days": ["Sat", "Sun"]}, "2026-06-08 12:00", "UTC", False),
        # The same time twice is a day long.
        ({"start": "08:00", "end": "08:00", "days": ["Wed"]}, "2026-06-03 07:59", "UTC", False),
        ({"start": "08:00", "end": "08:00", "days": ["Wed"]}, "2026-06-04 07:59", "UTC", True),
        # 2026-03-29 02:00 to 03:00 does not exist in Berlin: what begins at 02:30 has begun at 03:00.
        ({"start": "02:30", "end": "03:30", "timezone": BERLIN}, "2026-03-29 00:59", "UTC", False),
        ({"start": "02:30", "end": "03:30", "timezone": BERLIN}, "2026-03-29 01:00", "UTC", True),
        ({"start": "02:30", "end": "03:30", "timezone": BERLIN}, "2026-03-29 01:30", "UTC", False),
        # 2026-10-25 02:00 to 03:00 comes twice.
        ({"start": "02:30", "end": "03:00", "timezone": BERLIN}, "2026-10-25 00:40", "UTC", True),
        ({"start": "02:30", "end": "03:00", "timezone": BERLIN}, "2026-10-25 01:10", "UTC", False),
        ({"start": "02:30", "end": "03:00", "timezone": BERLIN}, "2026-10-25 01:40", "UTC", True),
        ({"start": "12:00", "timezone": "Asia/Kolkata"}, "2026-06-03 06:30", "UTC", True),
        ({"start": "12:00", "timezone": "Asia/Kolkata"}, "2026-06-03 06:29", "UTC", False),
    ],
)
def test_a_schedule_goes_by_the_clock_on_the_wall(
    schedule: dict[str, Any], local: str, zone: str, holds: bool
) -> None:
    moment = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone)).timestamp()
    assert applies(Schedule.model_validate(schedule), moment) is holds


def test_no_schedule_is_always_and_an_unknown_time_zone_is_utc(caplog: pytest.LogCaptureFixture) -> None:
    assert applies(None, NOON)
    with caplog.at_level(logging.WARNING):
        for name in ("Nowhere/Atlantis", "Europe", "/etc/passwd"):
            assert applies(Schedule(start="11:59", end="12:01", timezone=name), NOON)
    assert "Nowhere/Atlantis" in caplog.text


def test_things_in_view_are_counted_by_class_and_zone() -> None:
    present = [
        Present(label="person", count=4),
        Present(label="car", count=2),
        Present(label="person", zone="door", count=1),
    ]
    assert count(rule("CountAbove", above=0), present) == 4
    assert count(rule("CountAbove", above=0, classes=("person", "car")), present) == 6
    assert count(rule("CountAbove", above=0, zone="door"), present) == 1
    assert count(rule("CountAbove", above=0, zone="hall"), present) == 0


def test_how_long_it_must_last() -> None:
    assert must_last(rule("CameraOffline")) == 60
    assert must_last(rule("CountAbove", above=1)) == 5
    assert must_last(rule("CountAbove", above=1, for_seconds=0)) == 0


@pytest.mark.parametrize(
    ("story", "turns"),
    [
        ([(0, True), (9.9, True), (10, True)], {10: Turn.RAISE}),
        ([(0, True), (9, False), (10, True), (19, True), (20, True)], {20: Turn.RAISE}),
        ([(0, True), (9, None), (10, True), (19, True), (20, True)], {20: Turn.RAISE}),
        ([(0, True), (10, True), (60, True), (600, True)], {10: Turn.RAISE}),
        ([(0, True), (10, True), (11, False), (15, False), (16, False)], {10: Turn.RAISE, 16: Turn.END}),
        ([(0, True), (10, True), (11, False), (15, True), (17, False), (21, False)], {10: Turn.RAISE}),
        ([(0, True), (10, True), (11, None), (90, None), (91, False)], {10: Turn.RAISE}),
        (
            [(0, True), (10, True), (11, False), (16, False), (20, True), (29, True), (30, True)],
            {10: Turn.RAISE, 16: Turn.END, 30: Turn.RAISE},
        ),
    ],
)
def test_an_episode_is_raised_once_and_ended_once(
    story: list[tuple[float, bool | None]], turns: dict[float, Turn]
) -> None:
    assert ENDS_AFTER_SECONDS == 5.0
    episode = Episode()
    found = {}
    for now, active in story:
        turn = episode.observe(active, now, lasts=10)
        if turn is not None:
            found[now] = turn
            episode.told("a") if turn is Turn.RAISE else episode.over()
    assert found == turns


def test_an_episode_of_an_earlier_process_goes_on() -> None:
    episode = Episode(told="a")
    assert episode.observe(True, 100, lasts=10) is None
    assert episode.observe(True, 200, lasts=10) is None
    assert episode.observe(False, 201, lasts=10) is None
    assert episode.observe(False, 206, lasts=10) is Turn.END


def test_what_could_not_be_told_is_told_again() -> None:
    episode = Episode()
    assert [episode.observe(True, now, lasts=1) for now in (0, 1, 2)] == [None, Turn.RAISE, Turn.RAISE]
