"""`Camera.status`: what the operator, and nobody else, writes about a camera."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from camfleet_protocol.fields import MAX_EXACT, MAX_INT32, Opaque, Rule, rules

WORKER_STAYS = Rule(
    "!has(oldSelf.status) || !has(oldSelf.status.worker) || (has(self.status) && has(self.status.worker))",
    "status.worker cannot be removed: it fences off workers of earlier attempts",
    "status.worker",
)
"""Belongs to the whole object: inside status it would end with status itself."""


class Status(BaseModel):
    """Base of all blocks that only the operator writes; unknown fields come from a newer operator."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )


class ConditionStatus(StrEnum):
    """As in Kubernetes."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Status):
    """One condition of a Camera."""

    type: Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Z][A-Za-z0-9]*$")]
    """Ready (the summary), Scheduled, SourceConnected, Streaming or Degraded."""
    status: ConditionStatus
    """True, False, or Unknown while it cannot be told."""
    reason: Annotated[str, Field(min_length=1, max_length=256, pattern="^[A-Za-z][A-Za-z0-9]*$")]
    """Why, in one CamelCase word for programs, such as InsufficientGPU."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, in a sentence for people."""
    observed_generation: Annotated[int, Field(ge=0, le=MAX_EXACT)] = 0
    """The metadata.generation of the Camera that the condition is about; an older one means that the operator
    has not yet looked at the latest change."""
    last_transition_time: datetime | None = None
    """When status last became another one."""


class WorkerStatus(Status):
    """The one worker that may publish for the camera."""

    model_config = ConfigDict(
        json_schema_extra={
            "required": ["attempt"],
            **rules(
                Rule("self.attempt >= oldSelf.attempt", "status.worker.attempt never decreases", "attempt"),
                Rule(
                    "self.attempt > oldSelf.attempt || !has(oldSelf.podUID) || oldSelf.podUID == ''"
                    " || (has(self.podUID) && self.podUID == oldSelf.podUID)",
                    "within an attempt status.worker.podUID, once set, does not change",
                    "podUID",
                ),
            ),
        }
    )

    attempt: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Number of the worker: every replacement counts one up, never down. The gateway closes what an older
    attempt sends."""
    pod_name: Annotated[str, Field(max_length=253)] = ""
    """Name of the worker's pod."""
    pod_uid: Annotated[str, Field(max_length=64)] = Field(default="", alias="podUID")
    """UID of the worker's pod: only this pod may publish. Empty until the pod exists; within an attempt it
    does not change."""
    node_name: Annotated[str, Field(max_length=253)] = ""
    """Node that the pod runs on. Empty until it is scheduled."""


class SettingsStatus(Status):
    """The settings in force, resolved by the operator and relayed by the gateway."""

    hash: Annotated[str, Field(max_length=64)] = ""
    """Short hash of the values: cameras with the same settings have the same."""
    values: Opaque = Field(default_factory=dict)
    """Settings that a running worker applies without a restart, with every default filled in."""


class Reassignment(Status):
    """The last time the operator moved a camera away from a node."""

    time: datetime | None = None
    """When the camera was moved."""
    reason: Annotated[str, Field(max_length=256)] = ""
    """Why it was moved, in one CamelCase word: NodeLost, NodeFault, WorkerFault, Relief or Requested."""
    message: Annotated[str, Field(max_length=1024)] = ""
    """What the decision rested on, in a sentence for people."""
    from_node: Annotated[str, Field(max_length=253)] = ""
    """Node that it was moved away from."""
    to_node: Annotated[str, Field(max_length=253)] = ""
    """Node that it runs on since. Empty until the new pod is scheduled."""
    count: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """How many moves there were in a row: each makes the pause before the next one longer. It begins anew
    when the camera has been well for ten minutes."""
    request: Annotated[str, Field(max_length=64)] = ""
    """Value of the annotation camfleet.io/move that was carried out last."""


class CameraStatus(Status):
    """What the operator knows of a camera. Rates and ages are metrics, never status."""

    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    """How the camera does: Ready, Scheduled, SourceConnected, Streaming and Degraded."""
    worker: WorkerStatus | None = None
    """The one worker that may publish for the camera."""
    settings: SettingsStatus | None = None
    """The settings in force."""
    last_reassignment: Reassignment | None = None
    """The last time the operator moved the camera to another node."""
