"""What to do about one camera in a cluster: a pure function from what is seen to actions and a status.

`plan_worker` decides about runs, as on one box; here come what only a cluster has: GPUs that may be taken,
profiles that may be missing, changes that many cameras get at once (a rollout has to grant them), and the
conditions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from camfleet_operator.backoff import RestartPolicy
from camfleet_operator.cluster.attempts import Attempts, as_run, attempts_of, lost_within
from camfleet_operator.cluster.camera_status import hold_seconds, last_reassignment, said_of, worker_status
from camfleet_operator.cluster.changes import settings_now, worker_now
from camfleet_operator.cluster.conditions import Fact, Situation, as_conditions, facts, shortfall
from camfleet_operator.cluster.gpu_choice import VariantChoice, choose_variant, is_on_cpu_instead
from camfleet_operator.cluster.health.orders import Order
from camfleet_operator.cluster.health.verdicts import Health
from camfleet_operator.cluster.pods import PodSeen
from camfleet_operator.cluster.podspec import Variant, WorkerShape
from camfleet_operator.plan import (
    Action,
    DesiredWorker,
    ForgetRun,
    Observed,
    PlannedCondition,
    StartWorker,
    StopWorker,
    plan_worker,
)
from camfleet_protocol.camera import Camera, CameraStatus, ConditionStatus, SettingsStatus, WorkerStatus
from camfleet_protocol.cluster import pod_name
from camfleet_protocol.settings import Settings

_UNGRACEFUL_SECONDS = 1
"""Grace of a pod whose worker does not answer anyhow."""


@dataclass(frozen=True, slots=True)
class StartPod:
    """Create the pod of this attempt."""

    attempt: int
    variant: Variant


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete this very pod.

    Attributes:
        failures: Set when it had ended by itself and is only cleared away.
        grace: Seconds that it gets to end; None for what its spec says.
    """

    name: str
    uid: str
    reason: str
    failures: int | None = None
    grace: int | None = None


@dataclass(frozen=True, slots=True)
class CameraObserved:
    """All that the plan for one camera depends on.

    Attributes:
        camera: The camera with its status as last seen.
        camera_uid: Its UID.
        shape: What its pods should look like; None while its profile is missing.
        settings: What its worker should run with; None while its profile is missing.
        pods: The pods it owns.
        health: What the gateways say since the newest pod runs, if they have said anything.
        granted: Whether a change that is not the user's own edit of this camera may be made now.
        failures: Ends in a row that nobody asked for.
        cpu_next: Whether the next worker takes a CPU because no GPU came.
        refusal: Why the API server refused the last pod, if it did.
        refused_for: Seconds since it refused the first one in a row.
        restarts: How often a pod was started lately that no edit of the camera has asked for.
        restarted_ago: Seconds since a pod was started; infinite if none was.
        scheduler_busy: Whether the scheduler has many pods before it, so that its word on one takes its time.
        order: The move that is to be carried out, if one is.
        held: Why a bad worker is not moved, in a sentence, if that is so.
        silent_nodes: Nodes of its pods whose kubelets do not answer: a pod there is not waited for.
    """

    camera: Camera
    camera_uid: str
    shape: WorkerShape | None
    settings: Settings | None
    pods: Sequence[PodSeen] = ()
    health: Health | None = None
    granted: bool = True
    failures: int = 0
    cpu_next: bool = False
    refusal: str = ""
    refused_for: float = 0.0
    restarts: int = 0
    restarted_ago: float = math.inf
    scheduler_busy: bool = False
    order: Order | None = None
    held: str = ""
    silent_nodes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """What to do.

    Attributes:
        delete: Pods to delete, first.
        start: The pod to create, if any.
        status: What the status should be; before `start`, if that is not the first attempt, else after it.
        settings: What a pod that is started gets.
        hold_status: Seconds for which the status need not be written yet; 0 to write it now if it differs.
        needs_grant: Whether a change waits for the rollout.
        converged: Whether settings and pod are what they should be.
        obstructed: Whether no worker can be started, for as long as nothing changes.
        cpu_next: As in `CameraObserved`, to be remembered.
        failures: As in `CameraObserved`, to be remembered.
        requeue_after: Seconds after which to look again, if nothing happens before.
        moved: The order that this carries out: the status, which tells of it, goes before the deletion.
    """

    delete: tuple[DeletePod, ...]
    start: StartPod | None
    status: CameraStatus
    settings: Settings | None
    hold_status: float = 0.0
    needs_grant: bool = False
    converged: bool = True
    obstructed: bool = False
    cpu_next: bool = False
    failures: int = 0
    requeue_after: float | None = None
    moved: Order | None = None


