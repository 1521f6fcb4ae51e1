"""What to do about one camera in a cluster: a pure function from what is seen to actions and a status.

`plan_worker` decides about runs, as on one box; here come what only a cluster has: GPUs that may be taken,
profiles that may be missing, changes that many cameras get at once (a rollout has to grant them), and the
conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from operator import attrgetter

from camfleet_operator.backoff import RestartPolicy
from camfleet_operator.cluster.conditions import Fact, Situation, as_conditions, facts, shortfall
from camfleet_operator.cluster.health.orders import Order
from camfleet_operator.cluster.health.verdicts import Health
from camfleet_operator.cluster.pods import PodSeen
from camfleet_operator.cluster.podspec import Variant, WorkerShape
from camfleet_operator.plan import (
    DesiredWorker,
    ForgetRun,
    Observed,
    PlannedCondition,
    StartWorker,
    StopWorker,
    WorkerRun,
    plan_worker,
)
from camfleet_protocol.camera import (
    Camera,
    CameraStatus,
    Condition,
    ConditionStatus,
    GpuMode,
    Reassignment,
    SettingsStatus,
    WorkerStatus,
)
from camfleet_protocol.cluster import pod_name
from camfleet_protocol.settings import Settings

_CONDITION_FACTS = attrgetter(*(Condition.model_fields.keys() - {"last_transition_time"}))
_STATUS_PARTS = attrgetter(*(CameraStatus.model_fields.keys() - {"conditions"}))
_EDITED = "edited by hand"
_TO_MOVE = "to be moved"
_MAX_MESSAGE = 1024
_UNGRACEFUL_SECONDS = 1
"""Grace of a pod whose worker does not answer anyhow."""
LOST_SECONDS = 60.0
"""A pod that is not gone for so long after its grace time is not waited for."""
SILENCE_SECONDS = 2.0
"""So often it is looked whether a pod that should end is on a node that has fallen silent."""
UNSEEN_SECONDS = 15.0
"""For so long a new pod about which the scheduler has said nothing is not worth a status write of its own."""
BUSY_SECONDS = 120.0
"""The same, while the scheduler works off a crowd."""


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
        restarted_at: When the last one was; Unix seconds.
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
    restarted_at: float = 0.0
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
    camera, shape = observed.camera, observed.shape
    worker = camera.status.worker or WorkerStatus()
    strangers, pods, lost = _sort_out(observed, now)
    alive = [pod for pod in pods if pod.alive]
    newest = max(alive, key=lambda pod: pod.attempt, default=None)
    obstacle = _obstacle(observed)

    settings, settings_wait = _settings_now(observed)
    choice: _Choice | None = None
    desired, pod_wait = None, False
    if obstacle is not None:
        # A worker that runs goes on, unless the user has suspended it; none is started.
        if newest is not None and not camera.spec.suspend:
            desired = DesiredWorker(newest.fingerprint)
    elif shape is not None:
        choice = _choose_variant(observed, shape, newest, now, gpu_patience)
        desired, pod_wait = _desired(observed, shape, choice, newest)
    plan = plan_worker(
        Observed(
            desired=desired,
            suspended=bool(camera.spec.suspend),
            runs=[_as_run(pod, shape, desired) for pod in pods],
            last_attempt=max([_spent_attempt(worker), *(pod.attempt for pod in (*pods, *lost))]),
            failures=observed.failures,
        ),
        now,
        policy,
    )
    delete = [
        DeletePod(pod.name, pod.uid, "not the pod of any attempt") for pod in strangers if not pod.deleting
    ]
    start: StartPod | None = None
    failures = observed.failures
    by_uid = {pod.uid: pod for pod in pods}
    order, moved = observed.order, None
    for action in plan.actions:
        match action:
            case ForgetRun(uid, count):
                failures = count
                pod = by_uid[uid]
                if not pod.deleting:
                    delete.append(DeletePod(pod.name, uid, "ended", failures=count))
            case StopWorker(uid, reason):
                grace = None
                if order is not None and uid == order.pod_uid and reason == "changed":
                    moved = order
                    reason = f"moved, {order.reason.value}: {order.message}"
                    grace = None if order.graceful else _UNGRACEFUL_SECONDS
                delete.append(DeletePod(by_uid[uid].name, uid, reason, grace=grace))
            case StartWorker(attempt) if choice is not None:
                start = StartPod(attempt, choice.variant)
    if start is not None and strangers:
        start = None  # one worker at a time, whoever made the other one
    pause = _pause(observed, now, policy or RestartPolicy()) if start is not None else 0.0
    if pause > 0:
        start = None

    current = newest if newest is not None and not newest.deleting else None
    situation = Situation(
        blocked=obstacle or _waiting(observed, plan.condition, paused=pause > 0),
        pod=None if delete and current is not None and any(d.uid == current.uid for d in delete) else current,
        health=observed.health,
        before=_said_of(current, camera.status),
        gpu_resource=shape.gpu_resource if shape is not None else "",
        on_cpu_instead=_on_cpu_instead(shape, current),
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
        worker=_worker_status(worker, current, start, camera.metadata.name, observed.camera_uid),
        settings=SettingsStatus(hash=settings.hash, values=settings.values()) if settings else None,
        last_reassignment=_last_reassignment(camera.status, moved, current),
    )
    hold = _hold(current, start, BUSY_SECONDS if observed.scheduler_busy else UNSEEN_SECONDS, now)
    overdue = [
        min(pod.gone_by + LOST_SECONDS - now, SILENCE_SECONDS if pod.node else LOST_SECONDS)
        for pod in pods
        if pod.deleting and desired is not None
    ]
    requeue = [
        plan.requeue_after,
        choice.look_again if choice is not None else None,
        hold or None,
        pause or None,
        *overdue,
    ]
    return CameraPlan(
        delete=tuple(delete),
        start=start,
        status=status,
        settings=settings,
        hold_status=hold,
        needs_grant=settings_wait or pod_wait,
        converged=not (settings_wait or pod_wait or delete or start) and current is not None,
        obstructed=obstacle is not None or bool(observed.refusal),
        cpu_next=choice is not None and choice.cpu_next,
        failures=failures,
        requeue_after=min((seconds for seconds in requeue if seconds is not None), default=None),
        moved=moved,
    )


def status_differs(wanted: CameraStatus, seen: CameraStatus) -> bool:
    """Whether a status is worth a write: times of transition alone are not."""
    return _timeless(wanted) != _timeless(seen)


def _timeless(status: CameraStatus) -> tuple[object, ...]:
    """All of a status but those times, to be compared. Without copies: every reconcile comes by here."""
    conditions = sorted((c.type, _CONDITION_FACTS(c)) for c in status.conditions)
    return (conditions, *_STATUS_PARTS(status))


def _spent_attempt(worker: WorkerStatus) -> int:
    """The highest attempt that had a pod: one that was only announced is taken up again."""
    return worker.attempt if worker.pod_uid else max(0, worker.attempt - 1)


# ── Pods ────────────────────────────────────────────────────────────────────────────────────────────────


def _sort_out(observed: CameraObserved, now: float) -> tuple[list[PodSeen], list[PodSeen], list[PodSeen]]:
    """Split pods into copies that no attempt made, attempts, and those lost with their node.

    A pod whose grace time is long over has a kubelet that does not answer. The next attempt does not wait
    for it: the gateway does not hear it any more. An edited pod loses its fingerprint.
    """
    strangers: list[PodSeen] = []
    pods: list[PodSeen] = []
    lost: list[PodSeen] = []
    for pod in observed.pods:
        expected = pod_name(observed.camera.metadata.name, observed.camera_uid, pod.attempt)
        if pod.attempt < 1 or pod.name != expected or _impostor(pod, observed.camera.status.worker):
            strangers.append(pod)
        elif is_lost(pod, now, silent=pod.node in observed.silent_nodes):
            lost.append(pod)
        elif pod.edited:
            pods.append(replace(pod, fingerprint=_EDITED))
        elif observed.order is not None and pod.uid == observed.order.pod_uid:
            pods.append(replace(pod, fingerprint=_TO_MOVE))
        else:
            pods.append(pod)
    return strangers, pods, lost


def _impostor(pod: PodSeen, worker: WorkerStatus | None) -> bool:
    """Whether a pod was made anew by hand under the current one's name: the status names a UID for good."""
    return (
        worker is not None
        and bool(worker.pod_uid)
        and pod.attempt == worker.attempt
        and pod.uid != worker.pod_uid
    )


