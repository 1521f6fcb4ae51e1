"""`Camera` and `CameraProfile`, `camfleet.io/v1alpha1`, as pydantic models.

The same objects live in Kubernetes as custom resources and on one box as YAML files; the schemas in `crds/`
are generated from these models. The text under a field is what `kubectl explain` shows of it. No field that a
profile or an installation may set has a default here: unset stays unset, and `camfleet_protocol.settings`
resolves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from camfleet_protocol.documents import refuse_reason
from camfleet_protocol.fields import (
    LABEL_MESSAGE,
    LABEL_PATTERN,
    WHOLE,
    DnsLabel,
    Flag,
    Fps,
    Fraction,
    ImageName,
    Rule,
    Seconds,
    SecondsOrOff,
    Spec,
    rules,
)
from camfleet_protocol.pod import (
    AffinitySpec,
    GpuMode,
    GpuSpec,
    PlacementSpec,
    ResourcesSpec,
    Toleration,
)
from camfleet_protocol.sources import (
    DeviceSource,
    FileSource,
    HttpSource,
    RtspSource,
    SecretRef,
    Source,
    SourceType,
    TestPatternSource,
)
from camfleet_protocol.status import (
    WORKER_STAYS,
    CameraStatus,
    Condition,
    ConditionStatus,
    Reassignment,
    SettingsStatus,
    Status,
    WorkerStatus,
)
from camfleet_protocol.vision import (
    Alerts,
    DetectorOptionsList,
    FaceRecognitionSpec,
    Masks,
    PrivacySpec,
    Zones,
)

__all__ = [
    "API_VERSION",
    "DEFAULT_NAMESPACE",
    "AffinitySpec",
    "Camera",
    "CameraProfile",
    "CameraProfileSpec",
    "CameraSpec",
    "CameraStatus",
    "Condition",
    "ConditionStatus",
    "DeviceSource",
    "DnsLabel",
    "FaceRecognitionSpec",
    "FileSource",
    "Fps",
    "GpuMode",
    "GpuSpec",
    "HealthSpec",
    "HttpSource",
    "InferenceSpec",
    "InvalidObjectError",
    "ObjectMeta",
    "PlacementSpec",
    "ProfileRef",
    "Reassignment",
    "ResourcesSpec",
    "RtspSource",
    "SecretRef",
    "SettingsStatus",
    "SharedSpec",
    "Source",
    "SourceType",
    "Spec",
    "Status",
    "StreamSpec",
    "TestPatternSource",
    "Toleration",
    "WorkerStatus",
    "parse_object",
    "problem_lines",
]

API_VERSION: Literal["camfleet.io/v1alpha1"] = "camfleet.io/v1alpha1"
DEFAULT_NAMESPACE = "default"

_NAMED = Rule(f"self.metadata.name.matches(r'{LABEL_PATTERN}')", LABEL_MESSAGE, "metadata.name")


class InferenceSpec(Spec):
    """What is looked for in the pictures."""

    enabled: Flag | None = None
    """Whether anything is looked for at all. Unset: true."""
    detectors: Annotated[tuple[DnsLabel, ...], Field(max_length=8)] | None = None
    """Names of the detectors to run: yunet or scrfd (faces), yolox (objects), motion, or one that the
    worker's image adds. All get the same picture. A list replaces the profile's list. Unset: yunet."""
    detector_options: DetectorOptionsList | None = None
    """How single detectors run where they differ from the others. A list replaces the profile's list. Unset:
    none."""
    fps: Fps | None = None
    """Inferences per second, at most; a worker that cannot keep up does fewer and is never late. Unset: 5."""
    confidence: Fraction | None = None
    """Lowest score, from 0 to 1, that counts as a detection. Unset: 0.7."""
    face_recognition: FaceRecognitionSpec | None = None
    """Recognition of enrolled people. Off unless switched on: see the privacy notes in the docs."""
    zones: Zones | None = None
    """Parts of the picture that events and alerts tell by name. A list replaces the profile's list. Unset:
    none."""
    masks: Masks | None = None
    """Parts of the picture in which nothing is looked for. A list replaces the profile's list. Unset:
    none."""
    backend: Literal["auto", "onnxruntime", "opencv"] | None = None
    """What runs the models: auto takes the best that the worker's image has. Unset: auto."""
    engine: DnsLabel | None = None
    """Name of an entry point of the group camfleet.engines in the worker's image; it replaces the detectors.
    Unset: none."""


class StreamSpec(Spec):
    """The live picture that viewers get. Nothing is encoded while nobody watches."""

    fps: Fps | None = None
    """Pictures per second, at most. Unset: 10."""
    width: Annotated[int, Field(ge=0, le=7680, strict=True), WHOLE] | None = None
    """Width in pixels; the height follows. 0 keeps the source's size, and a picture is never enlarged.
    Unset: 640."""
    quality: Annotated[int, Field(ge=1, le=100, strict=True), WHOLE] | None = None
    """JPEG quality, from 1 to 100. Unset: 80."""


class HealthSpec(Spec):
    """When a camera counts as broken."""

    first_frame_timeout_seconds: Seconds | None = None
    """Seconds that a new worker has until its first picture. Unset: 60."""
    stall_timeout_seconds: Seconds | None = None
    """Seconds without a new picture after which the source counts as stalled. Unset: 20."""
    frozen_timeout_seconds: SecondsOrOff | None = None
    """Seconds in which pictures come and are all the same, bit for bit, after which the source is opened anew
    and, if that does not help, the picture is said to be frozen. 0 switches it off. Unset: 60."""
    reassignment: Literal["Automatic", "Never"] | None = None
    """Whether the operator may move the camera to another node when its worker or node is at fault. Unset:
    Automatic."""


