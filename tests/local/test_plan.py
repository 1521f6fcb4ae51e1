"""`plan_worker` as a table: what is seen, what is done."""

from __future__ import annotations

import pytest

from camfleet_operator.backoff import RestartPolicy
from camfleet_operator.plan import (
    Action,
    DesiredWorker,
    ForgetRun,
    Observed,
    RunPhase,
    StartWorker,
    StopWorker,
    WorkerRun,
    plan_worker,
)
from camfleet_protocol.camera import ConditionStatus

NOW = 1000.0
WANT = DesiredWorker("f1")


def run(
    uid: str,
    attempt: int = 1,
    *,
    phase: RunPhase = RunPhase.RUNNING,
    fingerprint: str = "f1",
    started: float = NOW - 60,
    ended: float | None = None,
    code: int | None = None,
) -> WorkerRun:
    return WorkerRun(uid, attempt, fingerprint, phase, started, ended, code)


def ended(
    uid: str, attempt: int = 1, *, ago: float = 0.0, lived: float = 60.0, fingerprint: str = "f1"
) -> WorkerRun:
    at = NOW - ago
    return run(
        uid, attempt, phase=RunPhase.ENDED, started=at - lived, ended=at, code=1, fingerprint=fingerprint
    )


CASES: dict[str, tuple[Observed, tuple[Action, ...], str, float | None]] = {
    "a new camera starts": (Observed(WANT), (StartWorker(1, "f1"),), "Starting", None),
    "attempts go on from the last one given out": (
        Observed(WANT, last_attempt=7),
        (StartWorker(8, "f1"),),
        "Starting",
        None,
    ),
    "a running worker is left alone": (Observed(WANT, runs=[run("a")]), (), "WorkerRunning", None),
    "a deleted camera stops": (
        Observed(None, runs=[run("a")]),
        (StopWorker("a", "deleted"),),
        "NotWanted",
        None,
    ),
    "a suspended camera stops": (
        Observed(None, suspended=True, runs=[run("a")]),
        (StopWorker("a", "suspended"),),
        "Suspended",
        None,
    ),
    "a stopping worker is not asked twice": (
        Observed(None, runs=[run("a", phase=RunPhase.STOPPING)]),
        (),
        "NotWanted",
        None,
    ),
    "an ended worker of a deleted camera is forgotten": (
        Observed(None, runs=[ended("a")], failures=3),
        (ForgetRun("a", 0),),
        "NotWanted",
        None,
    ),
    "another spec stops the old worker first": (
        Observed(WANT, runs=[run("a", fingerprint="f0")]),
        (StopWorker("a", "changed"),),
        "Replacing",
        None,
    ),
    "nothing starts while the old worker is still stopping": (
        Observed(WANT, runs=[run("a", fingerprint="f0", phase=RunPhase.STOPPING)]),
        (),
        "Replacing",
        None,
    ),
    "of two workers the older attempt stops": (
        Observed(WANT, runs=[run("new", 2), run("old", 1)]),
        (StopWorker("old", "superseded"),),
        "Replacing",
        None,
    ),
    "the first end is followed by a start at once": (
        Observed(WANT, runs=[ended("a")], last_attempt=1),
        (ForgetRun("a", 1), StartWorker(2, "f1")),
        "Starting",
        None,
    ),
    "the second end in a row waits ten seconds": (
        Observed(WANT, runs=[ended("a", 2, ago=4)], last_attempt=2, failures=1),
        (),
        "WorkerBackoff",
        6.0,
    ),
    "and then starts": (
        Observed(WANT, runs=[ended("a", 2, ago=10)], last_attempt=2, failures=1),
        (ForgetRun("a", 2), StartWorker(3, "f1")),
        "Starting",
        None,
    ),
    "the pause doubles": (
        Observed(WANT, runs=[ended("a", 5)], last_attempt=5, failures=4),
        (),
        "WorkerBackoff",
        80.0,
    ),
    "and has an upper bound": (
        Observed(WANT, runs=[ended("a", 5)], last_attempt=5, failures=5000),
        (),
        "WorkerBackoff",
        300.0,
    ),
    "ten healthy minutes earn a restart at once": (
        Observed(WANT, runs=[ended("a", 5, lived=600)], last_attempt=5, failures=4),
        (ForgetRun("a", 1), StartWorker(6, "f1")),
        "Starting",
        None,
    ),
    "a worker that ended with another spec does not count": (
        Observed(WANT, runs=[ended("a", 5, fingerprint="f0")], last_attempt=5, failures=4),
        (ForgetRun("a", 0), StartWorker(6, "f1")),
        "Starting",
        None,
    ),
    "an ended run beside a live one is only forgotten": (
        Observed(WANT, runs=[ended("a", 1), run("b", 2)], last_attempt=2, failures=1),
        (ForgetRun("a", 1),),
        "WorkerRunning",
        None,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_plan(name: str) -> None:
    observed, actions, reason, requeue = CASES[name]
    plan = plan_worker(observed, NOW)
    assert plan.actions == actions
    assert plan.condition.reason == reason
    assert plan.requeue_after == (pytest.approx(requeue) if requeue is not None else None)


def test_a_backoff_tells_how_the_worker_ended_and_when_it_is_tried_again() -> None:
    plan = plan_worker(Observed(WANT, runs=[ended("a", ago=4)], failures=1), NOW)
    assert plan.condition.status is ConditionStatus.FALSE
    told = "the worker exited with code 1; ended 2 times in a row, tried again after 10 s"
    assert plan.condition.message == told


def test_every_plan_is_carried_out_once() -> None:
    """Carrying out a plan and planning again reaches a fixed point: the loop cannot flap."""
    observed = Observed(WANT, runs=[ended("a")], last_attempt=1)
    plan = plan_worker(observed, NOW)
    start = next(action for action in plan.actions if isinstance(action, StartWorker))
    after = Observed(WANT, runs=[run("b", start.attempt)], last_attempt=start.attempt, failures=1)
    assert plan_worker(after, NOW).actions == ()


def test_the_policy_is_at_once_then_ten_seconds_doubling_to_five_minutes() -> None:
    policy = RestartPolicy()
    assert [policy.delay(n) for n in range(1, 9)] == [0, 10, 20, 40, 80, 160, 300, 300]
