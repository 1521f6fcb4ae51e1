"""Text that proves who wrote it: base64url(body) "." base64url(HMAC-SHA-256 of the body), without padding."""

from __future__ import annotations

import base64
import hmac


def sign(key: bytes, body: bytes) -> str:
    """The signed text of a body."""
    return f"{encode_base64url(body)}.{encode_base64url(hmac.digest(key, body, 'sha256'))}"


def verify(key: bytes, text: str) -> bytes | None:
    """The body of a signed text, or None if this key did not sign it. Total: any text is an answer."""
    body_text, _, mac_text = text.partition(".")
    try:
        body, mac = decode_base64url(body_text), decode_base64url(mac_text)
    except ValueError:
        return None
    return body if hmac.compare_digest(mac, hmac.digest(key, body, "sha256")) else None


def encode_base64url(data: bytes) -> str:
    """Base64url without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """The bytes of a base64url text without padding.

    Raises:
        ValueError: It is none.
    """
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
