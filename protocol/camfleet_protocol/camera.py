"""`Camera` and `CameraProfile`, `camfleet.io/v1alpha1`, as pydantic models.

The same objects live in Kubernetes as custom resources and on one box as YAML files. No field that a
profile or an installation may set has a default here: unset stays unset, and `camfleet_protocol.settings`
resolves it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from camfleet_protocol.documents import refuse_reason

API_VERSION: Literal["camfleet.io/v1alpha1"] = "camfleet.io/v1alpha1"
DEFAULT_NAMESPACE = "default"

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"

DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=_DNS_LABEL)]
ShortText = Annotated[str, Field(min_length=1, max_length=253)]
Quantity = Annotated[str, Field(min_length=1, max_length=32, pattern=_QUANTITY)]
Fps = Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)]


def _url(schemes: tuple[str, ...]) -> Any:
    def check(value: str) -> str:
        if re.search(r"[\s\x00-\x1f\x7f]", value):
            raise ValueError("the URL has whitespace or control characters")
        try:
            parts = urlsplit(value)
            host = parts.hostname
            _ = parts.port
        except ValueError:
            raise ValueError("this is not a URL") from None
        if parts.scheme not in schemes:
            raise ValueError(f"the URL must start with {' or '.join(s + '://' for s in schemes)}")
        if "@" in parts.netloc:
            raise ValueError(
                "the URL has a user or password in it; put them into a Secret "
                "and name it in credentialsSecretRef"
            )
        if not host:
            raise ValueError("the URL has no host")
        return value

    return AfterValidator(check)


RtspUrl = Annotated[str, Field(min_length=1, max_length=2048), _url(("rtsp", "rtsps"))]
HttpUrl = Annotated[str, Field(min_length=1, max_length=2048), _url(("http", "https"))]


class Spec(BaseModel):
    """Base of all user-written blocks: camelCase outside, unknown fields refused, immutable.

    Inputs never appear in validation errors: a refused URL may hold a password.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )


class SecretRef(Spec):
    """A Secret of the camera's namespace with the keys `username` and `password`."""

    name: DnsLabel


class RtspSource(Spec):
    """A camera that speaks RTSP."""

    url: RtspUrl
    detect_url: RtspUrl | None = None
    """A second, smaller stream of the same camera, used for inference."""
    transport: Literal["tcp", "udp"] | None = None
    credentials_secret_ref: SecretRef | None = None


class HttpSource(Spec):
    """A camera that serves MJPEG or JPEG snapshots over HTTP."""

    url: HttpUrl
    credentials_secret_ref: SecretRef | None = None


class FileSource(Spec):
    """A video file; played at its own pace."""

    path: Annotated[str, Field(min_length=1, max_length=1024)]
    claim_name: DnsLabel | None = None
    """The PersistentVolumeClaim that holds the file, in a cluster."""
    loop: bool | None = None


class DeviceSource(Spec):
    """A camera attached to the machine, such as /dev/video0."""

    path: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^/dev/[A-Za-z0-9/_.:-]+$")]
    resource_name: ShortText | None = None
    """The device-plugin resource that grants the device, in a cluster."""


class TestPatternSource(Spec):
    """A synthetic picture with its frame number and clock burnt in."""

    __test__ = False  # not a pytest class, whatever its name

    width: Annotated[int, Field(ge=64, le=3840, multiple_of=2)] | None = None
    height: Annotated[int, Field(ge=64, le=2160, multiple_of=2)] | None = None
    fps: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] | None = None


class SourceType(StrEnum):
    """The kinds of source, named as in the spec."""

    RTSP = "rtsp"
    HTTP = "http"
    FILE = "file"
    DEVICE = "device"
    TEST_PATTERN = "testPattern"


class Source(Spec):
    """Where pictures come from: exactly one of its fields."""

    rtsp: RtspSource | None = None
    http: HttpSource | None = None
    file: FileSource | None = None
    device: DeviceSource | None = None
    test_pattern: TestPatternSource | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(kind.value for kind in SourceType)
            raise ValueError(f"exactly one of {names} must be given, not {len(given)}")
        return self

    @property
    def type(self) -> SourceType:
        """Which of the kinds it is."""
        for name, field in type(self).model_fields.items():
            if getattr(self, name) is not None:
                return SourceType(field.alias or name)
        raise AttributeError("a Source has exactly one kind")  # unreachable after validation

    @property
    def credentials_secret(self) -> str | None:
        """Name of the Secret with user and password, if the source names one."""
        for block in (self.rtsp, self.http):
            if block is not None and block.credentials_secret_ref is not None:
                return block.credentials_secret_ref.name
        return None

    def describe(self) -> str:
        """One line a person can read; never a credential, for a URL with one is refused on the way in."""
        if self.rtsp is not None:
            return self.rtsp.url
        if self.http is not None:
            return self.http.url
        if self.file is not None:
            return self.file.path
        if self.device is not None:
            return self.device.path
        return "test pattern"


