"""The figures of `camfleet eval`, on scores whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from camfleet.evaluation import metrics
from camfleet.evaluation.box_table import KnownPicture, compare
from camfleet.evaluation.gather import Faces, FoundBoxes, Looked, most_prominent
from camfleet.evaluation.pair_set import PairSet, assign_folds
from camfleet.evaluation.people_folder import PeopleFolder, make_pairs, read
from camfleet.evaluation.verification import look_up, verify
from camfleet_worker.recognition.faces import AnalyzedFace
from camfleet_worker.recognition.quality import FaceQuality

SCORES = np.array([0.9, 0.8, 0.4, 0.6, 0.3, 0.1])
SAME = np.array([True, True, True, False, False, False])
PLAIN = np.ones(6)


def pair_set(pairs: list[tuple[int, int]], people: list[int]) -> PairSet:
    x, y = (np.array(side, np.intp) for side in zip(*pairs, strict=True))
    of = np.array(people, np.intp)
    files = tuple(Path(f"{number}.jpg") for number in range(len(people)))
    return PairSet(files, of, x, y, of[x] == of[y])


def all_pairs(count: int) -> list[tuple[int, int]]:
    return [(one, other) for one in range(count) for other in range(one + 1, count)]


def test_the_threshold_lies_in_the_middle_of_the_widest_best_gap() -> None:
    assert metrics.best_threshold(SCORES, SAME, PLAIN) == pytest.approx(0.7)
    assert metrics.accuracy(SCORES, SAME, PLAIN, 0.7) == pytest.approx(5 / 6)
    scores, same = np.array([0.2, 0.8]), np.array([False, True])
    assert metrics.best_threshold(scores, same, np.ones(2)) == pytest.approx(0.5)


def test_weights_make_few_genuine_pairs_count_as_much_as_many_impostors() -> None:
    same = np.array([True] + [False] * 9)
    weight = metrics.weights(same, 0.5)
    assert weight[same].sum() == pytest.approx(weight[~same].sum())
    scores = np.array([0.5, 0.6, *([0.1] * 8)])
    assert metrics.accuracy(scores, same, weight, 0.9) == pytest.approx(0.5)
    assert metrics.accuracy(scores, same, weight, 0.3) == pytest.approx(1 - 0.5 / 9)


def test_area_under_the_curve_counts_ties_half() -> None:
    assert metrics.area_under_curve(SCORES, SAME) == pytest.approx(8 / 9)
    assert metrics.area_under_curve(np.array([0.5, 0.5]), np.array([True, False])) == pytest.approx(0.5)
    assert metrics.area_under_curve(np.array([0.5]), np.array([True])) is None


def test_rates_at_false_accepts_are_only_told_where_there_are_enough_impostors() -> None:
    scores = np.concatenate((np.linspace(0, 0.5, 100), [0.44, 0.6, 0.7, 0.8]))
    same = np.arange(104) >= 100
    at = metrics.at_false_accepts(scores, same, 0.1)
    assert at is not None and at.far == pytest.approx(0.1) and at.frr == pytest.approx(0.25)
    at = metrics.at_false_accepts(scores, same, 0.01)
    assert at is not None and at.far == pytest.approx(0.01) and at.frr == pytest.approx(0.25)
    assert metrics.at_false_accepts(scores, same, 0.001) is None


def test_equal_error_is_where_both_rates_meet() -> None:
    equal = metrics.equal_error(SCORES, SAME)
    assert equal.far == pytest.approx(1 / 3) and equal.frr == pytest.approx(1 / 3)


@pytest.mark.parametrize("people", [4, 9, 40])
def test_no_person_is_in_two_folds(people: int) -> None:
    of = [person for person in range(people) for _ in range(3)]
    pairs = pair_set(all_pairs(len(of)), of)
    part = assign_folds(pairs, 10)
    assert part is not None and part.shape == (people,)
    parts = int(part.max()) + 1
    assert 2 <= parts <= min(10, people // 2)
    for number in range(parts):
        inside = (part[pairs.people[pairs.x]] == number) & (part[pairs.people[pairs.y]] == number)
        assert pairs.same[inside].any() and (~pairs.same[inside]).any()


def test_people_that_are_compared_stay_together_where_that_is_possible() -> None:
    of, pairs = [], []
    for couple in range(20):  # each couple is compared with itself only, as in LFW's ten folds
        first = len(of)
        of += [2 * couple, 2 * couple, 2 * couple + 1, 2 * couple + 1]
        pairs += [(first, first + 1), (first + 2, first + 3), (first, first + 2), (first + 1, first + 3)]
    made = pair_set(pairs, of)
    part = assign_folds(made, 10)
    assert part is not None and int(part.max()) == 9
    assert (part[made.people[made.x]] == part[made.people[made.y]]).all()


def test_two_people_cannot_be_held_out() -> None:
    assert assign_folds(pair_set(all_pairs(4), [0, 0, 1, 1]), 10) is None


def test_a_held_out_fold_does_not_choose_its_own_threshold() -> None:
    """Two of four people score low among themselves: the others' threshold must fail them."""
    vectors = {0: 0.0, 1: 0.0, 2: 0.9, 3: 0.9}
    of = [0, 0, 1, 1, 2, 2, 3, 3]
    rng = np.random.default_rng(1)
    base = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    faces = {}
    for place, person in enumerate(of):
        vector = base[person] + (1 + vectors[person]) * base[8 + place % 8]
        faces[Path(f"{place}.jpg")] = Looked((vector / np.linalg.norm(vector)).astype(np.float32), 1)
    pairs = pair_set([(0, 1), (2, 3), (0, 2), (4, 5), (6, 7), (4, 6)], of)
    result = verify(pairs, faces, folds=2, default=0.45)
    assert len(result.folds) == 2 and result.people == 4
    assert result.accuracy_at[0] == 1.0
    # 0.5 for the first two, 0.22 for the others: 0.25, chosen by the first two, is too high for those.
    assert sorted(fold.accuracy for fold in result.folds) == [pytest.approx(1 / 3), 1.0]
    assert {failure.x.name for failure in result.failures} == {"4.jpg", "6.jpg"}


