"""Loads of nodes over time, and what a new worker would rather have."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator_cluster.load_cluster import Node, cluster, settled

from camfleet_operator.cluster.balance.load import LoadBook, NodeLoad, Resource, preferences
from camfleet_operator.cluster.balance.placement import ANYWHERE, MAX_AVOIDED, MAX_PREFERRED

CPU, GPU = Resource.CPU, Resource.GPU


# ── Smoothing and marks ─────────────────────────────────────────────────────────────────────────────────


def told(*values: float | None) -> tuple[float | None, float | None]:
    """The smoothed load, and since when it is loaded, after readings half a minute apart."""
    book = LoadBook()
    for number, value in enumerate(values):
        book.observe(30.0 * number, {} if value is None else {"a": NodeLoad(cpu=value)})
    state = book.states(30.0 * (len(values) - 1)).get("a")
    return (None, None) if state is None else (state.load.cpu, state.loaded.get(CPU))


@pytest.mark.parametrize(
    ("values", "smoothed", "loaded_since"),
    [
        ((0.5,), 0.5, None),
        ((0.5, 1.0, 0.5), 0.5, None),  # one peak is none
        ((0.95, 0.95), 0.95, None),
        ((0.95, 0.95, 0.95), 0.95, 60.0),
        ((0.9, 0.9, 0.9), 0.9, 60.0),
        ((0.95, 0.95, 0.95, 0.5, 0.95, 0.95), 0.95, 60.0),  # one dip is none
        ((0.95, 0.95, 0.95, 0.8, 0.8, 0.8), 0.8, 60.0),  # between the marks: as before
        ((0.95, 0.95, 0.95, 0.6, 0.6), 0.6, None),
        ((0.8, 0.8, 0.8, 0.8), 0.8, None),
        ((0.95, 0.95, None, 0.95), 0.95, None),  # three in a row are three that were read
        ((0.95, 0.95, None, 0.95, 0.95, 0.95), 0.95, 150.0),
        ((0.95, 0.95, 0.95, None, None), 0.95, 60.0),
        ((0.95, 0.95, 0.95, None, None, None), None, None),  # too old
        ((0.95, 0.95, 0.95, None, None, None, 0.95), 0.95, None),  # and from the beginning again
    ],
)
def test_a_node_becomes_loaded_and_stays_it(
    values: tuple[float | None, ...], smoothed: float | None, loaded_since: float | None
) -> None:
    assert told(*values) == (smoothed, loaded_since)


def test_a_gpu_is_as_full_as_its_time_or_its_memory() -> None:
    assert NodeLoad(gpu=0.2, gpu_memory=0.95).of(GPU) == 0.95
    assert NodeLoad(gpu=0.2).of(GPU) == 0.2
    assert NodeLoad(cpu=0.9).of(GPU) is None
    state = settled(a=NodeLoad(cpu=0.1, gpu=0.2, gpu_memory=0.95))["a"]
    assert set(state.loaded) == {GPU}
    assert (state.is_loaded(gpu=True), state.is_loaded(gpu=False)) == (True, False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=40))
def test_marks_change_only_as_promised(values: list[float | None]) -> None:
    """Loaded begins with three readings whose median is high, and ends below the low mark or in silence."""
    book, before = LoadBook(), False
    for number, value in enumerate(values):
        book.observe(30.0 * number, {} if value is None else {"a": NodeLoad(cpu=value)})
        state = book.states(30.0 * number).get("a")
        loaded = state is not None and CPU in state.loaded
        if loaded and not before:
            assert None not in values[number - 2 : number + 1]
            assert state is not None and state.load.cpu is not None and state.load.cpu >= 0.9
        if before and not loaded:
            assert state is None or (state.load.cpu is not None and state.load.cpu < 0.7)
        before = loaded


# ── Preferences ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("loads", "options", "avoids", "prefers", "reason"),
    [
        ({"a": 0.3, "b": 0.3}, {}, (), (), ""),
        ({"a": 0.3, "b": 0.45}, {}, (), (), ""),  # no difference worth the name
        ({"a": 0.3, "b": 0.6}, {}, (), ("host-a",), "prefers a (CPU 30 %)"),
        (
            {"a": 0.93, "b": 0.12},
            {},
            ("host-a",),
            ("host-b",),
            "avoids a (CPU 93 %); prefers b (CPU 12 %)",
        ),
        ({"a": 0.95}, {}, ("host-a",), (), "avoids a (CPU 95 %)"),
        ({}, {}, (), (), ""),
        ({"a": 0.1, "b": 0.6}, {"possible": {"b"}}, (), (), ""),
        (
            {"a": 0.1, "b": 0.2, "c": 0.6},
            {"possible": {"b", "c"}},
            (),
            ("host-b",),
            "prefers b (CPU 20 %)",
        ),
        (
            {"a": 0.95, "b": 0.5, "c": 0.3},
            {"target": "b", "leaving": "a"},
            ("host-a",),
            ("host-b",),
            "avoids a (CPU 95 %); prefers b (CPU 50 %)",
        ),
        (  # whom it leaves it avoids, loaded or not
            {"a": 0.85, "b": 0.8},
            {"target": "b", "leaving": "a"},
            ("host-a",),
            ("host-b",),
            "avoids a (CPU 85 %); prefers b (CPU 80 %)",
        ),
    ],
)
def test_preferences(
    loads: dict[str, float],
    options: dict[str, Any],
    avoids: tuple[str, ...],
    prefers: tuple[str, ...],
    reason: str,
) -> None:
    placement = preferences(cluster("a", "b", "c"), settled(**loads), **options)
    assert (placement.avoid_loaded, placement.prefer, placement.reason) == (avoids, prefers, reason)
    assert placement.avoid_failed == ()


def test_failed_nodes_come_first_and_are_never_preferred() -> None:
    placement = preferences(
        cluster("a", "b", "c"),
        settled(a=0.05, b=0.93, c=0.12),
        failed={"a": "failed 3 min ago", "gone": "failed 9 min ago"},
    )
    assert placement.avoid_failed == ("host-a",)
    assert placement.avoid_loaded == ("host-b",)
    assert placement.prefer == ("host-c",)
    assert placement.reason == "avoids a (failed 3 min ago) and b (CPU 93 %); prefers c (CPU 12 %)"


def test_a_camera_on_a_cpu_does_not_mind_a_busy_gpu() -> None:
    nodes = cluster("a", "b")
    states = settled(a=NodeLoad(cpu=0.1, gpu=0.95), b=NodeLoad(cpu=0.15, gpu=0.1))
    assert preferences(nodes, states) == ANYWHERE
    on_gpu = preferences(nodes, states, gpu=True)
    assert on_gpu.avoid_loaded == ("host-a",)
    assert on_gpu.reason == "avoids a (CPU 10 %, GPU 95 %); prefers b (CPU 15 %, GPU 10 %)"


def test_a_node_whose_gpu_is_not_known_is_not_preferred_for_one() -> None:
    states = settled(a=NodeLoad(cpu=0.1), b=NodeLoad(cpu=0.5, gpu=0.4), c=NodeLoad(cpu=0.2, gpu=0.8))
    assert preferences(cluster("a", "b", "c"), states, gpu=True).prefer == ("host-b",)


def test_nodes_that_take_no_pods_or_have_no_host_name_are_not_named() -> None:
    nodes = cluster(Node("a", hostname="a", unschedulable=True), Node("b"), "c", "d")
    placement = preferences(nodes, settled(a=0.1, b=0.1, c=0.2, d=0.6))
    assert placement.prefer == ("host-c",)


def test_many_nodes_that_are_alike_are_not_preferred_to_each_other() -> None:
    names = [f"n{number:03d}" for number in range(40)]
    placement = preferences(cluster(*names, "full"), settled(**dict.fromkeys(names, 0.1), full=0.95))
    assert (placement.avoid_loaded, placement.prefer) == (("host-full",), ())


def test_lists_and_reasons_are_bounded() -> None:
    names = [f"n{number:03d}" for number in range(300)]
    loads = {name: 0.95 if number % 2 else 0.1 + number / 1000 for number, name in enumerate(names)}
    placement = preferences(cluster(*names), settled(**loads), failed={"n000": "failed 1 min ago"})
    assert len(placement.prefer) == MAX_PREFERRED
    assert len(placement.avoid_loaded) == 150
    assert len(placement.reason) < 400
    spec = placement.applied({})
    terms = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert max(len(t["preference"]["matchExpressions"][0]["values"]) for t in terms) == MAX_AVOIDED


def test_what_is_not_a_number_never_gets_here() -> None:
    """The marks would survive it all the same: nothing compares true with NaN."""
    book = LoadBook()
    for number in range(6):
        book.observe(30.0 * number, {"a": NodeLoad(cpu=math.nan)})
    assert book.states(150.0)["a"].loaded == {}
