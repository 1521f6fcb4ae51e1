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

from sqlalchemy import Table as SqlTable
from sqlalchemy import select

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
PATIENCE_SECONDS = 3.0
"""For the first answer of a database; then the gateway starts without it."""
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
        opening = asyncio.create_task(self._open(), name="store-opening")
        try:
            # SQLite is there or it is not; PostgreSQL may come later, or be stuck.
            await asyncio.wait({opening}, timeout=None if self.database.sqlite else PATIENCE_SECONDS)
            if opening.done():
                self._opened_or_away(opening)
        except BaseException:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await self.database.close()
            raise
        self._tasks.append(start_task(self._run(opening), name="store", failed=failed))

    def _opened_or_away(self, opening: asyncio.Task[None]) -> None:
        """Look at an attempt that is over.

        Raises:
            StoreError: Another one would fail as well.
        """
        try:
            opening.result()
        except UnavailableError as error:
            if self.database.sqlite:
                raise
            logger.warning("the database is not there yet: %s", error)

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
        await self._check_folder()
        self.events.start()
        self.opened.set()
        logger.info("events and people are kept in %s", self.database.name)

    async def _run(self, opening: asyncio.Task[None]) -> None:
        try:
            await asyncio.wait({opening})
        finally:
            opening.cancel()
        self._opened_or_away(opening)
        while not self.opened.is_set():
            await asyncio.sleep(_AGAIN_SECONDS)
            try:
                await self._open()
            except UnavailableError as error:
                logger.debug("the database is not there yet: %s", error)
        await self.retention.run()

    async def _check_key(self) -> None:
        """Compare the key with the one that vectors in the database are sealed with."""
        known = await self._fact("key", self.sealer.key_id)
        if known != self.sealer.key_id:
            raise WrongKeyError(
                f"the vectors in the database are sealed with the key {known}, this one is "
                f"{self.sealer.key_id}: put the right key back"
            )

    async def _check_folder(self) -> None:
        """Find out whether the pictures are of this database: those of another one must not be swept up."""
        known = await self._fact("id", secrets.token_hex(16))
        try:
            self.retention.may_sweep = await asyncio.to_thread(self.snapshots.belong_to, known)
        except OSError as error:
            raise UnavailableError(f"the data folder cannot be used: {error}") from error
        if not self.retention.may_sweep:
            logger.warning("the pictures in the data folder are of another database: none is swept up")

    async def _fact(self, name: str, value: str) -> str:
        """What the database knows under a name; the value, if it knew nothing."""
        table: SqlTable = Fact.__table__  # type: ignore[assignment]
        statement = self.database.insert(table).values(name=name, value=value)
        async with self.database.session() as session:
            await session.execute(statement.on_conflict_do_nothing(index_elements=["name"]))
            return (await session.execute(select(Fact.value).where(Fact.name == name))).scalar_one()


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
