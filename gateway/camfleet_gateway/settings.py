"""What can be set on a gateway. The command line fills this in from options and the environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from camfleet_protocol.camera import DnsLabel
from camfleet_protocol.fields import ModelName
from camfleet_protocol.logs import LogFormat, LogLevel

_ANY_ADDRESS = "0.0.0.0"
Port = Annotated[int, Field(ge=0, le=65535)]
DATABASE_SCHEMES = ("sqlite+aiosqlite", "postgresql+asyncpg")
_SECRET_PARAMETERS = ("password", "token", "user_token")


class GatewaySettings(BaseModel):
    """Settings of one gateway process."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str = Field(
        "127.0.0.1", description="Address on which viewers are served; 0.0.0.0 in a pod with a tokens file."
    )
    port: Port = Field(8080, description="Port on which viewers are served; 0 takes a free one.")
    internal_host: str = Field(
        "127.0.0.1", description="Address on which workers and Prometheus are served; 0.0.0.0 in a pod."
    )
    internal_port: Port = Field(8081, description="Port for workers and Prometheus; 0 takes a free one.")
    state_dir: Path | None = Field(
        None, description="State folder shared with the local runtime; without it cameras live in memory."
    )
    kubernetes: bool = Field(
        False, description="Take cameras and workers' identities from the Kubernetes API."
    )
    kubeconfig: Path | None = Field(
        None, description="How to reach the Kubernetes API; without it as a pod does, by its ServiceAccount."
    )
    namespace: tuple[DnsLabel, ...] = Field(
        (), description="Namespace whose cameras are served, may be repeated; without it all of them."
    )
    tokens_file: Path | None = Field(
        None, description="YAML file with hashed tokens and their roles; without it everybody is admin."
    )
    allowed_origin: tuple[str, ...] = Field(
        (), description="Web origins (https://host:port) besides the gateway's own that may connect."
    )
    allowed_host: tuple[str, ...] = Field(
        (),
        description="Host names by which the gateway may be addressed; by default any, once tokens are used.",
    )
    exit_with_parent: bool = Field(False, description="Stop when standard input reaches its end.")
    linger_seconds: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = Field(
        10.0, description="How long a worker goes on encoding after the last viewer has left, in seconds."
    )
    stats_timeout_seconds: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = Field(
        5.0, description="A worker whose statistics are silent for so long counts as lost, in seconds."
    )
    hold_seconds: Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)] = Field(
        10.0, description="How long a worker waits for the camera's status to name it, in seconds."
    )
    max_viewers: Annotated[int, Field(ge=1, le=100_000)] = Field(
        2000, description="Viewer connections in total, of all kinds."
    )
    max_viewers_per_camera: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1000, description="Viewers of one camera."
    )
    data_dir: Path | None = Field(
        None,
        description="Folder for events, people and pictures; by default gateway/ in the state folder. "
        "Without either they are kept in a temporary folder and end with the gateway.",
    )
    database_url: Annotated[str, Field(max_length=2048)] | None = Field(
        None,
        description="Database of events and people, sqlite+aiosqlite:///FILE or "
        "postgresql+asyncpg://USER@HOST/NAME, without a password; by default SQLite in the data folder.",
    )
    database_url_file: Path | None = Field(
        None, description="File with the database's URL, which may hold a password."
    )
    milvus_url: Annotated[str, Field(max_length=2048)] | None = Field(
        None,
        description="Milvus server for the vectors of faces, http(s)://HOST:PORT; by default milvus-lite in "
        "the data folder.",
    )
    milvus_token_file: Path | None = Field(
        None, description="File with the token for the Milvus server, or USER:PASSWORD."
    )
    model_dir: Path | None = Field(
        None, description="Folder with models' weights; without it nobody can be enrolled from pictures."
    )
    embedder: ModelName = Field("mobilefacenet", description="Embedding model for enrolment and face search.")
    key_file: Path | None = Field(
        None,
        description="File with the key for vectors in the database: 32 random bytes in base64. By default "
        "one is made in the data folder.",
    )
    retention_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        30, description="Days for which events are kept whose camera says nothing else."
    )
    retention_bytes: Annotated[int, Field(ge=1024 * 1024, le=1 << 60)] = Field(
        10 * 1024**3, description="Bytes of events' pictures at most; the oldest events go first."
    )
    webhooks_file: Path | None = Field(None, description="YAML file with the webhooks to call.")
    log_level: LogLevel = Field("INFO", description="Least level logged.")
    log_format: LogFormat = Field("text", description="Form of the log lines.")

    @model_validator(mode="before")
    @classmethod
    def _reachable_in_a_pod(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not given.get("kubernetes") or given.get("kubeconfig") is not None:
            return given
        open_to_all = {"internal_host": _ANY_ADDRESS}
        if given.get("tokens_file") is not None:
            open_to_all["host"] = _ANY_ADDRESS
        return open_to_all | given

    @model_validator(mode="before")
    @classmethod
    def _data_beside_state(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("data_dir") is not None or not given.get("state_dir"):
            return given
        return given | {"data_dir": str(Path(given["state_dir"]) / "gateway")}  # a string also in JSON

    @field_validator("database_url")
    @classmethod
    def _a_database(cls, url: str | None) -> str | None:
        if url is not None and has_secret(check_database_url(url)):
            raise ValueError("a URL with a password goes into a file: set database_url_file")
        return url

    @field_validator("milvus_url")
    @classmethod
    def _a_milvus_server(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be http://HOST:PORT or https://HOST:PORT")
        if parts.username is not None or has_secret(url):
            raise ValueError("user, password and token go into a file: set milvus_token_file")
        return url

    @model_validator(mode="after")
    def _data_fits_together(self) -> Self:
        if self.database_url is not None and self.database_url_file is not None:
            raise ValueError("database_url and database_url_file exclude each other")
        if self.milvus_token_file is not None and self.milvus_url is None:
            raise ValueError("milvus_token_file goes with milvus_url")
        if self.has_own_database and self.data_dir is None and self.key_file is None:
            raise ValueError(
                "a database of its own needs a key that outlives the gateway: set key_file or data_dir"
            )
        return self

    @model_validator(mode="after")
    def _one_source_of_truth(self) -> Self:
        if self.kubernetes and self.state_dir is not None:
            raise ValueError(
                "a state folder (state_dir) and the Kubernetes API (kubernetes) exclude each other"
            )
        if not self.kubernetes and (self.kubeconfig is not None or self.namespace):
            raise ValueError("kubeconfig and namespace go with kubernetes")
        if len(set(self.namespace)) < len(self.namespace):
            raise ValueError("a namespace is named twice")
        return self

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        if self.tokens_file is None and not is_loopback(self.host):
            raise ValueError(
                "without a tokens file the viewer address must be a loopback one (127.0.0.1): "
                "everybody who can reach it would be admin"
            )
        return self

    @property
    def authentication(self) -> bool:
        """Whether viewers need a token."""
        return self.tokens_file is not None

    @property
    def has_own_database(self) -> bool:
        """Whether a URL says where the database is."""
        return self.database_url is not None or self.database_url_file is not None


def check_database_url(url: str) -> str:
    """A database's URL as it is.

    Raises:
        ValueError: It is none that the gateway can use; the text does not quote it.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in DATABASE_SCHEMES or not separator:
        raise ValueError("must begin with " + ":// or ".join(DATABASE_SCHEMES) + "://")
    if scheme == DATABASE_SCHEMES[0]:
        if not rest.startswith("/") or len(rest.partition("?")[0]) < 2:
            raise ValueError("must be sqlite+aiosqlite:///FILE, with a fourth slash before an absolute path")
    elif not urlsplit(url).path.strip("/"):
        raise ValueError("must name the database: postgresql+asyncpg://USER@HOST/NAME")
    return url


def has_secret(url: str) -> bool:
    """Whether there is a password or token in a URL."""
    parts = urlsplit(url)
    return parts.password is not None or any(
        name.lower() in _SECRET_PARAMETERS for name, _ in parse_qsl(parts.query, keep_blank_values=True)
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
