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

    def observe(self, now: float, *, ready: bool | None = True) -> None:
        for name in self.granted():
            self.rollout.observe(name, converged=True, ready=ready, now=now)


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


def test_without_eyes_the_waves_go_on_slowly() -> None:
    rollout = Rollout(lambda _: None, first=1, soak=10, blind=60)
    rollout.request("p", "a", was_ready=True)
    rollout.request("p", "b", was_ready=True)
    assert rollout.observe("a", converged=True, ready=None, now=0) == 60
    assert rollout.observe("a", converged=True, ready=None, now=60) is None
    assert rollout.granted("b")


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
