"""The acknowledgement window never lets more than its size under way, whatever is acknowledged."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from camfleet_protocol.window import MAX_WINDOW, MIN_WINDOW, AckWindow, window_size

steps = st.lists(
    st.one_of(
        st.just(("send", 0)),
        st.tuples(st.just("ack"), st.integers(-3, 3)),
        st.just(("again", 0)),
        st.just(("clear", 0)),
    ),
    max_size=60,
)


@given(st.integers(-5, 20), steps)
def test_never_more_than_size_under_way(size: int, script: list[tuple[str, int]]) -> None:
    window = AckWindow(size)
    assert 1 <= window.size <= MAX_WINDOW
    seq, acked, now = 1000, 1000, 0.0
    sent_at: dict[int, float] = {}
    for step, offset in script:
        now += 1.0
        if step == "send" and window.open:
            seq += 1
            window.sent(seq, now)
            sent_at[seq] = now
        elif step == "again" and sent_at:
            before = len(window)
            if max(sent_at) == seq:
                window.sent(seq, now)  # the other form of the same picture
                assert len(window) == before
        elif step == "ack":
            upto = acked + offset
            covered = [number for number in sent_at if number <= upto]
            waited = window.acked(upto, now)
            assert waited == (now - sent_at[max(covered)] if covered else None)
            for number in covered:
                del sent_at[number]
            acked = max(acked, min(upto + 1, seq))
        elif step == "clear":
            window.clear()
            sent_at.clear()
        assert len(window) == len(sent_at) <= window.size
        assert window.open == (len(sent_at) < window.size)
        assert window.oldest_sent_at == (min(sent_at.values()) if sent_at else None)


@given(st.floats(0, 240), st.floats(0, 100))
def test_window_size_keeps_the_link_busy(fps: float, round_trip: float) -> None:
    size = window_size(fps, round_trip)
    assert MIN_WINDOW <= size <= MAX_WINDOW
    assert size == MAX_WINDOW or size >= math.ceil(fps * round_trip) + 1


@given(st.floats(0, 120), st.floats(0, 5), st.floats(0, 5))
def test_window_size_is_monotonic(fps: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert window_size(fps, low) <= window_size(fps, high)
