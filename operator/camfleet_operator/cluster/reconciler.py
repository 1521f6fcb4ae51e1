"""One camera, reconciled: look at the store, plan, do what the plan says, write the status if it differs.

Every step may be the last one (the process can be killed between any two), so each is safe to repeat: a
pod's name follows from camera and attempt, deletions name the UID they mean, an attempt above the first is
announced in the status before its pod is made.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from camfleet_operator.cluster.api import Api
from camfleet_operator.cluster.api_errors import Forbidden, Invalid, NotFound
from camfleet_operator.cluster.attempts import is_lost
from camfleet_operator.cluster.balance.placement import Placement
from camfleet_operator.cluster.camera_status import UNSEEN_SECONDS, status_differs
from camfleet_operator.cluster.camera_writes import CameraWriter, GoneError, NameTakenError
from camfleet_operator.cluster.conditions import READY, SOURCE_CONNECTED
from camfleet_operator.cluster.decide import CameraObserved, CameraPlan, DeletePod, StartPod, plan_camera
from camfleet_operator.cluster.health.orders import Order
from camfleet_operator.cluster.health.verdicts import Health
from camfleet_operator.cluster.pod_starts import PodStarts
from camfleet_operator.cluster.pods import PodSeen
from camfleet_operator.cluster.podspec import GRACE_SECONDS, WorkerShape, build_pod, shape_worker
from camfleet_operator.cluster.rollout import Rollout
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_operator.cluster.store import CameraEntry, Kind, Store
from camfleet_operator.cluster.writes import WriteBudget
from camfleet_protocol.camera import Camera, CameraProfile, CameraStatus, ConditionStatus, SharedSpec
from camfleet_protocol.settings import Settings, effective_settings

logger = logging.getLogger(__name__)

GONE_SECONDS = 2.0
CROWD = 50
"""So many pods without a word from the scheduler mean that it is behind."""
_MAX_REFUSAL = 400


class HealthSource(Protocol):
    """What the gateways say of the cameras."""

    def health(self, camera_id: str) -> Health | None:
        """The latest verdict; None if there has been none."""

    def expect(self, camera_id: str) -> None:
        """A new worker of this camera begins: forget what was said of the last one, and look more often."""


class Moves(Protocol):
    """What has been decided for the sake of health, and of load."""

    def order(self, camera_id: str) -> Order | None:
        """The move that is to be carried out now, if any."""

    def carried_out(self, camera_id: str, order: Order) -> None:
        """It has been: the status tells of it and the pod is being deleted."""

    def held(self, camera_id: str) -> str:
        """Why a bad worker is not moved, in a sentence that stays; empty if there is nothing to say."""

    def silent(self, node: str) -> bool:
        """Whether a node's kubelet does not answer, so that its pods will not be seen to end."""

    def placement(self, camera_id: str, spec: Mapping[str, Any]) -> Placement:
        """Where a new worker with this pod spec would rather run."""


class Recorder(Protocol):
    """Writes Kubernetes Events."""

    def record(self, camera: dict[str, Any], kind: str, reason: str, note: str) -> None:
        """Record an Event about a camera."""


@dataclass(slots=True)
class _Record:
    """What is remembered of a camera between reconciles; losing it costs nothing but a delay."""

    uid: str
    failures: int = 0
    cpu_next: bool = False
    starts: PodStarts = field(default_factory=PodStarts)
    lost: frozenset[str] = frozenset()
    running_uid: str = ""
    shape_for: tuple[Any, ...] = ()
    """The specs of camera and profile that `shape` and `settings` were worked out from."""
    profile: CameraProfile | None = None
    shape: WorkerShape | None = None
    """Without the pod's specs: they weigh more than all the rest, and are needed only when a pod is made."""
    settings: Settings | None = None


