"""The gallery: parts and changes taken whole or not at all, and the right people found in it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from camfleet_protocol.gallery import GalleryPart, GalleryPerson, GalleryUpdate
from camfleet_worker.recognition import gallery as module
from camfleet_worker.recognition.gallery import GalleryRefusedError, GalleryStore

MODEL = "model@0123456789ab"
D = 64
NOW = 1_790_000_000.0
Rows = NDArray[np.float32]


def unit(seed: int, near: Rows | None = None, spread: float = 0.5) -> Rows:
    """A direction; or one near another."""
    vector = np.random.default_rng(seed).normal(size=D).astype(np.float32)
    vector /= np.linalg.norm(vector)
    if near is not None:
        vector = near + spread * vector
        vector /= np.linalg.norm(vector)
    return vector


def part(
    version: int,
    *people: tuple[GalleryPerson, list[Rows]],
    base: int = 0,
    number: int = 0,
    parts: int = 1,
    removed: tuple[str, ...] = (),
    embedder: str = MODEL,
) -> GalleryUpdate:
    vectors = [vector for _, rows in people for vector in rows]
    data = np.stack(vectors).astype("<f2").tobytes() if vectors else b""
    meta = GalleryPart(
        embedder=embedder,
        dimensions=D,
        base=base,
        part=number,
        parts=parts,
        people=tuple(person for person, _ in people),
        removed=removed,
    )
    return GalleryUpdate(version, meta, data)


def person(
    name: str, faces: list[Rows], negatives: list[Rows] | None = None, **facts: object
) -> tuple[GalleryPerson, list[Rows]]:
    negatives = negatives or []
    meta = GalleryPerson.model_validate(
        {"id": name.lower(), "name": name, "rows": len(faces), "negatives": len(negatives), **facts}
    )
    return meta, faces + negatives


def store(*updates: GalleryUpdate) -> GalleryStore:
    made = GalleryStore()
    made.use(MODEL, D)
    for update in updates:
        made.apply(update)
    return made


def names(gallery: GalleryStore, query: Rows, **how: object) -> tuple[str, str]:
    assert gallery.current is not None
    options = {"now": NOW, **how}
    result = gallery.current.match(query[np.newaxis], **options)  # type: ignore[arg-type]
    return tuple(one.name if one is not None else "" for one in (result.best, result.runner_up))  # type: ignore[return-value]


ALEX, KIM, SAM = unit(1), unit(2), unit(3)


def test_first_and_second_are_different_people() -> None:
    gallery = store(part(1, person("Alex", [unit(11, ALEX), unit(12, ALEX)]), person("Kim", [KIM])))
    assert names(gallery, ALEX) == ("Alex", "Kim")
    result = gallery.current.match(ALEX[np.newaxis], now=NOW)  # type: ignore[union-attr]
    assert result.best is not None and result.runner_up is not None
    expected = max(float(unit(n, ALEX) @ ALEX) for n in (11, 12))
    assert result.best.similarity == pytest.approx(expected, abs=0.003)
    assert result.runner_up.similarity == pytest.approx(float(KIM @ ALEX), abs=0.003)


def test_it_finds_whom_comparing_with_every_face_finds() -> None:
    people = {f"P{n}": [unit(1000 * n + k, unit(n), 0.8) for k in range(1 + n % 4)] for n in range(2000)}
    updates = [
        part(5, *(person(f"P{n}", people[f"P{n}"]) for n in range(at, at + 500)), number=at // 500, parts=4)
        for at in range(0, 2000, 500)
    ]
    gallery = store(*updates)
    for number in range(0, 2000, 97):
        query = unit(77, people[f"P{number}"][0], 0.6)
        scores = {name: max(float(face @ query) for face in faces) for name, faces in people.items()}
        assert names(gallery, query)[0] == max(scores, key=scores.__getitem__)


def test_a_vote_is_the_weighted_mean_over_pictures() -> None:
    gallery = store(part(1, person("Alex", [ALEX, unit(12, ALEX)]), person("Kim", [KIM])))
    pictures = np.stack([unit(21, ALEX), unit(22, KIM)])
    best = gallery.current.match(pictures, now=NOW, weights=[3, 1]).best  # type: ignore[union-attr]
    assert best is not None and best.name == "Alex"
    each = [max(float(face @ query) for face in (ALEX, unit(12, ALEX))) for query in pictures]
    assert best.similarity == pytest.approx(0.75 * each[0] + 0.25 * each[1], abs=0.003)


def test_not_this_person_vetoes_only_whoever_looks_like_that_face() -> None:
    stranger = unit(31, ALEX, 0.7)
    with_negative = person("Alex", [ALEX], [stranger])
    gallery = store(part(1, with_negative, person("Kim", [KIM])))
    assert names(gallery, unit(32, stranger, 0.3))[0] == "Kim", "Alex is out of the question"
    assert names(gallery, unit(33, ALEX, 0.3))[0] == "Alex"


def test_groups_and_dates_are_heeded() -> None:
    gallery = store(
        part(
            1,
            person("Alex", [ALEX], group="staff", valid_until=NOW + 10),
            person("Kim", [KIM], group="visitor", valid_from=NOW + 10),
        )
    )
    assert names(gallery, KIM) == ("Alex", "")
    assert names(gallery, ALEX, now=NOW + 10) == ("Kim", "")
    assert names(gallery, KIM, groups=["visitor"], now=NOW + 10)[0] == "Kim"
    assert names(gallery, ALEX, groups=["visitor"]) == ("", "")


def test_a_gallery_takes_effect_with_its_last_part() -> None:
    gallery = store(part(3, person("Alex", [ALEX]), parts=2))
    assert gallery.version(MODEL) == 0 and names(gallery, ALEX) == ("", "")
    gallery.apply(part(3, person("Kim", [KIM]), number=1, parts=2))
    assert gallery.version(MODEL) == 3 and names(gallery, ALEX) == ("Alex", "Kim")
    assert gallery.version("model@ba9876543210") == 0


def test_changes_add_replace_and_remove() -> None:
    gallery = store(
        part(3, person("Alex", [ALEX, unit(11, ALEX)]), person("Kim", [KIM, unit(12, KIM)])),
        part(4, person("Alex", [SAM]), base=3, removed=("kim",)),
        part(5, person("Kim", [ALEX, unit(13, ALEX)]), base=4),
    )
    assert gallery.version(MODEL) == 5 and gallery.current is not None and len(gallery.current) == 2
    assert names(gallery, SAM)[0] == "Alex" and names(gallery, ALEX)[0] == "Kim"
    gallery.apply(part(6, person("Sam", [SAM])))
    assert len(gallery.current) == 1, "a whole gallery replaces everybody"


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        (part(4, base=2, removed=("alex",)), "WrongBase"),
        (part(4, base=3, removed=("alex",), embedder="other@0123456789ab"), "WrongEmbedder"),
        (part(4, base=3, number=1, parts=2), "OutOfOrder"),
        (part(4, person("Kim", [KIM * np.nan]), base=3), "BadVectors"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(update: GalleryUpdate, reason: str) -> None:
    gallery = store(part(3, person("Alex", [ALEX])))
    with pytest.raises(GalleryRefusedError) as refused:
        gallery.apply(update)
    assert refused.value.reason == reason
    assert gallery.version(MODEL) == 3 and names(gallery, ALEX)[0] == "Alex"


@pytest.mark.parametrize(
    ("updates", "fits"),
    [
        ([part(4, person("Kim", [SAM]), base=3)], True),  # in the place of the one before
        ([part(4, person("Sam", [SAM]), base=3)], False),
        ([part(4, person("Sam", [SAM]), base=3, removed=("kim", "nobody"))], True),
        ([part(4, person("Sam", [SAM]), base=3, removed=("nobody",))], False),
        (
            [
                part(4, person("Sam", [SAM]), base=3, parts=2),
                part(4, base=3, number=1, parts=2, removed=("kim",)),
            ],
            True,
        ),
        ([part(4, person("Sam", [SAM]), person("Kim", [KIM]))], True),
    ],
)
def test_a_gallery_may_be_full_and_no_fuller(
    monkeypatch: pytest.MonkeyPatch, updates: list[GalleryUpdate], fits: bool
) -> None:
    monkeypatch.setattr(module, "MAX_PEOPLE", 2)
    gallery = store(part(3, person("Alex", [ALEX]), person("Kim", [KIM])))
    if fits:
        for update in updates:
            gallery.apply(update)
        assert gallery.current is not None and gallery.version(MODEL) == 4 and len(gallery.current) == 2
    else:
        with pytest.raises(GalleryRefusedError) as refused:
            gallery.apply(updates[0])
        assert refused.value.reason == "TooManyPeople" and gallery.version(MODEL) == 3


def test_an_update_begun_anew_forgets_the_one_that_broke_off() -> None:
    gallery = store(part(3, person("Alex", [ALEX]), parts=2))
    gallery.apply(part(4, person("Kim", [KIM])))
    assert gallery.version(MODEL) == 4 and names(gallery, ALEX) == ("Kim", "")


def test_another_model_forgets_everybody() -> None:
    gallery = store(part(3, person("Alex", [ALEX])))
    gallery.use(MODEL, D)
    assert gallery.version(MODEL) == 3
    gallery.use("other@0123456789ab", D)
    assert gallery.version("other@0123456789ab") == 0 and gallery.current is not None
    assert len(gallery.current) == 0


def test_ten_thousand_people_fit_into_fifty_megabytes() -> None:
    """With three pictures each; the time is measured by bench/bench_gallery.py."""
    gallery = GalleryStore()
    gallery.use(MODEL, 512)
    rows = np.random.default_rng(0).normal(size=(1500, 512)).astype("<f2") / np.float16(23)
    for number in range(20):
        people = tuple(GalleryPerson(id=f"p{number}-{n}", name="N", rows=3) for n in range(500))
        meta = GalleryPart(embedder=MODEL, dimensions=512, base=0, part=number, parts=20, people=people)
        gallery.apply(GalleryUpdate(1, meta, rows.tobytes()))
    assert gallery.current is not None and len(gallery.current) == 10_000
    assert gallery.current.bytes <= 50_000_000
