"""Who may publish a camera: only its current worker. Pure, so that its tests are a table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from camfleet_protocol.camera import Camera
from camfleet_protocol.local import WorkerIdentity


class Verdict(StrEnum):
    """What to do with a worker."""

    ACCEPT = "accept"
    HOLD = "hold"
    """The status does not name it yet; look again when the status changes."""
    REFUSE = "refuse"
    """It is not the current worker and will not be: it should exit."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and, in words, why."""

    verdict: Verdict
    reason: str = ""


ACCEPTED = Judgement(Verdict.ACCEPT)


def judge(identity: WorkerIdentity, camera: Camera | None) -> Judgement:
    """Compare a proven identity with the status of the camera it is for.

    Args:
        identity: What the worker's token proves.
        camera: The camera as the directory has it now, or None if it does not.
    """
    if camera is None:
        return Judgement(Verdict.HOLD, "there is no such camera")
    current = camera.status.worker
    if current is None:
        return Judgement(Verdict.HOLD, "the camera has no worker in its status yet")
    if identity.attempt < current.attempt:
        return Judgement(Verdict.REFUSE, f"attempt {identity.attempt} was replaced by {current.attempt}")
    if identity.attempt > current.attempt or not current.pod_uid:
        return Judgement(Verdict.HOLD, f"attempt {identity.attempt} is not in the camera's status yet")
    if identity.pod_uid != current.pod_uid:
        return Judgement(Verdict.REFUSE, f"attempt {identity.attempt} belongs to another pod")
    return ACCEPTED


def judge_by_hand(camera: Camera | None) -> Judgement:
    """A worker with a static token may publish any camera that the directory does not know."""
    if camera is not None:
        return Judgement(Verdict.REFUSE, "the camera is managed; its worker needs the token made for it")
    return ACCEPTED
