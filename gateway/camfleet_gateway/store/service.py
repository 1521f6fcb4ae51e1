"""Everything that is kept, put together: database, key, pictures, events, audit, retention.

Where the database is away at the start (PostgreSQL, say), the gateway starts all the same: pictures flow,
and what needs the store fails with `UnavailableError` until it is there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from camfleet_gateway.clock import Clock
from camfleet_gateway.settings import GatewaySettings, check_database_url
from camfleet_gateway.store.audit import Audit
from camfleet_gateway.store.database import Database
from camfleet_gateway.store.errors import StoreError, UnavailableError, WrongKeyError
from camfleet_gateway.store.events import EventStore
from camfleet_gateway.store.retention import DaysOf, Retention
from camfleet_gateway.store.sealing import KEY_BYTES, Sealer, own_key, read_key
from camfleet_gateway.store.snapshots import Snapshots
from camfleet_gateway.store.tables import Fact
from camfleet_gateway.tasks import start_task

logger = logging.getLogger(__name__)

DATABASE_FILE = "camfleet.db"
KEY_FILE = "data.key"
_AGAIN_SECONDS = 2.0
_MAX_URL_BYTES = 4096


class Store:
    """What outlives the gateway."""

    def __init__(self, settings: GatewaySettings, clock: Clock, *, days_of: DaysOf = dict) -> None:
        """Make the data folder and the key; connect nothing yet.

        Raises:
            StoreError: Folder, key or URL cannot be used.
        """
        self._temporary = settings.data_dir is None
        self.folder = _folder(settings.data_dir)
        """For files of other parts of the gateway, too: the index of vectors, say."""
        url = _database_url(settings) or f"sqlite+aiosqlite:///{self.folder / DATABASE_FILE}"
        self.sealer = Sealer(_key(settings.key_file, None if self._temporary else self.folder / KEY_FILE))
        self.database = Database(url)
        self.snapshots = Snapshots(self.folder)
        self.audit = Audit(self.database, clock)
        self.events = EventStore(
            self.database,
            sealer=self.sealer,
            snapshots=self.snapshots,
            clock=clock,
            retention_days=settings.retention_days,
        )
        self.retention = Retention(
            self.database,
            self.events,
            self.snapshots,
            clock=clock,
            days=settings.retention_days,
            picture_bytes=settings.retention_bytes,
            days_of=days_of,
        )
        self.opened = asyncio.Event()
        """Set once the database was reached."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, failed: Callable[[], None]) -> None:
        """Open the database, or go on trying if it is not there yet.

        Args:
            failed: Called if the store turns out to be unusable later on.

        Raises:
            StoreError: It cannot be used as it is: a newer schema, another key.
        """
        if self._temporary:
            await asyncio.to_thread(_make, self.folder)
        try:
            await self._open()
        except UnavailableError as error:
            if self.database.sqlite:
                await self.database.close()
                raise
            logger.warning("the database is not there yet: %s", error)
        except BaseException:
            await self.database.close()
            raise
        self._tasks.append(start_task(self._run(), name="store", failed=failed))

    async def stop(self) -> None:
        """Write what waits, and close."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.events.stop()
        await self.database.close()
        if self._temporary:
            await asyncio.to_thread(shutil.rmtree, self.folder, True)

    async def _open(self) -> None:
        await self.database.open()
        await self._check_key()
        self.events.start()
        self.opened.set()
        logger.info("events and people are kept in %s", self.database.name)

    async def _run(self) -> None:
        while not self.opened.is_set():
            await asyncio.sleep(_AGAIN_SECONDS)
            try:
                await self._open()
            except UnavailableError as error:
                logger.debug("the database is not there yet: %s", error)
        await self.retention.run()

    async def _check_key(self) -> None:
        """Compare the key with the one that vectors in the database are sealed with."""
        async with self.database.session() as session:
            known = await session.get(Fact, "key")
            if known is None:
                session.add(Fact(name="key", value=self.sealer.key_id))
            elif known.value != self.sealer.key_id:
                raise WrongKeyError(
                    f"the vectors in the database are sealed with the key {known.value}, this one is "
                    f"{self.sealer.key_id}: put the right key back"
                )


def _folder(data_dir: Path | None) -> Path:
    """The data folder, made; or the name of a temporary one, not made yet."""
    if data_dir is None:
        return Path(tempfile.gettempdir()) / f"camfleet-gateway-{secrets.token_hex(8)}"
    _make(data_dir, exist_ok=True)
    return data_dir.absolute()


def _make(folder: Path, exist_ok: bool = False) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=exist_ok)
    except OSError as error:
        raise StoreError(f"the data folder cannot be used: {error}") from None


def _key(key_file: Path | None, own: Path | None) -> bytes:
    """The key in the file that the settings name, in our own, or one that ends with us."""
    if key_file is not None:
        return read_key(key_file)
    return own_key(own) if own is not None else os.urandom(KEY_BYTES)


def _database_url(settings: GatewaySettings) -> str | None:
    """The URL that the settings name, directly or in a file."""
    if settings.database_url_file is None:
        return settings.database_url
    path = settings.database_url_file
    try:
        with path.open("rb") as file:
            return check_database_url(file.read(_MAX_URL_BYTES).decode().strip())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise StoreError(f"{path}: {error}") from None
