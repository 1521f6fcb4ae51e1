"""From the similarities of several pictures of a face to whose it is."""

from __future__ import annotations

import numpy as np
import pytest

from camfleet_protocol.appearance import Identity
from camfleet_worker.recognition.gallery import Candidate, MatchResult
from camfleet_worker.recognition.voting import UNSURE, Ballot, Counted, Rules, Verdict, judge

RULES = Rules(threshold=0.45, margin=0.05)


def result(best: float | None, second: float | None = None, version: int = 1) -> MatchResult:
    people = [
        None if similarity is None else Candidate(name, name, "", similarity)
        for name, similarity in (("a", best), ("b", second))
    ]
    return MatchResult(people[0], people[1], version)


KNOWN_A = Verdict(Identity.KNOWN, Candidate("a", "a", "", 0.5), 0.1, True, 1)


@pytest.mark.parametrize(
    ("match", "samples", "before", "identity", "sure"),
    [
        (result(0.70), 1, UNSURE, Identity.KNOWN, False),
        (result(0.70), 2, UNSURE, Identity.KNOWN, True),
        (result(0.50), 1, UNSURE, Identity.UNSURE, False),
        (result(0.50), 2, UNSURE, Identity.KNOWN, False),
        (result(0.50), 3, UNSURE, Identity.KNOWN, True),
        (result(0.60, 0.56), 8, UNSURE, Identity.UNSURE, False),  # two people too much alike
        (result(0.42), 7, UNSURE, Identity.UNSURE, False),  # nearly somebody: not surely nobody
        (result(0.42), 8, UNSURE, Identity.UNKNOWN, False),  # in all pictures that count: nobody so far
        (result(0.42), 8, KNOWN_A, Identity.KNOWN, True),  # who is known stays known a little below
        (result(0.38), 8, KNOWN_A, Identity.UNSURE, False),
        (result(0.20), 3, UNSURE, Identity.UNSURE, False),
        (result(0.20), 4, UNSURE, Identity.UNKNOWN, False),
        (result(0.20), 6, UNSURE, Identity.UNKNOWN, True),
        (result(None), 6, UNSURE, Identity.UNKNOWN, True),  # nobody is enrolled
        (result(None, version=0), 6, UNSURE, Identity.UNSURE, True),  # no gallery yet
    ],
)
def test_verdicts(match: MatchResult, samples: int, before: Verdict, identity: Identity, sure: bool) -> None:
    verdict = judge(match, samples=samples, rules=RULES, before=before)
    assert (verdict.identity, verdict.sure) == (identity, sure)
    assert (verdict.person is not None) == (identity is Identity.KNOWN)


def test_a_ballot_begins_anew_when_the_face_is_another_one() -> None:
    one, other, third = np.eye(4, dtype=np.float32)[:3]
    ballot = Ballot()
    for _ in range(4):
        assert ballot.add(one, 0.5, least=0.2) is Counted.YES
    assert ballot.add(other, 0.9, least=0.2) is Counted.ODD and len(ballot) == 4
    assert ballot.add(third, 0.9, least=0.2) is Counted.ODD, "two odd ones that are not alike"
    assert ballot.add(third, 0.9, least=0.2) is Counted.ANEW
    assert np.array_equal(ballot.embeddings, [third, third])
    assert ballot.add(one, 0.5, least=0.2) is Counted.ODD
    assert ballot.add(other, 0.5, least=0.2, at_once=True) is Counted.ANEW, "where the track jumped"
    assert np.array_equal(ballot.embeddings, [other]), "and nothing of the odd one before"
