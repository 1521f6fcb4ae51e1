"""What is looked for in the pictures, where in them, who may be recognised, and what raises an alert.

These blocks are a part of `Camera` and `CameraProfile`; `camfleet_protocol.settings` resolves them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, WithJsonSchema, model_serializer, model_validator

from camfleet_protocol.fields import (
    BY_NAME,
    UNIQUE_NAMES,
    WHOLE,
    DnsLabel,
    Flag,
    Form,
    Fps,
    Fraction,
    ModelName,
    Rule,
    Spec,
    rules,
)

MAX_ZONES = 16
MAX_ALERTS = 32

ClassName = Annotated[
    str,
    Field(min_length=1, max_length=32),
    Form(
        "must be the name of a class, such as person: lower-case letters, digits, spaces, '-' and '_'",
        "^[a-z0-9]([a-z0-9 _-]*[a-z0-9])?$",
    ),
]
"""As in COCO: person, car, traffic light, …; face for faces."""
ClassNames = Annotated[tuple[ClassName, ...], Field(max_length=80)]
_Pixels = Annotated[int, Field(ge=0, le=4096, strict=True), WHOLE]
_Days = Annotated[int, Field(ge=1, le=3650, strict=True), WHOLE]
_Dwell = Annotated[int, Field(ge=0, le=3600, strict=True), WHOLE]


class DetectorOptions(Spec):
    """How one of the detectors runs, where it differs from the others."""

    name: DnsLabel
    """Name of the detector, as in detectors."""
    fps: Fps | None = None
    """How often it runs per second, at most; never more often than inference as a whole. Unset: as often."""
    confidence: Fraction | None = None
    """Lowest score that counts. Unset: the confidence of inference."""
    classes: ClassNames | None = None
    """Classes that count, such as person and car; the others are left out. Unset: all that it knows."""
    min_size: Fraction | None = None
    """Least height of what counts, as a fraction of the picture's height. Unset: any."""


class Point(Spec):
    """A point of the picture: the left upper corner is 0, 0 and the right lower one 1, 1.

    It is written as a pair, `[0.25, 0.5]`: as a key, YAML 1.1 reads `y` as the truth value.
    """

    x: Fraction
    y: Fraction

    @model_validator(mode="before")
    @classmethod
    def _of_pair(cls, given: Any) -> Any:
        if isinstance(given, list | tuple):
            if len(given) != 2:
                raise ValueError("must be a pair of numbers from 0 to 1, such as [0.25, 0.5]")
            return {"x": given[0], "y": given[1]}
        return given

    @model_serializer
    def _as_pair(self) -> list[float]:
        return [self.x, self.y]


_Point = Annotated[
    Point,
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 2,
            "maxItems": 2,
            "items": {"type": "number", "minimum": 0, "maximum": 1},
        }
    ),
]
_Polygon = Annotated[tuple[_Point, ...], Field(min_length=3, max_length=32)]


class ZoneSpec(Spec):
    """A part of the picture that events and alerts tell by its name."""

    name: DnsLabel
    """Name of the zone, such as door."""
    points: _Polygon
    """Corners of the polygon in order, each a pair of fractions of the picture's width and height, such as
    [0.25, 0.5]. Something is in the zone when the middle of its lower edge is; a face when its middle is."""
    classes: ClassNames | None = None
    """Classes that the zone is about. Unset: all."""
    dwell_seconds: _Dwell | None = None
    """Seconds that something must stay before it counts as being in the zone. Unset: 0."""


class MaskSpec(Spec):
    """A part of the picture in which nothing is looked for, such as a screen or a public street."""

    name: DnsLabel
    """Name of the mask, such as street."""
    points: _Polygon
    """Corners of the polygon in order, each a pair of fractions of the picture's width and height, such as
    [0.25, 0.5]. What has its middle inside is left out."""
    detectors: Annotated[tuple[DnsLabel, ...], Field(max_length=8)] | None = None
    """Detectors that the mask is for. Unset: all."""


class FaceRecognitionSpec(Spec):
    """Recognition of enrolled people. Off unless switched on: see the privacy notes in the docs."""

    enabled: Flag | None = None
    """Whether faces are compared with the enrolled people; privacy.retentionDays must be set, too. Unset:
    false."""
    model: ModelName | None = None
    """Name of the embedding model in the model folder, such as mobilefacenet or, for a pack of insightface,
    buffalo_l. Unset: mobilefacenet."""
    threshold: Fraction | None = None
    """Least cosine similarity to a person for a face to be theirs. Unset: the model's own."""
    margin: Fraction | None = None
    """How much more alike the face must be to that person than to the next one. Unset: the model's own."""
    min_face_pixels: _Pixels | None = None
    """Least height of a face, in pixels of the source, for it to be compared. Unset: 40."""
    groups: Annotated[tuple[DnsLabel, ...], Field(max_length=16)] | None = None
    """Groups of people that are looked for. Unset: all."""


