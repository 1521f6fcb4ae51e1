"""A real Milvus server (its own etcd and message log in one process) that a test stops and starts.

Milvus listens on all addresses of its machine, so it gets a network namespace of its own, and only a port of
this machine's loopback leads to it. Its users must say a password.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.testbed import forward
from tests.testbed.processes import Process, Startable, free_port, wait_until

from support.milvus_package import VERSION, installed
from support.require import need

TOKEN = "root:Milvus"
"""As every new Milvus has it."""
START_SECONDS = 100.0
_PROXY, _HEALTH = 19530, 9091
_TOOLS = ("unshare", "nsenter", "ip")
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "common": {
        "security": {"authorizationEnabled": True},
        "session": {"ttl": 10},  # seconds after which who was killed is away
    },
    # What compaction leaves behind is removed soon, and not after hours; so is what nothing knows of.
    "dataCoord": {"gc": {"interval": 1, "dropTolerance": 1, "missingTolerance": 20}},
    # As tests wait for it: a strong reading waits for the next tick, a new collection for the next look.
    "proxy": {"timeTickInterval": 100},
    "queryCoord": {"checkInterval": 100, "distPullInterval": 100},
    "log": {"level": "warn", "file": {"rootPath": ""}},
    "etcd": {"log": {"level": "warn", "path": "stdout"}},
}


class MilvusServer(Startable):
    """One server with data of its own; use it as a context manager, or call `start` and `stop`."""

    def __init__(self) -> None:
        package = installed()
        need(package, f"Milvus {VERSION}: python -m tests.support.milvus_package")
        need(os.geteuid() == 0, "root, for the network namespace of a Milvus server")
        need(all(shutil.which(tool) for tool in _TOOLS), f"{', '.join(_TOOLS)}: apt-get install iproute2")
        assert package is not None
        self._package = package
        self.folder = Path(tempfile.mkdtemp(prefix="camfleet-milvus-"))
        self.log = self.folder / "log"
        self.token_file = self.folder / "token"
        self.token_file.write_text(TOKEN)
        self.port = 0
        self._health = 0
        self._helpers: list[Process] = []
        self._server: Process | None = None

    @property
    def url(self) -> str:
        """For `milvus_url`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        """Where its segments are."""
        return self.folder / "data"

    @property
    def pids(self) -> list[int]:
        """Of all that runs for it."""
        return [process.pid for process in (*self._helpers, self._server) if process is not None]

    def start(self) -> None:
        """Start it, on the port it had before, and wait until it is well. It ends with the calling thread."""
        if not self._helpers:
            self._make_network()
        self._configure()
        self._server = Process(
            ["nsenter", f"--net={self._network}", self._package / "bin" / "milvus", "run", "standalone"],
            self.log,
            environment={
                "DEPLOY_MODE": "STANDALONE",
                "LD_LIBRARY_PATH": str(self._package / "bin"),
                "MILVUS_RUN_DIR": str(self.folder / "run"),
                "MILVUSCONF": str(self.folder / "configs"),
            },
        )
        wait_until(self._well, "Milvus is well", seconds=START_SECONDS, process=self._server)

    def kill(self) -> None:
        """SIGKILL, and wait; its data stay."""
        if self._server is not None:
            self._server.kill()
            self._server = None

    def stop(self) -> None:
        """End all of it and remove its folder; what it said is told if it has ended by itself."""
        if self._server is not None and not self._server.running:
            print(f"Milvus ended with {self._server.exit_code}:\n{self._server.tail(5000)}", file=sys.stderr)
        self.kill()
        for helper in reversed(self._helpers):
            helper.kill()
        self._helpers.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ── How it is made ─────────────────────────────────────────────────────────────────────────────

    @property
    def _network(self) -> str:
        return f"/proc/{self._helpers[0].pid}/ns/net"

    def _make_network(self) -> None:
        ready = self.folder / "ready"
        script = f"ip link set lo up && touch {ready} && exec sleep infinity"
        holder = Process(["unshare", "--net", "sh", "-c", script], self.folder / "network.log")
        self._helpers.append(holder)
        wait_until(ready.exists, "the network namespace", process=holder)
        self.port, self._health = free_port(), free_port()
        forwarder = Process(
            [
                *(sys.executable, forward.__file__, self._network),
                *(f"{self.port}=127.0.0.1:{_PROXY}", f"{self._health}=127.0.0.1:{_HEALTH}"),
            ],
            self.folder / "forward.log",
        )
        self._helpers.append(forwarder)
        wait_until(lambda: "listening" in forwarder.tail(), "the ports are forwarded", process=forwarder)

    def _configure(self) -> None:
        folder = self.folder / "configs"
        folder.mkdir(exist_ok=True)
        places = {
            "etcd_data_dir": self.folder / "etcd",
            "local_storage_dir": self.data,
            "rocksmq_data_dir": self.folder / "rocksmq",
            "system_log_path": "",
        }

        def value(match: re.Match[str]) -> str:
            name, _, default = match.group(1).partition(":")
            return str(places.get(name.strip(), default.strip()))

        template = (self._package / "config.yaml.template").read_text()
        configuration = yaml.safe_load(re.sub(r"\{\{(.*?)\}\}", value, template))
        _merge(configuration, _SETTINGS)
        (folder / "milvus.yaml").write_text(yaml.safe_dump(configuration))
        shutil.copy(self._package / "glog.conf", folder)

    def _well(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self._health}/healthz", timeout=10).text == "OK"
        return False


def _merge(into: dict[str, Any], settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


@pytest.fixture(scope="session")
def milvus() -> Iterator[MilvusServer]:
    """The server of this test process; each installation has collections of its own."""
    with MilvusServer() as server:
        yield server
