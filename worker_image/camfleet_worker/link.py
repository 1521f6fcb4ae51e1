"""The socket under the worker's connection, and in words what went wrong with it."""

from __future__ import annotations

import socket

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidHandshake, InvalidStatus

from camfleet_protocol.redaction import redact

_NOTSENT_LOWAT = 64 * 1024
_USER_TIMEOUT_MS = 10_000


def tune(connection: ClientConnection) -> None:
    """Keep little unsent in the kernel, and notice a dead peer within seconds."""
    raw = connection.transport.get_extra_info("socket")
    if raw is None:
        return
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option, value in (("TCP_NOTSENT_LOWAT", _NOTSENT_LOWAT), ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS)):
        if hasattr(socket, option):
            raw.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def why(error: BaseException) -> str:
    """An exception of the connection for the log, redacted."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return "it refuses the token" if status in (401, 403) else f"it answers with HTTP status {status}"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, FileNotFoundError | PermissionError):
        return "the token file cannot be read"
    if isinstance(error, InvalidHandshake):
        return f"it does not speak WebSocket ({type(error).__name__})"
    return redact(str(error))[:200]
