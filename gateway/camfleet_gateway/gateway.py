"""Everything a gateway consists of, put together once; the apps only route to it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from camfleet_gateway.alerts.engine import AlertEngine
from camfleet_gateway.auth import Authenticator, Tickets
from camfleet_gateway.backend import backend_for
from camfleet_gateway.clock import Clock, RunningTime
from camfleet_gateway.events import EventLog
from camfleet_gateway.gallery_push import GalleryPush
from camfleet_gateway.garbage import Garbage
from camfleet_gateway.hub import Hub
from camfleet_gateway.identity import Identity
from camfleet_gateway.lag import LagMeter
from camfleet_gateway.people.service import People
from camfleet_gateway.roster import Roster
from camfleet_gateway.sessions import WorkerGate
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.store.service import Store
from camfleet_gateway.tasks import start_task
from camfleet_gateway.vectors.index import Target
from camfleet_gateway.vectors.service import Vectors
from camfleet_gateway.webhooks.config import Webhooks
from camfleet_gateway.webhooks.sender import WebhookSender

logger = logging.getLogger(__name__)


class Gateway:
    """One gateway: directory, hub, workers and viewers."""

    def __init__(self, settings: GatewaySettings, clock: Clock | None = None) -> None:
        """Put it together.

        Raises:
            TokensFileError: The tokens file cannot be used.
            WebhooksFileError: The webhooks file cannot be used.
        """
        self.settings = settings
        self.clock = clock or Clock(monotonic=RunningTime())
        self.authenticator = Authenticator(settings.tokens_file)
        backend = backend_for(settings, self.authenticator)
        self.directory = backend.directory
        self.tickets = Tickets(self.clock)
        self.identity = Identity(self.authenticator, self.tickets)
        self.store = Store(settings, self.clock, days_of=self._days_of)
        self.events = EventLog(lambda camera: self.hub.kept_for(camera))
        self.store.events.on_told(self.events.happened)
        self.refused: Counter[str] = Counter()
        self.hub = Hub(
            self.directory,
            clock=self.clock,
            events=self.events,
            linger_seconds=settings.linger_seconds,
            max_viewers_per_camera=settings.max_viewers_per_camera,
            refused=self.refused,
        )
        self.alerts = AlertEngine(
            self.store, self.hub.channels, clock=self.clock, known=lambda: self.directory.ready
        )
        self.webhooks = WebhookSender(self.store, Webhooks(settings.webhooks_file), clock=self.clock)
        self.people = People(
            self.store, wall=self.clock.wall, model_dir=settings.model_dir, embedder=settings.embedder
        )
        index = Target(self.store.folder / "vectors", settings.milvus_url, settings.milvus_token_file)
        self.vectors = Vectors(self.store, index, clock=self.clock, size_of=self.people.size_of)
        self.people.erasure.on_erase(self.vectors.erased)
        self.gallery_push = GalleryPush()
        self.gallery_push.connect(self.people.gallery)
        self.workers = WorkerGate(
            hub=self.hub,
            authenticator=backend.workers,
            events=self.store.events,
            gallery=self.gallery_push,
            clock=self.clock,
            stats_timeout=settings.stats_timeout_seconds,
            hold_seconds=settings.hold_seconds,
        )
        self.roster = Roster(
            authenticator=self.authenticator, max_viewers=settings.max_viewers, refused=self.refused
        )
        self.hub.on_tick(self.roster.tick)
        self.lag = LagMeter()
        self.directory.watch(self.workers.camera_changed)
        self.stopping = asyncio.Event()
        self.failed = asyncio.Event()
        """Set when a task that everything depends on has failed: the process should end and be restarted."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether it can serve: the cameras are known and it is not stopping."""
        return self.directory.ready and not self.stopping.is_set()

    async def start(self) -> None:
        """Read the cameras and begin to tick.

        Raises:
            OSError: The state folder cannot be used.
            BackendError: The cluster cannot be addressed.
            StoreError: What is kept is of a newer Camfleet, or sealed with another key.
        """
        # The directory first: what it refuses, it refuses at once.
        await self.directory.start(self.failed.set)
        try:
            await self.store.start(self.failed.set)
        except BaseException:
            await self.directory.stop()
            raise
        try:
            await self.people.start(self.failed.set)
        except BaseException:
            await self.people.stop()
            await self.store.stop()
            await self.directory.stop()
            raise
        self._tasks = [
            start_task(self.hub.run(), name="hub-ticker", failed=self.failed.set),
            start_task(self.events.run(self.store.events), name="own-events", failed=self.failed.set),
            start_task(self.lag.run(), name="lag-meter", failed=self.failed.set),
            start_task(Garbage().run(), name="garbage", failed=self.failed.set),
            start_task(self.gallery_push.run(), name="gallery-push", failed=self.failed.set),
            start_task(self.alerts.run(), name="alerts", failed=self.failed.set),
            start_task(self.webhooks.run(), name="webhooks", failed=self.failed.set),
            start_task(self.vectors.run(), name="vectors", failed=self.failed.set),
        ]

    async def stop(self) -> None:
        """Send everybody away, to come back soon, and stop following the directory."""
        self.stopping.set()
        self.workers.leave_all("the gateway stops")
        self.roster.leave_all("the gateway stops")
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.directory.stop()
        await self.people.stop()
        await self.vectors.stop()
        await self.store.stop()

    def _days_of(self) -> dict[str, float]:
        """The cameras that say themselves for how long their events are kept."""
        return {
            channel.id: channel.facts.retention_days
            for channel in self.hub.channels.values()
            if channel.facts.retention_days is not None
        }
