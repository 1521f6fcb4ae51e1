"""What follows from one reading of a camera, as a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from camfleet_operator.cluster.health.verdicts import (
    MESSAGES,
    Criteria,
    Reading,
    Verdict,
    error_reason,
    judge,
)

GOOD, BAD, UNKNOWN = Verdict.HEALTHY, Verdict.UNHEALTHY, Verdict.UNKNOWN
CRITERIA = Criteria(stall=20, first_frame=60)
FLOWING: dict[str, Any] = {"source": True, "frame_age": 0.5, "inference_age": 0.5}


@pytest.mark.parametrize(
    ("reading", "criteria", "verdict", "reason", "streaming"),
    [
        (Reading(True, **FLOWING), CRITERIA, GOOD, "Streaming", True),
        (Reading(True, source=True, frame_age=19.9, inference_age=19.9), CRITERIA, GOOD, "Streaming", True),
        (Reading(True, source=True, frame_age=20.0, inference_age=20.0), CRITERIA, BAD, "Stalled", False),
        (Reading(True, source=True, frame_age=5, inference_age=5), Criteria(stall=5), BAD, "Stalled", False),
        (Reading(False), CRITERIA, BAD, "WorkerNotConnected", False),
        (Reading(True, source=False, waited=1), CRITERIA, BAD, "WaitingForFirstFrame", False),
        (Reading(True, source=True, waited=1), CRITERIA, BAD, "WaitingForFirstFrame", False),
        (Reading(True, source=True, waited=60), CRITERIA, BAD, "NoFirstFrame", False),
        (Reading(True, source=False, waited=60), CRITERIA, BAD, "SourceDisconnected", False),
        (Reading(True, source=False, frame_age=3.0), CRITERIA, BAD, "SourceDisconnected", False),
        (Reading(True, source=False, error="auth_failed"), CRITERIA, BAD, "AuthFailed", False),
        (Reading(True, source=False, error="no_first_frame"), CRITERIA, BAD, "NoFirstFrame", False),
        (Reading(True, source=False, frame_age=3.0, error="other"), CRITERIA, BAD, "SourceError", False),
        (Reading(True, **FLOWING | {"inference_age": 20.0}), CRITERIA, BAD, "InferenceStalled", True),
        (Reading(True, **FLOWING | {"inference_age": None}, flowed=59), CRITERIA, GOOD, "Streaming", True),
        (
            Reading(True, **FLOWING | {"inference_age": None}, flowed=60),
            CRITERIA,
            BAD,
            "InferenceStalled",
            True,
        ),
        (
            Reading(True, **FLOWING | {"inference_age": None}, flowed=600),
            Criteria(expects_inference=False),
            GOOD,
            "Streaming",
            True,
        ),
        (Reading(None, "GatewayUnreachable"), CRITERIA, UNKNOWN, "GatewayUnreachable", None),
        (Reading(None, "InvalidMetrics"), CRITERIA, UNKNOWN, "InvalidMetrics", None),
        (Reading(None), CRITERIA, UNKNOWN, "InvalidMetrics", None),
    ],
)
def test_one_reading(
    reading: Reading, criteria: Criteria, verdict: Verdict, reason: str, streaming: bool | None
) -> None:
    health = judge(reading, criteria)
    assert (health.verdict, health.reason, health.streaming) == (verdict, reason, streaming)
    assert re.fullmatch(r"[A-Z][A-Za-z]+", health.reason)
    assert bool(health.message) is (verdict is not GOOD)
    assert health.frame_age == reading.frame_age


def test_the_workers_own_reasons_are_known_here() -> None:
    """Named in the worker's code; the operator may not import it."""
    text = (Path(__file__).resolve().parents[2] / "worker_image/camfleet_worker/faults.py").read_text()
    reasons = re.findall(r'^    [A-Z_]+ = "(\w+)"', text, re.MULTILINE)
    assert len(reasons) > 10
    for reason in reasons:
        assert reason in MESSAGES
        label = re.sub(r"(?<!^)(?=[A-Z])", "_", reason).lower()
        assert error_reason(label) == reason
    for hostile in ("", "X", "a-b", "a" * 1000, "worker_not_connected\n", "émigré", "_"):
        assert error_reason(hostile) == "SourceError"
