"""The settings a worker runs with: the camera's own fields, then its profile's, then the installation's."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from camfleet_protocol import vision
from camfleet_protocol.camera import Camera, CameraProfile, DnsLabel, Fps, SharedSpec
from camfleet_protocol.fields import ModelName


class _Settings(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )


class DetectorOptions(vision.DetectorOptions):
    """How one of the detectors runs, where it differs from the others."""

    model_config = ConfigDict(extra="ignore")


class Zone(vision.ZoneSpec):
    """A named part of the picture."""

    model_config = ConfigDict(extra="ignore")


class Mask(vision.MaskSpec):
    """A part of the picture in which nothing is looked for."""

    model_config = ConfigDict(extra="ignore")


class Alert(vision.AlertSpec):
    """A rule that raises an alert at the gateway."""

    model_config = ConfigDict(extra="ignore")


class FaceRecognitionSettings(_Settings):
    """Recognition of enrolled people, off by default; a threshold that is None is the model's own."""

    enabled: bool = False
    model: ModelName = "mobilefacenet"
    threshold: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    margin: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    min_face_pixels: Annotated[int, Field(ge=0, le=4096)] = 40
    groups: Annotated[tuple[DnsLabel, ...], Field(max_length=16)] | None = None


class PrivacySettings(_Settings):
    """What is kept of the people in the pictures; no retention of its own means no recognition."""

    retention_days: Annotated[int | None, Field(ge=1, le=3650)] = None
    blur_faces: vision.BlurFaces = vision.BlurFaces.NEVER


class InferenceSettings(_Settings):
    """What is looked for; the defaults are those of a face-detecting camera."""

    enabled: bool = True
    detectors: Annotated[tuple[DnsLabel, ...], Field(max_length=8)] = ("yunet",)
    fps: Fps = 5.0
    confidence: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.7
    detector_options: Annotated[tuple[DetectorOptions, ...], Field(max_length=8)] = ()
    zones: Annotated[tuple[Zone, ...], Field(max_length=vision.MAX_ZONES)] = ()
    masks: Annotated[tuple[Mask, ...], Field(max_length=vision.MAX_ZONES)] = ()
    face_recognition: FaceRecognitionSettings = FaceRecognitionSettings()
    backend: Literal["auto", "onnxruntime", "opencv"] = "auto"
    engine: DnsLabel | None = None


class StreamSettings(_Settings):
    """The live picture; width 0 keeps the source's size."""

    fps: Fps = 10.0
    width: Annotated[int, Field(ge=0, le=7680)] = 640
    quality: Annotated[int, Field(ge=1, le=100)] = 80


class HealthSettings(_Settings):
    """When a source counts as broken, in seconds."""

    first_frame_timeout_seconds: Annotated[int, Field(ge=1, le=600)] = 60
    stall_timeout_seconds: Annotated[int, Field(ge=1, le=600)] = 20
    frozen_timeout_seconds: Annotated[int, Field(ge=0, le=3600)] = 60
    reassignment: Literal["Automatic", "Never"] = "Automatic"


class Settings(_Settings):
    """Everything that applies to a running worker without a restart."""

    inference: InferenceSettings = InferenceSettings()
    stream: StreamSettings = StreamSettings()
    health: HealthSettings = HealthSettings()
    privacy: PrivacySettings = PrivacySettings()
    alerts: Annotated[tuple[Alert, ...], Field(max_length=vision.MAX_ALERTS)] = ()
    site: DnsLabel | None = None

    @property
    def recognition(self) -> bool:
        """Whether faces are to be recognised: switched on, and it is said how long anything is kept."""
        return self._recognition_wanted and self.privacy.retention_days is not None

    @property
    def retention_missing(self) -> bool:
        """Whether faces are not recognised only because it is not said how long anything is kept."""
        return self._recognition_wanted and self.privacy.retention_days is None

    @property
    def _recognition_wanted(self) -> bool:
        return self.inference.enabled and self.inference.face_recognition.enabled

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON; equal settings have equal hashes."""
        canonical = json.dumps(self.values(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def values(self) -> dict[str, Any]:
        """The settings as camelCase JSON values, as in `status.settings.values`."""
        return self.model_dump(mode="json", by_alias=True)


def effective_settings(
    camera: Camera, profile: CameraProfile | None = None, defaults: SharedSpec | None = None
) -> Settings:
    """Resolve the settings of a camera.

    A field of the camera wins over the same field of its profile, and that over `defaults` (the
    installation's); what none of them sets has the default of `Settings`. Lists replace, they never add up.

    Args:
        camera: The camera.
        profile: The profile that it refers to, if that exists.
        defaults: What the chart or the command line sets for all cameras.
    """
    layers = (defaults, profile.spec if profile else None, camera.spec)
    merged: dict[str, Any] = {}
    for layer in layers:
        if layer is not None:
            given = layer.model_dump(
                mode="json", by_alias=True, exclude_none=True, include=set(Settings.model_fields)
            )
            merged = merge(merged, given)
    return Settings.model_validate(merged)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`: objects merge field by field, anything else is replaced. Neither is changed."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
