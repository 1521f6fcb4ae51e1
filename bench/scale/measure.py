"""The measurements: each in a cluster of its own, each bounded in time."""

from __future__ import annotations

import asyncio
import collections
import json
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.scale.audit import Write
from bench.scale.cluster import AGENT, IN_FLIGHT, NAMESPACES, Cluster, camera, pod_of
from bench.scale.gateway import Gateway
from bench.scale.naive_kopf import CRD, GROUP, PLURAL, VERSION
from bench.scale.operators import OperatorProcess
from bench.scale.processes import ForeignLoad
from tests.testbed.processes import wait_until

CAMFLEET = "camfleet-operator"
SETTLE_SECONDS = 3.0
QUIET_SECONDS = 12.0
"""A gateway is asked every ten seconds: who has written nothing for longer has nothing left to write."""


@dataclass
class Result:
    """What was seen of one system with so many cameras. Seconds count from the operator's start."""

    system: str
    cameras: int
    exist_s: float = 0.0
    """All pods have been created."""
    running_s: float = 0.0
    first_pod_s: float = 0.0
    """The first pod; what is before that is the start of a process."""
    exist_cpu_s: float | None = None
    """The operator's CPU until then."""
    early_writes: int | None = None
    """Its writes until then that were no creations of pods: they compete with those."""
    ready_s: float | None = None
    """The last write before it became quiet."""
    ready: int | None = None
    """Cameras that were Ready then."""
    cpu_s: float | None = None
    rss_peak_mib: float | None = None
    api_cpu_s: float = 0.0
    """API server and etcd, until all ran."""
    writes: float = 0.0
    """Per camera, by everybody, until quiet; no Events, no Leases, no creation of Cameras."""
    own_writes: float | None = None
    """Per camera, by the operator, until quiet; all but the Lease."""
    own_kinds: dict[str, float] = field(default_factory=dict)
    """The same by verb and resource."""
    rest_s: float | None = None
    rest_writes: int | None = None
    rest_cores: float | None = None
    rest_rss_mib: float | None = None
    restart_ready_s: float | None = None
    restart_looked_s: float | None = None
    restart_writes: int | None = None
    restart_cpu_s: float | None = None
    restart_rss_peak_mib: float | None = None
    restart_rss_mib: float | None = None
    foreign_cores: float = 0.0
    """What others kept busy of the machine while the pods came up."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the answer to a change until its pod is seen."""

    what: str
    count: int
    p50: float
    p99: float
    worst: float
    promised: bool = True

    @classmethod
    def of(cls, what: str, seconds: list[float], *, promised: bool = True) -> Latency:
        """Sum samples up."""
        ordered = sorted(1000 * s for s in seconds)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        return cls(what, len(ordered), statistics.median(ordered), p99, ordered[-1], promised)


def is_lease(write: Write) -> bool:
    """Whether it is a Lease."""
    return write.resource == "leases"


def own_writes(cluster: Cluster, since: float, who: str = CAMFLEET) -> list[Write]:
    """What an operator has written but its Lease."""
    return [w for w in cluster.trail.since(since, who) if not is_lease(w)]


@asynccontextmanager
async def _cluster() -> AsyncIterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="camfleet-scale-") as folder:
        async with Cluster.fresh(Path(folder)) as cluster:
            yield cluster


class _Pods:
    """Which pods were created, and which run, by the trail."""

    def __init__(self, cluster: Cluster) -> None:
        self.created: dict[str, float] = {}
        self.running: dict[str, float] = {}
        cluster.trail.on_write = self.saw

    def saw(self, write: Write) -> None:
        """One more write."""
        if write.code >= 300:
            return
        if write.resource == "pods" and write.verb == "create":
            self.created.setdefault(write.object, write.at)
        elif write.resource == "pods/status" and write.who == "kwok":
            self.running.setdefault(write.object, write.at)


