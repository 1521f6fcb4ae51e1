"""Are two pictures of one person, and whose is this one? From vectors, one picture at a time.

A worker, which has many pictures of a face, lets them vote before it applies the same threshold and margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camfleet.evaluation import metrics
from camfleet.evaluation.gather import Faces
from camfleet.evaluation.metrics import Rates, Scores
from camfleet.evaluation.pair_set import Indexes, PairSet, assign_folds, home

_CHUNK = 65536
_LOOKUP_ROWS = 512


@dataclass(frozen=True, slots=True)
class Fold:
    """One part of the people: its pairs tested with the thresholds that other people's gave.

    Attributes:
        threshold: Told most pairs of all other parts right. A tested pair with another part is judged by what
            did so in the parts that are neither.
        accuracy: Share of the tested pairs that were told right, each counted once.
        balanced_accuracy: Mean of that share of one person's and of two people's pairs, with thresholds that
            were chosen for it.
        genuine: Tested pairs of one person.
        impostor: Tested pairs of two.
        people: In this part.
    """

    threshold: float
    accuracy: float
    balanced_accuracy: float
    genuine: int
    impostor: int
    people: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A pair that was told wrongly, and the threshold it was judged by."""

    x: Path
    y: Path
    same: bool
    score: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Verification:
    """What comparing pairs showed. Pairs without a face are in `without_face` and in nothing else.

    Attributes:
        genuine: Pairs of one person that were compared.
        impostor: Of two.
        genuine_without_face: Not compared, for want of a face.
        impostor_without_face: The same of two people.
        unreadable: Pairs left out because a picture cannot be read.
        people: Persons in the pairs.
        folds: Parts; empty where people are too few.
        threshold: Best on all pairs: what to set, not how good it is.
        accuracy_at: Share of all pairs told right at that threshold, and at the model's own.
        share_with_face: Of the pairs.
        failures: At the threshold that each was tested with; pairs that were not, at the best one. The worst
            first.
    """

    genuine: int
    impostor: int
    genuine_without_face: int
    impostor_without_face: int
    unreadable: int
    people: int
    folds: tuple[Fold, ...]
    threshold: float | None
    default_threshold: float
    accuracy_at: tuple[float | None, float | None]
    share_with_face: float
    auc: float | None
    equal_error: Rates | None
    at_false_accepts: tuple[tuple[float, Rates | None], ...]
    table: tuple[Rates, ...]
    failures: tuple[Failure, ...]

    @property
    def accuracy(self) -> tuple[float, float] | None:
        """Mean over the parts, and standard deviation."""
        return _mean([fold.accuracy for fold in self.folds])

    @property
    def balanced_accuracy(self) -> tuple[float, float] | None:
        """The same where both kinds of pairs count half."""
        return _mean([fold.balanced_accuracy for fold in self.folds])

    @property
    def tested(self) -> int:
        """Pairs that were tested in a part."""
        return sum(fold.genuine + fold.impostor for fold in self.folds)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Each picture looked up among all others, with the threshold and margin that a worker has; no votes.

    Attributes:
        threshold: Similarity that was asked for.
        margin: Lead over the next person that was asked for.
        right: Known people by their right name.
        unknown: Known people that were not recognised.
        wrong: Known people by another's name.
        strangers_unknown: All pictures, with their person taken out: not recognised, which is right.
        strangers_wrong: Those taken for somebody else.
    """

    threshold: float
    margin: float
    right: int
    unknown: int
    wrong: int
    strangers_unknown: int
    strangers_wrong: int


def verify(pairs: PairSet, faces: Faces, *, folds: int, default: float) -> Verification:
    """Compare all pairs.

    Args:
        pairs: What to compare.
        faces: What each file gave.
        folds: Parts of people for choosing the threshold on some and testing it on others.
        default: The model's own threshold.
    """
    looked = [faces[file] for file in pairs.files]
    readable = np.array([not item.problem for item in looked], np.bool_)
    has_face = np.array([item.embedding is not None for item in looked], np.bool_)
    unreadable = ~(readable[pairs.x] & readable[pairs.y])
    compared = has_face[pairs.x] & has_face[pairs.y]
    faceless = ~compared & ~unreadable
    vectors = _matrix([item.embedding for item in looked])
    x, y, same = pairs.x[compared], pairs.y[compared], pairs.same[compared]
    scores = _similarities(vectors, x, y)
    usable = PairSet(pairs.files, pairs.people, x, y, same)
    both = bool(same.any() and not same.all())
    plain = np.ones(same.size)
    threshold = metrics.best_threshold(scores, same, plain) if both else None
    judged = np.full(same.size, default if threshold is None else threshold)
    parts = _folds(usable, scores, judged, folds) if both else ()
    return Verification(
        genuine=int(same.sum()),
        impostor=int((~same).sum()),
        genuine_without_face=int((faceless & pairs.same).sum()),
        impostor_without_face=int((faceless & ~pairs.same).sum()),
        unreadable=int(unreadable.sum()),
        people=int(np.unique(pairs.people[np.concatenate((pairs.x, pairs.y))]).size),
        folds=parts,
        threshold=threshold,
        default_threshold=default,
        accuracy_at=(
            metrics.accuracy(scores, same, plain, threshold) if threshold is not None else None,
            metrics.accuracy(scores, same, plain, default) if same.size else None,
        ),
        share_with_face=float(compared[~unreadable].mean()) if not unreadable.all() else 0.0,
        auc=metrics.area_under_curve(scores, same),
        equal_error=metrics.equal_error(scores, same) if both else None,
        at_false_accepts=tuple(
            (far, metrics.at_false_accepts(scores, same, far)) for far in metrics.FALSE_ACCEPTS
        ),
        table=tuple(metrics.rates(scores, same, step / 20) for step in range(2, 17)) if both else (),
        failures=_failures(usable, scores, judged),
    )


def look_up(people: Indexes, files: Sequence[Path], faces: Faces, threshold: float, margin: float) -> Lookup:
    """Look each picture up among all others, once with its person among them and once without.

    Known are people with at least two pictures with a face; the others are strangers only, but may be what
    somebody is taken for. Somebody's similarity is that of their most similar picture.
    """
    embeddings = [faces[file].embedding for file in files]
    places = [place for place, vector in enumerate(embeddings) if vector is not None]
    persons = people[places]
    counts = np.bincount(persons, minlength=int(people.max()) + 1) if persons.size else np.zeros(1, np.intp)
    order = np.argsort(persons, kind="stable")
    vectors, persons = _matrix([embeddings[place] for place in places])[order], persons[order]
    several = counts[persons] >= 2
    names, starts = np.unique(persons, return_index=True)
    result = np.zeros(5, np.intp)
    for start in range(0, persons.size if names.size > 1 else 0, _LOOKUP_ROWS):
        rows = np.arange(start, min(start + _LOOKUP_ROWS, persons.size))
        similar = vectors[rows] @ vectors.T
        similar[np.arange(rows.size), rows] = -1.0
        best = np.maximum.reduceat(similar, starts, axis=1)
        own = np.searchsorted(names, persons[rows])
        named, known = _named(best, threshold, margin), several[rows]
        best[np.arange(rows.size), own] = -1.0
        stranger = _named(best, threshold, margin)
        result += (
            (known & (named == own)).sum(),
            (known & (named < 0)).sum(),
            (known & (named >= 0) & (named != own)).sum(),
            (stranger < 0).sum(),
            (stranger >= 0).sum(),
        )
    return Lookup(threshold, margin, *(int(value) for value in result))


def _named(best: NDArray[np.float32], threshold: float, margin: float) -> Indexes:
    """Index of the person that each row is said to be of, -1 for unknown."""
    first = best.argmax(axis=1)
    top = np.partition(best, -2, axis=1)[:, -2:]
    sure = (top[:, 1] >= threshold) & (top[:, 1] - top[:, 0] >= margin)
    return np.where(sure, first, -1)


def _folds(pairs: PairSet, scores: Scores, judged: Scores, folds: int) -> tuple[Fold, ...]:
    """Test each part of the people; notes in `judged` the threshold that each tested pair was judged by."""
    part = assign_folds(pairs, folds)
    if part is None:
        return ()
    one, other = part[pairs.people[pairs.x]], part[pairs.people[pairs.y]]
    tested, balanced = home(one, other), judged.copy()
    number = int(part.max()) + 1
    own = np.zeros(number)
    order = np.argsort(scores, kind="stable")  # once: what is sorted already is sorted fast
    low, high = np.minimum(one, other), np.maximum(one, other)
    for key in np.unique((low * number + high)[tested >= 0]):
        first, second = divmod(int(key), number)
        test = (low == first) & (high == second)
        # Nobody who is tested here.
        train = order[((low != first) & (low != second) & (high != first) & (high != second))[order]]
        known, same = scores[train], pairs.same[train]
        judged[test] = metrics.best_threshold(known, same, np.ones(same.size))
        balanced[test] = metrics.best_threshold(known, same, metrics.weights(same, 0.5))
        if first == second:
            own[first] = judged[test][0]
    right, fair = (scores >= judged) == pairs.same, (scores >= balanced) == pairs.same
    people = np.bincount(part[np.unique(pairs.people[np.concatenate((pairs.x, pairs.y))])], minlength=number)
    return tuple(
        Fold(
            threshold=float(own[place]),
            accuracy=float(right[here].mean()),
            balanced_accuracy=float((fair[here & pairs.same].mean() + fair[here & ~pairs.same].mean()) / 2),
            genuine=int((here & pairs.same).sum()),
            impostor=int((here & ~pairs.same).sum()),
            people=int(people[place]),
        )
        for place, here in enumerate(tested == place for place in range(number))
    )


def _mean(values: Sequence[float]) -> tuple[float, float] | None:
    """Mean and standard deviation."""
    return (float(np.mean(values)), float(np.std(values, ddof=1))) if values else None


def _failures(pairs: PairSet, scores: Scores, judged: Scores) -> tuple[Failure, ...]:
    wrong = np.flatnonzero((scores >= judged) != pairs.same)
    worst = wrong[np.argsort(-np.abs(scores[wrong] - judged[wrong]), kind="stable")]
    return tuple(
        Failure(
            pairs.files[pairs.x[place]],
            pairs.files[pairs.y[place]],
            bool(pairs.same[place]),
            float(scores[place]),
            float(judged[place]),
        )
        for place in worst
    )


def _matrix(vectors: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    """A row each; zeros where there is none."""
    length = next((vector.size for vector in vectors if vector is not None), 1)
    rows = np.zeros((len(vectors), length), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        if vector is not None:
            row[:] = vector
    return rows


def _similarities(vectors: NDArray[np.float32], x: Indexes, y: Indexes) -> Scores:
    scores = np.empty(x.size)
    for start in range(0, x.size, _CHUNK):
        piece = slice(start, start + _CHUNK)
        scores[piece] = np.einsum("ij,ij->i", vectors[x[piece]], vectors[y[piece]])
    return scores
