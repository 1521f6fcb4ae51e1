"""Sign a browser in without its address, its arguments or a second program ever holding the token.

The page keeps its token in the tab's session storage, which only a document of the same origin can set. So
one port of the loopback serves both: a page with a random name, once, that stores the token and goes on to
the camera; and everything else, passed to the gateway byte by byte. The random name is in a file that only
its owner can read and that the browser is told to open, for arguments of processes are visible to everybody.
"""

from __future__ import annotations

import html
import json
import secrets
import socket
import socketserver
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

_TOKEN_KEY = "camfleet.token"
_MAX_HEAD = 64 * 1024
_CHUNK = 64 * 1024
_CONNECT_SECONDS = 10.0


class SignIn:
    """Serves while it is entered.

    Args:
        upstream: Host and port of the gateway.
        camera: `NAMESPACE.NAME` to show.
        token: The viewer's token.
    """

    def __init__(self, upstream: tuple[str, int], camera: str, token: str) -> None:
        self._upstream = upstream
        self._camera = camera
        self._token = token
        self._name = f"/.signin/{secrets.token_urlsafe(24)}"
        self._lock = threading.Lock()
        self._used = False
        self._server: _Server | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), self)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="sign-in", daemon=True).start()
        self._folder = tempfile.TemporaryDirectory(prefix="camfleet-watch-")  # mode 0700
        self.file.touch(mode=0o600)
        target = html.escape(f"http://127.0.0.1:{self.port}{self._name}")
        self.file.write_text(
            f'<!doctype html><title>Camfleet</title><meta http-equiv="refresh" content="0;url={target}">\n'
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None and self._folder is not None
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()

    @property
    def port(self) -> int:
        """Port of the loopback."""
        assert self._server is not None
        return int(self._server.server_address[1])

    @property
    def file(self) -> Path:
        """The file to open."""
        assert self._folder is not None
        return Path(self._folder.name) / "watch.html"

    @property
    def url(self) -> str:
        """The page of the camera, for somebody who signs in himself."""
        return camera_url(f"http://127.0.0.1:{self.port}", self._camera)

    def serve(self, client: socket.socket) -> None:
        """Serve one connection of a browser."""
        head = _head(client)
        words = head.split(b" ", 2)
        if len(words) == 3 and words[0] == b"GET" and secrets.compare_digest(words[1], self._name.encode()):
            client.sendall(self._answer())
            return
        if not head:
            return
        try:
            gateway = socket.create_connection(self._upstream, timeout=_CONNECT_SECONDS)
        except OSError:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        with gateway:
            gateway.settimeout(None)
            client.settimeout(None)
            gateway.sendall(head)
            back = threading.Thread(target=_pass_on, args=(gateway, client), daemon=True)
            back.start()
            _pass_on(client, gateway)
            back.join()

    def _answer(self) -> bytes:
        with self._lock:
            first, self._used = not self._used, True
        if not first:
            return b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        nonce = secrets.token_urlsafe(12)
        script = (
            f"sessionStorage.setItem({_literal(_TOKEN_KEY)}, {_literal(self._token)});"
            f"location.replace({_literal('/' + _fragment(self._camera))});"
        )
        body = f'<!doctype html><title>Camfleet</title><script nonce="{nonce}">{script}</script>\n'.encode()
        head = (
            "HTTP/1.1 200 OK\r\n"
            "Content-Type: text/html; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\n"
            "Referrer-Policy: no-referrer\r\n"
            f"Content-Security-Policy: default-src 'none'; script-src 'nonce-{nonce}'; "
            "frame-ancestors 'none'\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + body


def camera_url(base: str, camera: str) -> str:
    """The address of a camera's page."""
    return f"{base.rstrip('/')}/{_fragment(camera)}"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], owner: SignIn) -> None:
        self.owner = owner
        super().__init__(address, _Handler)


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            self.server.owner.serve(self.request)
        except OSError:
            pass  # a browser breaks connections off all the time


def _head(client: socket.socket) -> bytes:
    """What comes first, at least to the end of the request's first line."""
    data = b""
    client.settimeout(_CONNECT_SECONDS)
    while b"\r\n" not in data and len(data) < _MAX_HEAD:
        chunk = client.recv(_CHUNK)
        if not chunk:
            break
        data += chunk
    return data


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    except OSError:
        pass  # the other direction ends as well, below
    for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        try:
            end.shutdown(how)
        except OSError:
            continue


def _fragment(camera: str) -> str:
    return f"#/camera/{quote(camera, safe='')}"


def _literal(text: str) -> str:
    """A JavaScript string that cannot end its script."""
    return json.dumps(text).replace("<", "\\u003c")
