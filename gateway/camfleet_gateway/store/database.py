"""The database: SQLite in a file, or PostgreSQL.

`session()` is one transaction that writes, `reading()` one that does not. SQLite has one writer at a time:
there, writers of this process queue for a lock, and a transaction takes SQLite's own lock at its start, so
that it never fails half-way because somebody else has written. So keep transactions short, and never open
one inside another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from sqlalchemy import Connection, event
from sqlalchemy import Table as SqlTable
from sqlalchemy import exc as sql_errors
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from camfleet_gateway.store.errors import StoreError, UnavailableError
from camfleet_gateway.store.migrate import upgrade

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 30.0
CLOSE_SECONDS = 3.0
_SQLITE_BUSY_MS = 10_000
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    # A commit is on the disk when it is acknowledged, also over a loss of power.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    # What was deleted is overwritten: erased is erased.
    "PRAGMA secure_delete=ON",
    f"PRAGMA busy_timeout={_SQLITE_BUSY_MS}",
)
_WRITES = "camfleet_writes"
_OF_THE_DATA = ("22", "23")
"""Classes of SQLSTATE that trying again does not mend: bad data, broken constraints."""
_OF_THE_SCHEMA = ("0A", "42")
"""No such table or column, no right to use it: while a backup is restored, rights change, a newer gateway
migrates. That passes, or somebody has to mend it; nothing is to be lost until then."""


class Database:
    """One database; nothing is connected before `open`."""

    def __init__(self, url: str) -> None:
        """Prepare to connect.

        Raises:
            StoreError: This is no URL of a database.
        """
        try:
            parsed = make_url(url)
        except sql_errors.ArgumentError:
            raise StoreError("the database's URL cannot be read") from None
        self.sqlite = parsed.get_backend_name() == "sqlite"
        self.name = parsed.render_as_string(hide_password=True)
        """For logs."""
        self._connections: WeakSet[Any] = WeakSet()
        """Of PostgreSQL, to cut them off where they cannot be closed in good order."""
        self._engine = _sqlite_engine(url) if self.sqlite else _postgresql_engine(url, self._connections)
        self._file = parsed.database or ""
        self._read = async_sessionmaker(self._engine, expire_on_commit=False)
        self._write = async_sessionmaker(
            self._engine.execution_options(**{_WRITES: True}), expire_on_commit=False
        )
        self._endings: set[asyncio.Task[None]] = set()
        """Transactions that are being ended, also those whose task was cancelled."""
        self._writer = asyncio.Lock()
        self._writing: asyncio.Task[Any] | None = None
        self._said = ""

    async def open(self) -> None:
        """Connect, and bring the schema up to date.

        Raises:
            UnavailableError: The database cannot be reached now.
            SchemaError: A newer Camfleet has written it.
        """
        if self.sqlite:
            await asyncio.to_thread(_try_file, self._file)
        try:
            with _reaching():
                async with self._engine.connect() as connection:
                    await connection.execution_options(**{_WRITES: True})
                    await connection.run_sync(upgrade)
                    await connection.commit()
        except sql_errors.DBAPIError as error:
            raise self._translated(error) from error

    async def close(self) -> None:
        """Close all connections, unless the database is stuck."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*self._endings, return_exceptions=True)
                await self._engine.dispose()
        for connection in tuple(self._connections):
            if not connection.is_closed():
                connection.terminate()
        await asyncio.sleep(0)  # the loop closes their sockets

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """One transaction that writes: committed at the end of the block, rolled back if it raises.

        Raises:
            UnavailableError: The database is away or its disk is full. If that was found out by the commit,
                it may have been carried out all the same.
        """
        if not self.sqlite:
            async with self._transaction(self._write) as session:
                yield session
            return
        task = asyncio.current_task()
        if self._writing is not None and self._writing is task:
            raise RuntimeError("a transaction that writes was opened inside another one")
        async with self._writer:
            self._writing = task
            try:
                async with self._transaction(self._write) as session:
                    yield session
            finally:
                self._writing = None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """One transaction that only reads.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._transaction(self._read) as session:
            yield session

    def insert(self, table: SqlTable) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that can have `ON CONFLICT`, which each database spells in its own module."""
        if self.sqlite:
            from sqlalchemy.dialects import sqlite

            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    async def checkpoint(self) -> None:
        """Move SQLite's log into its file and empty it, so that nothing deleted is left there."""
        if self.sqlite:
            async with self._writer, self._engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    @asynccontextmanager
    async def _transaction(self, make: async_sessionmaker[AsyncSession]) -> AsyncIterator[AsyncSession]:
        session = make()
        try:
            try:
                with _reaching():
                    await session.connection()
                yield session
            except BaseException:
                await self._to_the_end(session.close())
                raise
            await self._to_the_end(_commit(session))
        except sql_errors.DBAPIError as error:
            raise self._translated(error) from error
        except TimeoutError as error:
            raise UnavailableError("the database takes too long to answer") from error

    async def _to_the_end(self, ending: Coroutine[Any, Any, None]) -> None:
        """End a transaction, also where the task is cancelled meanwhile; `close` waits for that."""
        task = asyncio.create_task(ending)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        await asyncio.shield(task)

    def _translated(self, error: sql_errors.DBAPIError) -> Exception:
        """The same as an error of ours, if trying again may help."""
        state = getattr(error.orig, "sqlstate", None)
        if isinstance(state, str):
            if state[:2] in _OF_THE_DATA:
                return error
        elif isinstance(
            error, (sql_errors.IntegrityError, sql_errors.DataError, sql_errors.ProgrammingError)
        ):
            return error
        words = f"the database cannot be used now: {_words(error.orig)}"
        if isinstance(state, str) and state[:2] in _OF_THE_SCHEMA and words != self._said:
            logger.error("%s", words)
            self._said = words
        return UnavailableError(words)


@contextmanager
def _reaching() -> Iterator[None]:
    """Say of what is no answer of the database that it does not answer."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, (OSError, sql_errors.TimeoutError)) and not _is_asyncpg(error):
            raise
        raise UnavailableError(f"the database does not answer: {_words(error)}") from error


async def _commit(session: AsyncSession) -> None:
    try:
        await session.commit()
    finally:
        await session.close()


def _postgresql_engine(url: str, connections: WeakSet[Any]) -> AsyncEngine:
    async def connect(*arguments: Any, **options: Any) -> Any:
        import asyncpg  # type: ignore[import-untyped]

        connection = await asyncpg.connect(*arguments, **options)
        connections.add(connection)
        return connection

    return create_async_engine(
        url,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=5,
        pool_timeout=CONNECT_SECONDS,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": COMMAND_SECONDS,
            "async_creator_fn": connect,
        },
        hide_parameters=True,
    )


def _sqlite_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=4, max_overflow=4, hide_parameters=True)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        # The driver's own notion of transactions would begin them late; `begin` below does it.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _try_file(path: str) -> None:
    """Open SQLite's file once by ourselves: the driver's thread does not end well where that fails.

    A new one is nobody else's to read, for a volume's folder may be open to others. SQLite's log follows it.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        sqlite3.connect(path).close()
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(f"the database {path} cannot be used: {error}") from None


def _is_asyncpg(error: BaseException) -> bool:
    """Whether it is the driver's own: what it raises while it connects is not translated by SQLAlchemy."""
    return type(error).__module__.startswith("asyncpg.")


def _words(error: object) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
