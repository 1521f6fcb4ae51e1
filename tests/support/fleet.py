"""A whole Camfleet on this machine: `camfleet local` as a subprocess, its folder, and ways to look at it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families

DEADLINE = 90.0


def eventually(check: Callable[[], Any], what: str, within: float = DEADLINE) -> Any:
    """Poll until `check` returns something true, and return that.

    Raises:
        AssertionError: It did not within `within` seconds.
    """
    deadline = time.monotonic() + within
    while True:
        if value := check():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(0.02)


class Fleet:
    """One running local runtime."""

    def __init__(self, base: Path, *arguments: str, command: str = "local") -> None:
        self.folder = base / "cameras"
        self.state = base / "state"
        self.folder.mkdir(parents=True, exist_ok=True)
        if command == "local":
            arguments = (str(self.folder), f"--state-dir={self.state}", *arguments)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "camfleet", command, "--port=0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._children: list[psutil.Process] = []

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.rstrip("\n"))

    # ── The process ─────────────────────────────────────────────────────────────────────────────────

    @property
    def log(self) -> str:
        """All that was printed so far."""
        return "\n".join(self._lines)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait_ready(self, within: float = 90.0) -> None:
        """Wait for the line that tells a user to open the page."""

        def ready() -> re.Match[str] | None:
            if self.exit_code is not None:
                raise AssertionError(f"ended with {self.exit_code}:\n{self.log}")
            return re.search(r"Camfleet is ready: (http://\S+)/", self.log)

        self.url = eventually(ready, "the ready line", within).group(1)

    def processes(self) -> list[psutil.Process]:
        """The runtime and everything below it; remembered, so that orphans are found later."""
        parent = psutil.Process(self._process.pid)
        found = [parent, *parent.children(recursive=True)]
        self._children.extend(p for p in found if p not in self._children)
        return found

    def find(self, subcommand: str, *words: str) -> psutil.Process:
        """The child that runs a subcommand with these words on its command line."""
        for process in self.processes():
            try:
                line = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            if subcommand in line and all(any(word in part for part in line) for word in words):
                return process
        raise AssertionError(f"no process runs {subcommand} {words}")

    def interrupt(self, within: float = 60.0) -> int:
        """Ctrl-C, and wait for the end."""
        self.processes()
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(within)
        self._reader.join(5)
        return code

    def survivors(self) -> list[psutil.Process]:
        """Processes of this fleet that still run."""
        return [p for p in self._children if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def close(self) -> None:
        """End everything, by force if need be."""
        if self.exit_code is None:
            try:
                self.interrupt()
            except subprocess.TimeoutExpired:
                for process in self.processes():
                    process.kill()
                self._process.wait(10)
        if self._process.stdout:
            self._process.stdout.close()

    # ── Cameras ─────────────────────────────────────────────────────────────────────────────────────

    def write(self, name: str, spec: dict[str, Any], **metadata: Any) -> Path:
        """Drop or change a Camera file."""
        path = self.folder / f"{name}.yaml"
        document = {
            "apiVersion": "camfleet.io/v1alpha1",
            "kind": "Camera",
            "metadata": {"name": name, **metadata},
            "spec": spec,
        }
        temporary = path.with_suffix(".tmp")
        temporary.write_text(yaml.safe_dump(document))
        temporary.replace(path)
        return path

    def object(self, name: str) -> dict[str, Any]:
        """The object that the gateway sees, with its status."""
        document: dict[str, Any] = json.loads((self.state / "objects" / f"default.{name}.json").read_text())
        return document

    # ── The API ─────────────────────────────────────────────────────────────────────────────────────

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET from the viewer listener."""
        return httpx.get(self.url + path, timeout=60, **options)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request to the viewer listener."""
        return httpx.request(method, self.url + path, timeout=60, **options)

    def answers(self) -> bool:
        """Whether the gateway is up and ready."""
        try:
            return self.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def cameras(self) -> dict[str, dict[str, Any]]:
        """What `GET /api/cameras` lists, by name."""
        answer = self.get("/api/cameras")
        answer.raise_for_status()
        return {camera["name"]: camera for camera in answer.json()["cameras"]}

    def wait_state(self, name: str, state: str, within: float = DEADLINE) -> dict[str, Any]:
        """Wait until a camera is in this state."""

        def reached() -> dict[str, Any] | None:
            camera = self.cameras().get(name)
            return camera if camera and camera["state"] == state else None

        camera: dict[str, Any] = eventually(reached, f"{name} {state}", within)
        return camera

    def metric(self, name: str, camera: str | None = None) -> float:
        """The sum of a metric's samples, of one camera if named."""
        total = 0.0
        for family in text_string_to_metric_families(self.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and (camera is None or sample.labels.get("camera") == camera):
                    total += sample.value
        return total

    def rate(self, name: str, camera: str, seconds: float = 3.0) -> float:
        """How fast a counter rises, per second."""
        before, start = self.metric(name, camera), time.monotonic()
        time.sleep(seconds)
        return (self.metric(name, camera) - before) / (time.monotonic() - start)


@contextmanager
def running_fleet(
    base: Path, *arguments: str, cameras: dict[str, dict[str, Any]] | None = None
) -> Iterator[Fleet]:
    """A fleet with these cameras, ready; everything is gone afterwards."""
    (base / "cameras").mkdir(parents=True, exist_ok=True)
    for name, spec in (cameras or {}).items():
        document = {
            "apiVersion": "camfleet.io/v1alpha1",
            "kind": "Camera",
            "metadata": {"name": name},
            "spec": spec,
        }
        (base / "cameras" / f"{name}.yaml").write_text(yaml.safe_dump(document))
    fleet = Fleet(base, *arguments)
    try:
        fleet.wait_ready()
        yield fleet
    except BaseException:
        print(fleet.log[-8000:], file=sys.stderr)
        raise
    finally:
        fleet.close()


def environment_of(process: psutil.Process) -> str:
    """The environment of a process as the kernel shows it."""
    return Path(f"/proc/{process.pid}/environ").read_bytes().replace(b"\0", b"\n").decode(errors="replace")


def process_list() -> str:
    """Command lines of all processes, as `ps` shows them."""
    return subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
