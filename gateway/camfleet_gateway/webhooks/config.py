"""The webhooks file: whom to call, for what, and with which secret. Read again when it changes.

Nothing of a URL but its host is ever logged or shown: in many systems the path is the secret.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from camfleet_gateway.settings import has_secret
from camfleet_protocol.camera import DnsLabel, problem_lines
from camfleet_protocol.messages import EventRecord
from camfleet_protocol.redaction import redact

logger = logging.getLogger(__name__)

MAX_WEBHOOKS = 32
"""Each has a metric of its own."""
MIN_SECRET_BYTES = 16
_MAX_FILE_BYTES = 256 * 1024
_MAX_SECRET_BYTES = 4096
_MAX_HEADERS = 32
_OURS = ("camfleet-", "content-", "host", "transfer-encoding", "connection", "user-agent")

_Glob = Annotated[str, Field(min_length=1, max_length=127, pattern=r"^[A-Za-z0-9*?._\[\]!-]+$")]
_Globs = Annotated[tuple[_Glob, ...], Field(min_length=1, max_length=64)]


class WebhooksFileError(ValueError):
    """The webhooks file, or a file that it names, cannot be used; the text quotes no value of it."""


class WebhookEntry(BaseModel):
    """One webhook of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: DnsLabel
    url: Annotated[str, Field(max_length=2048)]
    secret_file: Path | None = None
    secret_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=127)] | None = None
    headers_file: Path | None = None
    events: _Globs = ("alert", "alert.ended")
    cameras: _Globs = ("*",)
    severities: Annotated[tuple[Literal["info", "warning", "critical"], ...], Field(min_length=1)] | None = (
        None
    )
    updates: bool = True

    @field_validator("url")
    @classmethod
    def _callable(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValueError("this is no URL") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("must be an http:// or https:// URL")
        if parts.username is not None or "@" in parts.netloc or has_secret(url):
            raise ValueError("must hold no user, password or token: use headers_file")
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("has characters that must be percent-encoded")
        return url

    @model_validator(mode="after")
    def _one_secret(self) -> WebhookEntry:
        if self.secret_file is not None and self.secret_env is not None:
            raise ValueError("secret_file and secret_env exclude each other")
        return self


class WebhooksFile(BaseModel):
    """The file: `webhooks: [{name, url, secret_file, …}]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    webhooks: Annotated[tuple[WebhookEntry, ...], Field(max_length=MAX_WEBHOOKS)] = ()

    @field_validator("webhooks")
    @classmethod
    def _unique(cls, webhooks: tuple[WebhookEntry, ...]) -> tuple[WebhookEntry, ...]:
        if len({webhook.name for webhook in webhooks}) < len(webhooks):
            raise ValueError("a name is given twice")
        return webhooks


@dataclass(frozen=True, slots=True)
class Webhook:
    """Whom to call, with everything that it takes."""

    name: str
    url: str = field(repr=False)
    host: str
    """The one part of the URL that may be shown."""
    secret: bytes = field(repr=False)
    """Empty: messages are not signed."""
    headers: Mapping[str, str] = field(repr=False)
    events: tuple[str, ...]
    cameras: tuple[str, ...]
    severities: frozenset[str] | None
    updates: bool

    def wants(self, event: EventRecord, *, first: bool) -> bool:
        """Whether it is to hear of an event."""
        return (
            (first or self.updates)
            and any(fnmatchcase(event.type, pattern) for pattern in self.events)
            and any(fnmatchcase(event.camera, pattern) for pattern in self.cameras)
            and (self.severities is None or event.severity in self.severities)
        )


class Webhooks:
    """The webhooks as the file has them now."""

    def __init__(self, path: Path | None) -> None:
        """Read the file.

        Raises:
            WebhooksFileError: It cannot be used.
        """
        self._path = path
        self.current: dict[str, Webhook] = {}
        self._watched: tuple[Path, ...] = ()
        self._stamps: tuple[object, ...] = ()
        self._problem = ""
        """Why the last attempt to read it has failed."""
        if path is not None:
            self.current, self._watched = read_webhooks(path)
            self._stamps = _stamps(self._watched)

    @property
    def configured(self) -> bool:
        """Whether there is a file."""
        return self._path is not None

    def refresh(self) -> bool:
        """Read again if a file has changed; one gone bad changes nothing. Tells whether it was read.

        After a failure every call is another attempt: what is missing may be no file that was watched before.
        """
        if self._path is None or (not self._problem and _stamps(self._watched) == self._stamps):
            return False
        try:
            self.current, self._watched = read_webhooks(self._path)
        except WebhooksFileError as error:
            if str(error) != self._problem:
                logger.error("the webhooks stay as they were: %s", error)
            self._problem = str(error)
            return False
        self._problem = ""
        self._stamps = _stamps(self._watched)
        logger.info("webhooks file read again: %d webhooks", len(self.current))
        return True


def read_webhooks(path: Path) -> tuple[dict[str, Webhook], tuple[Path, ...]]:
    """Read a webhooks file and what it names; relative paths are from its folder.

    Returns:
        The webhooks by name, and all files that were read.

    Raises:
        WebhooksFileError: Something cannot be read or is not as it must be.
    """
    content = _content(path, _MAX_FILE_BYTES)
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise WebhooksFileError(f"{path}: this is not YAML") from None
    try:
        entries = WebhooksFile.model_validate(document or {}).webhooks
    except ValidationError as error:
        raise WebhooksFileError(f"{path}: " + "; ".join(problem_lines(error))) from None
    files = [path]
    webhooks = {}
    for entry in entries:
        webhooks[entry.name] = _webhook(path.parent, entry, files)
    return webhooks, tuple(files)


def _webhook(folder: Path, entry: WebhookEntry, files: list[Path]) -> Webhook:
    secret = b""
    if entry.secret_file is not None:
        files.append(folder / entry.secret_file)
        secret = _content(files[-1], _MAX_SECRET_BYTES).strip()
    elif entry.secret_env is not None:
        secret = os.environ.get(entry.secret_env, "").encode(errors="surrogateescape").strip()
        if not secret:
            raise WebhooksFileError(f"webhook {entry.name}: {entry.secret_env} is not in the environment")
    signed = entry.secret_file is not None or entry.secret_env is not None
    if signed and len(secret) < MIN_SECRET_BYTES:
        raise WebhooksFileError(
            f"webhook {entry.name}: the secret must have at least {MIN_SECRET_BYTES} characters"
        )
    if secret:
        redact.add_secret(secret.decode(errors="surrogateescape"))
    headers: dict[str, str] = {}
    if entry.headers_file is not None:
        files.append(folder / entry.headers_file)
        headers = _headers(entry.name, _content(files[-1], _MAX_SECRET_BYTES))
    return Webhook(
        name=entry.name,
        url=entry.url,
        host=urlsplit(entry.url).hostname or "",
        secret=secret,
        headers=headers,
        events=entry.events,
        cameras=entry.cameras,
        severities=frozenset(entry.severities) if entry.severities is not None else None,
        updates=entry.updates,
    )


def _headers(name: str, content: bytes) -> dict[str, str]:
    """Lines `Name: value`."""
    found: dict[str, str] = {}
    problem = WebhooksFileError(f"webhook {name}: headers_file must hold lines such as Authorization: …")
    for line in content.decode("latin-1").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        good = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
        if not colon or not good or not value.isascii() or not value.isprintable():
            raise problem
        if key.lower().startswith(_OURS):
            raise WebhooksFileError(f"webhook {name}: the header {key} is not for headers_file")
        redact.add_secret(value)
        redact.add_secret(value.rpartition(" ")[2])
        found[key] = value
    if len(found) > _MAX_HEADERS:
        raise WebhooksFileError(f"webhook {name}: at most {_MAX_HEADERS} headers")
    return found


def _content(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise WebhooksFileError(f"{path}: {error.strerror}") from None
    if len(content) > limit:
        raise WebhooksFileError(f"{path}: larger than {limit} bytes")
    return content


def _stamps(paths: tuple[Path, ...]) -> tuple[object, ...]:
    stamps: list[object] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(stamps)
