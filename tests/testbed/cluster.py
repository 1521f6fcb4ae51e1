"""A whole cluster on this machine, without Docker: control plane, a node, and Camfleet's images on it.

`Cluster` is what the node-level tests use, and what `make cluster` leaves running.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed import images, machine
from tests.testbed.components import NODE_LEVEL, available, find
from tests.testbed.control_plane import DEFAULT_RATES, ControlPlane
from tests.testbed.images import Image, Report
from tests.testbed.machine import ADDRESS, Machine
from tests.testbed.node import Node
from tests.testbed.processes import Startable, started_at, wait_until

ROOT = images.ROOT
CHART = ROOT / "charts" / "camfleet"
RECORD = "cluster.json"
_TEMPORARY = "camfleet-node-"
_SYSTEM_PYTHON = "/usr/bin/python3"  # has GStreamer's bindings
_RTSP_SERVER = ROOT / "tests" / "support" / "gst_rtsp.py"


def missing() -> str | None:
    """Why this machine cannot carry a cluster, or None if it can."""
    return machine.missing() or available(NODE_LEVEL) or images.missing()


@dataclass(frozen=True, slots=True)
class RtspCamera:
    """An RTSP camera on the node's address.

    Attributes:
        url: Its address without user and password, for a Camera's `spec.source.rtsp.url`.
        process: The server; kill it, or stop it with SIGSTOP, to see what happens.
    """

    url: str
    process: subprocess.Popen[str]


class Cluster(Startable):
    """Control plane and node of processes. A context manager: leaving it leaves nothing behind.

    Args:
        folder: Data and logs; a temporary one if not given.
        die_with_parent: Whether everything ends when this process does, however it ends.
        report: Where to say what goes on.
    """

    def __init__(
        self, folder: Path | None = None, *, die_with_parent: bool = True, report: Report = lambda line: None
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix=_TEMPORARY))
        self.images: dict[str, Image] = {}
        self.machine = Machine(self.folder, die_with_parent=die_with_parent)
        self._die = die_with_parent
        self._report = report

    # ── Life ────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Build what is missing, start everything, and load the images; takes minutes the first time only."""
        for name in NODE_LEVEL:
            find(name)
        _sweep()
        inside = self.machine.start()
        self.save_record()
        self.plane = ControlPlane(
            self.folder / "plane", host=ADDRESS, die_with_parent=self._die, inside=inside
        )
        self.node = Node(self.machine, self.plane)
        # Only the builds: a process dies with the thread that has started it.
        with ThreadPoolExecutor(1, thread_name_prefix="images") as background:
            built = background.submit(images.build, report=self._report)
            with self._told("Control plane"):
                self.plane.start()
                # A static volume's claim is bound at the next look at it, by default after 15 s.
                self.plane.start_controller_manager(DEFAULT_RATES, "--pvclaimbinder-sync-period=1s")
                self.plane.start_scheduler()
            self.images = built.result()
        with self._told("Images on the node"):
            self.node.start_runtime(self.images.values())
        with self._told("Node"):
            self.node.start()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._report(f"{what}: {time.monotonic() - started:.1f} s")

    def stop(self) -> None:
        """End everything, and remove the folder."""
        self.machine.kill()
        if hasattr(self, "plane"):
            self.plane.stop()
        self.machine.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def save_record(self) -> None:
        """Write down, in the folder, what `end` needs to end the cluster from another process."""
        assert self.machine.holder is not None and self.machine.inside is not None
        pids = {"machine": self.machine.holder.pid, "holder": self.machine.inside.holder}
        if hasattr(self, "plane"):
            pids |= {n: p.pid for n, p in self.plane.processes.items() if n.startswith("forward-")}
        record = {
            "cgroup": self.machine.cgroup,
            "processes": {name: [pid, started_at(pid)] for name, pid in pids.items()},
        }
        partial = self.folder / f".{RECORD}"  # complete or not there, for others that sweep
        partial.write_text(json.dumps(record))
        partial.replace(self.folder / RECORD)

    # ── For tests ───────────────────────────────────────────────────────────────────────────────────

    def install(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        release: str = "camfleet",
        namespace: str = "camfleet",
    ) -> None:
        """Install or upgrade the working tree's chart with the working tree's images, and wait for it.

        Args:
            values: More values for the chart; they win.
            release: Name of the release.
            namespace: Its namespace, made if need be.
        """
        own = chart_values({program: image.reference for program, image in self.images.items()})
        own = _merged(own, {"gateway": {"persistence": {"enabled": False}}})  # nobody provisions volumes here
        file = self.folder / f"{release}-values.json"
        file.write_text(json.dumps(_merged(own, values or {})))
        self.helm(
            "upgrade", release, str(CHART), "--install", f"--namespace={namespace}", "--create-namespace",
            f"--values={file}", "--wait", "--timeout=300s",
        )  # fmt: skip

    def helm(self, *arguments: str) -> str:
        """Run Helm as admin and return what it prints."""
        environment = {
            **os.environ,
            **{f"HELM_{kind}_HOME": str(self.folder / "helm" / kind) for kind in ("CACHE", "CONFIG", "DATA")},
        }
        done = subprocess.run(
            [find("helm"), f"--kubeconfig={self.plane.kubeconfig}", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"helm {' '.join(arguments)}: {done.stderr.strip()}\n{self.troubles()}")
        return done.stdout

    def troubles(self) -> str:
        """The pods and the last Events: what one wants to read when something did not come up."""
        pods = self.plane.kubectl("get", "pods", "--all-namespaces", "--output=wide", check=False)
        events = self.plane.kubectl(
            "get", "events", "--all-namespaces", "--sort-by=.lastTimestamp", check=False
        ).splitlines()
        return "\n".join([pods, *events[-25:]])

    def load_media(self, path: Path, *, namespace: str, claim: str = "media") -> str:
        """Make a file, or all files of a folder, the content of a PersistentVolumeClaim; returns its name.

        The claim is bound to a static hostPath volume with a copy, so it can be mounted in restricted pods.
        """
        name = f"{namespace}-{claim}"
        folder = self.folder / "media" / name
        folder.mkdir(parents=True, mode=0o755)
        for file in [path] if path.is_file() else sorted(path.iterdir()):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
        volume = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
        }
        self.plane.post(
            "/api/v1/persistentvolumes",
            {
                "metadata": {"name": name},
                "spec": {
                    **volume,
                    "hostPath": {"path": str(folder), "type": "Directory"},
                    "claimRef": {"namespace": namespace, "name": claim},
                },
            },
        )
        claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
        self.plane.post(
            claims,
            {
                "metadata": {"name": claim},
                "spec": {
                    "accessModes": ["ReadOnlyMany"],
                    "storageClassName": "",
                    "volumeName": name,
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            },
        )
        wait_until(
            lambda: (self.plane.get(f"{claims}/{claim}") or {}).get("status", {}).get("phase") == "Bound",
            f"the claim {claim} to be bound",
        )
        return claim

    @contextlib.contextmanager
    def run_rtsp_server(self, username: str = "", password: str = "") -> Iterator[RtspCamera]:
        """A real RTSP camera that pods reach, on the node's address; with a user if one is given."""
        assert self.machine.inside is not None
        options = {"host": ADDRESS, "port": 0, "username": username, "password": password}
        with self.machine.inside.popen(
            [_SYSTEM_PYTHON, _RTSP_SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                assert process.stdin is not None and process.stdout is not None
                process.stdin.write(json.dumps(options) + "\n")
                process.stdin.flush()
                yield RtspCamera(f"rtsp://{ADDRESS}:{int(process.stdout.readline())}/cam", process)
            finally:
                process.send_signal(signal.SIGKILL)

    def forward_service(self, namespace: str, name: str, port: int, *, local: int | None = None) -> int:
        """Bring a Service's port to this machine's loopback, and return the port there."""
        service = self.plane.get(f"/api/v1/namespaces/{namespace}/services/{name}")
        assert service is not None, f"no service {name}"
        return self.plane.forward(
            f"{namespace}-{name}-{port}", f"{service['spec']['clusterIP']}:{port}", port=local
        )


def running(folder: Path) -> bool:
    """Whether the cluster of this folder runs."""
    if not (folder / RECORD).exists():
        return False
    pid, started = json.loads((folder / RECORD).read_text())["processes"]["machine"]
    return started_at(pid) == started


def end(folder: Path) -> None:
    """End the cluster of this folder, whoever has started it, and remove what is left of it."""
    record = json.loads((folder / RECORD).read_text())
    processes: dict[str, list[int]] = record["processes"]
    for pid, started in processes.values():
        if started_at(pid) == started:
            os.kill(pid, signal.SIGKILL)
    for name, (pid, started) in processes.items():
        wait_until(lambda p=pid, s=started: started_at(p) != s, f"the end of {name}", seconds=30)
    machine.end(None, record["cgroup"], folder)
    shutil.rmtree(folder)


def _sweep() -> None:
    """Remove what is left of clusters whose process was killed; everything that ran has ended with it."""
    for record in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*/{RECORD}"):
        if not running(record.parent):
            with contextlib.suppress(OSError):  # somebody else sweeps as well
                end(record.parent)


def chart_values(references: Mapping[str, str]) -> dict[str, Any]:
    """The chart's values for images that no registry has, by program."""
    parts = {program: reference.rpartition(":") for program, reference in references.items()}
    return {
        program: {"image": {"repository": repository, "tag": tag, "pullPolicy": "Never"}}
        for program, (repository, _, tag) in parts.items()
    }


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in more.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
