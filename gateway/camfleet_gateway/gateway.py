"""Everything a gateway consists of, put together once; the apps only route to it."""

from __future__ import annotations

import asyncio
import logging

from camfleet_gateway.auth import Authenticator, Tickets
from camfleet_gateway.clock import Clock
from camfleet_gateway.directory import Directory
from camfleet_gateway.events import EventLog
from camfleet_gateway.folder_directory import FolderDirectory
from camfleet_gateway.hub import Hub
from camfleet_gateway.identity import Identity
from camfleet_gateway.memory_directory import MemoryDirectory
from camfleet_gateway.sessions import WorkerGate
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.ws_v1 import Viewers
from camfleet_protocol.local import StateFolder

logger = logging.getLogger(__name__)


class Gateway:
    """One gateway: directory, hub, workers and viewers."""

    def __init__(self, settings: GatewaySettings, clock: Clock | None = None) -> None:
        """Put it together.

        Raises:
            TokensFileError: The tokens file cannot be used.
        """
        self.settings = settings
        self.clock = clock or Clock()
        state = StateFolder(settings.state_dir) if settings.state_dir is not None else None
        self.directory: Directory = FolderDirectory(state) if state is not None else MemoryDirectory()
        self.authenticator = Authenticator(settings.tokens_file)
        self.tickets = Tickets(self.clock)
        self.identity = Identity(self.authenticator, self.tickets)
        self.events = EventLog()
        self.hub = Hub(
            self.directory,
            clock=self.clock,
            events=self.events,
            linger_seconds=settings.linger_seconds,
            max_viewers=settings.max_viewers,
            max_viewers_per_camera=settings.max_viewers_per_camera,
        )
        self.workers = WorkerGate(
            hub=self.hub,
            authenticator=self.authenticator,
            events=self.events,
            clock=self.clock,
            worker_key=state.worker_key if state is not None else None,
            stats_timeout=settings.stats_timeout_seconds,
        )
        self.viewers = Viewers(hub=self.hub, clock=self.clock, authenticator=self.authenticator)
        self.directory.watch(self.workers.camera_changed)
        self.stopping = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether it can serve: the cameras are known and it is not stopping."""
        return self.directory.ready and not self.stopping.is_set()

    async def start(self) -> None:
        """Read the cameras and begin to tick."""
        await self.directory.start()
        self._ticker = asyncio.create_task(self.hub.run(), name="hub-ticker")

    async def stop(self) -> None:
        """Send everybody away, to come back soon, and stop following the directory."""
        self.stopping.set()
        self.workers.leave_all("the gateway stops")
        self.viewers.leave_all("the gateway stops")
        if self._ticker is not None:
            self._ticker.cancel()
        await self.directory.stop()