def test_pairs_without_a_face_are_counted_apart() -> None:
    vector = np.ones(4, np.float32) / 2
    faces = {
        Path("0.jpg"): Looked(vector, 1),
        Path("1.jpg"): Looked(vector, 2),
        Path("2.jpg"): Looked(),
        Path("3.jpg"): Looked(problem="not a picture"),
    }
    made = pair_set([(0, 1), (0, 2), (1, 3)], [0, 0, 1, 1])
    result = verify(made, faces, folds=10, default=0.45)
    assert (result.genuine, result.impostor_without_face, result.unreadable) == (1, 1, 1)
    assert result.share_with_face == pytest.approx(0.5)
    assert result.accuracy is None and result.auc is None


def test_looking_up_names_the_known_and_nobody_else() -> None:
    base = np.eye(8, dtype=np.float32)
    near = (base[0] * 0.9 + base[4] * 0.436).astype(np.float32)
    vectors = [base[0], near, base[1], base[1], base[2]]
    files = [Path(f"{number}.jpg") for number in range(5)]
    faces = {file: Looked(vector, 1) for file, vector in zip(files, vectors, strict=True)}
    found = look_up(np.array([0, 0, 1, 1, 2], np.intp), files, faces, 0.45, 0.05)
    assert (found.right, found.unknown, found.wrong) == (4, 0, 0)
    assert (found.strangers_unknown, found.strangers_wrong) == (5, 0), "one picture is enough for a stranger"
    alike = {**faces, files[4]: Looked(near, 1)}
    found = look_up(np.array([0, 0, 1, 1, 2], np.intp), files, alike, 0.45, 0.05)
    assert (found.right, found.wrong, found.unknown) == (2, 1, 1), "nor may they vanish from the others"
    strict = look_up(np.array([0, 0, 1, 1, 2], np.intp), files, faces, 0.95, 0.05)
    assert (strict.right, strict.unknown) == (2, 2)


