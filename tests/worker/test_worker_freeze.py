"""When a picture counts as frozen, and what tells one picture from the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import av
import numpy as np
import pytest

from camfleet_worker.freeze import FILE_MEMORY, NETWORK_MEMORY, Freeze
from camfleet_worker.sources.video import VideoPicture

TIMEOUT = 60


class Seen:
    """A source that is looked at once a second."""

    def __init__(self, memory: int = NETWORK_MEMORY) -> None:
        self.freeze = Freeze()
        self.memory = memory
        self.now = 1000.0
        self.reopened: list[int] = []
        """Seconds from the start."""
        self.freeze.opened(self.now, memory)

    def shows(self, pictures: Iterator[int | None], seconds: int, timeout: float = TIMEOUT) -> bool:
        """Let time pass; returns whether it is frozen then."""
        for _ in range(seconds):
            self.now += 1
            assert self.freeze.due(self.now)
            if self.freeze.look(next(pictures), self.now, timeout):
                self.reopened.append(round(self.now - 1000))
                self.freeze.opened(self.now, self.memory)
        return self.freeze.frozen


def still() -> Iterator[int]:
    while True:
        yield 7


def moves(start: int = 100) -> Iterator[int]:
    return count(start)


def breathes() -> Iterator[int]:
    """One picture, encoded over and over: other bits at each key frame and after it, always the same."""
    return (1 + n % 5 for n in count())


def test_noise_is_never_frozen() -> None:
    seen = Seen()
    assert not seen.shows(moves(), 3600) and not seen.reopened


@pytest.mark.parametrize("frozen", [still, breathes])
def test_a_freeze_is_opened_anew_once_and_then_told(frozen: Callable[[], Iterator[int]]) -> None:
    seen = Seen()
    seen.shows(moves(), 100)
    assert not seen.shows(frozen(), 60) and not seen.reopened
    assert seen.shows(frozen(), 20)
    assert len(seen.reopened) == 1 and 160 <= seen.reopened[0] <= 167
    assert seen.shows(frozen(), 3600) and len(seen.reopened) == 1, "once is enough"


def test_it_is_over_with_the_first_pictures_that_move() -> None:
    seen = Seen()
    assert seen.shows(still(), 70)
    assert seen.shows(iter([50]), 1), "one other picture is a key frame, no movement"
    assert seen.shows(still(), 5)
    assert not seen.shows(moves(), 3)


def test_opening_anew_that_helped_is_not_told() -> None:
    seen = Seen()
    assert not seen.shows(still(), 63) and seen.reopened == [61]
    assert not seen.shows(moves(), 100) and len(seen.reopened) == 1


def test_freezes_in_a_row_are_opened_anew_only_every_ten_minutes() -> None:
    seen = Seen()
    for n in range(60):  # every two minutes, for two hours
        seen.shows(still(), 70)
        seen.shows(moves(1000 * (n + 1)), 50)
    assert 10 <= len(seen.reopened) <= 12
    assert all(b - a >= 600 for a, b in zip(seen.reopened, seen.reopened[1:], strict=False))


def test_a_short_freeze_and_rare_pictures_are_nothing() -> None:
    seen = Seen()
    for n in range(10):
        assert not seen.shows(still(), 55)
        assert not seen.shows(moves(1000 * (n + 1)), 3)
    for _ in range(4):  # a snapshot every 20 s
        seen.now += 20
        assert not seen.freeze.look(7, seen.now, TIMEOUT)
    assert not seen.freeze.frozen


def test_time_without_a_source_does_not_count() -> None:
    seen = Seen()
    seen.shows(still(), 40)
    seen.now += 600
    seen.freeze.opened(seen.now, NETWORK_MEMORY)
    assert not seen.shows(still(), 40) and not seen.reopened


def test_a_short_film_that_is_repeated_moves() -> None:
    film = (n % 10 for n in count())
    assert not Seen(FILE_MEMORY).shows(film, 600)
    assert Seen(FILE_MEMORY).shows(still(), 600), "one picture that is repeated does not"


@pytest.mark.parametrize("off", [{"timeout": 0}, {}], ids=["by the setting", "no fingerprint"])
def test_switched_off(off: dict[str, float]) -> None:
    seen = Seen()
    assert seen.shows(still(), 100)
    pictures: Iterator[int | None] = still() if off else (None for _ in count())
    assert not seen.shows(pictures, 100, **off), "it ends what was told before, too"
    assert len(seen.reopened) == 1


@pytest.mark.parametrize("form", ["yuv420p", "yuvj422p", "nv12", "gray", "rgb24", "yuv420p10le"])
@pytest.mark.parametrize("size", [(640, 360), (322, 100), (30, 18)])
def test_fingerprints_tell_pictures_apart(form: str, size: tuple[int, int]) -> None:
    width, height = size
    grey = np.random.default_rng(1).integers(30, 220, (height, width, 3), np.uint8)

    def frame_of(image: np.ndarray) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=form)

    def fingerprint(frame: av.VideoFrame) -> int | None:
        return VideoPicture(frame, number=1, captured_ns=0, discontinuity=False).fingerprint()

    frame, again = frame_of(grey), av.VideoFrame(width, height, form)
    used = width * {"rgb24": 3, "yuv420p10le": 2}.get(form, 1)
    rows = np.frombuffer(bytes(frame.planes[0]), np.uint8).reshape(-1, frame.planes[0].line_size).copy()
    rows[:, used:] ^= 0xFF  # what lies between two lines says nothing
    again.planes[0].update(rows.tobytes())
    first = fingerprint(frame)
    assert first is not None and first == fingerprint(again)
    text = grey.copy()
    text[height // 2 : height // 2 + 10, width - 12 : width - 2] ^= 0x40  # a digit of a clock
    assert first != fingerprint(frame_of(text))
