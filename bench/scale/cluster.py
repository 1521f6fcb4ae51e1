"""A fresh control plane for one measurement, with nodes that kwok plays, and a client that is fast enough."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
from bench.scale.audit import Trail
from bench.scale.processes import cpu_seconds
from tests.testbed.control_plane import RAISED_RATES, ControlPlane
from tests.testbed.processes import wait_until

from camfleet_operator.cluster.podspec import Variant, build_pod, shape_worker
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_protocol.camera import Camera, CameraProfile
from camfleet_protocol.settings import effective_settings

NODES = 200
NAMESPACES = tuple(f"site-{number}" for number in range(5))
IN_FLIGHT = 32
AGENT = "camfleet-bench"
PROFILE = "indoor"
_PATH = "/apis/camfleet.io/v1alpha1/namespaces/{}/{}"


class Cluster:
    """etcd, API server, scheduler and controller-manager with raised rates, and kwok.

    Attributes:
        plane: The testbed's control plane.
        trail: Who has written what.
        session: An HTTP client of this process; its User-Agent is `AGENT`.
    """

    def __init__(self, plane: ControlPlane, session: aiohttp.ClientSession) -> None:
        self.plane = plane
        self.trail = Trail(plane.folder / "audit.log")
        self.session = session

    @classmethod
    @asynccontextmanager
    async def fresh(
        cls, folder: Path, nodes: Callable[[ControlPlane], None] | None = None
    ) -> AsyncIterator[Self]:
        """Start one; everything is gone afterwards. `nodes` makes the nodes, if not the usual ones."""
        plane = ControlPlane(folder, api_arguments=Trail.arguments(folder))
        with plane:
            await asyncio.to_thread(_furnish, plane, nodes or _make_nodes)
            certificate = folder / "pki" / "apiserver.crt"
            config = json.loads(plane.kubeconfig.read_text())
            session = aiohttp.ClientSession(
                plane.url,
                connector=aiohttp.TCPConnector(
                    ssl=ssl.create_default_context(cafile=str(certificate)), limit=0
                ),
                headers={
                    "Authorization": f"Bearer {config['users'][0]['user']['token']}",
                    "User-Agent": f"{AGENT}/1",
                    "Accept-Encoding": "identity",
                },
                timeout=aiohttp.ClientTimeout(total=None),
                read_bufsize=1 << 22,
            )
            async with session:
                yield cls(plane, session)

    def api_cpu(self) -> float:
        """CPU seconds of API server and etcd so far."""
        return cpu_seconds(*(self.plane.processes[name].pid for name in ("kube-apiserver", "etcd")))

    # ── Requests ────────────────────────────────────────────────────────────────────────────────────

    async def send(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> dict[str, Any]:
        """One request; `body` may be encoded already."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(method, path, data=data, headers={"Content-Type": kind}) as answer:
            text = await answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:500].decode(errors='replace')}")
            return json.loads(text) if text else {}

    async def create_all(self, objects: Iterable[tuple[str, bytes]]) -> list[bytes]:
        """POST encoded bodies to their paths, many at once; the raw answers in the same order."""
        todo = list(enumerate(objects))
        answers = [b""] * len(todo)
        todo.reverse()

        async def worker() -> None:
            while todo:
                number, (path, body) = todo.pop()
                async with self.session.post(
                    path, data=body, headers={"Content-Type": "application/json"}
                ) as answer:
                    answers[number] = await answer.read()
                    if answer.status != 201:
                        raise RuntimeError(f"POST {path}: {answer.status} {answers[number][:500]!r}")

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(worker())
        return answers

    async def list_all(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """All objects of a collection, page by page."""
        token = ""
        while True:
            page = await self.send("GET", f"{path}?limit=500{f'&continue={token}' if token else ''}")
            for item in page["items"]:
                yield item
            if not (token := page["metadata"].get("continue", "")):
                return

    async def pods(self) -> tuple[int, int]:
        """How many pods there are, and how many of them run."""
        phases = [pod["status"].get("phase") async for pod in self.list_all("/api/v1/pods")]
        return len(phases), phases.count("Running")

    async def ready_cameras(self) -> int:
        """How many cameras are Ready."""
        count = 0
        async for camera in self.list_all("/apis/camfleet.io/v1alpha1/cameras"):
            conditions = (camera.get("status") or {}).get("conditions") or ()
            count += any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        return count

    async def until(self, done: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Read the trail until something is so.

        Raises:
            TimeoutError: It was not in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.trail.read()
            if done():
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:.0f} s")
            await asyncio.sleep(0.1)

    # ── Objects ─────────────────────────────────────────────────────────────────────────────────────

    async def create_cameras(self, count: int, prefix: str = "cam", **spec: Any) -> list[dict[str, Any]]:
        """Create cameras, spread over the namespaces; what the API server has made of them."""
        objects = []
        for number in range(count):
            namespace = NAMESPACES[number % len(NAMESPACES)]
            document = camera(f"{prefix}-{number:05d}", namespace, **spec)
            objects.append((_PATH.format(namespace, "cameras"), json.dumps(document).encode()))
        return [json.loads(answer) for answer in await self.create_all(objects)]


def camera(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """A camera as in a fleet: an address, a Secret, and a profile that says the rest."""
    return {
        "apiVersion": "camfleet.io/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "source": {
                "rtsp": {
                    "url": f"rtsp://{name}.cameras.example.com:554/stream1",
                    "credentialsSecretRef": {"name": "camera-logins"},
                }
            },
            "profileRef": {"name": PROFILE},
            **spec,
        },
    }


def profile(namespace: str) -> dict[str, Any]:
    """The profile of a namespace. No GPU: the nodes have none."""
    return {
        "apiVersion": "camfleet.io/v1alpha1",
        "kind": "CameraProfile",
        "metadata": {"name": PROFILE, "namespace": namespace},
        "spec": {"gpu": {"mode": "Disabled"}, "inference": {"fps": 4}, "site": "bench"},
    }


def pod_of(made: dict[str, Any]) -> dict[str, Any]:
    """The pod that the operator would make first for a camera."""
    camera = Camera.model_validate({k: made[k] for k in ("apiVersion", "kind", "metadata", "spec")})
    shared = CameraProfile.model_validate(profile(camera.metadata.namespace))
    shape = shape_worker(camera, shared, None, OperatorSettings(identity="bench"))
    settings = effective_settings(camera, shared, None)
    return build_pod(camera, made["metadata"]["uid"], shape, Variant.CPU, attempt=1, settings=settings)


def _furnish(plane: ControlPlane, nodes: Callable[[ControlPlane], None]) -> None:
    plane.start_controller_manager(RAISED_RATES)
    plane.start_scheduler(RAISED_RATES)
    plane.apply_crds()
    for namespace in NAMESPACES:
        plane.create_namespace(namespace)
        plane.post(_PATH.format(namespace, "cameraprofiles"), profile(namespace))
    nodes(plane)


def _make_nodes(plane: ControlPlane) -> None:
    plane.start_kwok(NODES)
    wait_until(lambda: _nodes_ready(plane) == NODES, "the nodes", process=plane.processes["kwok"])


def _nodes_ready(plane: ControlPlane) -> int:
    return sum(
        any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))
        and not node["spec"].get("taints")
        for node in plane.items("/api/v1/nodes")
    )
