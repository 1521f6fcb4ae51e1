"""A private PostgreSQL: a cluster of its own in a temporary folder, on a free port of the loopback address.

It waits for no disk (`fsync=off`), so it is quick and its data are worth nothing after a loss of power.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.require import need

START_SECONDS = 60.0
_USER = "camfleet"


def binary(name: str) -> Path | None:
    """One of PostgreSQL's programs; Debian keeps them apart by version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if found:
        return found[-1]
    named = shutil.which(name)
    return Path(named) if named else None


class Postgres:
    """One server. `url` is for `GatewaySettings.database_url`."""

    def __init__(self) -> None:
        need(binary("initdb") and binary("postgres"), "PostgreSQL's server: apt-get install postgresql")
        self.folder = Path(tempfile.mkdtemp(prefix="camfleet-pg-"))
        self._account = _account()
        if self._account is not None:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        self._data = self.folder / "data"
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._run(
            "initdb", f"--pgdata={self._data}", f"--username={_USER}", "--auth=trust", "--no-sync",
            "--encoding=UTF8", "--locale=C.UTF-8",
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = binary("postgres")
        assert program is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program, "-D", self._data, "-h", "127.0.0.1", "-p", str(self.port), "-k", self.folder,
                    "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=16MB",
                    "-c", "max_connections=60",
                ],
                stdout=log, stderr=log, cwd="/", **self._as_account(),
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        """End it: clients are cut off; with `kill` as a crash would."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT if kill else signal.SIGINT)
        self._process.wait(30)
        self._process = None

    def restart(self, *, kill: bool = False) -> None:
        """Stop and start it."""
        self.stop(kill=kill)
        self.start()

    def remove(self) -> None:
        """Stop it and delete everything."""
        self.stop(kill=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self) -> str:
        """A new, empty database; returns its URL for the gateway."""
        name = f"events{next(self._numbers)}"
        self.sql(f'CREATE DATABASE "{name}"')
        return f"postgresql+asyncpg://{_USER}@127.0.0.1:{self.port}/{name}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement; returns its rows, unaligned."""
        return self._run(
            "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, "-d", database, "-X", "-q", "-A",
            "-t", "-v", "ON_ERROR_STOP=1", "-c", statement,
        ).strip()  # fmt: skip

    def _answers(self) -> bool:
        program = binary("pg_isready")
        command = [program, "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return program is not None and subprocess.run(command, check=False).returncode == 0

    def _run(self, name: str, *arguments: str) -> str:
        program = binary(name)
        assert program is not None, name
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=120, check=False, cwd="/",
            **self._as_account(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _as_account(self) -> dict[str, object]:
        """PostgreSQL refuses to run as root."""
        if self._account is None:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A server, removed at the end."""
    server = Postgres()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of this test process; tests take a `database()` of their own."""
    with postgres_server() as server:
        yield server


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
