"""Tracks, zones and appearances: ids that stay, one appearance per thing, told seldom."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from camfleet_protocol.appearance import Identity, Match
from camfleet_protocol.detections import Detection
from camfleet_protocol.messages import Present
from camfleet_protocol.vision import Point, ZoneSpec
from camfleet_worker.tracking.appearances import MAX_THINGS, Appearances, Sighting, Thing
from camfleet_worker.tracking.tracker import Tracker
from camfleet_worker.tracking.wording import message_of
from camfleet_worker.tracking.zones import ZoneWatch, contains

Box = tuple[float, float, float, float]
START = 1_790_000_000.0
OBJECT = frozenset({"object"})


def found(
    left: float, top: float, width: float = 0.1, height: float = 0.4, label: str = "person"
) -> Detection:
    box = (min(0.95, max(0.0, left)), min(0.95, max(0.0, top)), width, height)
    return Detection(kind="object", label=label, score=0.9, box=box)


# ── Tracker ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fps", [1, 2, 5, 10])
@pytest.mark.parametrize("speed", [0.0, 0.05, 0.25])
def test_someone_who_walks_keeps_the_id(fps: int, speed: float) -> None:
    """0.25 of the width a second is four seconds from edge to edge; at 1/s the boxes do not overlap."""
    tracker = Tracker()
    ids = set()
    for number in range(3 * fps):
        at = number / fps
        (track,) = tracker.update(
            [found(0.05 + speed * at, 0.3)], looked_for=OBJECT, at=START + at, aspect=16 / 9
        )
        ids.add(track.id)
        assert track.confirmed == (number > 0)
    assert len(ids) == 1


def test_two_who_cross_keep_their_ids() -> None:
    tracker = Tracker()
    left_to_right, right_to_left = set(), set()
    for number in range(20):
        at = number / 5
        one, other = tracker.update(
            [found(0.05 + 0.2 * at, 0.30), found(0.85 - 0.2 * at, 0.42)],
            looked_for=OBJECT,
            at=START + at,
            aspect=16 / 9,
        )
        left_to_right.add(one.id)
        right_to_left.add(other.id)
    assert len(left_to_right) == len(right_to_left) == 1 and left_to_right != right_to_left


@pytest.mark.parametrize(
    ("fps", "gap", "same"), [(5, 0.8, True), (5, 4.0, False), (1, 2.0, True), (0.5, 4.0, True)]
)
def test_a_track_outlives_a_gap_of_seconds_whatever_the_rate(fps: float, gap: float, same: bool) -> None:
    tracker = Tracker()
    at, last = START, 0
    for _ in range(4):
        (track,) = tracker.update([found(0.4, 0.3)], looked_for=OBJECT, at=at, aspect=1.0)
        last, at = track.id, at + 1 / fps
    until = at - 1 / fps + gap
    while at < until:
        tracker.update([], looked_for=OBJECT, at=at, aspect=1.0)
        at += 1 / fps
    (track,) = tracker.update([found(0.4, 0.3)], looked_for=OBJECT, at=until, aspect=1.0)
    assert (track.id == last) is same


def test_what_was_not_looked_for_is_not_lost() -> None:
    tracker = Tracker()
    first = tracker.update([found(0.4, 0.3)], looked_for=OBJECT, at=START, aspect=1.0)[0].id
    for number in range(1, 20):
        tracker.update([], looked_for=frozenset({"face"}), at=START + number / 10, aspect=1.0)
    assert tracker.update([found(0.4, 0.3)], looked_for=OBJECT, at=START + 2, aspect=1.0)[0].id == first


def test_classes_have_tracks_of_their_own_and_ids_are_unique() -> None:
    tracker = Tracker()
    for number in range(3):
        tracks = tracker.update(
            [found(0.4, 0.3), found(0.4, 0.3, label="dog")], looked_for=OBJECT, at=START + number, aspect=1.0
        )
    assert [track.label for track in tracks] == ["person", "dog"]
    assert len({track.id for track in tracks}) == 2


def test_hundreds_of_classes_cost_no_threads_and_are_forgotten() -> None:
    tracker = Tracker()
    before = len(os.listdir("/proc/self/task"))
    for number in range(300):
        tracker.update(
            [found(0.4, 0.3, label=f"class {number}")], looked_for=OBJECT, at=START + number / 100, aspect=1.0
        )
    assert len(os.listdir("/proc/self/task")) <= before  # fewer: those of an earlier tracker end late
    assert len(tracker.live(START + 3)) <= 128
    tracker.clear()
    assert tracker.live(START + 3) == []
    (track,) = tracker.update(
        [found(0.4, 0.3, label="class 299")], looked_for=OBJECT, at=START + 3, aspect=1.0
    )
    assert track.id == 301 and not track.confirmed, "ids are not used again"


# ── Zones ───────────────────────────────────────────────────────────────────────────────────────────

SQUARE = (Point(x=0.4, y=0.4), Point(x=0.6, y=0.4), Point(x=0.6, y=0.6), Point(x=0.4, y=0.6))
ARROW = (Point(x=0.2, y=0.2), Point(x=0.8, y=0.5), Point(x=0.2, y=0.8), Point(x=0.5, y=0.5))


@pytest.mark.parametrize(
    ("points", "spot", "inside"),
    [
        (SQUARE, (0.5, 0.5), True),
        (SQUARE, (0.39, 0.5), False),
        (SQUARE, (0.5, 0.61), False),
        (SQUARE[::-1], (0.5, 0.5), True),
        (ARROW, (0.3, 0.5), False),  # in the notch
        (ARROW, (0.6, 0.5), True),
    ],
)
def test_a_point_is_in_a_polygon(points: tuple[Point, ...], spot: tuple[float, float], inside: bool) -> None:
    assert contains(points, spot) is inside


def walk(watch: ZoneWatch, zone: ZoneSpec, *steps: tuple[float, float], kind: str = "object") -> None:
    """Steps are (time, x of the lower middle); the box is 0.1 x 0.3 and stands at y 0.5."""
    for at, x in steps:
        watch.update([zone], kind=kind, label="person", box=(x - 0.05, 0.2, 0.1, 0.3), at=START + at)


def test_dwell_counts_a_stay_and_forgives_a_step_outside() -> None:
    zone = ZoneSpec(name="door", points=SQUARE, dwell_seconds=3)
    watch = ZoneWatch()
    walk(watch, zone, (0, 0.5), (1, 0.5), (2, 0.61), (2.9, 0.5))  # 0.61: out, but on the edge
    assert watch.stays == () and watch.now == ()
    walk(watch, zone, (3.1, 0.5))
    assert watch.now == ("door",) and watch.stays[0].seconds == pytest.approx(3.1)
    walk(watch, zone, (4, 0.9), (5, 0.9), (6.5, 0.9))
    assert watch.now == () and watch.stays[0].name == "door", "it has been there"
    walk(watch, zone, (7, 0.5), (8, 0.5))
    assert watch.now == (), "a new stay begins anew"
    assert watch.stays[0].seconds == pytest.approx(4.1), "pauses left out"


def test_a_zone_is_about_feet_or_a_faces_middle_and_about_its_classes() -> None:
    zone = ZoneSpec(name="door", points=SQUARE)
    feet, face, other = ZoneWatch(), ZoneWatch(), ZoneWatch()
    walk(feet, zone, (0, 0.5))
    walk(face, zone, (0, 0.5), kind="face")  # its middle is at y 0.35
    walk(other, zone.model_copy(update={"classes": ("car",)}), (0, 0.5))
    assert (feet.now, face.now, other.now) == (("door",), (), ())


@pytest.mark.parametrize("kind", ["object", "face"])
@pytest.mark.parametrize("box", [(0.3, 0.4, 0.4, 0.6), (0.6, 1.0, 0.4, 0.0), (1.0, 0.4, 0.0, 0.6)])
def test_whom_the_edge_of_the_picture_cuts_off_is_in_a_zone_that_reaches_it(kind: str, box: Box) -> None:
    corners = (Point(x=0, y=0), Point(x=1, y=0), Point(x=1, y=1), Point(x=0, y=1))
    watch = ZoneWatch()
    watch.update((ZoneSpec(name="all", points=corners),), kind=kind, label="person", box=box, at=START)
    assert watch.now == ("all",)


# ── Appearances ─────────────────────────────────────────────────────────────────────────────────────

HERE, THERE = (0.4, 0.3, 0.1, 0.2), (0.8, 0.3, 0.1, 0.2)
ALEX = Match(id="a1", name="Alex Smith", group="staff", similarity=0.7, runner_up=0.1)
KIM = Match(id="k1", name="Kim", group="staff", similarity=0.7, runner_up=0.1)


class Play:
    """Pictures at five a second; what is told is kept as (time, id, message)."""

    def __init__(self) -> None:
        self.at = 0.0
        self.told: list[tuple[float, str, str]] = []
        self.ids = 0
        self.appearances = Appearances(self._new_id)

    def _new_id(self) -> str:
        self.ids += 1
        return f"e{self.ids}"

    def show(self, seconds: float, *make: Callable[[float], Sighting]) -> None:
        for _ in range(round(seconds * 5)):
            self.at += 0.2
            sightings = [one(self.at) for one in make]
            self.appearances.observe(
                sightings, ZONES, at=START + self.at, live=[sighting.key[0] for sighting in sightings]
            )
            self._tell(self.appearances.due(START + self.at))

    def end(self) -> None:
        self._tell(self.appearances.end_all())

    def _tell(self, things: list[Thing]) -> None:
        for thing in things:
            self.told.append((round(self.at, 1), thing.id, message_of(thing.appearance())))

    @property
    def events(self) -> list[str]:
        """Ids in the order of their first telling."""
        return list(dict.fromkeys(event for _, event, _ in self.told))


ZONES = (
    ZoneSpec(name="door", points=(Point(x=0.7, y=0), Point(x=1, y=0), Point(x=1, y=1), Point(x=0.7, y=1))),
)


def thing(
    track: int, box: Box = HERE, *, kind: str = "object", label: str = "person", first: float = 0.0
) -> Callable[[float], Sighting]:
    return lambda at: Sighting((track, 0), kind, label, box, 0.9, START + (first or at))


def face(
    track: int,
    identity: Identity,
    person: Match | None = None,
    box: Box = HERE,
    first: float = 0.0,
    version: int = 1,
) -> Callable[[float], Sighting]:
    return lambda at: Sighting(
        (track, 0), "face", "face", box, 0.9, START + (first or at), identity, person, gallery_version=version
    )


def test_one_event_from_coming_to_going() -> None:
    play = Play()
    play.show(4, thing(1, first=0.2))
    play.show(20)
    assert play.told == [(0.6, "e1", "Person in view."), (9.2, "e1", "Person was in view for 4 s.")]
    assert list(play.appearances) == []


def test_two_hits_of_a_moment_are_nothing() -> None:
    play = Play()
    play.show(0.4, thing(1, first=0.2))
    play.show(20)
    assert play.told == []


def test_who_is_hidden_for_a_moment_is_the_same_appearance() -> None:
    play = Play()
    play.show(2, thing(1, first=0.2))
    play.show(4)
    play.show(2, thing(2))  # another track at the same place
    play.show(20)
    assert play.events == ["e1"] and len(play.told) == 2


def test_somebody_at_the_same_place_later_is_another_appearance() -> None:
    play = Play()
    play.show(2, thing(1, first=0.2))
    play.show(6)
    play.show(2, thing(2))
    assert play.events == ["e1", "e2"]


def test_a_known_person_returns_within_ten_seconds_and_anywhere() -> None:
    play = Play()
    play.show(0.6, face(1, Identity.UNSURE, first=0.2))
    play.show(3, face(1, Identity.KNOWN, ALEX, first=0.2))
    play.show(8)
    began = play.at + 0.2
    play.show(1, face(2, Identity.UNSURE, box=THERE, first=began))
    play.show(3, face(2, Identity.KNOWN, ALEX, box=THERE, first=began))
    (thing,) = play.appearances
    assert thing.appearance().returns == 1 and thing.appearance().track == 2
    play.show(14)
    assert play.events == ["e1"]
    assert [text for _, _, text in play.told] == [
        "Alex Smith in view.",
        "Alex Smith in zone door.",
        "Alex Smith was in zone door for 15 s.",
    ]
    play.show(3, face(3, Identity.KNOWN, ALEX))
    assert play.events == ["e1", "e3"], "after that, it is a new appearance"


def test_two_people_at_one_place_are_two_appearances() -> None:
    play = Play()
    play.show(3, face(1, Identity.KNOWN, ALEX, first=0.2))
    play.show(1)
    play.show(3, face(2, Identity.KNOWN, KIM))
    play.show(20)
    assert [text for _, _, text in play.told if "was" not in text] == ["Alex Smith in view.", "Kim in view."]


def test_a_track_that_passes_to_somebody_else_is_two_appearances() -> None:
    """The recogniser says so by a new generation of the same track."""
    play = Play()
    play.show(3, face(1, Identity.KNOWN, ALEX, first=0.2))
    play.show(
        3,
        lambda at: Sighting(
            (1, 1), "face", "face", HERE, 0.9, START + 0.2, Identity.KNOWN, KIM, gallery_version=1
        ),
    )
    assert [text for _, _, text in play.told] == ["Alex Smith in view.", "Kim in view."]
    second = play.appearances.of((1, 1))
    assert second is not None and second.started == pytest.approx(START + 3.2), "not when the track began"


def test_an_unsure_face_is_told_late_and_named_when_it_is_known() -> None:
    play = Play()
    play.show(2.8, face(1, Identity.UNSURE, first=0.2))
    assert play.told == []
    play.show(1, face(1, Identity.UNSURE, first=0.2))
    play.show(1, face(1, Identity.KNOWN, ALEX, first=0.2))
    play.show(1, face(1, Identity.UNSURE, first=0.2))
    assert play.told == [(3.2, "e1", "A face in view."), (4.0, "e1", "Alex Smith in view.")]
    play.show(1, face(1, Identity.UNKNOWN, first=0.2, version=2))
    assert play.told[-1][2] == "An unknown person in view.", "erased people are taken back"


def test_an_unknown_person_does_not_continue_a_known_one() -> None:
    play = Play()
    play.show(3, face(1, Identity.KNOWN, ALEX, first=0.2))
    play.show(1)
    play.show(3, face(2, Identity.UNKNOWN))
    assert play.events == ["e1", "e2"]


def test_a_track_that_takes_over_gives_no_picture_until_its_own_say_who_it_is() -> None:
    play = Play()
    play.show(3, face(1, Identity.KNOWN, ALEX, first=0.2))
    play.show(1)
    taken: list[Thing] = []
    for number in range(20):
        at = START + play.at + 0.2 * number
        sighting = replace(face(2, Identity.UNSURE, first=play.at)(0), rank=2.0)
        taken += [one for one, _ in play.appearances.observe([sighting], ZONES, at=at, live=[2])]
    (thing,) = play.appearances
    assert thing.identity is Identity.KNOWN and thing.key == (2, 0), "taken for the same person, by its place"
    assert not [one for one in taken if one is thing], "but its picture may be somebody else's"


def test_a_flickering_zone_is_told_seldom() -> None:
    play = Play()
    people = [Match(id=f"p{n}", name=f"P{n}", similarity=0.6) for n in range(2)]
    for number in range(300):
        play.show(0.4, face(1, Identity.KNOWN, people[number % 2], first=0.2))
    minutes = play.at / 60
    assert len(play.told) <= 5 + 4 * minutes


def test_what_is_in_view_is_counted_by_class_and_zone() -> None:
    play = Play()
    play.show(
        1, thing(1, HERE, first=0.2), thing(2, THERE, first=0.2), thing(3, HERE, label="dog", first=0.2)
    )
    assert play.appearances.present(START + play.at) == (
        Present(label="dog", count=1),
        Present(label="person", count=2),
        Present(label="person", zone="door", count=1),
    )
    play.show(4)
    assert play.appearances.present(START + play.at) == ()


def test_crowds_are_bounded() -> None:
    play = Play()
    crowd = [
        thing(n, (0.01 * (n % 90), 0.001 * n, 0.001, 0.001), first=0.2) for n in range(1, MAX_THINGS + 50)
    ]
    play.show(1, *crowd)
    assert len(play.events) == MAX_THINGS
    play.end()
    assert sum("was" in text for _, _, text in play.told) == MAX_THINGS


def test_appearances_are_what_the_protocol_says() -> None:
    play = Play()
    play.show(3, face(7, Identity.KNOWN, ALEX, box=THERE, first=0.2))
    (thing,) = play.appearances
    told = thing.appearance()
    assert (told.kind, told.label, told.track, told.identity) == ("face", "face", 7, Identity.KNOWN)
    assert told.person == ALEX and told.pictures == 15 and told.ended is None
    assert math.isclose(told.started, START + 0.2) and math.isclose(told.seen, START + 3)
    assert [stay.name for stay in told.zones] == ["door"]