def is_lost(pod: PodSeen, now: float, *, silent: bool) -> bool:
    """Whether nobody can be expected to end a pod: it should long be gone, or its kubelet is `silent`."""
    return pod.deleting and (silent or now > pod.gone_by + LOST_SECONDS)


def _as_run(pod: PodSeen, shape: WorkerShape | None, desired: DesiredWorker | None) -> WorkerRun:
    """A pod as the planner sees it. One that failed as a GPU worker counts against the CPU worker as well."""
    run = pod.as_run()
    if (
        pod.ended
        and desired is not None
        and shape is not None
        and pod.variant(shape.fingerprints) is not None
    ):
        return replace(run, fingerprint=desired.fingerprint)
    return run


def _pause(observed: CameraObserved, now: float, policy: RestartPolicy) -> float:
    """Seconds to wait before another pod that nobody's edit asks for.

    Whoever takes pods away or changes them at once (a webhook, another operator) would otherwise have us
    make pods as fast as we can.
    """
    return max(0.0, observed.restarted_at + policy.delay(observed.restarts) - now)


def _sound(pod: PodSeen) -> bool:
    """Whether a pod of another shape may stay for a while: not one that was edited, is lost or never ran."""
    return pod.fingerprint not in (_EDITED, _TO_MOVE) and not pod.ended and pod.scheduled is not False


