"""What can be set on a gateway. The command line fills this in from options and the environment."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from camfleet_protocol.camera import DnsLabel
from camfleet_protocol.logs import LogFormat, LogLevel

_ANY_ADDRESS = "0.0.0.0"
Port = Annotated[int, Field(ge=0, le=65535)]


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


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
