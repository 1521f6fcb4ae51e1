"""A fleet on which faults are played: everything is a real process but the nodes' kubelets.

API server, scheduler and controller-manager; a gateway that reviews the workers' tokens; a Prometheus server
that scrapes it, behind a proxy that can lie; an operator that asks Prometheus; a worker for every camera.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx
from tests.gateway.gateway_cluster import GATEWAY_RULES, Cluster, ClusterGateway

from support.cluster_site import Cameras
from support.fake_nodes import FakeNodes
from support.lying_prometheus import LyingPrometheus
from support.operator_process import OperatorProcess
from support.pod_runner import Container, PodRunner
from support.prometheus_process import PrometheusProcess
from support.require import ROOT
from support.stopwatch import waited

Json = dict[str, Any]
# So that many workers fit on a small machine: nobody looks at the pictures.
PATTERN: Json = {"testPattern": {"width": 160, "height": 120, "fps": 5}}
INFERENCE: Json = {"detectors": ["motion"], "fps": 2}
RULES = sorted((ROOT / "monitoring" / "rules").glob("*.yaml"))
_LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast everything goes: as it is delivered, or scaled down for a quick look.

    Attributes:
        scrape: Seconds between two scrapes, and between two judgements.
        stats_timeout: After how much silence a worker counts as lost, in seconds.
        stall: A camera's `stallTimeoutSeconds`.
        lease: How long a node's Lease lasts; it is renewed four times as often.
        lease_stale: The operator's `--node-lease-stale-seconds`.
        probe_speed: By what the liveness probe's period is divided.
        outage: How long something is away, in seconds.
        lie: How long each lie is told, in seconds.
    """

    scrape: float
    stats_timeout: float
    stall: int
    lease: int
    lease_stale: float
    probe_speed: float
    outage: float
    lie: float


FULL = Pace(scrape=10, stats_timeout=5, stall=20, lease=40, lease_stale=20, probe_speed=1, outage=600, lie=50)
QUICK = Pace(scrape=1, stats_timeout=2, stall=5, lease=8, lease_stale=5, probe_speed=10, outage=8, lie=4)


@dataclass(frozen=True, slots=True)
class Sight:
    """What the gateway said of a camera's worker at a moment: Unix times, and the pod."""

    at: float
    frame_at: float
    inference_at: float
    pod: str


