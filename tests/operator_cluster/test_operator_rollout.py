"""A change that many cameras get at once goes out in waves, and stops where it hurts."""

from __future__ import annotations

import itertools

from camfleet_operator.cluster.rollout import Rollout


class Fleet:
    """Cameras that take on a change as soon as they are granted it."""

    def __init__(self, count: int, **options: float) -> None:
        self.woken: list[str] = []
        self.rollout = Rollout(self.woken.append, first=5, soak=10, **options)
        self.names = [f"ns.cam-{number}" for number in range(count)]
        for name in self.names:
            self.rollout.request("ns.profile", name, was_ready=True)

    def granted(self) -> list[str]:
        return [name for name in self.names if self.rollout.granted(name)]

    def observe(self, now: float, *, ready: bool | None = True, excused: bool = False) -> None:
        for name in self.granted():
            self.rollout.observe(name, converged=True, ready=ready, excused=excused, now=now)


def test_five_hundred_cameras_take_a_good_change_in_doubling_waves() -> None:
    fleet = Fleet(500)
    sizes = [len(fleet.granted())]
    now = 0.0
    while fleet.granted():
        fleet.observe(now)
        fleet.observe(now + 10)
        now += 11
        sizes.append(len(fleet.granted()))
    assert sizes[0] == 5
    assert all(after <= 2 * before + 5 for before, after in itertools.pairwise(sizes))
    assert set(fleet.woken) == set(fleet.names)
    assert now < 120


def test_a_bad_change_reaches_the_first_wave_only() -> None:
    fleet = Fleet(500)
    for second in range(0, 3600, 10):
        fleet.observe(second, ready=False)
    assert len(fleet.granted()) == 5
    assert len(fleet.woken) == 5


def test_a_camera_that_was_not_ready_anyway_holds_nobody_up() -> None:
    woken: list[str] = []
    rollout = Rollout(woken.append, first=1, soak=10)
    assert rollout.request("p", "broken", was_ready=False)
    assert not rollout.request("p", "next", was_ready=True)
    rollout.observe("broken", converged=True, ready=False, now=0)
    rollout.observe("broken", converged=True, ready=False, now=10)
    assert rollout.granted("next") and "next" in woken


def test_readiness_must_last() -> None:
    rollout = Rollout(lambda _: None, first=1, soak=10)
    rollout.request("p", "a", was_ready=True)
    assert rollout.observe("a", converged=True, ready=True, now=0) == 10
    assert rollout.observe("a", converged=True, ready=False, now=9) is None
    assert rollout.observe("a", converged=True, ready=True, now=12) == 10
    assert rollout.granted("a")


def test_without_eyes_nothing_goes_on() -> None:
    fleet = Fleet(20)
    for second in range(0, 3600, 10):
        fleet.observe(second, ready=None)
    assert len(fleet.woken) == 5


def test_a_change_that_looks_like_a_fault_of_every_source_stops_as_well() -> None:
    fleet = Fleet(60)
    for second in range(0, 3600, 10):
        fleet.observe(second, ready=False, excused=True)
    assert len(fleet.woken) == 5


def test_single_sources_that_fail_meanwhile_hold_nobody_up() -> None:
    fleet = Fleet(60)
    broken = set(fleet.granted()[:1])
    for second in range(0, 3600, 10):
        for name in fleet.granted():
            bad = name in broken
            fleet.rollout.observe(name, converged=True, ready=not bad, excused=bad, now=second)
    assert len(fleet.woken) == 60 and fleet.rollout.waiting() == 0


def test_a_change_through_many_profiles_at_once_is_bounded_in_all() -> None:
    woken: list[str] = []
    rollout = Rollout(woken.append, first=5)
    for profile in range(40):
        for number in range(2):
            rollout.request(f"ns.p{profile}", f"ns.c{profile}-{number}", was_ready=True)
    assert len(woken) == 20
    for name in woken[:]:
        rollout.observe(name, converged=True, ready=True, now=0)
        rollout.observe(name, converged=True, ready=True, now=11)
    assert len(woken) == 40


def test_who_forgets_everything_begins_anew() -> None:
    rollout = Rollout(lambda _: None, first=1)
    rollout.request("p", "a", was_ready=True)
    rollout.request("p", "b", was_ready=True)
    rollout.reset()
    assert rollout.waiting() == 0
    assert rollout.request("p", "b", was_ready=True)


def test_one_profile_does_not_wait_for_another() -> None:
    rollout = Rollout(lambda _: None, first=1)
    assert rollout.request("p", "a", was_ready=True)
    assert rollout.request("q", "b", was_ready=True)
    assert not rollout.request("p", "c", was_ready=True)


def test_a_deleted_camera_gives_its_place_away() -> None:
    woken: list[str] = []
    rollout = Rollout(woken.append, first=1)
    rollout.request("p", "a", was_ready=True)
    rollout.request("p", "b", was_ready=True)
    rollout.forget("a")
    assert rollout.granted("b")
    rollout.forget("b")
    assert rollout.waiting() == 0
