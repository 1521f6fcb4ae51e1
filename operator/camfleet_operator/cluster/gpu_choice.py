"""GPU or CPU: which variant of a worker the next pod is, where a camera only prefers a GPU. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from camfleet_operator.cluster.pods import PodSeen
from camfleet_operator.cluster.podspec import Variant, WorkerShape
from camfleet_protocol.camera import GpuMode


@dataclass(frozen=True, slots=True)
class VariantChoice:
    """A variant.

    Attributes:
        look_again: Seconds after which it may be another one; None if nothing changes by itself.
        cpu_next: Whether the next worker takes a CPU because no GPU came; to be remembered.
        fell_back: Whether a pod that waits for a GPU is given up for this.
    """

    variant: Variant
    look_again: float | None = None
    cpu_next: bool = False
    fell_back: bool = False


def choose_variant(
    shape: WorkerShape,
    newest: PodSeen | None,
    *,
    cpu_next: bool,
    refused_for: float | None,
    now: float,
    patience: float,
) -> VariantChoice:
    """Choose.

    Args:
        shape: What the worker's pods should look like.
        newest: The pod that is alive, if there is one.
        cpu_next: What was remembered.
        refused_for: Seconds since the API server refuses its pods, if it does: by a quota for GPUs, say.
        now: Unix seconds.
        patience: Seconds that a camera which prefers a GPU waits for one.
    """
    if shape.gpu_mode is not GpuMode.PREFERRED:
        return VariantChoice(next(iter(shape.fingerprints)))
    if newest is None or newest.deleting:
        cpu = cpu_next or (refused_for is not None and refused_for >= patience)
        return VariantChoice(Variant.CPU if cpu else Variant.GPU, cpu_next=cpu)
    variant = newest.variant(shape.fingerprints)
    if variant is Variant.GPU and newest.unschedulable_since:
        left = newest.unschedulable_since + patience - now
        if left <= 0:
            return VariantChoice(Variant.CPU, cpu_next=True, fell_back=True)
        return VariantChoice(Variant.GPU, left)
    # It stays what it is; at the next replacement it tries for a GPU again.
    return VariantChoice(variant or Variant.GPU)


def is_on_cpu_instead(shape: WorkerShape | None, pod: PodSeen | None) -> bool:
    """Whether a camera that prefers a GPU has a worker without one."""
    if shape is None or pod is None or shape.gpu_mode is not GpuMode.PREFERRED:
        return False
    return pod.variant(shape.fingerprints) is Variant.CPU