class BlurFaces(StrEnum):
    """Whose faces are made unrecognisable in every picture that leaves the worker."""

    NEVER = "Never"
    UNKNOWN = "Unknown"
    ALWAYS = "Always"


class PrivacySpec(Spec):
    """What is kept of the people in the pictures, and for how long."""

    retention_days: _Days | None = None
    """Days after which events of this camera and their pictures and vectors are deleted; needed for
    recognition. Without it the gateway's own retention applies. Unset: none."""
    blur_faces: BlurFaces | None = None
    """Whose faces are made unrecognisable in every picture that leaves the worker: Unknown are all that are
    not recognised. It needs a face detector. Unset: Never."""


class AlertWhen(StrEnum):
    """What raises an alert."""

    IN_ZONE = "InZone"
    BLOCKED_PERSON = "BlockedPerson"
    UNKNOWN_PERSON = "UnknownPerson"
    CAMERA_OFFLINE = "CameraOffline"
    COUNT_ABOVE = "CountAbove"


_Clock = Annotated[
    str,
    Field(min_length=5, max_length=5),
    Form("must be a time of day, such as 22:00", "^([01][0-9]|2[0-3]):[0-5][0-9]$"),
]


class Schedule(Spec):
    """When a rule applies."""

    start: _Clock | None = None
    """Time of day from which on it applies. Unset: 00:00."""
    end: _Clock | None = None
    """Time of day until which it applies; before start, it is of the next day. Unset: the end of the day."""
    days: (
        Annotated[
            tuple[Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], ...],
            Field(min_length=1, max_length=7),
        ]
        | None
    ) = None
    """Days of the week on which it begins to apply. Unset: every day."""
    timezone: (
        Annotated[
            str,
            Field(min_length=1, max_length=64),
            Form("must be the name of a time zone, such as Europe/Berlin", "^[A-Za-z0-9_+/-]+$"),
        ]
        | None
    ) = None
    """IANA time zone of the times, such as Europe/Berlin. Unset: UTC."""


_NEEDS_ZONE = Rule("self.when != 'InZone' || has(self.zone)", "InZone needs a zone", "zone")
_NEEDS_ABOVE = Rule("self.when != 'CountAbove' || has(self.above)", "CountAbove needs above", "above")


class AlertSpec(Spec):
    """A rule that raises an alert at the gateway."""

    model_config = ConfigDict(json_schema_extra=rules(_NEEDS_ZONE, _NEEDS_ABOVE))

    name: DnsLabel
    """Name of the rule, such as stranger-at-night."""
    when: AlertWhen
    """InZone: something is in the zone. BlockedPerson: somebody of the group blocked. UnknownPerson: a face
    that is surely nobody's enrolled. CameraOffline: no pictures. CountAbove: too many things at once."""
    zone: DnsLabel | None = None
    """Zone that it must happen in. Unset: anywhere in the picture."""
    classes: ClassNames | None = None
    """Classes that InZone and CountAbove are about. Unset: person."""
    above: Annotated[int, Field(ge=0, le=500, strict=True), WHOLE] | None = None
    """Number that CountAbove must exceed."""
    for_seconds: _Dwell | None = None
    """How long CameraOffline or CountAbove must last. Unset: 60 for CameraOffline, 5 for CountAbove."""
    schedule: Schedule | None = None
    """When the rule applies. Unset: always."""
    severity: Literal["info", "warning", "critical"] | None = None
    """How much it matters. Unset: warning."""
    cooldown_seconds: Annotated[int, Field(ge=0, le=86400, strict=True), WHOLE] | None = None
    """Least time between two alerts of this rule of one camera. Unset: 300."""

    @model_validator(mode="after")
    def _complete(self) -> AlertSpec:
        if self.when is AlertWhen.IN_ZONE and self.zone is None:
            raise ValueError(_NEEDS_ZONE.message)
        if self.when is AlertWhen.COUNT_ABOVE and self.above is None:
            raise ValueError(_NEEDS_ABOVE.message)
        return self


DetectorOptionsList = Annotated[
    tuple[DetectorOptions, ...], Field(max_length=8, json_schema_extra=BY_NAME), UNIQUE_NAMES
]
Zones = Annotated[tuple[ZoneSpec, ...], Field(max_length=MAX_ZONES, json_schema_extra=BY_NAME), UNIQUE_NAMES]
Masks = Annotated[tuple[MaskSpec, ...], Field(max_length=MAX_ZONES, json_schema_extra=BY_NAME), UNIQUE_NAMES]
Alerts = Annotated[
    tuple[AlertSpec, ...], Field(max_length=MAX_ALERTS, json_schema_extra=BY_NAME), UNIQUE_NAMES
]
