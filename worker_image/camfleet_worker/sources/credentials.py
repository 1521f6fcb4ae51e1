"""User and password of a source, from files that the process alone reads; never from a command line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from camfleet_protocol.redaction import redact
from camfleet_worker.faults import Fault, SourceError

MAX_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """User and password; has no repr, so that no log shows them."""

    username: str
    password: str

    def digest(self, salt: bytes, extra: str = "") -> str:
        """A salted digest that tells whether they, or `extra`, have changed."""
        hashed = hashlib.blake2b(key=salt, digest_size=16)
        for part in (self.username, self.password, extra):
            raw = part.encode()
            hashed.update(len(raw).to_bytes(8) + raw)
        return hashed.hexdigest()


NO_CREDENTIALS = Credentials("", "")


def read_credentials(folder: Path | None) -> Credentials:
    """Read the files `username` and `password`; one trailing line end is not part of them.

    Raises:
        SourceError: There is a folder, and the files in it cannot be read.
    """
    if folder is None:
        return NO_CREDENTIALS
    values = []
    for name in ("username", "password"):
        try:
            with (folder / name).open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
            if len(raw) > MAX_FILE_BYTES:
                raise SourceError(Fault.CREDENTIALS_MISSING, f"the credentials' file `{name}` is too long")
            values.append(raw.decode().removesuffix("\n").removesuffix("\r"))
        except OSError as error:
            raise SourceError(
                Fault.CREDENTIALS_MISSING, f"the credentials' file `{name}` cannot be read: {error.strerror}"
            ) from None
        except UnicodeDecodeError:
            raise SourceError(
                Fault.CREDENTIALS_MISSING, f"the credentials' file `{name}` is not UTF-8"
            ) from None
    return Credentials(*values)


def join_url(url: str, credentials: Credentials) -> str:
    """Put user and password into a URL, percent-encoded; the result is a secret."""
    if not credentials.username and not credentials.password:
        return url
    parts = urlsplit(url)
    userinfo = f"{quote(credentials.username, safe='')}:{quote(credentials.password, safe='')}"
    for secret in (credentials.password, userinfo):
        redact.add_secret(secret)
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{parts.netloc}"))
