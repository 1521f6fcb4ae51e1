"""Starts the RTSP server of `gst_rtsp.py`, and servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"
_SCRIPT = Path(__file__).with_name("gst_rtsp.py")


@lru_cache
def rtsp_available() -> bool:
    """Whether GStreamer's RTSP server and an H.264 encoder are installed."""
    check = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0');"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
        "assert Gst.ElementFactory.find('x264enc') and Gst.ElementFactory.find('rtph264pay')"
    )
    try:
        done = subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, timeout=150, check=False)
    except OSError:
        return False
    return done.returncode == 0


class RtspServer:
    """One server; it can be killed and started again on the same port."""

    def __init__(self, username: str = "", password: str = "") -> None:
        self._credentials = {"username": username, "password": password}
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/cam"

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = process = await asyncio.create_subprocess_exec(
            SYSTEM_PYTHON,
            str(_SCRIPT),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"port": self.port, **self._credentials}).encode() + b"\n")
        await process.stdin.drain()
        async with asyncio.timeout(90):
            line = await process.stdout.readline()
        self.port = int(line)

    def pause(self) -> None:
        """Let it hang: connections stay open and nothing comes."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def show(self, pattern: str) -> None:
        """Change the picture: `ball` moves, `smpte75` is encoded anew all the time and does not."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(pattern.encode() + b"\n")
        await self._process.stdin.drain()

    async def kill(self) -> None:
        """Kill it, as a camera that loses its power."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def rtsp_server(username: str = "", password: str = "") -> AsyncIterator[RtspServer]:
    """A running `RtspServer`."""
    server = RtspServer(username, password)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@asynccontextmanager
async def counting_server(answer: bytes | None) -> AsyncIterator[tuple[int, list[float]]]:
    """A TCP server that says `answer` to each request, or nothing; yields its port and times of visits."""
    visits: list[float] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(asyncio.get_running_loop().time())
        writers.append(writer)
        while await reader.read(4096):
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], visits
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()
