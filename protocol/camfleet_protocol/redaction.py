"""Keep credentials out of whatever a person or a log can read.

Three nets: userinfo in any URL, the values of well-known parameters and headers, and the exact secrets
that a program has loaded, plain and percent-encoded. Exceptions go through it too: FFmpeg's carry the URL.
"""

from __future__ import annotations

import re
import threading
from urllib.parse import quote, quote_plus

MASK = "***"
_MIN_SECRET = 4
"""Shorter secrets are not searched for verbatim: masking every `a` would destroy the log and hide nothing."""

# Greedy up to the last @ of the word: a password with an unencoded @ or / must not leak its tail. A path with
# an @ loses its head too, which costs a little readability and no secret.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]{0,20}://)[^\s\"'<>]*@")
_PARAMETER = re.compile(
    r"(?P<name>(?:pass(?:word|wd|phrase)?|pwd|secret|token|ticket|api[_-]?key|access[_-]?key|auth|sig(?:nature)?))"
    r"(?P<sep>[\"']?\s*[=:]\s*|%3[dD])(?P<value>\"[^\"]*\"|'[^']*'|[^\s&;,\"'<>)}\]]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<kind>\b(?:Bearer|Basic|Digest))\s+[A-Za-z0-9._~+/=\-]{6,}", re.IGNORECASE)
_SUBPROTOCOL_TOKEN = re.compile(r"(base64url\.bearer\.authorization\.[a-z.\-]+\.)[A-Za-z0-9_\-=]+")


class Redactor:
    """Removes credentials from text. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: tuple[str, ...] = ()

    def add_secret(self, value: str) -> None:
        """Remember a secret that was loaded, so that it is masked wherever it turns up."""
        if len(value) < _MIN_SECRET:
            return
        forms = {value, quote(value, safe=""), quote(value), quote_plus(value)}
        forms.add(repr(value)[1:-1])
        with self._lock:
            # Longest first, so that a secret containing another one leaves no rest.
            self._secrets = tuple(sorted({*self._secrets, *forms}, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """Return `text` without credentials."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        if "://" in text:
            text = _USERINFO.sub(rf"\g<scheme>{MASK}@", text)
        text = _BEARER.sub(rf"\g<kind> {MASK}", text)
        text = _SUBPROTOCOL_TOKEN.sub(rf"\g<1>{MASK}", text)
        return _PARAMETER.sub(rf"\g<name>\g<sep>{MASK}", text)


redact = Redactor()
"""The process-wide redactor: logs, API errors, events and stats all pass it."""
