"""What every request passes first: host, origin, size, headers against framing and sniffing.

Pure ASGI, so that it costs nothing per message of a stream.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from camfleet_gateway.settings import is_loopback

MAX_BODY_BYTES = 256 * 1024
MAX_PICTURE_BYTES = 20 * 1024 * 1024
"""Of a picture that somebody is enrolled from or looked for with."""
MAX_ARCHIVE_BYTES = 256 * 1024 * 1024
"""Of an archive of people; it goes to the disk."""
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; connect-src 'self' ws: wss:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'"
)
_CORP = "same-origin"
"""Cross-Origin-Resource-Policy: no other site can put a picture of ours into its page."""
_SAFE = ("GET", "HEAD", "OPTIONS")


def body_limit(method: str, path: str) -> int:
    """How many bytes a request may bring."""
    if method != "POST":
        return MAX_BODY_BYTES
    if path == "/api/people/import":
        return MAX_ARCHIVE_BYTES
    if path == "/api/faces/search" or (path.startswith("/api/people/") and path.endswith("/faces")):
        return MAX_PICTURE_BYTES
    return MAX_BODY_BYTES


def host_name(host: str) -> str:
    """The name in a Host header, without port; empty if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


class Guard:
    """Refuses requests by host, origin and size before anything else sees them."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        loopback_only: bool,
        allowed_hosts: Iterable[str] = (),
        allowed_origins: Iterable[str] = (),
        refused: Counter[str],
    ) -> None:
        self._app = app
        self._loopback_only = loopback_only
        self._hosts = {host_name(host) or host.lower() for host in allowed_hosts}
        self._origins = {origin.rstrip("/").lower() for origin in allowed_origins}
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = self._problem(scope, headers)
        if problem is not None:
            self._refused[problem[0]] += 1
            await _refuse(scope, send, 403, *problem)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        limit = body_limit(scope["method"], scope["path"])
        if (length := headers.get("content-length", "0")).isdigit() and int(length) > limit:
            await _refuse(scope, send, 413, "too_large", f"at most {limit} bytes")
            return
        await self._app(scope, _bounded(receive, limit), _with_headers(scope, send))

    def _problem(self, scope: Scope, headers: Headers) -> tuple[str, str] | None:
        hosts = headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else ""
        name = host_name(host)
        if name not in self._hosts:
            if self._loopback_only and not is_loopback(name):
                return "host", "this gateway has no authentication and answers to local names only"
            if self._hosts and not is_loopback(name):
                return "host", "this gateway does not answer to that name"
        if scope["type"] == "websocket" or scope["method"] not in _SAFE:
            origin = headers.get("origin")
            if origin is not None and not self._origin_allowed(origin, host):
                return "origin", "requests from that web origin are not allowed"
        return None

    def _origin_allowed(self, origin: str, host: str) -> bool:
        origin = origin.rstrip("/").lower()
        if origin in self._origins:
            return True
        scheme, _, netloc = origin.partition("://")
        return scheme in ("http", "https") and bool(netloc) and netloc == host.lower()


async def _refuse(scope: Scope, send: Send, status: int, code: str, message: str) -> None:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cross-origin-resource-policy", _CORP.encode()),
    ]
    await send({"type": f"{kind}.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": f"{kind}.body", "body": body})


def _bounded(receive: Receive, limit: int) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > limit:
                # No length was announced: the request is cut short, as if its sender had gone.
                return {"type": "http.disconnect"}
        return message

    return bounded


def _with_headers(scope: Scope, send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            headers.setdefault("Cross-Origin-Resource-Policy", _CORP)
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Referrer-Policy", "no-referrer")
            static = scope["path"].startswith("/static/")
            headers.setdefault("Cache-Control", "no-cache" if static else "no-store")
        await send(message)

    return with_headers
