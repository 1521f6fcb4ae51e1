"""Settings of the local runtime."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from camfleet_protocol.logs import LogFormat, LogLevel


class LocalSettings(BaseModel):
    """What `camfleet local` runs with."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    folder: Path = Field(description="Folder with Camera and CameraProfile YAML files.")
    state_dir: Path = Field(description="Where runtime state lives; the folder itself is never written to.")
    host: str = Field("127.0.0.1", description="Address that viewers connect to.")
    port: int = Field(8080, ge=0, le=65535, description="Port that viewers connect to; 0 picks a free one.")
    tokens_file: Path | None = Field(None, description="Hashed viewer tokens (see `camfleet token create`).")
    allowed_origin: tuple[str, ...] = Field((), description="Further origins that may open WebSockets.")
    allowed_host: tuple[str, ...] = Field((), description="Further host names that the page is reached by.")
    model_dir: Path | None = Field(None, description="Folder with model weights.")
    media_root: tuple[Path, ...] = Field(
        (), description="Folders, besides FOLDER, whose files cameras added through the API may name."
    )
    log_level: LogLevel = Field("INFO", description="Least level logged.")
    log_format: LogFormat = Field("text", description="How log lines look.")
