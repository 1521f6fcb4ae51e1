"""A camera's pods: which are its attempts, which nobody asked for, which are lost with their node. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from camfleet_operator.cluster.pods import PodSeen
from camfleet_operator.cluster.podspec import WorkerShape
from camfleet_operator.plan import DesiredWorker, WorkerRun
from camfleet_protocol.camera import WorkerStatus
from camfleet_protocol.cluster import pod_name

LOST_SECONDS = 60.0
"""A pod that is not gone for so long after its grace time is not waited for."""
SILENCE_SECONDS = 2.0
"""So often it is looked whether a pod that should end is on a node that has fallen silent."""
_EDITED = "edited by hand"
_TO_MOVE = "to be moved"


@dataclass(frozen=True, slots=True)
class Attempts:
    """A camera's pods.

    Attributes:
        strangers: Copies that no attempt made.
        pods: Attempts. One that was edited, or is to be moved, has a fingerprint that nobody wants.
        lost: Attempts that nobody will see to end.
    """

    strangers: tuple[PodSeen, ...]
    pods: tuple[PodSeen, ...]
    lost: tuple[PodSeen, ...]

    @property
    def newest(self) -> PodSeen | None:
        """The attempt that is alive; the last one, if there are several."""
        return max((pod for pod in self.pods if pod.alive), key=lambda pod: pod.attempt, default=None)

    def last(self, worker: WorkerStatus) -> int:
        """The highest attempt that had a pod: one that was only announced is taken up again."""
        announced = worker.attempt if worker.pod_uid else max(0, worker.attempt - 1)
        return max([announced, *(pod.attempt for pod in (*self.pods, *self.lost))])


def attempts_of(
    seen: Iterable[PodSeen],
    worker: WorkerStatus,
    *,
    camera: str,
    camera_uid: str,
    silent_nodes: Collection[str],
    to_move: str,
    now: float,
) -> Attempts:
    """Sort a camera's pods.

    A pod whose grace time is long over has a kubelet that does not answer. The next attempt does not wait
    for it: the gateway does not hear it any more.

    Args:
        seen: The pods that the camera owns.
        worker: What its status says of its worker.
        camera: The camera's name.
        camera_uid: Its UID.
        silent_nodes: Nodes whose kubelets do not answer.
        to_move: UID of the pod that is to be moved; empty if none is.
        now: Unix seconds.
    """
    strangers: list[PodSeen] = []
    pods: list[PodSeen] = []
    lost: list[PodSeen] = []
    for pod in seen:
        expected = pod_name(camera, camera_uid, pod.attempt)
        if pod.attempt < 1 or pod.name != expected or _is_impostor(pod, worker):
            strangers.append(pod)
        elif is_lost(pod, now, silent=pod.node in silent_nodes):
            lost.append(pod)
        elif pod.edited:
            pods.append(replace(pod, fingerprint=_EDITED))
        elif to_move and pod.uid == to_move:
            pods.append(replace(pod, fingerprint=_TO_MOVE))
        else:
            pods.append(pod)
    return Attempts(tuple(strangers), tuple(pods), tuple(lost))


def is_lost(pod: PodSeen, now: float, *, silent: bool) -> bool:
    """Whether nobody can be expected to end a pod: it should long be gone, or its kubelet is `silent`."""
    return pod.deleting and (silent or now > pod.gone_by + LOST_SECONDS)


def lost_within(pod: PodSeen, now: float) -> float:
    """Seconds after which to look whether a pod that should end is lost."""
    return min(pod.gone_by + LOST_SECONDS - now, SILENCE_SECONDS if pod.node else LOST_SECONDS)


def is_sound(pod: PodSeen) -> bool:
    """Whether a pod of another shape may stay for a while: not one that was edited, is lost or never ran."""
    return pod.fingerprint not in (_EDITED, _TO_MOVE) and not pod.ended and pod.scheduled is not False


def as_run(pod: PodSeen, shape: WorkerShape | None, desired: DesiredWorker | None) -> WorkerRun:
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


def _is_impostor(pod: PodSeen, worker: WorkerStatus) -> bool:
    """Whether a pod was made anew by hand under the current one's name: the status names a UID for good."""
    return bool(worker.pod_uid) and pod.attempt == worker.attempt and pod.uid != worker.pod_uid
