"""The shortlist of very many people: nobody is left out of it who might be the nearest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from camfleet_protocol.gallery import GalleryPart, GalleryPerson, GalleryUpdate
from camfleet_worker.recognition import shortlist as module
from camfleet_worker.recognition.gallery import Gallery, GalleryStore
from camfleet_worker.recognition.shortlist import Shortlist

MODEL = "model@0123456789ab"
NOW = 1_790_000_000.0
Rows = NDArray[np.float32]
Random = np.random.Generator


def unit(rows: NDArray[np.floating]) -> Rows:
    return (rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)).astype(np.float32)


def anywhere(random: Random, count: int, values: int) -> Rows:
    return unit(random.normal(size=(count, values)))


def in_clusters(random: Random, count: int, values: int) -> Rows:
    """So near to each other that bytes cannot tell those of one cluster apart."""
    centres = unit(random.normal(size=(max(1, count // 20), values)))
    return unit(
        centres[random.integers(len(centres), size=count)] + 0.002 * random.normal(size=(count, values))
    )


def coarse(random: Random, count: int, values: int) -> Rows:
    """One number of each is so large that bytes leave nothing of the others."""
    rows = 0.003 * random.normal(size=(count, values))
    rows[np.arange(count), random.integers(values, size=count)] += random.choice((-1, 1), size=count)
    return unit(rows)


def mixed(random: Random, count: int, values: int) -> Rows:
    """All of these, some twice, some reversed, and some that are nothing."""
    rows = np.concatenate([make(random, count, values) for make in (anywhere, in_clusters, coarse)])
    rows = rows[random.integers(len(rows), size=count)]
    rows[random.random(count) < 0.1] *= -1
    rows[random.random(count) < 0.05] = 0
    return rows


def query_of(random: Random, rows: Rows) -> Rows:
    """A face like one of them, or like nobody; a vote of several is shorter than 1."""
    near = rows[random.integers(len(rows))] + random.choice((0, 0.001, 0.1, 1)) * anywhere(
        random, 1, rows.shape[1]
    )
    return (unit(near[0]) * np.float32(random.choice((1, 0.7, 0)))).astype(np.float32)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    make=st.sampled_from((anywhere, in_clusters, coarse, mixed)),
    count=st.integers(1, 1500),
    values=st.sampled_from((2, 3, 16, 31, 64, 128, 257, 512)),
    wanted=st.sampled_from((1, 2, 32)),
    share=st.sampled_from((0.0, 0.01, 0.5, 1.0)),
)
def test_nobody_is_left_out_who_may_be_the_nearest(
    seed: int, make: Callable[[Random, int, int], Rows], count: int, values: int, wanted: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    rows = make(random, count, values)
    query, eligible = query_of(random, rows), random.random(count) < share
    found = Shortlist(rows).around(query, wanted, eligible)
    if found is None:
        return
    assert eligible[found].all() and (np.diff(found) > 0).all()
    out = eligible.copy()
    out[found] = False
    for scores in (rows @ query, rows.astype(np.float64) @ query.astype(np.float64)):
        if out.any():
            assert np.sort(scores[found])[-wanted] > scores[out].max()


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("values", [3, 8, 32])
def test_nobody_is_left_out_by_what_bytes_leave_out(values: int, rounded: bool) -> None:
    """All are as far from the face, to within what bytes can tell; of the face they tell all, or not all."""
    random = np.random.default_rng(values)
    for _ in range(200):
        face = random.normal(size=values)
        if rounded:
            face = np.rint(face / np.abs(face).max() * 63)
        query = unit(face)
        across = random.normal(size=(200, values))
        across -= np.outer(across @ query, query)
        near = np.cos(1 + random.choice((0.002, 0.02, 0.2)) * random.random((200, 1)))
        rows = unit(near * query + np.sqrt(1 - near**2) * unit(across))
        found = Shortlist(rows).around(query, 1, np.ones(len(rows), np.bool_))
        assert found is None or int(np.argmax(rows.astype(np.float64) @ query)) in found


@pytest.mark.parametrize("make", [anywhere, in_clusters])
@pytest.mark.parametrize("values", [128, 512])
def test_it_is_short(make: Callable[[Random, int, int], Rows], values: int) -> None:
    random = np.random.default_rng(values)
    rows = make(random, 4000, values)
    shortlist, everybody = Shortlist(rows), np.ones(len(rows), np.bool_)
    for query in (rows[7], anywhere(random, 1, values)[0]):
        found = shortlist.around(query, 32, everybody)
        assert found is not None and 32 <= len(found) < 600


def test_where_all_are_alike_all_are_compared() -> None:
    rows = np.repeat(anywhere(np.random.default_rng(0), 1, 128), 500, axis=0)
    assert Shortlist(rows).around(rows[0], 32, np.ones(500, np.bool_)) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_bytes_do_not_overflow(sign: int) -> None:
    """Vectors whose numbers are all the same size are as large as can be in bytes, each and all."""
    signs = np.random.default_rng(1).choice((-1, 1), size=(400, 512))
    signs[:2] = [[1], [-1]]
    rows = unit(signs.astype(np.float32))
    found = Shortlist(rows).around(np.float32(sign) * rows[0], 1, np.ones(400, np.bool_))
    assert found is not None and found.tolist() == [0 if sign > 0 else 1]


def gallery(random: Random, make: Callable[[Random, int, int], Rows], values: int) -> Gallery:
    """People with one to three faces, some with a face that is not theirs, or for a time only."""
    people: list[GalleryPerson] = []
    rows: list[Rows] = []
    for number, centre in enumerate(make(random, 1000, values)):
        faces, negatives = int(random.integers(1, 4)), int(random.random() < 0.2)
        own = unit(centre + 0.3 * anywhere(random, faces + negatives, values))
        rows.append(own)
        people.append(
            GalleryPerson(
                id=f"p{number}",
                name=f"P {number}",
                group=("staff", "visitor", "blocked")[number % 3],
                rows=faces,
                negatives=negatives,
                valid_until=NOW + random.choice((-1, 1)) if number % 5 == 0 else None,
            )
        )
    store = GalleryStore()
    store.use(MODEL, values)
    for part in range(2):
        some = slice(part * 500, part * 500 + 500)
        meta = GalleryPart(
            embedder=MODEL, dimensions=values, base=0, part=part, parts=2, people=tuple(people[some])
        )
        store.apply(GalleryUpdate(1, meta, np.concatenate(rows[some]).astype("<f2").tobytes()))
    removed = GalleryPart(embedder=MODEL, dimensions=values, base=1, part=0, parts=1, removed=("p3", "p4"))
    store.apply(GalleryUpdate(2, removed, b""))
    assert store.current is not None
    return store.current


@pytest.mark.parametrize("make", [anywhere, in_clusters, coarse, mixed])
def test_a_gallery_answers_as_it_does_without(
    make: Callable[[Random, int, int], Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(5)
    monkeypatch.setattr(module, "_WORTH_IT_BYTES", 1 << 62)
    plain = gallery(np.random.default_rng(4), make, 128)
    monkeypatch.setattr(module, "_WORTH_IT_BYTES", 0)
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    quick = gallery(np.random.default_rng(4), make, 128)
    assert quick._shortlist is not None and plain._shortlist is None
    assert quick.bytes == plain.bytes + quick._shortlist.nbytes
    for number in range(60):
        near = plain._centres[random.integers(len(plain))]
        faces = unit(near + random.choice((0, 0.5, 3)) * anywhere(random, 1 + number % 4, 128))
        groups = (None, ("staff",), ("visitor", "blocked"), ())[number % 4]
        weights = random.random(len(faces)).tolist()
        was, now = (one.match(faces, now=NOW, groups=groups, weights=weights) for one in (plain, quick))
        for one, other in ((was.best, now.best), (was.runner_up, now.runner_up)):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert other.similarity == pytest.approx(one.similarity, abs=2e-6)
                assert other.id == one.id or make in (in_clusters, mixed)


def test_only_what_is_large_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    assert Shortlist.of(np.zeros((10_000, 128), np.float32)) is None
    assert Shortlist.of(np.zeros((10_000, 512), np.float32)) is not None
    monkeypatch.setattr(module.platform, "machine", lambda: "aarch64")
    assert Shortlist.of(np.zeros((10_000, 512), np.float32)) is None
