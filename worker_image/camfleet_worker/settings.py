"""Everything a worker is told at its start; what changes while it runs is `Settings` of the protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from camfleet_protocol.camera import DEFAULT_NAMESPACE, DnsLabel, Source, problem_lines
from camfleet_protocol.fields import ModelName
from camfleet_protocol.logs import LogFormat, LogLevel
from camfleet_protocol.messages import CameraId
from camfleet_protocol.settings import Settings
from camfleet_worker.detectors.providers import Provider

WORKER_PATH = "/ws/worker"
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}

DetectorName = Annotated[DnsLabel, BeforeValidator(lambda name: str(name).lower())]
"""Existing deployments write `YuNet`."""
EmbedderName = Annotated[
    ModelName | None,
    BeforeValidator(lambda name: None if str(name or "").lower() in ("", "none") else str(name).lower()),
]
"""Existing deployments write `MobileFaceNet`, or `none`."""


def _env(*aliases: str, flag: bool = True) -> dict[str, Any]:
    return {"env": list(aliases), "flag": flag}


class WorkerSettings(BaseModel):
    """One worker: one camera, one gateway."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    camera: str = Field(
        "",
        max_length=127,
        description="Camera to serve, NAMESPACE.NAME or NAME.",
        json_schema_extra=_env("WORKER_ID"),
    )
    gateway_url: str = Field(
        "http://127.0.0.1:8081",
        max_length=2048,
        description="Address of the gateway's internal listener, http(s)://HOST:PORT or ws(s)://HOST:PORT.",
        json_schema_extra=_env("API_URL"),
    )
    token: str | None = Field(
        None,
        max_length=16384,
        description="Token for the gateway. Prefer --token-file.",
        json_schema_extra=_env("WORKER_API_KEY", flag=False),
    )
    token_file: Path | None = Field(None, description="File with the token, read again at each connect.")
    source: str = Field(
        "",
        max_length=2048,
        description="Where pictures come from: `test`, an rtsp:// URL without password, or a video file.",
    )
    source_json: str = Field(
        "",
        max_length=65536,
        description="JSON of the Camera's spec.source; wins over --source.",
        json_schema_extra=_env(flag=False),
    )
    settings_json: str = Field(
        "",
        max_length=65536,
        description="JSON of the settings in force at the start, as in the Camera's status.settings.values.",
        json_schema_extra=_env(flag=False),
    )
    detector: tuple[DetectorName, ...] = Field(
        (),
        max_length=8,
        description="Detector (motion, yunet, scrfd, yolox, mock, or a plugin's name); may be repeated.",
        json_schema_extra=_env("DETECTOR_TYPE"),
    )
    embedder: EmbedderName = Field(
        None,
        description="Model that faces are recognised by, if the settings switch that on.",
        json_schema_extra=_env("EMBEDDER_TYPE"),
    )
    fps: float | None = Field(
        None,
        gt=0,
        le=120,
        allow_inf_nan=False,
        description="Inferences per second.",
        json_schema_extra=_env("WORKER_FPS"),
    )
    confidence: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Lowest score of a detection that counts.",
        json_schema_extra=_env("CONFIDENCE_THRESHOLD"),
    )
    mock: bool = Field(
        False,
        description="Dry run: test pattern and mock detector, no camera and no weights needed.",
        json_schema_extra=_env("MOCK_MODE"),
    )
    namespace: DnsLabel = Field(
        DEFAULT_NAMESPACE,
        description="Namespace of a camera given by its plain name.",
        json_schema_extra=_env("TENANT_ID"),
    )
    site: DnsLabel | None = Field(
        None, description="Site that the camera belongs to.", json_schema_extra=_env("SITE_ID")
    )
    attempt: int = Field(0, ge=0, description="Which attempt at this camera the worker is.")
    pod_name: str = Field("", max_length=253, description="Name of the worker's pod.")
    work_dir: Path | None = Field(
        None, description="Folder for outbox, heartbeat and auth stop; a temporary one if not given."
    )
    credentials_dir: Path | None = Field(
        None, description="Folder with the files `username` and `password` of the source."
    )
    model_dir: Path | None = Field(None, description="Folder with the models' weights.")
    media_root: tuple[Path, ...] = Field(
        (), max_length=32, description="When given, a file source must lie in one of these; may be repeated."
    )
    threads: int = Field(1, ge=1, le=64, description="CPU threads each for decoding, drawing and inference.")
    provider: Provider = Field(
        "cpu",
        description="Where ONNX Runtime must run; if it cannot, there is no inference. auto: cuda, else cpu.",
    )
    gpu_memory_mib: int | None = Field(
        None,
        ge=256,
        le=1_048_576,
        description="GPU memory in MiB that each model may take; no cap if not given.",
    )
    engine_cache_dir: Path | None = Field(
        None, description="Folder in which TensorRT's engines are kept, so that they are built only once."
    )
    exit_with_parent: bool = Field(False, description="Exit when standard input reaches its end.")
    check_ports: bool = Field(
        False, description="Run for a few seconds, list what the process listens on, and exit 0 if nothing."
    )
    log_level: LogLevel = Field("INFO", description="Log level.")
    log_format: LogFormat = Field("text", description="Log format.")

    @model_validator(mode="after")
    def _consistent(self) -> WorkerSettings:
        problems: list[str] = []
        for read in (self._camera_id, self._gateway, self._source, self._settings):
            try:
                read()
            except ValidationError as error:
                problems.extend(problem_lines(error))
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def camera_id(self) -> str:
        """`namespace.name`."""
        return self._camera_id()

    @property
    def websocket_url(self) -> str:
        """Where the worker dials."""
        return self._gateway()

    @property
    def camera_source(self) -> Source:
        """Where pictures come from."""
        return self._source()

    @property
    def initial(self) -> Settings:
        """What applies until the gateway says otherwise: the operator's values, then the flags."""
        return self._settings()

    def _camera_id(self) -> str:
        if not self.camera:
            if self.mock:
                return f"{self.namespace}.mock"
            raise ValueError("camera is missing")
        name = self.camera if "." in self.camera else f"{self.namespace}.{self.camera}"
        try:
            return _CAMERA_ID.validate_python(name)
        except ValidationError:
            raise ValueError("camera must be NAMESPACE.NAME or NAME, in a-z, 0-9 and '-'") from None

    def _gateway(self) -> str:
        try:
            parts = urlsplit(self.gateway_url)
            host = parts.hostname
            _ = parts.port
        except ValueError:
            raise ValueError("gateway_url is not a URL") from None
        if parts.scheme not in _SCHEMES or not host:
            raise ValueError("gateway_url must be http://HOST:PORT, https://…, ws://… or wss://…")
        if "@" in parts.netloc:
            raise ValueError("gateway_url has a user or password in it; use a token file")
        return urlunsplit(
            (_SCHEMES[parts.scheme], parts.netloc, parts.path.rstrip("/") + WORKER_PATH, "", "")
        )

    def _source(self) -> Source:
        if self.source_json:
            return Source.model_validate_json(self.source_json)
        if self.source in ("test", "testPattern") or (self.mock and not self.source):
            return Source.model_validate({"testPattern": {}})
        if not self.source:
            raise ValueError("source is missing")
        if self.source.startswith(("rtsp://", "rtsps://")):
            return Source.model_validate({"rtsp": {"url": self.source}})
        if self.source.startswith(("http://", "https://")):
            return Source.model_validate({"http": {"url": self.source}})
        if self.source.startswith("/dev/"):
            return Source.model_validate({"device": {"path": self.source}})
        return Source.model_validate({"file": {"path": self.source}})

    def _settings(self) -> Settings:
        values: dict[str, Any] = {}
        if self.settings_json:
            try:
                decoded = json.loads(self.settings_json)
            except ValueError:
                raise ValueError("settings_json is not JSON") from None
            if not isinstance(decoded, dict):
                raise ValueError("settings_json is not a JSON object")
            values = decoded
        settings = Settings.model_validate(values)
        inference: dict[str, Any] = {}
        if self.detector:
            inference["detectors"] = self.detector
        elif self.mock:
            inference["detectors"] = ("mock",)
        if self.fps is not None:
            inference["fps"] = self.fps
        if self.confidence is not None:
            inference["confidence"] = self.confidence
        if self.embedder is not None:
            recognition = settings.inference.face_recognition
            inference["face_recognition"] = recognition.model_copy(update={"model": self.embedder})
        changes: dict[str, Any] = {"inference": settings.inference.model_copy(update=inference)}
        if self.site is not None:
            changes["site"] = self.site
        return settings.model_copy(update=changes)


_CAMERA_ID: TypeAdapter[str] = TypeAdapter(CameraId)