async def _follow(
    cluster: Cluster,
    pods: _Pods,
    result: Result,
    t0: float,
    cpu: float,
    operator: OperatorProcess | None = None,
) -> None:
    """Wait until all pods run, and note when they were there."""
    wanted, load = result.cameras, ForeignLoad()
    limit = 120 + 0.2 * wanted
    await cluster.until(lambda: len(pods.created) >= wanted, seconds=limit, what="all pods exist")
    if operator is not None:
        result.exist_cpu_s = operator.cpu()
    await cluster.until(lambda: len(pods.running) >= wanted, seconds=limit, what="all pods run")
    result.api_cpu_s = cluster.api_cpu() - cpu
    result.exist_s = max(pods.created.values()) - t0
    result.first_pod_s = min(pods.created.values()) - t0
    result.running_s = max(pods.running.values()) - t0
    result.foreign_cores = load.cores()
    own = own_writes(cluster, t0)
    if operator is not None and own:
        last = max(pods.created.values())
        result.early_writes = sum(w.at <= last and w.resource != "pods" for w in own)
    seen = await cluster.pods()
    if seen != (wanted, wanted):
        raise RuntimeError(f"{seen[0]} pods, {seen[1]} of them running, instead of {wanted}")


def _count(cluster: Cluster, result: Result, t0: float, who: str | None) -> None:
    ignored = ("events", "leases")
    everybody = [
        w
        for w in cluster.trail.since(t0)
        if w.resource not in ignored and not (w.who == AGENT and w.resource != "pods")
    ]
    result.writes = len(everybody) / result.cameras
    if who is not None:
        own = own_writes(cluster, t0, who)
        result.own_writes = len(own) / result.cameras
        kinds = collections.Counter(f"{w.verb} {w.resource}" for w in own)
        result.own_kinds = {kind: round(count / result.cameras, 3) for kind, count in kinds.most_common()}


# ── The systems ─────────────────────────────────────────────────────────────────────────────────────


async def direct(cameras: int) -> Result:
    """The same pods, owned by the same cameras, created by a client that does nothing else."""
    result = Result("DIRECT", cameras)
    async with _cluster() as cluster:
        made = await cluster.create_cameras(cameras)
        bodies = []
        for document in made:
            pod = pod_of(document)
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods"
            bodies.append((path, json.dumps(pod, separators=(",", ":")).encode()))
        await asyncio.sleep(SETTLE_SECONDS)
        pods, cpu, t0 = _Pods(cluster), cluster.api_cpu(), time.time()
        async with asyncio.TaskGroup() as group:
            group.create_task(cluster.create_all(bodies))
            group.create_task(_follow(cluster, pods, result, t0, cpu))
        _count(cluster, result, t0, None)
    return result


async def camfleet(
    cameras: int, *options: str, name: str, with_gateway: bool, rest: float, restart: bool = True
) -> Result:
    """Camfleet's operator; the cameras are there before it starts."""
    result = Result(name, cameras)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(_cluster())
        await cluster.create_cameras(cameras)
        pods = _Pods(cluster)
        if with_gateway:
            gateway = await stack.enter_async_context(Gateway.serve())
            options = (*options, f"--gateway-metrics={gateway.url}")
            cluster.trail.on_write = _both(pods.saw, gateway.saw)
        await asyncio.sleep(SETTLE_SECONDS)
        cpu = cluster.api_cpu()

        def start(log: str) -> OperatorProcess:
            plane = cluster.plane
            return OperatorProcess.camfleet(plane.kubeconfig, plane.folder / log, *options)

        operator = start("operator.log")
        stack.push_async_callback(operator.stop)
        t0 = operator.started
        await _checked(operator, _follow(cluster, pods, result, t0, cpu, operator))
        await _quiet(cluster, operator, t0, seconds=120 + 0.1 * cameras)
        result.ready_s = max(w.at for w in own_writes(cluster, t0)) - t0
        result.ready = await cluster.ready_cameras()
        result.cpu_s = operator.cpu()
        _count(cluster, result, t0, CAMFLEET)
        await _rest(cluster, operator, result, CAMFLEET, rest)
        result.rss_peak_mib = operator.peak()
        if restart:
            await operator.stop()
            operator = start("operator-2.log")
            stack.push_async_callback(operator.stop)
            await _restart(cluster, operator, result)
    return result


def _both(first: Callable[[Write], None], second: Callable[[Write], None]) -> Callable[[Write], None]:
    def saw(write: Write) -> None:
        first(write)
        second(write)

    return saw


