"""uvicorn's two connection classes, with what a hub of pictures needs and ASGI does not offer.

`Link` is the WebSocket. An endpoint takes it from the scope, accepts, and `attach`es a handler; from then on
messages reach the handler in the very callback that read them, and pictures are written without a task
switch, as one buffer shared by all receivers. The write buffer's high-water mark is zero: `writable` is
false exactly while something of ours still waits for the kernel.

`HttpConnection` ends connections that do not finish their request's head in time.
"""

from __future__ import annotations

import asyncio
import struct
from asyncio.transports import BaseTransport
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

LINK_EXTENSION = "camfleet.link"
ABORT_EXTENSION = "camfleet.abort"
"""In the scope of an HTTP request: drops its connection, whatever waits in it."""
LINGER_SECONDS = 3.0
"""How long a refused peer may take to read our close frame before it is cut off."""
HEAD_TIMEOUT_SECONDS = 10.0
_MAX_FRAGMENTS = 1024
_MAX_UNREAD_BYTES = 1024 * 1024

_TEXT, _BINARY = 0x81, 0x82


def _prefix(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def binary_prefix(payload: bytes) -> bytes:
    """What a server writes before the payload of a binary WebSocket message; large ones need no copy then."""
    return _prefix(_BINARY, len(payload))


def binary_message(payload: bytes) -> bytes:
    """A whole binary WebSocket message as a server writes it, to be shared by all receivers."""
    return binary_prefix(payload) + payload


def text_message(text: str | bytes) -> bytes:
    """A whole text WebSocket message as a server writes it."""
    payload = text.encode() if isinstance(text, str) else text
    return _prefix(_TEXT, len(payload)) + payload


class LinkHandler(Protocol):
    """Who takes what arrives on a link. Called on the event loop; must not block."""

    def on_text(self, text: str) -> None:
        """A text message has arrived."""

    def on_binary(self, data: bytes) -> None:
        """A binary message has arrived."""

    def on_writable(self) -> None:
        """All that was written has gone to the kernel."""


class Link(WebSocketsSansIOProtocol):
    """One WebSocket connection, server side."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.close_timeout = LINGER_SECONDS
        self.paused = False
        self.bytes_sent = 0
        self.close_code: int | None = None
        self._handler: LinkHandler | None = None
        self._failed = False
        self._gone: asyncio.Future[None] = self.loop.create_future()

    # ── For endpoints ──────────────────────────────────────────────────────────────────────────────

    def attach(self, handler: LinkHandler) -> None:
        """Hand all further messages to `handler`; call it right after accepting, without awaiting between."""
        self._handler = handler

    @property
    def alive(self) -> bool:
        """Whether messages can still be sent."""
        return not self.close_sent and not self._gone.done()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait in this process."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def write(self, message: bytes) -> None:
        """Write what `binary_message` or `text_message` made; nothing happens on a closed link."""
        if self.close_sent or self._gone.done():
            return
        self.bytes_sent += len(message)
        self.transport.write(message)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame; a peer that does not read it is cut off after a few seconds."""
        if self.close_sent or self._gone.done():
            return
        self.conn.send_close(code, reason.encode()[:120].decode(errors="ignore"))
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._cut_off_later()
        self._finish(code)

    def abort(self) -> None:
        """Drop the connection and what waits in it."""
        if self.transport is not None:
            self.transport.abort()
        self._finish(1006)

    async def wait_closed(self) -> int:
        """Wait until either side has closed; returns the close code."""
        await asyncio.shield(self._gone)
        return self.close_code or 1006

    # ── Called by the transport and by uvicorn ─────────────────────────────────────────────────────

    def connection_made(self, transport: BaseTransport) -> None:
        """Set the write buffer's mark to zero."""
        super().connection_made(transport)
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the endpoint."""
        super().connection_lost(exc)
        self._finish(1006)

    def pause_writing(self) -> None:
        """The kernel did not take all of the last write."""
        super().pause_writing()
        self.paused = True

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        super().resume_writing()
        self.paused = False
        if self._handler is not None and self.alive:
            self._handler.on_writable()

    def shutdown(self) -> None:
        """The server stops."""
        super().shutdown()
        self._finish(1012)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those after a failure are read and thrown away, so that the peer can read why."""
        if not self._failed:
            super().data_received(data)

    def handle_connect(self, event: Request) -> None:
        """Put the link into the scope."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][LINK_EXTENSION] = self

    def handle_cont(self, event: Frame) -> None:
        """Bound the number of fragments: empty ones would cost memory without counting as size."""
        if len(self.frames) >= _MAX_FRAGMENTS:
            self.close(1009, "too many fragments")
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, unless the peer sends pings and reads nothing."""
        if self.unsent_bytes > _MAX_UNREAD_BYTES:
            self.abort()
            return
        super().handle_ping()

    def handle_close(self, event: Frame) -> None:
        """The peer has closed, or answers our close."""
        super().handle_close(event)
        received = self.conn.close_rcvd
        self._finish(received.code if received is not None else 1005)

    def send_receive_event_to_app(self) -> None:
        """Hand a whole message to the handler, or to the ASGI queue before there is one."""
        handler = self._handler
        if handler is None:
            super().send_receive_event_to_app()
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type != "text":
            handler.on_binary(data)
            return
        try:
            text = str(data, "utf-8")
        except UnicodeDecodeError:
            self.close(1007, "text is not UTF-8")
            return
        handler.on_text(text)

    def handle_parser_exception(self) -> None:
        """Send why, and keep reading for a while: closing with unread bytes would reset the connection."""
        if self._failed:
            return
        self._failed = True
        sent = self.conn.close_sent
        code = sent.code if sent is not None else 1006
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})
        self.stop_keepalive()
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._cut_off_later()
        self._finish(code)

    def _cut_off_later(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def _finish(self, code: int) -> None:
        if not self._gone.done():
            self.close_code = code
            self._gone.set_result(None)


class HttpConnection(HttpToolsProtocol):
    """One HTTP connection: a request's head must be complete within `HEAD_TIMEOUT_SECONDS`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer; let a writer know as soon as the kernel did not take everything."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins, maybe a further one on a kept connection."""
        super().on_message_begin()
        extensions: dict[str, Any] = {ABORT_EXTENSION: self.transport.abort}
        self.scope["extensions"] = extensions
        if self._head_timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._stop_timer()
        super().on_headers_complete()

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.transport is not None:
            self.transport.abort()
