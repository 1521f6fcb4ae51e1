"""The schema: migrations lead to the tables as they are, newer ones are refused, replicas start together."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from camfleet_gateway.store.database import Database
from camfleet_gateway.store.errors import SchemaError, UnavailableError
from camfleet_gateway.store.migrate import HEAD, MIGRATIONS
from camfleet_gateway.store.tables import Table
from support.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/events.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


def migrate(connection: Connection) -> None:
    """Run every migration on an empty database."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Table.metadata))


def test_the_newest_migration_is_the_one_the_program_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_migrations_lead_to_the_tables_of_the_program(url: str) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(migrate)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()
    database = Database(url)
    await database.open()  # nothing is left to do
    await database.close()


async def test_an_empty_database_gets_the_same_tables_and_keeps_them(url: str) -> None:
    for _ in range(2):
        database = Database(url)
        await database.open()
        async with database.reading() as session:
            assert (await session.execute(text("SELECT version_num FROM alembic_version"))).all() == [(HEAD,)]
            assert await (await session.connection()).run_sync(differences) == []
        await database.close()


async def test_a_newer_schema_is_refused(url: str) -> None:
    database = Database(url)
    await database.open()
    async with database.session() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match=r"'9999'.*newer Camfleet"):
        await database.open()
    await database.close()


async def test_replicas_that_start_together_make_the_tables_once(postgres: Postgres) -> None:
    url = postgres.database()
    replicas = [Database(url) for _ in range(4)]
    await asyncio.gather(*(replica.open() for replica in replicas))
    for replica in replicas:
        await replica.close()


async def test_a_database_that_is_not_there_is_unavailable(postgres: Postgres, tmp_path: Path) -> None:
    address = postgres.database().rpartition(":")[0]
    for url in (f"{address}:1/events", f"{address}:{postgres.port}/nothing"):
        database = Database(url)
        with pytest.raises(UnavailableError):
            await database.open()
        with pytest.raises(UnavailableError):
            async with database.reading():
                pass
        await database.close()
    nowhere = tmp_path / "no" / "events.db"
    with pytest.raises(UnavailableError, match=f"{nowhere} cannot be used"):
        await Database(f"sqlite+aiosqlite:///{nowhere}").open()


async def test_a_transaction_inside_another_one_is_a_mistake_not_a_deadlock(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/events.db")
    await database.open()
    async with database.session():
        with pytest.raises(RuntimeError, match="inside"):
            async with database.session():
                pass
    await database.close()