def plan_camera(
    observed: CameraObserved, now: float, *, gpu_patience: float = 60.0, policy: RestartPolicy | None = None
) -> CameraPlan:
    """Decide about one camera.

    Args:
        observed: What is wanted and what is there.
        now: Unix time in seconds.
        gpu_patience: Seconds that a camera which prefers a GPU waits for one.
        policy: Pauses between restarts.
    """
    policy = policy or RestartPolicy()
    camera, order = observed.camera, observed.order
    before = camera.status.worker or WorkerStatus()
    attempts = attempts_of(
        observed.pods,
        before,
        camera=camera.metadata.name,
        camera_uid=observed.camera_uid,
        silent_nodes=observed.silent_nodes,
        to_move=order.pod_uid if order is not None else "",
        now=now,
    )
    newest = attempts.newest
    obstacle = _obstacle(observed)
    wish = _wish(observed, obstacle, newest, now, gpu_patience)
    settings, settings_wait = settings_now(observed.settings, camera, granted=observed.granted)
    plan = plan_worker(
        Observed(
            desired=wish.worker,
            suspended=bool(camera.spec.suspend),
            runs=[as_run(pod, observed.shape, wish.worker) for pod in attempts.pods],
            last_attempt=attempts.last(before),
            failures=observed.failures,
        ),
        now,
        policy,
    )
    steps = _steps(plan.actions, attempts, order, wish.choice, observed.failures)
    start = steps.start
    pause = _pause(observed, policy) if start is not None else 0.0
    if pause > 0:
        start = None

    current = newest if newest is not None and not newest.deleting else None
    going = current is not None and any(deletion.uid == current.uid for deletion in steps.delete)
    situation = Situation(
        blocked=obstacle or _waiting(observed, plan.condition, paused=pause > 0),
        pod=None if going else current,
        health=observed.health,
        before=said_of(current, camera.status),
        gpu_resource=observed.shape.gpu_resource if observed.shape is not None else "",
        on_cpu_instead=is_on_cpu_instead(observed.shape, current),
        shortfall=shortfall(settings) if settings is not None else None,
        held=observed.held,
    )
    status = CameraStatus(
        conditions=as_conditions(
            facts(situation),
            camera.status.conditions,
            generation=camera.metadata.generation,
            now=datetime.fromtimestamp(int(now), UTC),
        ),
        worker=worker_status(before, current)
        if start is None
        else _announced(start, camera.metadata.name, observed.camera_uid),
        settings=SettingsStatus(hash=settings.hash, values=settings.values()) if settings else None,
        last_reassignment=last_reassignment(camera.status, steps.moved, current),
    )
    hold = hold_seconds(current, now, scheduler_busy=observed.scheduler_busy) if start is None else 0.0
    waits = settings_wait or wish.waits
    return CameraPlan(
        delete=steps.delete,
        start=start,
        status=status,
        settings=settings,
        hold_status=hold,
        needs_grant=waits,
        converged=not (waits or steps.delete or start) and current is not None,
        obstructed=obstacle is not None or bool(observed.refusal),
        cpu_next=wish.choice is not None and wish.choice.cpu_next,
        failures=steps.failures,
        requeue_after=_soonest(
            plan.requeue_after,
            wish.choice.look_again if wish.choice is not None else None,
            hold or None,
            pause or None,
            *(lost_within(pod, now) for pod in attempts.pods if pod.deleting and wish.worker is not None),
        ),
        moved=steps.moved,
    )


# ── What should run ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Wish:
    """The worker that should run; None if none should. `waits`: whether a changed one waits for its turn."""

    worker: DesiredWorker | None
    choice: VariantChoice | None = None
    waits: bool = False


