"""Whose face it is, from several pictures of it: each counts by its quality.

Known is who is similar enough and ahead of everybody else; unknown is who is nobody in enough good pictures,
and the nearer to somebody, the more of them; all else is unsure. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from camfleet_protocol.appearance import Identity
from camfleet_worker.recognition.gallery import Candidate, MatchResult, Vectors

MAX_SAMPLES = 8
_SURE_KNOWN = 3
"""Pictures after which a known face is known for good."""
_CLEARLY = 0.15
"""So far above the threshold two pictures are enough."""
_AT_ONCE = 0.1
"""So far above the threshold, one is enough to tell a name."""
_ENOUGH_UNKNOWN = 4
_SURE_UNKNOWN = 6
_WELL_BELOW = 0.1
"""Who is nearer to the threshold is unknown in as many pictures as a ballot keeps, and no fewer."""
_STICKS = 0.05
"""Who is known stays so down to this far below the threshold, and with half of the margin."""
_TWICE = 2


@dataclass(frozen=True, slots=True)
class Rules:
    """From when a face is somebody's: least similarity, and least lead over the next person."""

    threshold: float
    margin: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of whose face it is.

    Attributes:
        identity: The outcome.
        person: Who it is; only if known.
        runner_up: Similarity to the next person, -1 if there is none.
        sure: Whether more pictures would hardly change it.
        gallery_version: Of the gallery that it was compared with.
        contested: Whether somebody else in the same picture is more like the person that it would be.
    """

    identity: Identity = Identity.UNSURE
    person: Candidate | None = None
    runner_up: float = -1.0
    sure: bool = False
    gallery_version: int = 0
    contested: bool = False


UNSURE = Verdict()


def judge(result: MatchResult, *, samples: int, rules: Rules, before: Verdict = UNSURE) -> Verdict:
    """Decide from the weighted similarities of so many pictures.

    Args:
        result: The two most similar people.
        samples: How many pictures it is from.
        rules: When a face is somebody's.
        before: What was decided last for the same face.
    """
    if not samples or not result.version:
        # Before the first gallery nobody can be said to be unknown, and more pictures do not help.
        return Verdict(sure=samples >= _SURE_KNOWN)
    best, second = result.best, result.runner_up
    runner_up = second.similarity if second is not None else -1.0
    if best is None:
        return _nobody(samples, runner_up, result.version)
    threshold, margin = rules.threshold, rules.margin
    same = before.person is not None and before.person.id == best.id
    if same:
        threshold, margin = threshold - _STICKS, margin / 2
    if best.similarity >= threshold and best.similarity - runner_up >= margin:
        over = best.similarity - rules.threshold
        if same or samples >= _TWICE or over >= _AT_ONCE:
            sure = samples >= _SURE_KNOWN or (samples >= _TWICE and over >= _CLEARLY)
            return Verdict(Identity.KNOWN, best, runner_up, sure, result.version)
    elif best.similarity < rules.threshold - _WELL_BELOW:
        return _nobody(samples, runner_up, result.version)
    elif best.similarity < threshold and not same and samples >= MAX_SAMPLES:
        # With many people enrolled, most strangers are a little like one of them. A better picture may come.
        return Verdict(Identity.UNKNOWN, None, runner_up, gallery_version=result.version)
    return Verdict(gallery_version=result.version)


def _nobody(samples: int, runner_up: float, version: int) -> Verdict:
    enough = samples >= _ENOUGH_UNKNOWN
    identity = Identity.UNKNOWN if enough else Identity.UNSURE
    return Verdict(identity, None, runner_up, samples >= _SURE_UNKNOWN, version)


class Counted(Enum):
    """What became of a picture."""

    YES = "yes"
    """It is of the same face."""
    ODD = "odd"
    """It is not, and was left out."""
    ANEW = "anew"
    """It is of another face, and the ballot has begun anew with it."""


@dataclass(slots=True)
class Ballot:
    """The best pictures of one face."""

    _embeddings: list[Vectors] = field(default_factory=list)
    _weights: list[float] = field(default_factory=list)
    _strange: tuple[Vectors, float] | None = None

    def __len__(self) -> int:
        return len(self._weights)

    @property
    def embeddings(self) -> Vectors:
        """Rows x dimensions."""
        return np.stack(self._embeddings)

    @property
    def weights(self) -> list[float]:
        """What each counts."""
        return list(self._weights)

    def add(self, embedding: Vectors, weight: float, *, least: float, at_once: bool = False) -> Counted:
        """Count another picture.

        Args:
            embedding: Of length 1.
            weight: Quality of the picture, above 0.
            least: How alike it must be to the others to be of the same face.
            at_once: One picture that is not is enough to say that the face is another one by now.
        """
        if self._weights and self._alike(embedding) < least:
            before, self._strange = self._strange, (embedding, weight)
            again = before is not None and float(before[0] @ embedding) >= least
            if not (at_once or again):
                return Counted.ODD
            kept = [self._strange] if at_once or before is None else [before, self._strange]
            self._embeddings = [vector for vector, _ in kept]
            self._weights = [each for _, each in kept]
            self._strange = None
            return Counted.ANEW
        self._strange = None
        if len(self._weights) >= MAX_SAMPLES:
            worst = min(range(len(self._weights)), key=self._weights.__getitem__)
            if weight <= self._weights[worst]:
                return Counted.YES
            del self._embeddings[worst], self._weights[worst]
        self._embeddings.append(embedding)
        self._weights.append(weight)
        return Counted.YES

    def _alike(self, embedding: Vectors) -> float:
        alike = (w * float(one @ embedding) for one, w in zip(self._embeddings, self._weights, strict=True))
        return sum(alike) / sum(self._weights)
