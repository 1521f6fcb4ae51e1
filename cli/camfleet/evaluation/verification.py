"""Are two pictures of one person, and whose is this one? From vectors, by the rules of a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camfleet.evaluation import metrics
from camfleet.evaluation.gather import Faces
from camfleet.evaluation.metrics import Rates, Scores
from camfleet.evaluation.pair_set import Indexes, PairSet, assign_folds

_CHUNK = 65536
_LOOKUP_ROWS = 512


@dataclass(frozen=True, slots=True)
class Fold:
    """One part of the people: tested with the threshold that the others gave."""

    threshold: float
    accuracy: float
    pairs: int
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
        tested: Pairs that were tested in a part.
        threshold: Best on all pairs: what to set, not how good it is.
        accuracy_at: Accuracy at that threshold, and at the model's own.
        share_with_face: Of the pairs, weighted as the accuracy is.
        failures: At each pair's fold's threshold, the worst first.
    """

    genuine: int
    impostor: int
    genuine_without_face: int
    impostor_without_face: int
    unreadable: int
    people: int
    folds: tuple[Fold, ...]
    tested: int
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
    def accuracy(self) -> float | None:
        """Mean over the parts."""
        return float(np.mean([fold.accuracy for fold in self.folds])) if self.folds else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the parts."""
        return float(np.std([fold.accuracy for fold in self.folds], ddof=1)) if self.folds else None


@dataclass(frozen=True, slots=True)
class Lookup:
    """Each picture looked up among all others, with threshold and margin as in a worker.

    Attributes:
        threshold: Similarity that was asked for.
        margin: Lead over the next person that was asked for.
        right: Known people by their right name.
        unknown: Known people that were not recognised.
        wrong: Known people by another's name.
        strangers_unknown: The same pictures with their person taken out: not recognised, which is right.
        strangers_wrong: Those taken for somebody else.
    """

    threshold: float
    margin: float
    right: int
    unknown: int
    wrong: int
    strangers_unknown: int
    strangers_wrong: int


def verify(pairs: PairSet, faces: Faces, *, folds: int, balanced: bool, default: float) -> Verification:
    """Compare all pairs.

    Args:
        pairs: What to compare.
        faces: What each file gave.
        folds: Parts of people for choosing the threshold on some and testing it on others.
        balanced: Whether genuine and impostor pairs count the same in the accuracy, however many there are;
            else every pair counts the same.
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
    share = 0.5 if balanced else float(same.mean()) if same.size else 0.5
    weight = metrics.weights(same, share)
    threshold = metrics.best_threshold(scores, same, weight) if both else None
    judged = np.full(same.size, default if threshold is None else threshold)
    parts = _folds(usable, scores, judged, share, folds) if both else ()
    wanted = ~unreadable
    counted = metrics.weights(pairs.same[wanted], 0.5) if balanced else np.ones(int(wanted.sum()))
    with_face = counted * compared[wanted]
    return Verification(
        genuine=int(same.sum()),
        impostor=int((~same).sum()),
        genuine_without_face=int((faceless & pairs.same).sum()),
        impostor_without_face=int((faceless & ~pairs.same).sum()),
        unreadable=int(unreadable.sum()),
        people=int(np.unique(pairs.people[np.concatenate((pairs.x, pairs.y))]).size),
        folds=parts,
        tested=sum(fold.pairs for fold in parts),
        threshold=threshold,
        default_threshold=default,
        accuracy_at=(
            metrics.accuracy(scores, same, weight, threshold) if threshold is not None else None,
            metrics.accuracy(scores, same, weight, default) if same.size else None,
        ),
        share_with_face=float(with_face.mean()) if with_face.size else 0.0,
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

    Known are people with at least two pictures with a face; somebody's similarity is that of their most
    similar picture.
    """
    embeddings = [faces[file].embedding for file in files]
    places = [place for place, vector in enumerate(embeddings) if vector is not None]
    persons = people[places]
    counts = np.bincount(persons, minlength=int(people.max()) + 1) if persons.size else np.zeros(1, np.intp)
    known = counts[persons] >= 2
    vectors = _matrix([embeddings[place] for place in places])[known]
    persons = persons[known]
    order = np.argsort(persons, kind="stable")
    vectors, persons = vectors[order], persons[order]
    names, starts = np.unique(persons, return_index=True)
    result = np.zeros(5, np.intp)
    for start in range(0, persons.size if names.size > 1 else 0, _LOOKUP_ROWS):
        rows = np.arange(start, min(start + _LOOKUP_ROWS, persons.size))
        similar = vectors[rows] @ vectors.T
        similar[np.arange(rows.size), rows] = -1.0
        best = np.maximum.reduceat(similar, starts, axis=1)
        own = np.searchsorted(names, persons[rows])
        named = _named(best, threshold, margin)
        best[np.arange(rows.size), own] = -1.0
        stranger = _named(best, threshold, margin)
        result += (
            (named == own).sum(),
            (named < 0).sum(),
            ((named >= 0) & (named != own)).sum(),
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


def _folds(pairs: PairSet, scores: Scores, judged: Scores, share: float, folds: int) -> tuple[Fold, ...]:
    """Test each part of the people; notes in `judged` the threshold that each tested pair was judged by."""
    part = assign_folds(pairs, folds)
    if part is None:
        return ()
    one, other = part[pairs.people[pairs.x]], part[pairs.people[pairs.y]]
    results = []
    for number in range(int(part.max()) + 1):
        test, train = (one == number) & (other == number), (one != number) & (other != number)
        weight = metrics.weights(pairs.same[train], share)
        threshold = metrics.best_threshold(scores[train], pairs.same[train], weight)
        judged[test] = threshold
        right = metrics.accuracy(
            scores[test], pairs.same[test], metrics.weights(pairs.same[test], share), threshold
        )
        people = int(np.unique(pairs.people[np.concatenate((pairs.x[test], pairs.y[test]))]).size)
        results.append(Fold(threshold, right, int(test.sum()), people))
    return tuple(results)


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
