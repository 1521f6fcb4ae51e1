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
    """A verdict and, in words, why.

    Attributes:
        verdict: The verdict.
        reason: For people.
        kind: For the count of refused sessions.
    """

    verdict: Verdict
    reason: str = ""
    kind: str = ""


ACCEPTED = Judgement(Verdict.ACCEPT)


def hold(reason: str) -> Judgement:
    """It may become the current worker."""
    return Judgement(Verdict.HOLD, reason, "not_current")


def refuse(reason: str, kind: str = "fenced") -> Judgement:
    """It will never be the current worker."""
    return Judgement(Verdict.REFUSE, reason, kind)


def judge(identity: WorkerIdentity, camera: Camera | None) -> Judgement:
    """Compare a proven identity with the status of the camera it is for.

    Args:
        identity: What the worker's token proves.
        camera: The camera as the directory has it now, or None if it does not.
    """
    if camera is None:
        return hold("there is no such camera")
    current = camera.status.worker
    if current is None:
        return hold("the camera has no worker in its status yet")
    if identity.attempt < current.attempt:
        return refuse(f"attempt {identity.attempt} was replaced by {current.attempt}")
    if identity.attempt > current.attempt or not current.pod_uid:
        return hold(f"attempt {identity.attempt} is not in the camera's status yet")
    if identity.pod_uid != current.pod_uid:
        return refuse(f"attempt {identity.attempt} belongs to another pod")
    return ACCEPTED


def judge_by_hand(camera: Camera | None) -> Judgement:
    """A worker with a static token may publish any camera that the directory does not know."""
    if camera is not None:
        return refuse("the camera is managed; its worker needs the token made for it")
    return ACCEPTED