class Watcher:
    """Looks at the gateway's page several times a second, and remembers when pictures of each camera came."""

    _LINE = re.compile(r"^camfleet_camera_(\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
    _LABEL = re.compile(r'(\w+)="([^"]*)"')

    def __init__(self, url: str) -> None:
        self._url = url
        self._sights: dict[str, list[Sight]] = {}
        self._looks: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        families = (
            "camfleet_camera_last_frame_timestamp_seconds",
            "camfleet_camera_last_inference_timestamp_seconds",
            "camfleet_camera_info",
        )
        with httpx.Client(timeout=2) as client:
            while not self._stop.wait(_LOOK_SECONDS):
                self._looks.append((time.time(), waited()))
                try:
                    answer = client.get(self._url, params=[("name[]", family) for family in families])
                except httpx.HTTPError:
                    continue
                self._note(answer.text)

    def _note(self, page: str) -> None:
        frames: dict[str, float] = {}
        inferences: dict[str, float] = {}
        pods: dict[str, str] = {}
        for family, text, value in self._LINE.findall(page):
            labels = dict(self._LABEL.findall(text))
            camera = f"{labels.get('namespace')}.{labels.get('camera')}"
            if family == "info":
                pods[camera] = labels.get("pod", "")
            else:
                (inferences if "inference" in family else frames)[camera] = float(value)
        for camera, at in frames.items():
            sight = Sight(time.time(), at, inferences.get(camera, 0.0), pods.get(camera, ""))
            self._sights.setdefault(camera, []).append(sight)

    def latest(self, camera: str) -> Sight | None:
        """The last word about a camera that has a worker."""
        found = self._sights.get(camera)
        return found[-1] if found else None

    def longest_gap(self, camera: str, since: float) -> float:
        """The longest time without a new picture, from `since` (Unix time) until now.

        A crowded machine makes gaps of its own: what it lacked a core for in one does not count, up to ten
        seconds.
        """
        times = sorted({s.frame_at for s in self._sights.get(camera, ()) if s.frame_at >= since})
        looks, totals = zip(*self._looks, (time.time(), waited()), strict=True)

        def gap(earlier: float, later: float) -> float:
            first, last = bisect_right(looks, earlier) - 1, bisect_left(looks, later)
            crowded = totals[min(last, len(totals) - 1)] - totals[max(first, 0)]
            return later - earlier - min(10.0, crowded)

        return max(gap(*pair) for pair in itertools.pairwise([since, *times, time.time()]))


@dataclass
class FaultSite(Cameras):
    """A namespace with cameras whose workers run.

    Attributes:
        arguments: More of the operator's command line.
        environment: More for each worker.
        direct: Whether the operator asks the gateway itself and no Prometheus server.
    """

    nodes: FakeNodes
    pace: Pace
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    direct: bool = False
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.plane.create_namespace(self.name)
            self.folder.mkdir(parents=True, exist_ok=True)
            cluster = Cluster(self.plane, self.folder)
            self.gateway = ClusterGateway(
                self.folder / "gateway",
                cluster.kubeconfig(*GATEWAY_RULES, namespaces=(self.name,)),
                namespace=(self.name,),
                stats_timeout_seconds=self.pace.stats_timeout,
            )
            stack.callback(self.gateway.kill)
            target = f"127.0.0.1:{self.gateway.internal_port}"
            self.prometheus = stack.enter_context(
                PrometheusProcess([target], scrape_interval=f"{self.pace.scrape:g}s", rule_files=RULES)
            )
            self.proxy = stack.enter_context(LyingPrometheus(self.prometheus.url))
            self.watcher = stack.enter_context(Watcher(f"{self.gateway.internal_url}/metrics"))
            self.runner = stack.enter_context(
                PodRunner(
                    self.plane,
                    self.name,
                    self.nodes,
                    self.folder,
                    environment=self.environment,
                    probe_speed=self.pace.probe_speed,
                )
            )
            self.operator = self.new_operator()
            stack.callback(self.operator.stop)
            self.operator.start()
            self.stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.print_logs()  # shown where the test has failed
        for node in self.nodes.names:
            if not self.nodes.alive(node):
                self.runner.revive_node(node)
        self.stack.close()
        self.plane.delete(self.cameras_path)
        self.plane.delete(f"/api/v1/namespaces/{self.name}")

    def new_operator(self, *arguments: str) -> OperatorProcess:
        """An operator with this site's settings and more; not started."""
        return OperatorProcess(
            self.plane.kubeconfig,
            self.folder / "operator.log",
            f"--namespace={self.name}",
            f"--lease-namespace={self.name}",
            "--identity=operator-0",
            f"--gateway-url={self.gateway.internal_url}",
            f"--health-seconds={self.pace.scrape:g}",
            f"--node-lease-stale-seconds={self.pace.lease_stale:g}",
            *self._evaluator(),
            *self.arguments,
            *arguments,
        )

    def _evaluator(self) -> tuple[str, ...]:
        if self.direct:
            return (f"--gateway-metrics={self.gateway.internal_url}/metrics",)
        return (f"--prometheus-url={self.proxy.url}", f"--scrape-seconds={self.pace.scrape:g}")

    def replace_operator(self, *arguments: str) -> None:
        """Stop the operator, and go on with one that has these settings as well."""
        self.operator.stop()
        self.operator = self.new_operator(*arguments)
        self.stack.callback(self.operator.stop)
        self.operator.start()

    # ── Cameras ─────────────────────────────────────────────────────────────────────────────────────

    def create(self, name: str, **spec: Any) -> Json:
        """Create a camera with a worker that costs little."""
        health = {"stallTimeoutSeconds": self.pace.stall, **spec.pop("health", {})}
        return super().create(name, **{"source": PATTERN, "inference": INFERENCE, "health": health, **spec})

    def create_all(self, *names: str, **spec: Any) -> None:
        """Create cameras, and wait until all of them are Ready."""
        for name in names:
            self.create(name, **spec)
        self.wait_ready(*names, seconds=60 + 10 * len(names))

    def id_of(self, camera: str) -> str:
        """`namespace.name`."""
        return f"{self.name}.{camera}"

    def attempt(self, camera: str) -> int:
        """The attempt that the status names."""
        return int(self.camera(camera).get("status", {}).get("worker", {}).get("attempt", 0))

    def attempts(self) -> dict[str, int]:
        """The attempts of all cameras."""
        found = self.plane.items(self.cameras_path)
        return {c["metadata"]["name"]: c.get("status", {}).get("worker", {}).get("attempt", 0) for c in found}

    def node_of(self, camera: str) -> str:
        """The node of a camera's pod."""
        return str(self.pod(camera)["spec"]["nodeName"])

    def cameras_on(self, node: str) -> list[str]:
        """Whose pods are on a node."""
        return sorted(
            pod["metadata"]["labels"]["camfleet.io/camera"]
            for pod in self.pods()
            if pod["spec"].get("nodeName") == node
        )

    def worker(self, camera: str) -> Container:
        """The process of a camera's worker."""
        return self.runner.container(camera)

    def last_move(self, camera: str) -> Json:
        """`status.lastReassignment`; empty if there has been none."""
        return dict(self.camera(camera).get("status", {}).get("lastReassignment") or {})

    def reasons(self, camera: str) -> set[str]:
        """Reasons of the Events about a camera."""
        return {reason for reason, _ in self.events(camera)}

    # ── Streams ─────────────────────────────────────────────────────────────────────────────────────

    def streaming(self, camera: str, *, since: float | None = None, pod_other_than: str = "") -> bool:
        """Whether the gateway has a new picture of a camera.

        Args:
            camera: Its name.
            since: A picture that came later than that (Unix time); in the last three seconds if not given.
            pod_other_than: The pod whose pictures do not count.
        """
        seen = self.watcher.latest(self.id_of(camera))
        if seen is None or seen.pod == pod_other_than or time.time() - seen.at > 2:
            return False
        return seen.frame_at >= (time.time() - 3 if since is None else since)

    def wait_streaming(
        self, cameras: Iterable[str], since: float, *, elsewhere: dict[str, str] | None = None, seconds: float
    ) -> dict[str, float]:
        """Wait until all of these stream; how long after `since` (Unix time) each did.

        Args:
            cameras: Names.
            since: When the fault began.
            elsewhere: Pods that do not count, by camera.
            seconds: How long to wait at most.
        """
        left, times = set(cameras), {}
        deadline = time.monotonic() + seconds

        def look() -> bool:
            for camera in list(left):
                if self.streaming(camera, since=since, pod_other_than=(elsewhere or {}).get(camera, "")):
                    times[camera] = time.time() - since
                    left.discard(camera)
            return not left

        self.wait(look, "all to stream", seconds=max(1.0, deadline - time.monotonic()))
        return times

    def look(self) -> dict[str, tuple[int, str]]:
        """Attempt and pod of every camera: what stays the same while nothing is moved."""
        pods = {
            pod["metadata"]["labels"]["camfleet.io/camera"]: pod["metadata"]["uid"] for pod in self.pods()
        }
        return {camera: (attempt, pods.get(camera, "")) for camera, attempt in self.attempts().items()}

    def wait_inferring(self, camera: str, since: float, *, seconds: float) -> float:
        """Wait until pictures that came after `since` (Unix time) are examined; how long it took."""

        def look() -> bool:
            seen = self.watcher.latest(self.id_of(camera))
            return seen is not None and seen.inference_at > since

        self.wait(look, f"inference of {camera}", seconds=seconds)
        return time.time() - since

    # ── What the operator says ──────────────────────────────────────────────────────────────────────

    def explain(self, camera: str = "") -> Json:
        """The operator's own account, of everything or of a camera; empty if it has none."""
        path = f"/explain?camera={self.id_of(camera)}" if camera else "/explain"
        status, text = self.operator.get(path)
        return dict(json.loads(text)) if status == 200 else {}

    def metric(self, name: str) -> float:
        """A figure of the operator's, all its series added up; 0 if there is none."""
        text = self.operator.get("/metrics")[1]
        found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def blind(self) -> str:
        """Why the operator knows nothing at present; empty if it does."""
        said = (self.explain().get("evaluator") or {}).get("blind") or {}
        return str(said.get("reason", ""))

    def frozen(self) -> str:
        """Why the operator moves nothing at present; empty if it might."""
        return ", ".join(str(item.get("reason")) for item in self.explain().get("frozen", ()))

    def print_logs(self) -> None:
        print(json.dumps(self.explain(), indent=1)[:4000])
        print(self.operator.log()[-6000:])
        print(self.gateway.log[-2000:])
        for container in list(self.runner.containers.values())[-4:]:
            print(container.pod, container.log()[-1000:])


def freeze(container: Container) -> None:
    """Stop a worker's process as it is: it says nothing and keeps its connections."""
    container.signal(signal.SIGSTOP)


def thaw(container: Container) -> None:
    """Let a process that was frozen go on."""
    container.signal(signal.SIGCONT)
