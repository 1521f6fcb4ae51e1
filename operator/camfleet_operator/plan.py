"""What to do about one worker: a pure function from what is seen to what is to be done.

Both runtimes share it: a run is a pod in a cluster and a child process on one box. Nothing here does I/O or
reads a clock. The rules:

* at most one run is alive per camera, and the next one starts only when the last one is gone
  (break-before-make: a GPU may be full, a camera may allow one session);
* attempts count up and never down; the status names the attempt before its run starts, so the gateway can
  turn older ones away;
* a run that ended by itself is followed by another at once, then with a growing pause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from camfleet_operator.backoff import RestartPolicy
from camfleet_protocol.camera import ConditionStatus


class RunPhase(Enum):
    """Where one run of a worker stands."""

    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class DesiredWorker:
    """A worker that should run; `fingerprint` changes when only a new run can apply what changed."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class WorkerRun:
    """One run of a worker as a runtime sees it; times in seconds on the planner's clock."""

    uid: str
    attempt: int
    fingerprint: str
    phase: RunPhase
    started_at: float
    ended_at: float | None = None
    exit_code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that the plan for one worker depends on.

    Attributes:
        desired: The worker that should run, or None if none should.
        suspended: Whether none should because the user said so, rather than because the camera is gone.
        runs: Every run that is known, in any order; ended ones until they are forgotten.
        last_attempt: The highest attempt ever given out for this camera.
        failures: Ends in a row that nobody asked for, before those in `runs`.
    """

    desired: DesiredWorker | None
    suspended: bool = False
    runs: Sequence[WorkerRun] = ()
    last_attempt: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a run with this attempt."""

    attempt: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Ask this very run to stop."""

    uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class ForgetRun:
    """Take note of an ended run and drop it; `failures` is the new count of ends in a row."""

    uid: str
    failures: int


Action = StartWorker | StopWorker | ForgetRun


@dataclass(frozen=True, slots=True)
class PlannedCondition:
    """A condition of the camera that follows from its worker alone."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, what to say, and in how many seconds to look again (None: not before a change)."""

    actions: tuple[Action, ...] = ()
    condition: PlannedCondition = field(
        default_factory=lambda: PlannedCondition("Scheduled", ConditionStatus.UNKNOWN, "Pending")
    )
    requeue_after: float | None = None


def plan_worker(observed: Observed, now: float, policy: RestartPolicy | None = None) -> Plan:
    """Decide about one worker.

    Args:
        observed: What is wanted and what is there.
        now: The planner's monotonic clock, in seconds.
        policy: Pauses between restarts.
    """
    policy = policy or RestartPolicy()
    alive = sorted((r for r in observed.runs if r.phase is not RunPhase.ENDED), key=lambda r: r.attempt)
    ended = sorted((r for r in observed.runs if r.phase is RunPhase.ENDED), key=lambda r: r.attempt)

    desired = observed.desired
    if desired is None:
        stops = tuple(_stop(run, "suspended" if observed.suspended else "deleted") for run in _running(alive))
        forget = tuple(ForgetRun(run.uid, failures=0) for run in ended)
        reason = "Suspended" if observed.suspended else "NotWanted"
        return Plan((*forget, *stops), _scheduled(ConditionStatus.FALSE, reason))

    if alive:
        *older, newest = alive
        stops = tuple(_stop(run, "superseded") for run in _running(older))
        forget = tuple(ForgetRun(run.uid, observed.failures) for run in ended)
        if newest.phase is RunPhase.RUNNING and newest.fingerprint != desired.fingerprint:
            stops = (*stops, _stop(newest, "changed"))
        if stops or newest.phase is RunPhase.STOPPING:
            return Plan((*forget, *stops), _scheduled(ConditionStatus.FALSE, "Replacing"))
        return Plan(forget, _scheduled(ConditionStatus.TRUE, "WorkerRunning"))

    # None is alive: count what ended by itself, then start when the pause is over.
    failures = observed.failures
    started = StartWorker(max([observed.last_attempt, *(r.attempt for r in ended)]) + 1, desired.fingerprint)
    if not ended:
        return Plan((started,), _scheduled(ConditionStatus.TRUE, "Starting"))
    last = ended[-1]
    ended_at = min(last.ended_at if last.ended_at is not None else last.started_at, now)
    if last.fingerprint != desired.fingerprint:
        failures = 0  # what failed was another spec
        wait = 0.0
    else:
        ran = ended_at - last.started_at
        failures = 1 if ran >= policy.healthy_after else failures + 1
        wait = ended_at + policy.delay(failures) - now
    if wait > 0:
        # Without the seconds that are left: a message that changes all the time is a write all the time.
        pause = policy.delay(failures)
        message = f"{_how_it_ended(last)}; ended {failures} times in a row, tried again after {pause:.0f} s"
        return Plan((), _scheduled(ConditionStatus.FALSE, "WorkerBackoff", message), requeue_after=wait)
    forget = tuple(ForgetRun(run.uid, failures) for run in ended)
    message = _how_it_ended(last) if failures else ""
    return Plan((*forget, started), _scheduled(ConditionStatus.TRUE, "Starting", message))


def _running(runs: Sequence[WorkerRun]) -> list[WorkerRun]:
    return [run for run in runs if run.phase is RunPhase.RUNNING]


def _stop(run: WorkerRun, reason: str) -> StopWorker:
    return StopWorker(run.uid, reason)


def _scheduled(status: ConditionStatus, reason: str, message: str = "") -> PlannedCondition:
    return PlannedCondition("Scheduled", status, reason, message)


def _how_it_ended(run: WorkerRun) -> str:
    if run.exit_code is None:
        return f"the worker ended ({run.reason})" if run.reason else "the worker ended"
    if run.exit_code < 0:
        return f"the worker was ended by signal {-run.exit_code}"
    return f"the worker exited with code {run.exit_code}"
