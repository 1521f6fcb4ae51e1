"""Plays the kubelet for worker pods: runs each as a process of this machine, with the pod's own environment.

What the operator and the gateway depend on is as the kubelet does it: the token is bound to the pod, a
process that ends is started again (at once, then after 10 s, doubling), the liveness probe is the pod's own
command, a deleted pod gets SIGTERM, its grace time, SIGKILL, and leaves the API server only then. A lost node
does none of that: its processes are frozen or gone, its pods stay as they are.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from tests.testbed.control_plane import ControlPlane
from tests.testbed.processes import Process

from camfleet_protocol.cluster import CAMERA_LABEL, TOKEN_AUDIENCE, WORKER_SELECTOR
from support.fake_nodes import FakeNodes

logger = logging.getLogger(__name__)

Json = dict[str, Any]

TICK_SECONDS = 0.1
_RELIST_SECONDS = 3.0
_BACKOFF_SECONDS = 10.0
_BACKOFF_MAX_SECONDS = 300.0


@dataclass
class Container:
    """One worker pod's container: its process, and what the kubelet remembers of it."""

    camera: str
    pod: str
    uid: str
    node: str
    folder: Path
    process: Process | None = None
    restarts: int = 0
    start_at: float = 0.0
    """When the process may be started (again); monotonic seconds."""
    started_at: float = 0.0
    started_unix: float = 0.0
    probed_at: float = 0.0
    failed_probes: int = 0
    killed_at: float | None = None
    """When SIGTERM was sent because of the pod's deletion."""
    last_exit: Json | None = None
    frozen: bool = False

    @property
    def running(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self.process is not None and self.process.running

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process is not None, f"{self.pod} has not been started"
        return self.process.pid

    @property
    def work_dir(self) -> Path:
        """The emptyDir that the worker has its outbox and heartbeat in."""
        return self.folder / "work"

    @property
    def beats(self) -> bool:
        """Whether its process has come so far that it has given a sign of life."""
        heartbeat = self.work_dir / "heartbeat"
        return heartbeat.exists() and heartbeat.stat().st_mtime >= self.started_unix

    def log(self) -> str:
        """Everything that its processes have said."""
        path = self.folder / "worker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process, such as SIGSTOP, behind the kubelet's back."""
        assert self.process is not None
        self.process.signal(number)


class PodRunner:
    """Runs the worker pods of a namespace that are bound to a living node; a context manager.

    Args:
        plane: Where the pods are.
        namespace: Whose pods.
        nodes: Which nodes live.
        folder: Each pod gets a folder in it.
        environment: More for each worker's process, after the pod's own.
        probe_speed: By what the liveness probe's period is divided; 1 is as in the pod.
    """

    def __init__(
        self,
        plane: ControlPlane,
        namespace: str,
        nodes: FakeNodes,
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        probe_speed: float = 1.0,
    ) -> None:
        self.containers: dict[str, Container] = {}
        """By the pod's UID; those whose pod is gone stay while their process does."""
        self._plane = plane
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._namespace = namespace
        self._nodes = nodes
        self._folder = folder
        self._environment = dict(environment or {})
        self._probe_speed = probe_speed
        self._pods: dict[str, Json] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="pod-watch", daemon=True),
            threading.Thread(target=self._run, name="pod-runner", daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        for container in self.containers.values():
            if container.process is not None:
                container.process.kill()

    # ── What a test does ────────────────────────────────────────────────────────────────────────────

    def container(self, camera: str) -> Container:
        """The newest container of a camera whose process runs."""
        with self._lock:
            found = [c for c in self.containers.values() if c.camera == camera and c.running]
        assert found, f"no worker of {camera} runs"
        return found[-1]

    def on_node(self, node: str) -> list[Container]:
        """The containers of a node whose processes run."""
        with self._lock:
            return [c for c in self.containers.values() if c.node == node and c.running]

    def lose_node(self, node: str, *, kill: bool = False) -> list[Container]:
        """Lose a node at once: its Lease, its kubelet, and all its workers, which are frozen or killed.

        A frozen worker says nothing more and its connections stay open, as when a network is cut or a machine
        loses its power.
        """
        with self._lock:
            self._nodes.lose(node)
            hit = self.on_node(node)
            for container in hit:
                container.signal(signal.SIGKILL if kill else signal.SIGSTOP)
                container.frozen = not kill
        return hit

    def revive_node(self, node: str) -> None:
        """The node is back: frozen workers go on, and its kubelet learns what it has missed."""
        with self._lock:
            for container in self.containers.values():
                if container.node == node and container.frozen:
                    container.frozen = False
                    if container.running:
                        container.signal(signal.SIGCONT)
            self._nodes.revive(node)

    # ── What there is ───────────────────────────────────────────────────────────────────────────────

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                listed = self._plane.client.get(self._path, params={"labelSelector": WORKER_SELECTOR})
                listed.raise_for_status()
                document = listed.json()
                with self._lock:
                    self._pods = {pod["metadata"]["uid"]: pod for pod in document["items"]}
                self._follow(document["metadata"]["resourceVersion"])
            except httpx.ReadTimeout:
                continue
            except (httpx.HTTPError, ValueError) as error:
                logger.info("the watch of pods broke: %s", error)
                self._stop.wait(0.3)

    def _follow(self, version: str) -> None:
        """Take in events until none comes for a while, and all is listed anew."""
        params = {"labelSelector": WORKER_SELECTOR, "watch": "true", "resourceVersion": version}
        timeout = httpx.Timeout(10, read=_RELIST_SECONDS)
        with self._plane.client.stream("GET", self._path, params=params, timeout=timeout) as answer:
            for line in answer.iter_lines():
                if self._stop.is_set():
                    return
                event = json.loads(line)
                pod = event["object"]
                if event["type"] == "ERROR":
                    return
                with self._lock:
                    if event["type"] == "DELETED":
                        self._pods.pop(pod["metadata"]["uid"], None)
                    else:
                        self._pods[pod["metadata"]["uid"]] = pod

    # ── What a kubelet does ─────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            with self._lock:
                for uid, pod in list(self._pods.items()):
                    self._guarded(lambda uid=uid, pod=pod: self._sync(uid, pod))
                for uid in self.containers.keys() - self._pods.keys():
                    self._clean_up(self.containers[uid])

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (httpx.HTTPError, RuntimeError, AssertionError) as error:
            logger.info("the kubelet tries again: %s", error)  # the API server is away, or the pod is gone

    def _sync(self, uid: str, pod: Json) -> None:
        node = pod["spec"].get("nodeName")
        if not node or not self._nodes.alive(node):
            return
        container = self.containers.get(uid)
        deleting = "deletionTimestamp" in pod["metadata"]
        if container is None:
            if deleting:
                self._delete(pod)
                return
            container = self.containers[uid] = self._admit(uid, pod, node)
        now = time.monotonic()
        if deleting:
            self._terminate(container, pod, now)
        elif container.running:
            self._probe(container, pod, now)
        elif container.process is not None and container.start_at <= container.started_at:
            self._ended(container, pod, now)
        elif now >= container.start_at:
            self._start(container, pod, now)

    def _admit(self, uid: str, pod: Json, node: str) -> Container:
        name, labels = pod["metadata"]["name"], pod["metadata"]["labels"]
        folder = self._folder / name
        (folder / "work").mkdir(parents=True, exist_ok=True)
        return Container(labels[CAMERA_LABEL], name, uid, node, folder)

    def _start(self, container: Container, pod: Json, now: float) -> None:
        token = container.folder / "token"
        token.write_text(
            self._plane.pod_token(self._namespace, container.pod, audience=TOKEN_AUDIENCE, seconds=7200)
        )
        own = {e["name"]: self._here(container, e["value"]) for e in pod["spec"]["containers"][0]["env"]}
        if container.process is not None:
            container.restarts += 1
        container.process = Process(
            [sys.executable, "-m", "camfleet", "worker"],
            container.folder / "worker.log",
            environment={**own, **self._environment},
        )
        container.started_at, container.started_unix = now, time.time()
        container.probed_at = now
        container.failed_probes = 0
        self._report(container, pod, {"running": {"startedAt": _now()}}, ready=True)

    def _here(self, container: Container, value: str) -> str:
        """A path of the pod as it is on this machine."""
        for mount, name in (("/var/run/secrets/camfleet", ""), ("/var/lib/camfleet", "work")):
            value = value.replace(mount, str(container.folder / name) if name else str(container.folder))
        return value

    def _ended(self, container: Container, pod: Json, now: float) -> None:
        """Its process has ended by itself, or by the liveness probe: when it is started again."""
        assert container.process is not None
        code = container.process.exit_code
        lived = now - container.started_at
        pause = 0.0
        if container.restarts and lived < 600:
            pause = min(_BACKOFF_SECONDS * 2 ** (container.restarts - 1), _BACKOFF_MAX_SECONDS)
        container.start_at = now + pause
        container.last_exit = {
            "exitCode": code if code >= 0 else 128 - code, "reason": "Error", "finishedAt": _now()
        }  # fmt: skip
        waiting = {"reason": "CrashLoopBackOff", "message": f"back-off {pause:.0f}s restarting"}
        state = {"waiting": waiting} if pause else {"terminated": container.last_exit}
        self._report(container, pod, state, ready=False)

    def _probe(self, container: Container, pod: Json, now: float) -> None:
        probe = pod["spec"]["containers"][0].get("livenessProbe")
        if probe is None or container.frozen:
            return
        due = container.probed_at + probe["periodSeconds"] / self._probe_speed
        # A process does not start any sooner because all else goes fast.
        delay = probe["initialDelaySeconds"] / (self._probe_speed if container.beats else 1.0)
        if now < due or now < container.started_at + delay:
            return
        container.probed_at = now
        command = [self._here(container, part) for part in probe["exec"]["command"]]
        try:
            done = subprocess.run(command, capture_output=True, timeout=probe["timeoutSeconds"], check=False)
            failed = done.returncode != 0
        except subprocess.TimeoutExpired:
            failed = True
        container.failed_probes = container.failed_probes + 1 if failed else 0
        if container.failed_probes >= probe["failureThreshold"]:
            logger.info("%s fails its liveness probe", container.pod)
            container.signal(signal.SIGKILL)  # a process that is stopped would not hear SIGTERM either

    def _terminate(self, container: Container, pod: Json, now: float) -> None:
        if container.killed_at is None:
            container.killed_at = now
            if container.running:
                container.signal(signal.SIGTERM)
        grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        if container.running and now < container.killed_at + grace:
            return
        if container.process is not None:
            container.process.kill()
        self._delete(pod)
        self._pods.pop(container.uid, None)
        del self.containers[container.uid]

    def _clean_up(self, container: Container) -> None:
        """The pod has gone without us: by force, or while the node was away."""
        if not self._nodes.alive(container.node):
            return
        now = time.monotonic()
        if container.killed_at is None:
            container.killed_at = now
            if container.running:
                container.signal(signal.SIGTERM)
        if container.running and now < container.killed_at + 2.0:
            return
        if container.process is not None:
            container.process.kill()
        del self.containers[container.uid]

    def _delete(self, pod: Json) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}}
        answer = self._plane.client.request("DELETE", f"{self._path}/{pod['metadata']['name']}", json=body)
        if answer.status_code not in (404, 409):
            answer.raise_for_status()

    def _report(self, container: Container, pod: Json, state: Json, *, ready: bool) -> None:
        told = str(ready)
        status = {
            "phase": "Running",
            "startTime": pod["metadata"]["creationTimestamp"],
            "conditions": [
                *(c for c in pod.get("status", {}).get("conditions", ()) if c["type"] == "PodScheduled"),
                *({"type": kind, "status": told} for kind in ("Ready", "ContainersReady")),
                {"type": "Initialized", "status": "True"},
            ],
            "containerStatuses": [
                {
                    "name": pod["spec"]["containers"][0]["name"],
                    "image": pod["spec"]["containers"][0]["image"],
                    "imageID": "",
                    "ready": ready,
                    "restartCount": container.restarts,
                    "state": state,
                    "lastState": {"terminated": container.last_exit} if container.last_exit else {},
                }
            ],
        }
        self._plane.patch(f"{self._path}/{container.pod}/status", {"status": status})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
