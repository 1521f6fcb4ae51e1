"""Who somebody is: bearer tokens from a file of hashes, and short tickets for picture URLs.

Tokens are 32 random bytes, so a plain SHA-256 keeps them; the file is read again whenever it changes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from camfleet_gateway.clock import Clock
from camfleet_protocol.camera import problem_lines
from camfleet_protocol.signing import decode_base64url, sign, verify

logger = logging.getLogger(__name__)

SUBPROTOCOL_PREFIX = "base64url.bearer.authorization.camfleet.io."
TICKET_SECONDS = 60
_MAX_TOKEN_CHARACTERS = 512
_ISSUER_DIGITS = 16
_MAX_FILE_BYTES = 1024 * 1024

Action = Literal["feed", "snapshot", "pictures"]
"""Of a camera the feed or a snapshot; or all stored pictures, of events and people (`ALL_PICTURES`)."""
ALL_PICTURES = "*"
"""Stands in a ticket for stored pictures where otherwise the camera stands."""


class Role(IntEnum):
    """What a viewer may do; each role may do what those below it may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def label(self) -> str:
        """The role as it is written in files and messages."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was recognised. `digest` is the hash of the token, empty without authentication."""

    name: str
    role: Role
    digest: str = ""


class TokenEntry(BaseModel):
    """One token of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    role: Literal["viewer", "operator", "admin", "worker"]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]


class TokensFile(BaseModel):
    """The file: `tokens: [{name, role, sha256}]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    tokens: Annotated[tuple[TokenEntry, ...], Field(max_length=10_000)] = ()


class TokensFileError(ValueError):
    """The tokens file cannot be used; the text names no value of it."""


def read_tokens(path: Path) -> dict[str, TokenEntry]:
    """Read a tokens file, by hash.

    Raises:
        TokensFileError: It cannot be read or is not such a file.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise TokensFileError(f"{path}: larger than {_MAX_FILE_BYTES} bytes")
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise TokensFileError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise TokensFileError(f"{path}: this is not YAML") from None
    try:
        entries = TokensFile.model_validate(document).tokens
    except ValidationError as error:
        raise TokensFileError(f"{path}: " + "; ".join(problem_lines(error))) from None
    return {entry.sha256.lower(): entry for entry in entries}


class Authenticator:
    """Turns tokens into principals."""

    def __init__(self, tokens_file: Path | None) -> None:
        """Read the file.

        Raises:
            TokensFileError: It cannot be used.
        """
        self._path = tokens_file
        self._tokens: dict[str, TokenEntry] = {}
        self._stamp: tuple[int, int, int] | None = None
        if tokens_file is not None:
            self._tokens = read_tokens(tokens_file)
            self._stamp = self._look()

    @property
    def enabled(self) -> bool:
        """Whether viewers need a token."""
        return self._path is not None

    def refresh(self) -> bool:
        """Read the file again if it has changed; a file gone bad lets nobody in. Tells whether it changed."""
        if self._path is None or (stamp := self._look()) == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._tokens = read_tokens(self._path)
        except TokensFileError as error:
            self._tokens = {}
            logger.error("no token is accepted until the tokens file is good again: %s", error)
        else:
            logger.info("tokens file read again: %d tokens", len(self._tokens))
        return True

    def viewer(self, token: str | None) -> Principal | None:
        """The principal that a viewer's token stands for; without authentication everybody is admin."""
        if self._path is None:
            return Principal("anonymous", Role.ADMIN)
        entry, digest = self._find(token)
        if entry is None or entry.role == "worker":
            return None
        return Principal(entry.name, Role[entry.role.upper()], digest)

    def worker(self, token: str | None) -> str | None:
        """The name of a static token of role `worker`, or None."""
        entry, _ = self._find(token)
        return entry.name if entry is not None and entry.role == "worker" else None

    def issuer(self, digits: str) -> Principal | None:
        """The principal whose token's digest begins with `digits`, as tickets carry them."""
        if self._path is None:
            return Principal("anonymous", Role.ADMIN)
        self.refresh()
        for digest, entry in self._tokens.items():
            if digits and digest.startswith(digits) and entry.role != "worker":
                return Principal(entry.name, Role[entry.role.upper()], digest)
        return None

    def still_valid(self, principal: Principal) -> bool:
        """Whether a principal's token is in the file with the same role still."""
        if self._path is None or not principal.digest:
            return True
        entry = self._tokens.get(principal.digest)
        return entry is not None and entry.role == principal.role.label

    def _find(self, token: str | None) -> tuple[TokenEntry | None, str]:
        if not token or len(token) > _MAX_TOKEN_CHARACTERS:
            return None, ""
        self.refresh()
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
        return self._tokens.get(digest), digest

    def _look(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def bearer_token(authorization: str | None) -> str | None:
    """The token of an `Authorization: Bearer` header."""
    if authorization is None:
        return None
    scheme, _, token = authorization.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def subprotocol_token(subprotocols: Iterable[str]) -> str | None:
    """The token that a browser has put among the WebSocket subprotocols."""
    for name in subprotocols:
        if name.startswith(SUBPROTOCOL_PREFIX):
            encoded = name.removeprefix(SUBPROTOCOL_PREFIX)[: _MAX_TOKEN_CHARACTERS * 2]
            try:
                return decode_base64url(encoded).decode()
            except ValueError:
                return None
    return None


class Tickets:
    """Signed permissions for one picture URL, for `<img>`, which cannot send a header.

    Stateless: camera, action and expiry under an HMAC whose key lives as long as this process.
    """

    def __init__(self, clock: Clock, key: bytes | None = None) -> None:
        self._clock = clock
        self._key = key or os.urandom(32)

    def issue(self, camera: str, action: Action, issuer: str = "") -> str:
        """A ticket for one camera and action; it ends after `TICKET_SECONDS`, or with the issuer's token."""
        claims = {
            "camera": camera,
            "action": action,
            "exp": int(self._clock.wall()) + TICKET_SECONDS,
            "by": issuer[:_ISSUER_DIGITS],
        }
        body = json.dumps(claims, separators=(",", ":")).encode()
        return sign(self._key, body)

    def issuer(self, ticket: str, camera: str, action: Action) -> str | None:
        """Who issued a ticket that permits this action on this camera now.

        Returns:
            The first digits of the digest of the issuer's token, empty without authentication; None if the
            ticket permits nothing.
        """
        if len(ticket) > _MAX_TOKEN_CHARACTERS:
            return None
        body = verify(self._key, ticket)
        if body is None:
            return None
        claims = json.loads(body)
        good = (
            claims["camera"] == camera and claims["action"] == action and claims["exp"] >= self._clock.wall()
        )
        return str(claims["by"]) if good else None
