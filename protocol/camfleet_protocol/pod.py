"""The blocks of a Camera about its worker's pod: GPU, compute resources and place. No effect on one box."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from camfleet_protocol.fields import (
    QUALIFIED_KEYS,
    WHOLE,
    WITHOUT_NULLS,
    DnsSubdomain,
    LabelValue,
    Opaque,
    QualifiedName,
    Quantity,
    ResourceName,
    Rule,
    Spec,
    rules,
)


class GpuMode(StrEnum):
    """Whether a worker gets a GPU."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"
    DISABLED = "Disabled"


class GpuSpec(Spec):
    """The GPU of a worker, in a cluster."""

    mode: GpuMode | None = None
    """Required: the worker waits for a GPU. Preferred: it waits for a minute and then runs on the CPU.
    Disabled: it runs on the CPU. Unset: Preferred."""
    resource_name: ResourceName | None = None
    """Extended resource to ask for: nvidia.com/gpu, or the name of a time-slicing, MPS or MIG share such as
    nvidia.com/mig-1g.5gb. Unset: nvidia.com/gpu."""
    count: Annotated[int, Field(ge=1, le=16, strict=True), WHOLE] | None = None
    """How many of the resource a worker gets. Unset: 1."""
    runtime: Literal["CUDA", "TensorRT"] | None = None
    """What runs the models on the GPU. TensorRT is faster, and builds an engine per model and kind of GPU
    first. Unset: CUDA."""
    memory_mib: Annotated[int, Field(ge=256, le=1_048_576, strict=True), WHOLE] | None = None
    """GPU memory that each model of the worker may take, in MiB, for GPUs that many workers share; the
    libraries' own few hundred MiB come on top. Unset: no cap."""
    engine_cache_claim: DnsSubdomain | None = None
    """PersistentVolumeClaim of the camera's namespace in which TensorRT keeps its engines, so that they are
    built once. Unset: each worker builds its own."""


_ResourceMap = Annotated[dict[str, Quantity], Field(max_length=16), QUALIFIED_KEYS, WITHOUT_NULLS]


class ResourcesSpec(Spec):
    """Compute resources of the worker's container, as in a pod."""

    requests: _ResourceMap | None = None
    """What a node must have free for the worker. Unset: cpu 250m and memory 256Mi."""
    limits: _ResourceMap | None = None
    """What the worker may use at most; the GPU belongs into gpu, not here. Unset: memory 1Gi."""


_EXISTS = "has(self.operator) && self.operator == 'Exists'"
_NEEDS_KEY = Rule(
    f"has(self.key) || ({_EXISTS})", "without a key the operator must be Exists: every taint is meant"
)
_NEEDS_NO_VALUE = Rule(
    f"!({_EXISTS}) || !has(self.value) || self.value == ''", "with the operator Exists there is no value"
)
_NEEDS_NO_EXECUTE = Rule(
    "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
    "tolerationSeconds needs the effect NoExecute",
)


class Toleration(Spec):
    """A taint that the worker bears, as in a pod."""

    model_config = ConfigDict(json_schema_extra=rules(_NEEDS_KEY, _NEEDS_NO_VALUE, _NEEDS_NO_EXECUTE))

    key: QualifiedName | None = None
    """Key of the taint. Unset: every key, and the operator must be Exists."""
    operator: Literal["Equal", "Exists"] | None = None
    """Equal: the taint has this value. Exists: any value. Unset: Equal."""
    value: LabelValue | None = None
    """Value of the taint. Unset: the empty value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Unset: every effect."""
    toleration_seconds: Annotated[int, Field(ge=0, le=86400 * 365, strict=True), WHOLE] | None = None
    """How long the worker may stay after a taint with the effect NoExecute came, in seconds. Unset: for
    ever."""

    @model_validator(mode="after")
    def _as_in_a_pod(self) -> Toleration:
        if self.key is None and self.operator != "Exists":
            raise ValueError(_NEEDS_KEY.message)
        if self.operator == "Exists" and self.value:
            raise ValueError(_NEEDS_NO_VALUE.message)
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError(_NEEDS_NO_EXECUTE.message)
        return self


class AffinitySpec(Spec):
    """Affinity of the worker's pod. What is in its fields is checked when the pod is created."""

    node_affinity: Opaque | None = None
    """Nodes that the worker must or should run on, as nodeAffinity in a pod."""
    pod_affinity: Opaque | None = None
    """Pods that the worker must or should run near, as podAffinity in a pod."""
    pod_anti_affinity: Opaque | None = None
    """Pods that the worker must or should keep away from, as podAntiAffinity in a pod."""


class PlacementSpec(Spec):
    """Where the scheduler may put the worker, as in a pod."""

    node_selector: (
        Annotated[dict[str, LabelValue], Field(max_length=32), QUALIFIED_KEYS, WITHOUT_NULLS] | None
    ) = None
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] | None = None
    """Taints that the worker bears, besides those that the operator adds. A list replaces the profile's."""
    affinity: AffinitySpec | None = None
    """Affinity of the worker's pod, as in a pod; the operator adds that nodes which failed the camera are
    avoided."""
    priority_class_name: DnsSubdomain | None = None
    """PriorityClass of the worker's pod. Unset: the cluster's default."""
