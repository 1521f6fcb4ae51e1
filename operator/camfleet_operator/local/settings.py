"""Settings of the local runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from camfleet_protocol.fields import ModelName
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
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        "cpu", description="Where workers run the models; if that cannot be, there is no inference."
    )
    database_url_file: Path | None = Field(
        None,
        description="File with the URL of a PostgreSQL database for events and people, instead of SQLite.",
    )
    milvus_url: str | None = Field(
        None, description="URL of a Milvus server for the vectors of faces, instead of milvus-lite."
    )
    milvus_token_file: Path | None = Field(None, description="File with the token for the Milvus server.")
    key_file: Path | None = Field(
        None,
        description="File with the key for vectors of faces; by default one is made in the state folder.",
    )
    embedder: ModelName = Field("mobilefacenet", description="Embedding model for enrolment and face search.")
    retention_days: int = Field(
        30, ge=1, le=3650, description="Days for which events are kept whose camera says nothing else."
    )
    retention_bytes: int = Field(
        10 * 1024**3,
        ge=1024 * 1024,
        le=1 << 60,
        description="Bytes of events' pictures at most; the oldest events go first.",
    )
    webhooks_file: Path | None = Field(None, description="YAML file with the webhooks to call.")
    log_level: LogLevel = Field("INFO", description="Least level logged.")
    log_format: LogFormat = Field("text", description="How log lines look.")
