"""Pairs of pictures to compare, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Indexes = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PairSet:
    """Pairs of files.

    Attributes:
        files: The pictures.
        people: Number of the person of each file.
        x: Index of each pair's first file.
        y: Index of its second.
        same: Whether they are of one person.
    """

    files: tuple[Path, ...]
    people: Indexes
    x: Indexes
    y: Indexes
    same: NDArray[np.bool_]


def assign_folds(pairs: PairSet, folds: int, seed: int = 0) -> Indexes | None:
    """Split the people, not the pairs, so that nobody is in two parts.

    People that are compared with each other are kept together where that gives even parts; else people are
    dealt out at random, and there are pairs across two parts: see `home`.

    Returns:
        The part of each person; None where people are too few for two parts with both kinds of pairs.
    """
    count = int(pairs.people.max()) + 1
    one, other = pairs.people[pairs.x], pairs.people[pairs.y]
    for parts in range(min(folds, count // 2), 1, -1):
        for part in (_weigh(_linked(one, other, count), one, parts), _deal(one, other, count, parts, seed)):
            if _usable(part, one, other, pairs.same, parts):
                return part
    return None


def home(one: Indexes, other: Indexes) -> Indexes:
    """The part that each pair is tested in, -1 for none, from the parts of its two people.

    Nobody of a tested pair may be among those that its threshold was chosen by. For a pair across two parts
    those are the people of all other parts, so it can be tested where there are three, and counts in one of
    its two, in turn.
    """
    turn = np.arange(one.size) % 2 == 0
    tested = np.where(turn, one, other)
    few = one.size == 0 or max(int(one.max()), int(other.max())) < 2
    return np.where((one != other) & few, -1, tested)


def _linked(one: Indexes, other: Indexes, count: int) -> Indexes:
    """A number for each set of people that are compared with each other, directly or not."""
    group = np.arange(count)
    while True:
        lowest = group.copy()
        np.minimum.at(lowest, one, group[other])
        np.minimum.at(lowest, other, group[one])
        lowest = lowest[lowest]
        if np.array_equal(lowest, group):
            return group
        group = lowest


def _weigh(groups: Indexes, one: Indexes, parts: int) -> Indexes:
    """Give each group to the part that has the fewest pairs so far, the largest groups first."""
    sizes = np.bincount(groups[one], minlength=groups.size)
    present = np.unique(groups)
    load = np.zeros(parts)
    part_of_group = np.zeros(groups.size, np.intp)
    for group in present[np.argsort(-sizes[present], kind="stable")]:
        part = int(np.argmin(load))
        part_of_group[group] = part
        load[part] += sizes[group] + 1e-6
    return part_of_group[groups]


def _deal(one: Indexes, other: Indexes, count: int, parts: int, seed: int) -> Indexes:
    """Deal people out one by one, to and fro, those with the most pairs first: as many to each part."""
    sizes = np.bincount(one, minlength=count) + np.bincount(other, minlength=count)
    shuffled = np.random.default_rng(seed).permutation(count)
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    places = np.arange(count) % (2 * parts)
    part = np.zeros(count, np.intp)
    part[order] = np.minimum(places, 2 * parts - 1 - places)
    return part


def _usable(part: Indexes, one: Indexes, other: Indexes, same: NDArray[np.bool_], parts: int) -> bool:
    """Whether each part tests pairs of both kinds, by thresholds from both kinds, and none tests most."""
    first, second = part[one], part[other]
    tested = home(first, second)
    genuine = np.bincount(tested[same & (tested >= 0)], minlength=parts)
    impostor = np.bincount(tested[~same & (tested >= 0)], minlength=parts)
    total = genuine + impostor
    if not (genuine.all() and impostor.all() and total.max() <= max(2.5 / parts, 0.6) * total.sum()):
        return False
    between = np.zeros((parts, parts), np.intp)
    np.add.at(between, (first[~same], second[~same]), 1)
    between += between.T - np.diag(between.diagonal())
    of = between.sum(axis=1)
    total_impostors = int(np.triu(between).sum())
    left = total_impostors - of[:, None] - of[None, :] + between
    np.fill_diagonal(left, total_impostors - of)
    needed = (between > 0) if parts > 2 else np.eye(parts, dtype=np.bool_)
    return bool(left[needed | np.eye(parts, dtype=np.bool_)].all())
