"""Brings ports of a testbed's network namespace to this machine's loopback. A program of its own.

Usage: forward.py NETWORK-NAMESPACE LISTEN-PORT=HOST:PORT…

A socket belongs to the namespace in which it was made. So the listening sockets are made first, and only then
the process enters the other namespace, where every connection goes out from.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import sys
from pathlib import Path


def listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(256)
    listener.setblocking(False)
    return listener


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def serve(listeners: list[tuple[socket.socket, str, int]]) -> None:
    async def connected(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
    ) -> None:
        try:
            far_reader, far_writer = await asyncio.wait_for(asyncio.open_connection(host, port), 10)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        finally:
            far_writer.close()
            writer.close()

    servers = [
        await asyncio.start_server(lambda r, w, to=(host, port): connected(r, w, *to), sock=listener)
        for listener, host, port in listeners
    ]
    print("listening", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    namespace, *forwards = sys.argv[1:]
    listeners = []
    for forward in forwards:
        near, far = forward.split("=")
        host, port = far.rsplit(":", 1)
        listeners.append((listen(int(near)), host, int(port)))
    with Path(namespace).open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0) != 0:
            sys.exit(f"cannot enter {namespace}: {os.strerror(ctypes.get_errno())}")
    asyncio.run(serve(listeners))


if __name__ == "__main__":
    main()