class FaceRecognitionSpec(Spec):
    """Recognition of enrolled people. Off unless switched on: see the privacy notes in the docs."""

    enabled: bool | None = None


class InferenceSpec(Spec):
    """What is looked for in the pictures."""

    enabled: bool | None = None
    detectors: Annotated[tuple[DnsLabel, ...], Field(max_length=8)] | None = None
    fps: Fps | None = None
    confidence: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    face_recognition: FaceRecognitionSpec | None = None
    backend: Literal["auto", "onnxruntime", "opencv"] | None = None
    engine: DnsLabel | None = None
    """Name of an entry point of the group `camfleet.engines`; replaces the detectors."""


class StreamSpec(Spec):
    """The live picture that viewers get."""

    fps: Fps | None = None
    width: Annotated[int, Field(ge=0, le=7680)] | None = None
    """Pixels; 0 keeps the source's size. A picture is never enlarged."""
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    """JPEG quality."""


class GpuMode(StrEnum):
    """Whether a worker gets a GPU."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"
    DISABLED = "Disabled"


class GpuSpec(Spec):
    """The GPU of a worker, in a cluster."""

    mode: GpuMode | None = None
    resource_name: ShortText | None = None
    count: Annotated[int, Field(ge=1, le=16)] | None = None


class ResourcesSpec(Spec):
    """Compute resources of the worker's container, as in a pod."""

    requests: Annotated[dict[ShortText, Quantity], Field(max_length=16)] | None = None
    limits: Annotated[dict[ShortText, Quantity], Field(max_length=16)] | None = None


class PlacementSpec(Spec):
    """Where the scheduler may put the worker, as in a pod."""

    node_selector: (
        Annotated[dict[ShortText, Annotated[str, Field(max_length=63)]], Field(max_length=32)] | None
    ) = None
    tolerations: Annotated[tuple[dict[str, Any], ...], Field(max_length=32)] | None = None
    affinity: dict[str, Any] | None = None
    priority_class_name: ShortText | None = None


class HealthSpec(Spec):
    """When a camera counts as broken."""

    first_frame_timeout_seconds: Annotated[int, Field(ge=1, le=600)] | None = None
    stall_timeout_seconds: Annotated[int, Field(ge=1, le=600)] | None = None
    reassignment: Literal["Automatic", "Never"] | None = None


class SharedSpec(Spec):
    """The blocks that both a Camera and a CameraProfile carry."""

    inference: InferenceSpec | None = None
    stream: StreamSpec | None = None
    gpu: GpuSpec | None = None
    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    resources: ResourcesSpec | None = None
    placement: PlacementSpec | None = None
    health: HealthSpec | None = None
    site: DnsLabel | None = None


class ProfileRef(Spec):
    """A CameraProfile of the same namespace."""

    name: DnsLabel


class CameraSpec(SharedSpec):
    """What the user wants of one camera."""

    source: Source
    profile_ref: ProfileRef | None = None
    suspend: bool | None = None


class CameraProfileSpec(SharedSpec):
    """Defaults shared by the cameras that refer to the profile."""


class ObjectMeta(BaseModel):
    """The part of Kubernetes' ObjectMeta that Camfleet reads; the rest passes through."""

    model_config = ConfigDict(extra="allow", frozen=True, alias_generator=to_camel, populate_by_name=True)

    name: DnsLabel
    namespace: DnsLabel = DEFAULT_NAMESPACE
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    generation: int = 0


class ConditionStatus(StrEnum):
    """As in Kubernetes."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Status(BaseModel):
    """Base of all blocks that only the operator writes; unknown fields come from a newer operator."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Condition(Status):
    """One condition of a Camera."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: datetime | None = None


class WorkerStatus(Status):
    """The one worker that may publish for the camera."""

    attempt: Annotated[int, Field(ge=0)] = 0
    pod_name: str = ""
    pod_uid: str = Field(default="", alias="podUID")
    node_name: str = ""


class SettingsStatus(Status):
    """The settings in force, resolved by the operator and relayed by the gateway."""

    hash: str = ""
    values: dict[str, Any] = Field(default_factory=dict)


class CameraStatus(Status):
    """What the operator knows of a camera. Rates and ages are metrics, never status."""

    conditions: tuple[Condition, ...] = ()
    worker: WorkerStatus | None = None
    settings: SettingsStatus | None = None


class _Object(Spec):
    metadata: ObjectMeta

    @property
    def id(self) -> str:
        """`namespace.name`: both are DNS labels, so the dot is unambiguous."""
        return f"{self.metadata.namespace}.{self.metadata.name}"


class Camera(_Object):
    """One camera."""

    api_version: Literal["camfleet.io/v1alpha1"] = API_VERSION
    kind: Literal["Camera"] = "Camera"
    spec: CameraSpec
    status: CameraStatus = CameraStatus()


class CameraProfile(_Object):
    """Defaults for many cameras."""

    api_version: Literal["camfleet.io/v1alpha1"] = API_VERSION
    kind: Literal["CameraProfile"] = "CameraProfile"
    spec: CameraProfileSpec


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
