"""What can be set on an operator. The command line fills this in from options and the environment."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from camfleet_protocol.camera import DnsLabel
from camfleet_protocol.logs import LogFormat, LogLevel

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


def _url(text: str) -> str:
    parts = urlsplit(text)
    try:
        fine = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ValueError("is no URL with a host and, if any, a port up to 65535")
    return text


Header = Annotated[
    str, Field(max_length=4096, pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+:[ \t]*[\x21-\x7e][\x20-\x7e]*$")
]
Url = Annotated[
    str, Field(min_length=1, max_length=2048, pattern=r"^https?://[^\s@]+$"), AfterValidator(_url)
]


class OperatorSettings(BaseModel):
    """Settings of one operator process."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    namespace: tuple[DnsLabel, ...] = Field(
        (), max_length=256, description="Namespace whose cameras are served; may be repeated. All, if none."
    )
    kubeconfig: Path | None = Field(
        None, description="Kubeconfig file; in a pod the ServiceAccount is used without it."
    )
    lease_namespace: DnsLabel = Field(
        "default", description="Namespace of the Lease that elects the acting replica."
    )
    lease_name: DnsLabel = Field("camfleet-operator", description="Name of that Lease.")
    identity: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=253,
        description="This replica's name in the Lease; the host name if not given.",
    )
    gateway_url: Url = Field(
        "http://camfleet-gateway:8081",
        description="Address of the gateway's internal listener, as worker pods reach it.",
    )
    gateway_metrics: tuple[Url, ...] = Field(
        (),
        max_length=64,
        description="Metrics page of the gateways; its host may have many addresses. May be repeated.",
    )
    worker_image: str = Field(
        "ghcr.io/camfleet/worker:latest",
        min_length=1,
        max_length=512,
        description="Image of workers whose Camera and profile name none.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When the kubelet pulls the worker's image."
    )
    image_pull_secret: tuple[DnsLabel, ...] = Field(
        (), max_length=16, description="Secret with registry credentials for worker pods; may be repeated."
    )
    defaults_file: Path | None = Field(
        None, description="YAML file with the spec of a CameraProfile: the defaults of all cameras."
    )
    models_claim: DnsLabel | None = Field(
        None, description="PersistentVolumeClaim with the models' weights, mounted read-only at /models."
    )
    write_rate: Rate = Field(
        100.0, description="Writes to the API server per second in the long run; 0 does not pace."
    )
    write_burst: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        200, description="Writes that may be made at once before pacing sets in."
    )
    resync_seconds: Seconds = Field(
        300.0, description="How often everything is listed anew, in case an event was lost."
    )
    health_seconds: Seconds = Field(
        10.0, description="How often the gateways' metrics are read where no Prometheus is asked."
    )
    prometheus_url: Url | None = Field(
        None,
        description="Base URL of the Prometheus that scrapes the gateways, or of what speaks its query API; "
        "it decides about health then, and gateway-metrics serves to count the gateways.",
    )
    prometheus_bearer_token_file: Path | None = Field(
        None, description="File with a bearer token for Prometheus; read again when it changes."
    )
    prometheus_username: Annotated[str, Field(min_length=1, max_length=256, pattern="^[^:]*$")] | None = (
        Field(None, description="User for Prometheus' basic authentication.")
    )
    prometheus_password_file: Path | None = Field(
        None, description="File with that user's password; read again when it changes."
    )
    prometheus_ca_file: Path | None = Field(
        None, description="PEM file with the authorities of Prometheus' certificate; the system's, if none."
    )
    prometheus_cert_file: Path | None = Field(
        None, description="PEM file with a client certificate for Prometheus; read again when it changes."
    )
    prometheus_key_file: Path | None = Field(
        None, description="PEM file with that certificate's key, unless the certificate's file has it."
    )
    prometheus_insecure: bool = Field(False, description="Take any certificate of Prometheus.")
    prometheus_header: tuple[Header, ...] = Field(
        (),
        max_length=16,
        description="Header for Prometheus as 'Name: value', such as 'X-Scope-OrgID: main'; may be repeated.",
    )
    prometheus_timeout_seconds: Seconds = Field(5.0, description="How long an answer of Prometheus may take.")
    scrape_seconds: Seconds = Field(
        10.0,
        description="The interval at which Prometheus scrapes the gateways; figures older than 2.5 times "
        "that are not used.",
    )
    queries_file: Path | None = Field(
        None, description="YAML file with queries that replace the built-in ones: names to PromQL."
    )
    gpu_patience_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = Field(
        60.0, description="How long a camera that prefers a GPU waits for one before it takes a CPU."
    )
    dry_run: bool = Field(
        False, description="Move nothing for the sake of health; only say what would be moved."
    )
    unhealthy_readings: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="Bad readings in a row before a worker is moved."
    )
    moves_per_second: Rate = Field(1.0, description="Single cameras moved per second in the long run.")
    moves_burst: Annotated[int, Field(ge=1, le=10_000)] = Field(
        10, description="Single cameras that may be moved at once."
    )
    node_moves_per_second: Rate = Field(
        0.1, description="Nodes per second whose cameras are all moved, in the long run."
    )
    freeze_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        0.55, description="Share of a fleet or zone that must be bad at once for nothing to be moved there."
    )
    watch_nodes: bool = Field(
        True, description="Read nodes and their Leases, to move cameras off a lost node at once."
    )
    node_lease_stale_seconds: Seconds = Field(
        20.0, description="A node whose Lease is older, and all of whose workers are gone, is lost."
    )
    load_high: Share = Field(
        0.9, description="Share of a node's CPU or GPU in use from which on it is avoided and relieved."
    )
    load_low: Share = Field(
        0.7, description="Share below which such a node counts as free again; a target stays below it."
    )
    relief: bool = Field(True, description="Move cameras off nodes that stay overloaded, one at a time.")
    load_seconds: Seconds = Field(30.0, description="How often Prometheus is asked for the nodes' load.")
    rollout_first: Annotated[int, Field(ge=1, le=10_000)] = Field(
        5, description="How many cameras get a changed profile first; every wave that stays Ready doubles it."
    )
    rollout_soak_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        10.0, description="How long a camera must stay Ready with a changed profile to count as well."
    )
    lease_seconds: Seconds = Field(15.0, description="How long a Lease lasts that is not renewed.")
    probe_host: str = Field("0.0.0.0", description="Address of the probes and metrics.")
    probe_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8082, description="Port of the probes and metrics; 0 takes a free one."
    )
    log_level: LogLevel = Field("INFO", description="Least level logged.")
    log_format: LogFormat = Field("text", description="Form of the log lines.")

    @model_validator(mode="after")
    def _one_way_to_authenticate(self) -> Self:
        if self.prometheus_bearer_token_file is not None and self.prometheus_username is not None:
            raise ValueError("prometheus_bearer_token_file and prometheus_username exclude each other")
        if self.prometheus_password_file is not None and self.prometheus_username is None:
            raise ValueError("prometheus_password_file needs prometheus_username")
        if self.prometheus_key_file is not None and self.prometheus_cert_file is None:
            raise ValueError("prometheus_key_file needs prometheus_cert_file")
        return self

    @model_validator(mode="after")
    def _marks_in_order(self) -> Self:
        if self.load_low >= self.load_high:
            raise ValueError("load_low has to be less than load_high")
        return self
