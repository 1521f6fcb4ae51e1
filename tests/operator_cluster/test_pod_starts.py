"""When another pod of a camera may be asked for."""

from __future__ import annotations

import math

import pytest

from camfleet_operator.cluster.pod_starts import PodStarts


def test_refusals_in_a_row_are_answered_ever_later_and_forgotten_with_a_pod() -> None:
    starts, now, waits = PodStarts(), 1000.0, []
    for _ in range(7):
        starts.refused(1, "quota", now)
        waits.append(starts.refused_wait(now))
        now += waits[-1]
        assert starts.refused_wait(now) == 0
    assert waits == [15.0, 30.0, 60.0, 120.0, 240.0, 300.0, 300.0]
    assert starts.refused_for(now) == now - 1000.0, "since the first of them"
    starts.started(1, now)
    assert (starts.refusal, starts.refused_wait(now), starts.refused_for(now)) == ("", 0.0, 0.0)


def test_pods_that_nobody_asked_for_are_counted_until_one_stands() -> None:
    starts = PodStarts()
    assert starts.ago(0.0) == math.inf
    counts = []
    for now in (0.0, 10.0, 20.0, 700.0, 710.0):
        starts.started(1, now)
        counts.append(starts.restarts)
    assert counts == [0, 1, 2, 1, 2], "the first one was asked for; one stood for more than ten minutes"
    assert starts.ago(715.0) == pytest.approx(5.0)
    starts.forgive_moved()
    assert starts.restarts == 0


def test_an_edit_of_the_camera_has_another_chance_at_once() -> None:
    starts = PodStarts()
    starts.started(1, 0.0)
    starts.started(1, 1.0)
    starts.refused(1, "quota", 2.0)
    starts.forgive_edited(1)
    assert (starts.restarts, starts.refusal) == (1, "quota")
    starts.forgive_edited(2)
    assert (starts.restarts, starts.refusal, starts.refused_wait(2.0)) == (0, "", 0.0)
    starts.started(2, 3.0)
    assert starts.restarts == 0
