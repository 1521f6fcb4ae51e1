"""Two listeners in one event loop: sockets that we bind ourselves, served by uvicorn."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from camfleet_gateway.transport import HttpConnection, Link

logger = logging.getLogger(__name__)

UNSENT_LOW_WATER_BYTES = 64 * 1024
"""What the kernel holds unsent per connection before it takes no more: bounds how old pictures get there."""
USER_TIMEOUT_MS = 60_000
"""A peer whose kernel takes nothing for so long is gone (also one that advertises a zero window)."""
PING_SECONDS = 20.0
GRACEFUL_SECONDS = 2
BACKLOG = 1024
MAX_CONNECTIONS = 10_000


class ListenError(OSError):
    """A listener cannot be opened; the text is one line for people."""


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; accepted sockets inherit the options.

    Raises:
        ListenError: The address is taken, not ours, or not an address.
    """
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ListenError(f"cannot listen on {where}: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Linux numbers where the interpreter was built without the names; elsewhere the options do not exist.
        for option, value in (
            ("TCP_NOTSENT_LOWAT", UNSENT_LOW_WATER_BYTES),
            ("TCP_USER_TIMEOUT", USER_TIMEOUT_MS),
        ):
            number = getattr(socket, option, None)
            if number is not None:
                listener.setsockopt(socket.IPPROTO_TCP, number, value)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ListenError(f"cannot listen on {where}: another program uses this port") from None
        raise ListenError(f"cannot listen on {where}: {os.strerror(error.errno or 0)}") from None
    return listener


def port_of(listener: socket.socket) -> int:
    """The port that a listener was given."""
    return int(listener.getsockname()[1])


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to its owner."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: two servers share one process."""
        yield


def server_for(app: ASGIApp, *, max_message_bytes: int) -> Server:
    """A server for one listener; `max_message_bytes` bounds a WebSocket message (close code 1009)."""
    return Server(
        uvicorn.Config(
            app,
            http=HttpConnection,
            ws=Link,
            ws_max_size=max_message_bytes,
            ws_per_message_deflate=False,
            # Pings queue behind pictures, so a late answer says nothing about a slow viewer: no timeout.
            # They keep proxies from closing idle connections, and give TCP something to fail on.
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=None,
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
            limit_concurrency=MAX_CONNECTIONS,
        )
    )


def quiet_library_logs() -> None:
    """Keep uvicorn from logging what concerns nobody, among it WebSocket URLs with their query."""
    for name in ("uvicorn.error", "websockets.server"):
        logging.getLogger(name).setLevel(logging.WARNING)
