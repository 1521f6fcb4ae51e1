"""What of a change takes effect now, and what waits until the rollout grants it. Pure.

What a user edits on one camera takes effect at once. What many cameras get together (a profile, defaults, a
new worker image) is granted to a few first; until then a camera keeps the settings and the pod that it has.
"""

from __future__ import annotations

from camfleet_operator.cluster.attempts import is_sound
from camfleet_operator.cluster.gpu_choice import VariantChoice
from camfleet_operator.cluster.pods import PodSeen
from camfleet_operator.cluster.podspec import WorkerShape
from camfleet_operator.plan import DesiredWorker
from camfleet_protocol.camera import Camera
from camfleet_protocol.settings import Settings


def settings_now(wanted: Settings | None, camera: Camera, *, granted: bool) -> tuple[Settings | None, bool]:
    """The settings to put in force, and whether newer ones wait for the rollout."""
    known = camera.status.settings
    if known is None or not known.hash:
        return wanted, False
    if wanted is not None and (
        wanted.hash == known.hash
        or granted
        or camera.spec.suspend  # it has no worker that could suffer
        or _is_own_edit(camera)
    ):
        return wanted, False
    try:
        return Settings.model_validate(known.values), wanted is not None
    except ValueError:
        return wanted, False


def worker_now(
    shape: WorkerShape, choice: VariantChoice, newest: PodSeen | None, camera: Camera, *, granted: bool
) -> tuple[DesiredWorker, bool]:
    """The worker that should run, and whether a changed one waits for the rollout."""
    fingerprint = shape.fingerprints[choice.variant]
    if newest is None or newest.fingerprint == fingerprint:
        return DesiredWorker(fingerprint), False
    if granted or choice.fell_back or _is_own_edit(camera) or not is_sound(newest):
        return DesiredWorker(fingerprint), False
    return DesiredWorker(newest.fingerprint), True


def _is_own_edit(camera: Camera) -> bool:
    """Whether the user has edited this very camera since its status was written."""
    seen = max((c.observed_generation for c in camera.status.conditions), default=-1)
    return seen < camera.metadata.generation