def _wish(
    observed: CameraObserved, obstacle: Fact | None, newest: PodSeen | None, now: float, patience: float
) -> _Wish:
    if obstacle is not None or observed.shape is None:
        # A worker that runs goes on, unless the user has suspended it; none is started.
        goes_on = newest is not None and not observed.camera.spec.suspend
        return _Wish(DesiredWorker(newest.fingerprint) if newest is not None and goes_on else None)
    choice = choose_variant(
        observed.shape,
        newest,
        cpu_next=observed.cpu_next,
        refused_for=observed.refused_for if observed.refusal else None,
        now=now,
        patience=patience,
    )
    worker, waits = worker_now(observed.shape, choice, newest, observed.camera, granted=observed.granted)
    return _Wish(worker, choice, waits)


def _obstacle(observed: CameraObserved) -> Fact | None:
    """Why no worker is to be started, for as long as the objects are as they are."""
    spec, false = observed.camera.spec, ConditionStatus.FALSE
    if spec.suspend:
        return Fact(false, "Suspended", "spec.suspend is set")
    if observed.shape is None or observed.settings is None:
        name = spec.profile_ref.name if spec.profile_ref is not None else ""
        return Fact(false, "ProfileNotFound", f"there is no CameraProfile {name} in this namespace")
    device = spec.source.device
    if device is not None and not device.resource_name:
        message = "in a cluster, spec.source.device.resourceName has to name what grants the device"
        return Fact(false, "DeviceResourceMissing", message)
    return None


# ── What is done for it ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Steps:
    delete: tuple[DeletePod, ...]
    start: StartPod | None
    failures: int
    moved: Order | None


def _steps(
    actions: Iterable[Action],
    attempts: Attempts,
    order: Order | None,
    choice: VariantChoice | None,
    failures: int,
) -> _Steps:
    """What the planner wants of runs, done to pods."""
    by_uid = {pod.uid: pod for pod in attempts.pods}
    start: StartPod | None = None
    moved: Order | None = None
    delete = [
        DeletePod(pod.name, pod.uid, "not the pod of any attempt")
        for pod in attempts.strangers
        if not pod.deleting
    ]
    for action in actions:
        match action:
            case ForgetRun(uid, count):
                failures = count
                if not by_uid[uid].deleting:
                    delete.append(DeletePod(by_uid[uid].name, uid, "ended", failures=count))
            case StopWorker(uid, reason):
                grace = None
                if order is not None and uid == order.pod_uid and reason == "changed":
                    moved = order
                    reason = f"moved, {order.reason.value}: {order.message}"
                    grace = None if order.graceful else _UNGRACEFUL_SECONDS
                delete.append(DeletePod(by_uid[uid].name, uid, reason, grace=grace))
            case StartWorker(attempt) if choice is not None and not attempts.strangers:
                # One worker at a time, whoever made the other one.
                start = StartPod(attempt, choice.variant)
    return _Steps(tuple(delete), start, failures, moved)


def _pause(observed: CameraObserved, policy: RestartPolicy) -> float:
    """Seconds to wait before another pod that nobody's edit asks for.

    Whoever takes pods away or changes them at once (a webhook, another operator) would otherwise have us
    make pods as fast as we can.
    """
    return max(0.0, policy.delay(observed.restarts) - observed.restarted_ago)


def _waiting(observed: CameraObserved, planned: PlannedCondition, *, paused: bool) -> Fact | None:
    """Why there is no worker right now."""
    if paused:
        message = f"its pod was taken away {observed.restarts} times lately; the next one waits for a while"
        return Fact(ConditionStatus.FALSE, "WorkerBackoff", message)
    if observed.refusal:
        return Fact(ConditionStatus.FALSE, "PodRefused", observed.refusal)
    if planned.reason in ("WorkerBackoff", "Replacing"):
        return Fact(ConditionStatus.FALSE, planned.reason, planned.message)
    return None


def _announced(start: StartPod, camera: str, camera_uid: str) -> WorkerStatus:
    """A worker whose pod is yet to be made."""
    return WorkerStatus(attempt=start.attempt, pod_name=pod_name(camera, camera_uid, start.attempt))


def _soonest(*seconds: float | None) -> float | None:
    return min((s for s in seconds if s is not None), default=None)