class SharedSpec(Spec):
    """The blocks that both a Camera and a CameraProfile carry."""

    inference: InferenceSpec | None = None
    """What is looked for in the pictures. Changes apply without a restart."""
    stream: StreamSpec | None = None
    """The live picture that viewers get. Changes apply without a restart."""
    gpu: GpuSpec | None = None
    """The GPU of the worker. A change replaces the worker. No effect on one box."""
    image: ImageName | None = None
    """Container image of a specialised worker. A change replaces the worker. Unset: the installation's worker
    image. No effect on one box."""
    resources: ResourcesSpec | None = None
    """Compute resources of the worker's container. A change replaces the worker. No effect on one box."""
    placement: PlacementSpec | None = None
    """Where the scheduler may put the worker. A change replaces the worker. No effect on one box."""
    health: HealthSpec | None = None
    """When the camera counts as broken. Changes apply without a restart."""
    privacy: PrivacySpec | None = None
    """What is kept of the people in the pictures. Changes apply without a restart."""
    alerts: Alerts | None = None
    """Rules that raise alerts. A list replaces the profile's list. Unset: none."""
    site: DnsLabel | None = None
    """Where the camera is, such as north: a label on its metrics and events."""


class ProfileRef(Spec):
    """A CameraProfile of the same namespace."""

    name: DnsLabel
    """Name of the CameraProfile. Until it exists, the camera does not start."""


class CameraSpec(SharedSpec):
    """What the user wants of one camera."""

    source: Source
    """Where the pictures come from: exactly one of rtsp, http, file, device and testPattern. A change, of the
    kind too, replaces the worker."""
    profile_ref: ProfileRef | None = None
    """CameraProfile of the same namespace whose fields apply wherever the camera has none of its own. Unset:
    only the installation's defaults apply."""
    suspend: Flag | None = None
    """Whether the camera is switched off: its worker ends and none starts. Unset: false."""


class CameraProfileSpec(SharedSpec):
    """Defaults shared by the cameras that refer to the profile; a camera's own fields win."""


class ObjectMeta(BaseModel):
    """The part of Kubernetes' ObjectMeta that Camfleet reads; the rest passes through."""

    model_config = ConfigDict(extra="allow", frozen=True, alias_generator=to_camel, populate_by_name=True)

    name: DnsLabel
    namespace: DnsLabel = DEFAULT_NAMESPACE
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    generation: int = 0


class _Object(Spec):
    metadata: ObjectMeta

    @property
    def id(self) -> str:
        """`namespace.name`: both are DNS labels, so the dot is unambiguous."""
        return f"{self.metadata.namespace}.{self.metadata.name}"


class Camera(_Object):
    """A camera: where its pictures come from and, where it differs from the defaults, what is done with them.

    The operator runs one worker pod for it.
    """

    model_config = ConfigDict(json_schema_extra=rules(_NAMED, WORKER_STAYS))

    api_version: Literal["camfleet.io/v1alpha1"] = API_VERSION
    kind: Literal["Camera"] = "Camera"
    spec: CameraSpec
    """What the user wants of the camera. Only source is required."""
    status: CameraStatus = CameraStatus()
    """What the operator found. Nobody else writes it."""


class CameraProfile(_Object):
    """Defaults for all cameras of the namespace that refer to it by profileRef; a camera's own fields win."""

    model_config = ConfigDict(json_schema_extra=rules(_NAMED))

    api_version: Literal["camfleet.io/v1alpha1"] = API_VERSION
    kind: Literal["CameraProfile"] = "CameraProfile"
    spec: CameraProfileSpec
    """Defaults for the cameras that refer to the profile. Every field is optional."""


class InvalidObjectError(ValueError):
    """A Camera or CameraProfile that the models refuse; `problems` has one line per mistake."""

    def __init__(self, name: str, problems: tuple[str, ...]) -> None:
        super().__init__(f"{name}: " + "; ".join(problems))
        self.name = name
        self.problems = problems


def parse_object(document: object) -> Camera | CameraProfile:
    """Turn a decoded YAML or JSON document into a Camera or CameraProfile.

    Raises:
        InvalidObjectError: With every mistake named by its path; never with the value that was wrong.
    """
    if not isinstance(document, Mapping):
        raise InvalidObjectError(
            "document", ("this is not an object with apiVersion, kind, metadata and spec",)
        )
    metadata = document.get("metadata")
    given = metadata.get("name") if isinstance(metadata, Mapping) else None
    name = ascii(given)[1:-1][:63] if isinstance(given, str) else "?"
    if (problem := refuse_reason(document)) is not None:
        raise InvalidObjectError(name, (problem,))
    kind = document.get("kind")
    problems = [
        f"{field} is missing" for field in ("apiVersion", "kind", "metadata", "spec") if field not in document
    ]
    if kind is not None and kind not in ("Camera", "CameraProfile"):
        problems.append("kind must be Camera or CameraProfile")
    if problems:
        raise InvalidObjectError(name, tuple(problems))
    model: type[Camera] | type[CameraProfile] = Camera if kind == "Camera" else CameraProfile
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidObjectError(f"{kind} {name}", problem_lines(error)) from None


def problem_lines(error: ValidationError) -> tuple[str, ...]:
    """One line per mistake of a validation error: path and reason, without the input."""
    return tuple(
        ".".join(str(part) for part in item["loc"]) + ": " + _plain(item["type"], item["msg"])
        if item["loc"]
        else _plain(item["type"], item["msg"])
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _plain(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "no such field"
    if kind == "missing":
        return "is missing"
    return message.removeprefix("Value error, ")
