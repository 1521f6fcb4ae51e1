"""Figures of scores: thresholds, accuracy, area under the curve, rates of false acceptance and rejection.

All take `scores` (float64) and `same` (bool), one entry per pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Same = NDArray[np.bool_]

FALSE_ACCEPTS = (1e-1, 1e-2, 1e-3, 1e-4)
_LOWEST, _HIGHEST = -1.0, 1.0


@dataclass(frozen=True, slots=True)
class Rates:
    """At one threshold: share of two people's pairs accepted, of one person's rejected."""

    threshold: float
    far: float
    frr: float


def weights(same: Same, genuine_share: float) -> Scores:
    """What each pair counts, so that genuine pairs count `genuine_share` of all; plain ones of one kind."""
    if same.all() or not same.any():
        return np.ones(same.size)
    genuine, impostor = int(same.sum()), int((~same).sum())
    each: Scores = np.where(same, genuine_share / genuine, (1 - genuine_share) / impostor)
    return each * same.size


def best_threshold(scores: Scores, same: Same, weight: Scores) -> float:
    """The threshold with which most is right: accepted is what is at least as similar.

    Of several that are as good, the middle of the widest range of them.
    """
    order = np.argsort(scores, kind="stable")
    ordered, correct = scores[order], np.where(same[order], weight[order], 0.0)
    wrong = np.where(same[order], 0.0, weight[order])
    # With the threshold before item i, all from i on are accepted.
    right = (
        np.concatenate(([0.0], np.cumsum(wrong)))
        + correct.sum()
        - np.concatenate(([0.0], np.cumsum(correct)))
    )
    edges = np.concatenate(([_LOWEST], ordered, [_HIGHEST]))
    widths = np.diff(edges)
    usable = widths > 0
    if not usable.any():
        return float(edges[0])
    best = np.flatnonzero(usable & (right >= right[usable].max() - 1e-9))
    place = best[np.argmax(widths[best])]
    return float((edges[place] + edges[place + 1]) / 2)


def accuracy(scores: Scores, same: Same, weight: Scores, threshold: float) -> float:
    """Weighted share of pairs that are told right."""
    return float((((scores >= threshold) == same) * weight).sum() / weight.sum())


def area_under_curve(scores: Scores, same: Same) -> float | None:
    """How often a genuine pair is more similar than an impostor one; None without both kinds."""
    genuine, impostor = int(same.sum()), int((~same).sum())
    if not genuine or not impostor:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[inverse][same].sum() - genuine * (genuine + 1) / 2) / (genuine * impostor))


def rates(scores: Scores, same: Same, threshold: float) -> Rates:
    """False acceptance and rejection at a threshold; needs both kinds of pairs."""
    accepted = scores >= threshold
    return Rates(threshold, float(accepted[~same].mean()), float((~accepted[same]).mean()))


def at_false_accepts(scores: Scores, same: Same, far: float) -> Rates | None:
    """The lowest threshold with at most so many false acceptances; None where pairs are too few to say it."""
    impostors = np.sort(scores[~same])[::-1]
    allowed = int(np.floor(far * impostors.size + 1e-9))
    if not allowed or not same.any():
        return None
    threshold = _LOWEST if allowed >= impostors.size else float(np.nextafter(impostors[allowed], 2.0))
    return rates(scores, same, threshold)


def equal_error(scores: Scores, same: Same) -> Rates:
    """Where both rates are as close as they get; needs both kinds of pairs."""
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    thresholds = np.unique(scores)
    frr = np.searchsorted(genuine, thresholds, side="left") / genuine.size
    far = 1 - np.searchsorted(impostor, thresholds, side="left") / impostor.size
    place = int(np.argmin(np.abs(far - frr)))
    return Rates(float(thresholds[place]), float(far[place]), float(frr[place]))
