"""Brings a database to the schema of this program.

An empty database gets the tables as they are (`tests/gateway/test_store_schema.py` holds the migrations to
the same), an older one is migrated. So Alembic, which is large, is imported only for that.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from camfleet_gateway.store.errors import SchemaError
from camfleet_gateway.store.tables import Table

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0002"
"""The newest revision in `migrations/versions`."""
_LOCK = 0x63616D666C656574
"""Of PostgreSQL, so that one of several replicas that start together migrates: "camfleet"."""
_VERSIONS = text(
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
"""As Alembic makes it."""

logger = logging.getLogger(__name__)


def upgrade(connection: Connection) -> None:
    """Upgrade, in the transaction of this connection.

    Raises:
        SchemaError: The schema is of a newer program.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    found = _revision(connection)
    if found == HEAD:
        return
    if found is None:
        Table.metadata.create_all(connection)
        connection.execute(_VERSIONS)
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found not in known:
        raise SchemaError(
            f"the database has the schema {found[:32]!r}, this program knows {HEAD!r} at most: "
            "start the newer Camfleet that has written it, or restore a backup"
        )
    command.upgrade(config, HEAD)
    logger.info("the database's schema is now %s, it was %s", HEAD, found)


def _revision(connection: Connection) -> str | None:
    """The schema that is there; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
