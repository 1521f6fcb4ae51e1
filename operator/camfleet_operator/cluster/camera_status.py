"""What a camera's status says beside its conditions, and whether it is worth a write. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter

from camfleet_operator.cluster.conditions import Fact
from camfleet_operator.cluster.health.orders import Order
from camfleet_operator.cluster.pods import PodSeen
from camfleet_protocol.camera import CameraStatus, Condition, Reassignment, WorkerStatus

UNSEEN_SECONDS = 15.0
"""For so long a new pod about which the scheduler has said nothing is not worth a status write of its own."""
BUSY_SECONDS = 120.0
"""The same, while the scheduler works off a crowd."""
_MAX_MESSAGE = 1024
_CONDITION_FACTS = attrgetter(*(Condition.model_fields.keys() - {"last_transition_time"}))
_STATUS_PARTS = attrgetter(*(CameraStatus.model_fields.keys() - {"conditions"}))


def status_differs(wanted: CameraStatus, seen: CameraStatus) -> bool:
    """Whether a status is worth a write: times of transition alone are not."""
    return _timeless(wanted) != _timeless(seen)


def hold_seconds(current: PodSeen | None, now: float, *, scheduler_busy: bool) -> float:
    """How long the status can wait: the scheduler will have a word soon, and then there is more to say."""
    if current is None or current.scheduled is not None:
        return 0.0
    return max(0.0, current.created_at + (BUSY_SECONDS if scheduler_busy else UNSEEN_SECONDS) - now)


def worker_status(before: WorkerStatus, current: PodSeen | None) -> WorkerStatus:
    """The worker as it is: the pod that is current, or the last one, which is on no node any more."""
    if current is not None and current.attempt >= before.attempt:
        return WorkerStatus(
            attempt=current.attempt, pod_name=current.name, pod_uid=current.uid, node_name=current.node
        )
    return before.model_copy(update={"node_name": ""})


def last_reassignment(
    status: CameraStatus, moved: Order | None, current: PodSeen | None
) -> Reassignment | None:
    """What is said of the last move: this one, or the one before, with where it has led to."""
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


def said_of(pod: PodSeen | None, status: CameraStatus) -> dict[str, Fact]:
    """The conditions, if it is this very pod that they speak of."""
    if pod is None or status.worker is None or status.worker.pod_uid != pod.uid:
        return {}
    return {c.type: Fact(c.status, c.reason, c.message) for c in status.conditions}


def _timeless(status: CameraStatus) -> tuple[object, ...]:
    """All of a status but those times, to be compared. Without copies: every reconcile comes by here."""
    conditions = sorted((c.type, _CONDITION_FACTS(c)) for c in status.conditions)
    return (conditions, *_STATUS_PARTS(status))
