"""Pictures of things: encoded once they are asked for, and not many of them wait for that."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from camfleet_worker.picture import Image
from camfleet_worker.tracking import snapshots as module
from camfleet_worker.tracking.snapshots import MAX_CROP_BYTES, Jpeg, Unencoded, encode


def pixels(seed: int, side: int = 64) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[Image]:
    done: list[Image] = []

    def counting(image: Image, limit: int) -> bytes:
        done.append(image)
        return encode(image, limit)

    monkeypatch.setattr(module, "encode", counting)
    return done


def test_a_picture_is_encoded_once_and_only_if_it_is_asked_for(encodings: list[Image]) -> None:
    unencoded = Unencoded()
    kept, replaced = (unencoded.keep(pixels(seed), MAX_CROP_BYTES) for seed in (1, 2))
    del replaced
    assert not encodings
    assert kept.encoded() == kept.encoded() == encode(pixels(1), MAX_CROP_BYTES)
    assert len(encodings) == 1 and kept.pixel_bytes == 0


def test_the_oldest_are_encoded_where_too_many_wait(encodings: list[Image]) -> None:
    one = pixels(0).nbytes
    unencoded = Unencoded(limit=10 * one)
    kept = [unencoded.keep(pixels(seed), MAX_CROP_BYTES) for seed in range(35)]
    waiting = [jpeg.pixel_bytes > 0 for jpeg in kept]
    assert 5 <= sum(waiting) <= 10
    assert waiting == sorted(waiting)  # the newest wait
    assert [jpeg.encoded() for jpeg in kept] == [encode(pixels(seed), MAX_CROP_BYTES) for seed in range(35)]
    assert len(encodings) == 35


def test_what_nobody_wants_is_not_kept(encodings: list[Image]) -> None:
    one = pixels(0).nbytes
    unencoded = Unencoded(limit=10 * one)
    gone: list[weakref.ref[Jpeg]] = [
        weakref.ref(unencoded.keep(pixels(seed), MAX_CROP_BYTES)) for seed in range(100)
    ]
    gc.collect()
    assert not encodings and not any(ref() for ref in gone)