def _desired(
    observed: CameraObserved, shape: WorkerShape, choice: _Choice, newest: PodSeen | None
) -> tuple[DesiredWorker, bool]:
    """The worker that should run, and whether a changed one has to wait for the rollout."""
    fingerprint = shape.fingerprints[choice.variant]
    if newest is None or newest.fingerprint == fingerprint:
        return DesiredWorker(fingerprint), False
    own = _own_edit(observed.camera) or choice.fell_back
    if own or observed.granted or not _sound(newest):
        return DesiredWorker(fingerprint), False
    return DesiredWorker(newest.fingerprint), True


@dataclass(frozen=True, slots=True)
class _Choice:
    variant: Variant
    look_again: float | None
    cpu_next: bool
    fell_back: bool = False


def _choose_variant(
    observed: CameraObserved, shape: WorkerShape, newest: PodSeen | None, now: float, patience: float
) -> _Choice:
    if shape.gpu_mode is not GpuMode.PREFERRED:
        return _Choice(next(iter(shape.fingerprints)), None, cpu_next=False)
    if newest is None or newest.deleting:
        refused = bool(observed.refusal) and observed.refused_for >= patience  # by a quota for GPUs, say
        cpu = observed.cpu_next or refused
        return _Choice(Variant.CPU if cpu else Variant.GPU, None, cpu_next=cpu)
    variant = newest.variant(shape.fingerprints)
    if variant is Variant.GPU and newest.unschedulable_since:
        left = newest.unschedulable_since + patience - now
        if left <= 0:
            return _Choice(Variant.CPU, None, cpu_next=True, fell_back=True)
        return _Choice(Variant.GPU, left, cpu_next=False)
    # It stays what it is; at the next replacement it tries for a GPU again.
    return _Choice(variant or Variant.GPU, None, cpu_next=False)


def _on_cpu_instead(shape: WorkerShape | None, pod: PodSeen | None) -> bool:
    if shape is None or pod is None or shape.gpu_mode is not GpuMode.PREFERRED:
        return False
    return pod.variant(shape.fingerprints) is Variant.CPU


# ── Settings ────────────────────────────────────────────────────────────────────────────────────────────


def _own_edit(camera: Camera) -> bool:
    """Whether the user has edited this very camera since its status was written."""
    seen = max((c.observed_generation for c in camera.status.conditions), default=-1)
    return seen < camera.metadata.generation


def _settings_now(observed: CameraObserved) -> tuple[Settings | None, bool]:
    """The settings to put in force, and whether newer ones wait for the rollout."""
    wanted, known = observed.settings, observed.camera.status.settings
    if known is None or not known.hash:
        return wanted, False
    if wanted is not None and (
        wanted.hash == known.hash
        or observed.granted
        or observed.camera.spec.suspend  # it has no worker that could suffer
        or _own_edit(observed.camera)
    ):
        return wanted, False
    try:
        return Settings.model_validate(known.values), wanted is not None
    except ValueError:
        return wanted, False


# ── Status ──────────────────────────────────────────────────────────────────────────────────────────────


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


def _worker_status(
    before: WorkerStatus, current: PodSeen | None, start: StartPod | None, camera: str, camera_uid: str
) -> WorkerStatus:
    if start is not None:
        return WorkerStatus(attempt=start.attempt, pod_name=pod_name(camera, camera_uid, start.attempt))
    if current is not None and current.attempt >= before.attempt:
        return WorkerStatus(
            attempt=current.attempt, pod_name=current.name, pod_uid=current.uid, node_name=current.node
        )
    return before.model_copy(update={"node_name": ""})


def _said_of(pod: PodSeen | None, status: CameraStatus) -> dict[str, Fact]:
    if pod is None or status.worker is None or status.worker.pod_uid != pod.uid:
        return {}
    return {c.type: Fact(c.status, c.reason, c.message) for c in status.conditions}


def _hold(current: PodSeen | None, start: StartPod | None, limit: float, now: float) -> float:
    """How long the status can wait: the scheduler will have a word soon, and then there is more to say."""
    if start is not None or current is None or current.scheduled is not None:
        return 0.0
    return max(0.0, current.created_at + limit - now)


def _last_reassignment(
    status: CameraStatus, moved: Order | None, current: PodSeen | None
) -> Reassignment | None:
    """What the status says of the last move: this one, or the one before, with where it has led to."""
    if moved is not None:
        return Reassignment(
            time=datetime.fromtimestamp(int(moved.at), UTC),
            reason=moved.reason.value,
            message=moved.message[:_MAX_MESSAGE],
            from_node=moved.from_node,
            count=moved.count,
            request=moved.request,
        )
    last = status.last_reassignment
    if last is None or last.to_node or last.time is None or current is None or not current.node:
        return last
    if current.created_at < last.time.timestamp():
        return last  # it is still the pod that was to be moved
    return last.model_copy(update={"to_node": current.node})