def test_impostor_pairs_are_bounded_repeatable_and_never_of_one_person() -> None:
    people = np.repeat(np.arange(30), 10)
    files = tuple(Path(f"{number}.jpg") for number in range(people.size))
    folder = PeopleFolder(tuple(str(person) for person in range(30)), files, people)
    made = make_pairs(folder, impostors=1000)
    again = make_pairs(folder, impostors=1000)
    assert made.same.sum() == 30 * 45 and (~made.same).sum() == 1000
    assert (made.x == again.x).all() and (made.y == again.y).all()
    assert ((people[made.x] == people[made.y]) == made.same).all()
    every = make_pairs(folder, impostors=100_000)
    assert (~every.same).sum() == 300 * 299 // 2 - 30 * 45
    most = make_pairs(folder, impostors=30_000)
    for pairs in (made, every, most):
        low, high = np.minimum(pairs.x, pairs.y), np.maximum(pairs.x, pairs.y)
        assert np.unique(low * people.size + high).size == pairs.x.size, "a pair counts twice"
    assert (~most.same).sum() == 30_000


def test_a_link_to_a_person_is_not_another_person(tmp_path: Path) -> None:
    for number, name in enumerate(("bo/1.png", "bo/2.png", "cy/1.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes([number] * 9))
    (tmp_path / "ada").symlink_to("bo")
    (tmp_path / "cy/2.png").symlink_to("1.png")
    (tmp_path / "cy/copy.png").write_bytes((tmp_path / "bo/2.png").read_bytes())
    (tmp_path / "cy/other.png").write_bytes(b"same size")
    made = read(tmp_path)
    assert made.names == ("bo", "cy")
    assert [str(file.relative_to(tmp_path)) for file in made.files] == [
        *("bo/1.png", "bo/2.png", "cy/1.png", "cy/copy.png", "cy/other.png")
    ]
    assert [name.name for name, _ in made.doubles] == ["1.png", "2.png", "2.png"]
    assert made.copies == ((tmp_path / "cy/copy.png", tmp_path / "bo/2.png"),)


def people_like(people: int, pictures: int, spread: float) -> tuple[Faces, PairSet]:
    """People whose pictures are more or less alike, and all their pairs."""
    random = np.random.default_rng(3)
    faces, of = {}, []
    for person in range(people):
        middle = random.normal(size=16)
        for _ in range(pictures):
            vector = middle / np.linalg.norm(middle) + random.normal(size=16) * spread
            faces[Path(f"{len(of)}.jpg")] = Looked((vector / np.linalg.norm(vector)).astype(np.float32), 1)
            of.append(person)
    return faces, pair_set(all_pairs(len(of)), of)


def test_accuracy_is_the_share_of_tested_pairs_that_are_told_right() -> None:
    """By hand: what lies right of the threshold that each failure was judged by, and what does not."""
    faces, pairs = people_like(people=24, pictures=3, spread=0.28)
    result = verify(pairs, faces, folds=6, default=0.45)
    assert result.tested == pairs.x.size, "some pair was not tested"
    assert [fold.people for fold in result.folds] == [4] * 6
    accuracy, balanced = result.accuracy, result.balanced_accuracy
    assert accuracy is not None and balanced is not None
    wrong = sum((1 - fold.accuracy) * (fold.genuine + fold.impostor) for fold in result.folds)
    assert wrong == pytest.approx(len(result.failures)) and wrong > 20
    assert accuracy[0] == pytest.approx(np.mean([fold.accuracy for fold in result.folds]))
    assert accuracy[1] == pytest.approx(np.std([fold.accuracy for fold in result.folds], ddof=1))
    assert accuracy[0] == pytest.approx(1 - wrong / pairs.x.size, abs=0.002)
    assert balanced[0] < accuracy[0] - 0.02, "most pairs are of two people, and these are easy"


def test_nobody_is_tested_by_a_threshold_from_their_own_pairs() -> None:
    """Each person's pictures in turn are made useless: no threshold that they are judged by may change."""
    faces, pairs = people_like(people=9, pictures=3, spread=0.35)
    before = {(f.x, f.y): f.threshold for f in verify(pairs, faces, folds=3, default=0.45).failures}
    seen = 0
    for person in range(9):
        own = [file for file, of in zip(pairs.files, pairs.people, strict=True) if of == person]
        random = np.random.default_rng(person).normal(size=(len(own), 16)).astype(np.float32)
        noise = {file: Looked(row / np.linalg.norm(row), 1) for file, row in zip(own, random, strict=True)}
        for failure in verify(pairs, {**faces, **noise}, folds=3, default=0.45).failures:
            if {failure.x, failure.y} & set(own) and (failure.x, failure.y) in before:
                assert failure.threshold == before[failure.x, failure.y]
                seen += 1
    assert seen > 5


def test_boxes_are_matched_once_and_ignored_ones_count_neither_way() -> None:
    known = KnownPicture(
        Path("a.jpg"),
        "a.jpg",
        (((0, 0, 100, 100), False), ((200, 0, 100, 100), False), ((400, 0, 50, 50), True)),
    )
    found = FoundBoxes(
        (
            ((0, 0, 100, 100), 0.9),
            ((5, 5, 100, 100), 0.8),  # the same face again
            ((245, 0, 100, 100), 0.7),  # overlaps by 0.38
            ((405, 5, 40, 40), 0.6),  # within what is ignored
            ((600, 0, 50, 50), 0.5),
        )
    )
    half, third = compare([known], [found]).matched
    assert (half.known, half.right, half.false) == (2, 1, 3)
    assert (half.recall, half.precision) == (0.5, 0.25)
    assert half.misses == (("a.jpg", (200, 0, 100, 100)),)
    assert [box[1][0] for box in half.false_boxes] == [5, 245, 600]
    assert (third.right, third.false, third.recall) == (2, 2, 1.0)


def test_pictures_that_cannot_be_read_are_named_and_left_out() -> None:
    pictures = [KnownPicture(Path("a.jpg"), "a.jpg", (((0, 0, 9, 9), False),))]
    result = compare(pictures, [FoundBoxes(problem="No such file or directory")])
    assert result.problems == (("a.jpg", "No such file or directory"),)
    assert result.matched[0].known == 0 and result.matched[0].recall is None


def test_what_of_a_box_is_beyond_the_edge_counts_neither_way() -> None:
    known = KnownPicture(Path("a.jpg"), "a.jpg", (((0, 20, 80, 80), False),))
    whole_face = (0.0, 20.0, 80.0, 170.0)
    half, _ = compare([known], [FoundBoxes(((whole_face, 0.9),), size=(100, 100))]).matched
    assert (half.right, half.false) == (1, 0)
    half, _ = compare([known], [FoundBoxes(((whole_face, 0.9),))]).matched
    assert (half.right, half.false) == (0, 1)
    beside = KnownPicture(Path("a.jpg"), "a.jpg", (((200, 0, 80, 100), False),))
    half, _ = compare([beside], [FoundBoxes(((whole_face, 0.9),), size=(100, 100))]).matched
    assert (half.right, half.false) == (0, 1)


def analyzed(box: tuple[float, float, float, float], score: float) -> AnalyzedFace:
    quality = FaceQuality(box[3], 0.2, 0, 0, 0, 1)
    empty = np.zeros((5, 2), np.float32), np.zeros(1, np.float32), np.zeros((1, 1, 3), np.uint8)
    return AnalyzedFace(box, empty[0], score, quality, empty[1], empty[2])


def test_the_face_that_counts_is_large_in_the_middle_and_not_the_hair_above_it() -> None:
    image = np.zeros((250, 250, 3), np.uint8)
    face, hair = analyzed((83, 78, 87, 98), 0.89), analyzed((60, 6, 148, 115), 0.76)
    assert most_prominent([hair, face], image) is face
    beside, dot = analyzed((0, 0, 90, 110), 0.95), analyzed((60, 60, 120, 120), 0.4)
    assert most_prominent([beside, face], image) is face
    assert most_prominent([beside, dot], image) is beside
