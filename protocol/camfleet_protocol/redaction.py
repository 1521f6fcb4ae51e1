"""Keep credentials out of whatever a person or a log can read.

Three nets: userinfo in any URL, the values of well-known parameters and headers, and the exact secrets
that a program has loaded, plain and percent-encoded. Exceptions go through it too: FFmpeg's carry the URL.
"""

from __future__ import annotations

import json
import re
import threading
from urllib.parse import quote, quote_plus

MASK = "***"
_MIN_SECRET = 4
"""Shorter secrets are not searched for verbatim: masking every `a` would destroy the log and hide nothing."""

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]{0,20}://)(?P<rest>[^\s\"'<>]*)")
_SECRET_NAME = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|ticket|api[_-]?key|access[_-]?key|auth|sig(?:nature)?)"
)
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s&;,\"'<>)}\]]+)"
_EQUALS = re.compile(rf"(?P<name>{_SECRET_NAME}(?:[\"']?\s*=\s*|%3d)){_VALUE}", re.IGNORECASE)
# After a colon it must be a word of its own: `/etc/passwd: …` and `gateway.auth: …` are no secrets.
_COLON = re.compile(
    rf"(?P<name>(?<![\w./-])[\w-]{{0,32}}?{_SECRET_NAME}[\"']?\s*:\s*){_VALUE}", re.IGNORECASE
)
_BEARER = re.compile(r"(?P<kind>\b(?:Bearer|Basic|Digest))\s+[A-Za-z0-9._~+/=\-]{6,}", re.IGNORECASE)
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_SUBPROTOCOL_TOKEN = re.compile(r"(base64url\.bearer\.authorization\.[a-z.\-]+\.)[A-Za-z0-9_\-=]+")


def _without_userinfo(url: re.Match[str]) -> str:
    # Up to the last @ of the word: a password with an unencoded @ or / must not leak its tail. A path with an
    # @ loses its head too, which costs a little readability and no secret. In code, not in the pattern, so
    # that a hostile text costs linear time.
    _, at, tail = url["rest"].rpartition("@")
    return f"{url['scheme']}{MASK}@{tail}" if at else url[0]


class Redactor:
    """Removes credentials from text. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: tuple[str, ...] = ()

    def add_secret(self, value: str) -> None:
        """Remember a secret that was loaded, so that it is masked wherever it turns up."""
        if len(value) < _MIN_SECRET:
            return
        how = {"errors": "surrogatepass"}  # a password file need not be UTF-8
        encoded = {quote(value, safe="", **how), quote(value, **how), quote_plus(value, **how)}
        encoded |= {_ESCAPE.sub(lambda escape: escape[0].lower(), form) for form in encoded}
        written = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
        forms = {value} | encoded | written
        with self._lock:
            # Longest first, so that a secret containing another one leaves no rest.
            self._secrets = tuple(sorted({*self._secrets, *forms}, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """Return `text` without credentials."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        if "://" in text:
            text = _URL.sub(_without_userinfo, text)
        text = _BEARER.sub(rf"\g<kind> {MASK}", text)
        text = _SUBPROTOCOL_TOKEN.sub(rf"\g<1>{MASK}", text)
        text = _EQUALS.sub(rf"\g<name>{MASK}", text)
        return _COLON.sub(rf"\g<name>{MASK}", text)


redact = Redactor()
"""The process-wide redactor: logs, API errors, events and stats all pass it."""