async def _checked(operator: OperatorProcess, wait: Awaitable[None]) -> None:
    """Wait for something, but not for a process that has ended."""
    task = asyncio.ensure_future(wait)
    try:
        while not (await asyncio.wait({task}, timeout=1.0))[0]:
            operator.check()
        task.result()
    finally:
        task.cancel()


async def _quiet(cluster: Cluster, operator: OperatorProcess, since: float, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        operator.check()
        cluster.trail.read()
        own = own_writes(cluster, since)
        if not own or time.time() - own[-1].at > QUIET_SECONDS:
            return
        await asyncio.sleep(0.5)
    raise TimeoutError(f"the operator still writes after {seconds:.0f} s")


async def _rest(
    cluster: Cluster, operator: OperatorProcess, result: Result, who: str, seconds: float
) -> None:
    if seconds <= 0:
        return
    cpu, begin, mark = operator.cpu(), time.monotonic(), time.time()
    while time.monotonic() < begin + seconds:
        await asyncio.sleep(min(1.0, seconds))
        operator.check()
        cluster.trail.read()  # the gateway's page depends on it
    result.rest_s = time.monotonic() - begin
    result.rest_cores = (operator.cpu() - cpu) / result.rest_s
    result.rest_writes = len(own_writes(cluster, mark, who))
    result.rest_rss_mib = operator.resident()


async def _restart(cluster: Cluster, operator: OperatorProcess, result: Result) -> None:
    """A new process that finds everything as it should be."""
    limit = 60 + 0.02 * result.cameras
    result.restart_ready_s = await operator.ready(limit)
    result.restart_looked_s = await operator.looked_at(result.cameras, limit)
    result.restart_cpu_s = operator.cpu()
    await asyncio.sleep(2 * QUIET_SECONDS)
    operator.check()
    cluster.trail.read()
    result.restart_writes = len(own_writes(cluster, operator.started))
    result.restart_rss_peak_mib = operator.peak()
    result.restart_rss_mib = operator.resident()


async def naive(cameras: int, *, rest: float) -> Result:
    """The plain kopf operator, with a kind of its own that is as large."""
    result = Result("NAIVE KOPF", cameras)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(_cluster())
        plane = cluster.plane
        template = pod_of((await cluster.create_cameras(1, prefix="template", suspend=True))[0])
        pod = plane.folder / "pod.json"
        pod.write_text(json.dumps(template))
        plane.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
        base = f"/apis/{GROUP}/{VERSION}"
        served = lambda: plane.client.get(f"{base}/{PLURAL}").status_code == 200  # noqa: E731
        await asyncio.to_thread(wait_until, served, "the API to serve the plain operator's kind")
        await cluster.create_all(
            (
                f"{base}/namespaces/{(namespace := NAMESPACES[number % len(NAMESPACES)])}/{PLURAL}",
                json.dumps(
                    {
                        "apiVersion": f"{GROUP}/{VERSION}",
                        "kind": "NaiveCamera",
                        "metadata": {"name": f"cam-{number:05d}", "namespace": namespace},
                        "spec": {"source": {"rtsp": {"url": f"rtsp://cam-{number}.example.com:554/stream1"}}},
                    }
                ).encode(),
            )
            for number in range(cameras)
        )
        pods = _Pods(cluster)
        await asyncio.sleep(SETTLE_SECONDS)
        cpu = cluster.api_cpu()
        operator = OperatorProcess.naive(plane.kubeconfig, plane.folder / "naive.log", pod)
        stack.push_async_callback(operator.stop)
        await _checked(operator, _follow(cluster, pods, result, operator.started, cpu, operator))
        result.cpu_s = operator.cpu()
        ignored = {"kube-scheduler", "kube-controller-manager", "kwok", AGENT}
        writers = {w.who for w in cluster.trail.writes if w.at >= operator.started} - ignored
        _count(cluster, result, operator.started, None)
        own = [w for who in writers for w in own_writes(cluster, operator.started, who)]
        result.own_writes = len(own) / cameras
        cpu, begin, mark = operator.cpu(), time.monotonic(), time.time()
        if rest > 0:
            await asyncio.sleep(rest)
            cluster.trail.read()
            result.rest_s = time.monotonic() - begin
            result.rest_cores = (operator.cpu() - cpu) / result.rest_s
            result.rest_writes = sum(len(own_writes(cluster, mark, who)) for who in writers)
            result.rest_rss_mib = operator.resident()
        result.rss_peak_mib = operator.peak()
    return result


# ── Latency ─────────────────────────────────────────────────────────────────────────────────────────


class _Appearances:
    """When pods appear in a watch."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._gone: dict[str, asyncio.Future[float]] = {}

    def of(self, camera: str) -> asyncio.Future[float]:
        """When a new pod of a camera appears."""
        return self._waiting.setdefault(camera, asyncio.get_running_loop().create_future())

    def end_of(self, camera: str) -> asyncio.Future[float]:
        """When a pod of a camera has gone."""
        return self._gone.setdefault(camera, asyncio.get_running_loop().create_future())

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            version = (await self._cluster.send("GET", "/api/v1/pods?limit=1"))["metadata"]["resourceVersion"]
            url = f"/api/v1/pods?watch=true&resourceVersion={version}"
            async with self._cluster.session.get(url) as answer:
                async for line in answer.content:
                    now = time.monotonic()
                    self._saw(json.loads(line), now)

    def _saw(self, event: dict[str, Any], now: float) -> None:
        book = {"ADDED": self._waiting, "DELETED": self._gone}.get(event["type"])
        if book is None:
            return
        metadata = event["object"]["metadata"]
        camera = f"{metadata['namespace']}.{metadata['labels'].get('camfleet.io/camera')}"
        if (future := book.pop(camera, None)) is not None and not future.done():
            future.set_result(now)


async def latency(changes: int, existing: int = 100) -> list[Latency]:
    """Single changes in an idle cluster, with the operator's defaults: how long until the pod is there."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(_cluster())
        await cluster.create_cameras(existing)
        pods = _Pods(cluster)
        operator = OperatorProcess.camfleet(cluster.plane.kubeconfig, cluster.plane.folder / "operator.log")
        stack.push_async_callback(operator.stop)
        everything = lambda: len(pods.running) >= existing  # noqa: E731
        await _checked(operator, cluster.until(everything, seconds=120, what="all pods run"))
        await _quiet(cluster, operator, operator.started, seconds=120)
        seen = _Appearances(cluster)
        watching = asyncio.create_task(seen.run())
        stack.callback(watching.cancel)
        await asyncio.sleep(1.0)
        names = [(NAMESPACES[n % len(NAMESPACES)], f"single-{n:05d}") for n in range(changes)]
        base = "/apis/camfleet.io/v1alpha1/namespaces/{}/cameras/{}"

        async def change(namespace: str, name: str, spec: dict[str, Any]) -> None:
            kind = "application/merge-patch+json"
            await cluster.send("PATCH", base.format(namespace, name), {"spec": spec}, kind)

        async def one(namespace: str, name: str, act: Awaitable[Any]) -> float:
            appearance = seen.of(f"{namespace}.{name}")
            await act
            answered = time.monotonic()
            latency = max(0.0, await asyncio.wait_for(appearance, 30) - answered)
            await asyncio.sleep(random.uniform(0.05, 0.15))
            return latency

        async def create(number: int) -> Any:
            namespace, name = names[number]
            return await cluster.send("POST", base.format(namespace, "").rstrip("/"), camera(name, namespace))

        created = [await one(*names[n], create(n)) for n in range(changes)]
        await asyncio.sleep(2.0)
        for start in range(0, changes, IN_FLIGHT):
            some = names[start : start + IN_FLIGHT]
            ends = [seen.end_of(f"{namespace}.{name}") for namespace, name in some]
            await asyncio.gather(*(change(*who, {"suspend": True}) for who in some))
            await asyncio.wait_for(asyncio.gather(*ends), 60)
        await _quiet(cluster, operator, operator.started, seconds=60)
        resumed = [await one(*who, change(*who, {"suspend": False})) for who in names]
        await _quiet(cluster, operator, operator.started, seconds=60)
        replaced = [await one(*who, change(*who, {"image": "example.com/worker:2"})) for who in names]
        return [
            Latency.of("camera created → pod", created),
            Latency.of("suspend lifted → pod", resumed),
            Latency.of("image changed → old pod gone, new pod", replaced, promised=False),
        ]
