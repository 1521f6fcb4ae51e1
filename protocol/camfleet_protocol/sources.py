"""Where a camera's pictures come from: `spec.source`, exactly one kind of five.

The kind may change: another source is another attempt, so the old worker ends before the new one starts and
the gateway lets only the new one publish. Forbidding it would only force users to delete the Camera, and to
lose its history, for what is a cable plugged elsewhere.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, model_validator

from camfleet_protocol.fields import (
    HTTP_URL,
    RTSP_URL,
    WHOLE,
    DevicePath,
    DnsSubdomain,
    FilePath,
    Flag,
    HttpUrl,
    ResourceName,
    RtspUrl,
    Rule,
    Spec,
    rules,
)


class SecretRef(Spec):
    """A Secret of the camera's namespace with the keys `username` and `password`."""

    name: DnsSubdomain
    """Name of the Secret. Its keys `username` and `password` are mounted as files into the worker's pod; they
    never appear in the Camera, in the pod's environment or in a log."""


class RtspSource(Spec):
    """A camera that speaks RTSP."""

    model_config = ConfigDict(
        json_schema_extra=rules(*RTSP_URL.rules("url"), *RTSP_URL.rules("detectUrl", optional=True))
    )

    url: RtspUrl
    """Address of the stream, rtsp:// or rtsps://, such as rtsp://192.0.2.10:554/stream1, without user and
    password: those belong into the Secret of credentialsSecretRef. Whoever may read the Camera sees it."""
    detect_url: RtspUrl | None = None
    """Address of a second, smaller stream of the same camera, used for inference; the same user and password
    apply. Unset: inference uses the pictures of url."""
    transport: Literal["tcp", "udp"] | None = None
    """How the pictures travel: tcp loses nothing and passes firewalls, udp is for cameras that know no other
    way. Unset: tcp."""
    credentials_secret_ref: SecretRef | None = None
    """Secret with the camera's user and password. Unset: the camera asks for none."""


class HttpSource(Spec):
    """A camera that serves MJPEG or JPEG snapshots over HTTP."""

    model_config = ConfigDict(json_schema_extra=rules(*HTTP_URL.rules("url")))

    url: HttpUrl
    """Address of the pictures, http:// or https://, without user and password: those belong into the Secret
    of credentialsSecretRef. Whoever may read the Camera sees it."""
    credentials_secret_ref: SecretRef | None = None
    """Secret with the camera's user and password. Unset: the camera asks for none."""


_RELATIVE = "with claimName the path starts at the root of the claim, so it has no '/' in front"


class FileSource(Spec):
    """A video file; played at its own pace."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("!has(self.claimName) || !self.path.startsWith('/')", _RELATIVE, "path"),
        )
    )

    path: FilePath
    """The file, such as clips/lobby.mp4. With claimName it is relative to the root of that claim; without, it
    is a path in the worker's image in a cluster, or relative to the cameras' folder on one box."""
    claim_name: DnsSubdomain | None = None
    """PersistentVolumeClaim of the camera's namespace that holds the file; mounted read-only. Unset: the file
    is in the worker's image. No effect on one box."""
    loop: Flag | None = None
    """Whether the file starts again at its end. Unset: true."""

    @model_validator(mode="after")
    def _relative_in_a_claim(self) -> FileSource:
        if self.claim_name is not None and self.path.startswith("/"):
            raise ValueError(_RELATIVE)
        return self


class DeviceSource(Spec):
    """A camera attached to the machine, such as /dev/video0."""

    path: DevicePath
    """The device, such as /dev/video0."""
    resource_name: ResourceName | None = None
    """Extended resource of a device plugin that gives the worker's pod the device, such as
    example.com/video. A cluster needs it, for the pods may not use the node's /dev; no effect on one box."""


class TestPatternSource(Spec):
    """A synthetic picture with its frame number and clock burnt in."""

    __test__ = False  # not a pytest class, whatever its name

    width: Annotated[int, Field(ge=64, le=3840, multiple_of=2, strict=True), WHOLE] | None = None
    """Width in pixels, an even number. Unset: 1280."""
    height: Annotated[int, Field(ge=64, le=2160, multiple_of=2, strict=True), WHOLE] | None = None
    """Height in pixels, an even number. Unset: 720."""
    fps: Annotated[float, Field(ge=0.1, le=60, strict=True, allow_inf_nan=False)] | None = None
    """Pictures per second. Unset: 15."""


class SourceType(StrEnum):
    """The kinds of source, named as in the spec."""

    RTSP = "rtsp"
    HTTP = "http"
    FILE = "file"
    DEVICE = "device"
    TEST_PATTERN = "testPattern"


_EXACTLY_ONE = f"exactly one of {', '.join(SourceType)} must be given"
_GIVEN = ", ".join(f"has(self.{kind})" for kind in SourceType)


class Source(Spec):
    """Where pictures come from: exactly one of its fields."""

    model_config = ConfigDict(
        json_schema_extra=rules(Rule(f"[{_GIVEN}].filter(given, given).size() == 1", _EXACTLY_ONE))
    )

    rtsp: RtspSource | None = None
    """A network camera that speaks RTSP."""
    http: HttpSource | None = None
    """A network camera that serves MJPEG or JPEG snapshots over HTTP."""
    file: FileSource | None = None
    """A video file, played at its own pace."""
    device: DeviceSource | None = None
    """A camera attached to the node, such as a USB camera."""
    test_pattern: TestPatternSource | None = None
    """A synthetic picture with its frame number and clock burnt in: needs no camera, and shows latency."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{_EXACTLY_ONE}, not {len(given)}")
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

    @property
    def credential_targets(self) -> frozenset[str]:
        """Where its user and password are sent to, as `scheme://host:port`, the port always given.

        Another port of a host may be another machine behind one address, and another scheme may send in the
        clear what the first one protects: who vouches for one of these vouches for no other.
        """
        urls: tuple[str | None, ...] = ()
        if self.rtsp is not None:
            urls = (self.rtsp.url, self.rtsp.detect_url)
        elif self.http is not None:
            urls = (self.http.url,)
        return frozenset(_target(url) for url in urls if url)

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


_DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


def _target(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