class Reconciler:
    """Makes the cluster look as the cameras say.

    Args:
        again: Called with a camera and seconds to have it reconciled later.
        leading: Whether this replica may write.
        defaults: What the installation sets for all cameras.
        wall: Unix seconds; `clock`: monotonic seconds.
    """

    def __init__(
        self,
        *,
        api: Api,
        store: Store,
        budget: WriteBudget,
        leading: Callable[[], bool],
        health: HealthSource,
        moves: Moves,
        events: Recorder,
        rollout: Rollout,
        again: Callable[[str, float], None],
        settings: OperatorSettings,
        defaults: SharedSpec | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._writer = CameraWriter(api, budget, leading)
        self._store = store
        self._health = health
        self._moves = moves
        self._events = events
        self._rollout = rollout
        self._again = again
        self._settings = settings
        self._defaults = defaults
        self._clock = clock
        self._wall = wall
        self._records: dict[str, _Record] = {}

    async def reconcile(self, key: str) -> str:
        """Bring one camera a step nearer to what it should be; returns what was done, for the metrics.

        Raises:
            ApiError: The API server did not take a write; to be tried again later.
        """
        entry = self._store.camera(key)
        if entry is None or entry.deleting:
            # Its pods have an owner that is gone, or going: the garbage collector takes them.
            self._records.pop(key, None)
            self._rollout.forget(key)
            return "gone"
        record = self._records.get(key)
        if record is None or record.uid != entry.uid:
            record = self._records[key] = _Record(entry.uid)
        if entry.camera is None:
            return await self._tell_unreadable(entry)
        camera = entry.camera
        profile = self._store.profile_of(camera)
        self._resolve(record, camera, profile)
        pods = self._store.pods_of(entry.uid)
        observed = self._observed(key, entry, camera, record, pods)
        plan = self._plan(observed)
        if plan.needs_grant and self._rollout.request(
            _scope(camera), key, was_ready=_is_ready(camera.status)
        ):
            observed = replace(observed, granted=True)
            plan = self._plan(observed)
        try:
            return await self._execute(key, entry, camera, record, observed, plan)
        except GoneError:
            metadata = {"namespace": entry.namespace, "name": entry.name, "uid": entry.uid}
            self._store.remove(Kind.CAMERA, {"metadata": metadata})
            self._again(key, 0.0)
            return "gone"

    def reset(self) -> None:
        """Forget everything: this replica does not lead any more."""
        self._records.clear()
        self._rollout.reset()

    # ── Looking ─────────────────────────────────────────────────────────────────────────────────────

    def _resolve(self, record: _Record, camera: Camera, profile: CameraProfile | None) -> None:
        """Work out shape and settings, unless they are known for this very camera and profile."""
        known = (camera.spec, profile.spec if profile is not None else None)
        record.starts.forgive_edited(camera.metadata.generation)
        before, record.shape_for, record.profile = record.shape_for, known, profile
        if before == known:
            return
        if camera.spec.profile_ref is not None and profile is None:
            record.shape = record.settings = None
            return
        shape = shape_worker(camera, profile, self._defaults, self._settings)
        record.shape = replace(shape, specs={})
        record.settings = effective_settings(camera, profile, self._defaults)

    def _observed(
        self, key: str, entry: CameraEntry, camera: Camera, record: _Record, pods: list[PodSeen]
    ) -> CameraObserved:
        now, starts = self._clock(), record.starts
        return CameraObserved(
            camera=camera,
            camera_uid=entry.uid,
            shape=record.shape,
            settings=record.settings,
            pods=pods,
            health=self._health_of(key, camera, record, pods),
            granted=self._rollout.granted(key),
            failures=record.failures,
            cpu_next=record.cpu_next,
            refusal=starts.refusal,
            refused_for=starts.refused_for(now),
            restarts=starts.restarts,
            restarted_ago=starts.ago(now),
            scheduler_busy=self._store.unseen_pods > CROWD,
            order=self._moves.order(key),
            held=self._moves.held(key),
            silent_nodes=frozenset(
                pod.node for pod in pods if pod.deleting and pod.node and self._moves.silent(pod.node)
            ),
        )

    def _health_of(self, key: str, camera: Camera, record: _Record, pods: list[PodSeen]) -> Health | None:
        """The gateways' word on the newest pod; what they said of the one before it does not count."""
        running = max((pod for pod in pods if pod.running), key=lambda pod: pod.attempt, default=None)
        if running is None:
            return None  # of a container that starts again in the same pod, what was heard still counts
        if record.running_uid != running.uid:
            worker = camera.status.worker
            known = not record.running_uid and worker is not None and worker.pod_uid == running.uid
            if not (known and _is_ready(camera.status)):
                self._health.expect(key)  # a pod that was well before we started is no new one, and stays
            record.running_uid = running.uid
        return self._health.health(key)

    def _plan(self, observed: CameraObserved) -> CameraPlan:
        return plan_camera(observed, self._wall(), gpu_patience=self._settings.gpu_patience_seconds)

    # ── Doing ───────────────────────────────────────────────────────────────────────────────────────

    async def _execute(
        self,
        key: str,
        entry: CameraEntry,
        camera: Camera,
        record: _Record,
        observed: CameraObserved,
        plan: CameraPlan,
    ) -> str:
        done = "unchanged"
        pods = {pod.uid: pod for pod in observed.pods}
        if plan.cpu_next and not record.cpu_next:
            self._tell(entry, "Warning", "GPUUnavailable", "no GPU came free in time; the worker takes a CPU")
        record.cpu_next = plan.cpu_next
        # A move is written down first, so that it counts even if nothing else comes of it.
        if plan.moved is not None and not await self._write_status(entry, plan.status, order=plan.moved):
            self._again(key, 0.0)
            return "unchanged"
        for deletion in plan.delete:
            await self._delete(entry, deletion, pods[deletion.uid])
            done = "deleted"
        record.failures = plan.failures
        if plan.moved is not None:
            self._tell_moved(entry, record, plan.moved)
            return "moved"
        self._tell_lost(entry, record, observed)
        if plan.start is not None:
            if (wait := record.starts.refused_wait(self._clock())) > 0 and not plan.cpu_next:
                self._again(key, wait)
            elif await self._start(key, entry, camera, record, plan, plan.start):
                return "created"
        if plan.hold_status > 0:
            self._again(key, plan.hold_status)
        elif status_differs(plan.status, camera.status):
            await self._write_status(entry, plan.status)
            done = "updated" if done == "unchanged" else done
        self._follow_rollout(key, camera, plan)
        if plan.requeue_after is not None:
            self._again(key, plan.requeue_after)
        return done

    async def _delete(self, entry: CameraEntry, deletion: DeletePod, pod: PodSeen) -> None:
        gone = not await self._writer.delete_pod(
            entry, deletion.name, deletion.uid, grace_seconds=deletion.grace
        )
        if gone:
            metadata = {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid}
            self._store.remove(Kind.POD, {"metadata": metadata})
            self._again(entry.key, 0.0)
        else:
            grace = deletion.grace if deletion.grace is not None else GRACE_SECONDS
            self._store.pod_deleted(pod, self._wall() + grace)
        logger.info(
            "deleted pod %s%s: %s",
            deletion.name,
            " (it was gone)" if gone else "",
            deletion.reason,
            extra={"camera": entry.key, "attempt": pod.attempt},
        )
        if deletion.failures:
            how = pod.ended_reason or (f"code {pod.exit_code}" if pod.exit_code is not None else "no code")
            note = f"pod {pod.name} ended ({how}), {deletion.failures} in a row"
            self._tell(entry, "Warning", "WorkerEnded", note)
        elif deletion.reason not in ("suspended", "ended") and not deletion.reason.startswith("moved"):
            self._tell(entry, "Normal", "WorkerReplaced", f"pod {pod.name}: {deletion.reason}")

    async def _start(
        self,
        key: str,
        entry: CameraEntry,
        camera: Camera,
        record: _Record,
        plan: CameraPlan,
        start: StartPod,
    ) -> bool:
        assert plan.settings is not None
        if record.starts.ago(self._clock()) < math.inf or start.attempt > 1:
            await self._writer.make_sure_of(entry)
        if not await self._previous_is_gone(entry, camera):
            self._again(key, GONE_SECONDS)
            return False
        if start.attempt > 1 and status_differs(plan.status, camera.status):
            await self._write_status(entry, plan.status)
        # From the same camera and profile as the plan's; there may be newer ones by now.
        shape = shape_worker(camera, record.profile, self._defaults, self._settings)
        body = build_pod(
            camera,
            entry.uid,
            shape,
            start.variant,
            attempt=start.attempt,
            settings=plan.settings,
            placement=self._moves.placement(key, shape.specs[start.variant]),
        )
        try:
            pod = await self._writer.create_pod(entry, body)
        except NameTakenError as error:
            self._refuse(key, entry, record, str(error))
            return False
        except (Forbidden, Invalid) as error:
            if "NamespaceTerminating" in error.causes:
                return False
            self._refuse(key, entry, record, error.message)
            return False
        except NotFound:
            return False  # the namespace or the camera is going away
        if pod is None:
            self._again(key, GONE_SECONDS)
            return False
        record.starts.started(camera.metadata.generation, self._clock())
        self._health.expect(key)  # whatever is heard from now on is of this pod: the one before it is gone
        self._store.apply(Kind.POD, pod)
        logger.info(
            "created pod %s",
            pod["metadata"]["name"],
            extra={"camera": entry.key, "attempt": start.attempt},
        )
        self._again(key, UNSEEN_SECONDS)  # or as soon as anything is heard of the pod
        return True

    async def _previous_is_gone(self, entry: CameraEntry, camera: Camera) -> bool:
        """Make sure that the last pod has not merely left our sight, its labels taken off by hand."""
        worker = camera.status.worker
        if worker is None or not worker.pod_uid:
            return True
        pod = await self._writer.find_pod(entry, worker.pod_name)
        if pod is None or pod.uid != worker.pod_uid:
            return True
        if is_lost(pod, self._wall(), silent=self._moves.silent(pod.node)):
            return True
        if not pod.deleting:
            await self._writer.delete_pod(entry, pod.name, pod.uid)
            self._tell(entry, "Warning", "WorkerReplaced", f"pod {pod.name} has lost its labels or owner")
        return False

    def _tell_moved(self, entry: CameraEntry, record: _Record, order: Order) -> None:
        self._moves.carried_out(entry.key, order)
        record.starts.forgive_moved()
        note = f"moved away from {order.from_node} ({order.reason.value}): {order.message}"
        self._tell(entry, "Warning" if order.count else "Normal", "WorkerMoved", note)
        self._again(entry.key, 0.0)

    def _tell_lost(self, entry: CameraEntry, record: _Record, observed: CameraObserved) -> None:
        pods, now = observed.pods, self._wall()
        lost = frozenset(
            pod.uid for pod in pods if is_lost(pod, now, silent=pod.node in observed.silent_nodes)
        )
        for pod in pods:
            if pod.uid in lost - record.lost:
                note = f"pod {pod.name} does not end; its node {pod.node} may be lost"
                self._tell(entry, "Warning", "WorkerLost", note)
        record.lost = lost

    def _refuse(self, key: str, entry: CameraEntry, record: _Record, message: str) -> None:
        record.starts.refused(entry.generation, message[:_MAX_REFUSAL], self._clock())
        logger.warning("the worker's pod was refused: %s", message, extra={"camera": entry.key})
        self._tell(entry, "Warning", "PodRefused", message)
        self._again(key, 0.0)

    def _follow_rollout(self, key: str, camera: Camera, plan: CameraPlan) -> None:
        if camera.spec.suspend or plan.obstructed:
            self._rollout.forget(key)  # nothing can be learnt from it
            return
        conditions = {c.type: c.status for c in plan.status.conditions}
        soak = self._rollout.observe(
            key,
            converged=plan.converged,
            ready=None if conditions[READY] is ConditionStatus.UNKNOWN else _is_ready(plan.status),
            excused=conditions[SOURCE_CONNECTED] is ConditionStatus.FALSE,
            now=self._clock(),
        )
        if soak is not None:
            self._again(key, soak)

    # ── Status ──────────────────────────────────────────────────────────────────────────────────────

    async def _write_status(
        self, entry: CameraEntry, status: CameraStatus, *, order: Order | None = None
    ) -> bool:
        """Write a status; False if the order that it tells of was given up while the write waited."""

        def still() -> bool:
            now = self._moves.order(entry.key) if order is not None else None
            return order is None or (now is not None and now.pod_uid == order.pod_uid)

        version = await self._writer.write_status(entry, status, still=still)
        if version is not None:
            self._store.status_written(entry.key, entry.uid, version, status)
        return version is not None

    async def _tell_unreadable(self, entry: CameraEntry) -> str:
        """Say that this version cannot read a camera; whatever runs for it goes on."""
        self._rollout.forget(entry.key)
        if entry.told:
            return "unchanged"
        logger.error("Camera %s cannot be read: %s", entry.key, entry.problem)
        await self._writer.write_unreadable(entry, self._wall())
        return "invalid"

    def _tell(self, entry: CameraEntry, kind: str, reason: str, note: str) -> None:
        self._events.record(entry.reference(), kind, reason, note)


def _scope(camera: Camera) -> str:
    """What a change that is not the camera's own came from."""
    reference = camera.spec.profile_ref
    return f"{camera.metadata.namespace}.{reference.name}" if reference is not None else ""


def _is_ready(status: CameraStatus) -> bool:
    return any(c.type == READY and c.status is ConditionStatus.TRUE for c in status.conditions)
