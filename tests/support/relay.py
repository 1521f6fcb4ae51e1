"""A TCP relay whose connections can be frozen: open, and silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """Passes bytes on to a port of this machine."""

    def __init__(self, port: int) -> None:
        self.visits: list[float] = []
        """When connections came, in the loop's time; also those that could not be passed on."""
        self._port = port
        self._frozen: set[asyncio.Event] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Listen on a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for writer in self._writers:
                writer.transport.abort()  # what a frozen link still holds would keep it open
            await asyncio.sleep(0)

    def freeze(self) -> None:
        """Let nothing more through on the connections that there are."""
        for event in self._frozen:
            event.clear()
        self._frozen = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits.append(asyncio.get_running_loop().time())
        try:
            upstream, downstream = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._writers += (writer, downstream)
        flowing = asyncio.Event()
        flowing.set()
        self._frozen.add(flowing)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    await flowing.wait()
                    sink.write(data)
                    await sink.drain()
            except ConnectionError:
                pass
            finally:
                sink.close()

        for pair in ((reader, downstream), (upstream, writer)):
            task = asyncio.create_task(pump(*pair))
            self._tasks.add(task)
