"""`kubectl camfleet report`: everything that helps somebody else to find the trouble, and no secret.

It reads what the person may read, never a Secret, and a part that cannot be had is named in the manifest
instead of ending the report. Every text passes `camfleet.kubectl.clean`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from camfleet.kubectl.assess import Assessment, assess
from camfleet.kubectl.bundle import Bundle
from camfleet.kubectl.cluster import Cluster, Json, collection
from camfleet.kubectl.errors import Problem, Refused
from camfleet.kubectl.evidence import Tools, ask_installation
from camfleet.kubectl.fleet import CameraView
from camfleet.kubectl.installation import (
    INTERNAL_PORT,
    PROBE_PORT,
    Installation,
    container_port,
    find_installation,
    running,
)
from camfleet.kubectl.logs import WORKER, log_path
from camfleet.kubectl.target import Target, cluster_options
from camfleet.kubectl.text import counted
from camfleet_protocol import __version__
from camfleet_protocol.cluster import WORKER_SELECTOR

T = TypeVar("T")

_MEBI = 1024 * 1024
_MOST_EACH = 8 * _MEBI
_MOST_OBJECTS = 20_000
_MOST_EVENTS = 5_000
_LOG_LINES = 5_000
_WORKER_LINES = 500
_WORKERS = 10
_NODE_FIELDS = ("conditions", "allocatable", "nodeInfo")


@click.command()
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The bundle, .tar.gz; it must not exist yet. Else camfleet-report-TIME.tar.gz in this folder.",
)
@click.option(
    "--max-mib", type=click.IntRange(1, 1024), default=64, show_default=True, help="Its size, unpacked."
)
@cluster_options
@click.pass_context
def command(context: click.Context, file: Path | None, max_mib: int, target: Target) -> None:
    """Write a support bundle: what the cluster, the operator and the gateways say of the cameras.

    All namespaces that you may read, unless -n names one. No Secret is read, credentials and the queries of
    URLs are taken out; still, look at it before you send it: it has names, addresses and times.

    Exit codes: 0 written; 2 the cluster could not be asked, or nothing could be written.
    """
    cluster = Cluster.connect(target)
    path = file or Path(time.strftime("camfleet-report-%Y%m%d-%H%M%S.tar.gz", time.gmtime()))
    version = cluster.get("/version")  # the cluster answers at all
    try:
        bundle = Bundle(path, most=max_mib * _MEBI, most_each=_MOST_EACH)
    except FileExistsError:
        raise Problem(f"{path} exists already", "name another file with -o") from None
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error.strerror}") from None
    try:
        _Collector(cluster, target, context.find_object(Tools) or Tools(), bundle).run(version)
        bundle.close()
    except OSError as error:
        bundle.abandon()
        raise Problem(f"{path} cannot be written: {error.strerror}") from None
    except BaseException:
        bundle.abandon()
        raise
    click.echo(
        f"{path}: {counted(bundle.files, 'file')}, {path.stat().st_size / 1000:.0f} kB; "
        "look at it before you send it"
    )
    for entry in bundle.missing:
        click.echo(f"not in it: {entry['what']}: {entry['why']}")


@dataclass(slots=True)
class _Collector:
    """Collects; what cannot be had is noted."""

    cluster: Cluster
    target: Target
    tools: Tools
    bundle: Bundle

    def run(self, version: Json) -> None:
        """Collect everything, what matters most first: the bundle's size is bounded."""
        namespace = self._namespace()
        cameras = self._list("cameras", collection("cameras", namespace)) or []
        profiles = self._list("profiles", collection("cameraprofiles", namespace)) or []
        installation = self._attempt("the installation", lambda: find_installation(self.cluster, self.target))
        fleet = self._operators(installation, cameras)
        self.bundle.about(namespaces=namespace or "all", context=self.cluster.context)
        self._versions(version, installation)
        self.bundle.add_json("cameras.json", "Cameras", cameras)
        self.bundle.add_json("profiles.json", "CameraProfiles", profiles)
        self._pods(namespace, installation)
        self._nodes()
        if installation is not None:
            self._logs(installation)
        self._worker_logs(fleet, [CameraView(raw) for raw in cameras])
        if installation is not None:
            self._metrics(installation)

    # ── Parts ───────────────────────────────────────────────────────────────────────────────────────

    def _namespace(self) -> str | None:
        """None for all, where that is allowed and nothing else was asked for."""
        if self.target.namespace:
            return self.target.namespace
        try:
            self.cluster.items(collection("cameras", None), names_only=True, most=1)
        except Refused as error:
            if not error.forbidden:
                raise
            self.bundle.lack("cameras of other namespaces", error.message)
            return self.cluster.namespace
        return None

    def _operators(self, installation: Installation | None, cameras: Sequence[Json]) -> Assessment:
        explained = None
        if installation is not None:
            answer = ask_installation(self.cluster, installation, self.tools)
            if answer:
                explained = answer.document
                self.bundle.add_json("explain.json", f"/explain of operator {answer.pod}", explained)
            else:
                self.bundle.lack("/explain of the operator", answer.problem)
            if installation.lease is not None:
                self.bundle.add_json("lease.json", "the operator's Lease", installation.lease)
            else:
                self.bundle.lack("the operator's Lease", installation.lease_problem)
        fleet = assess([CameraView(raw) for raw in cameras], explained, datetime.now(UTC))
        self.bundle.add_json(
            "status.json", "the fleet, as `kubectl camfleet status` counts it", fleet.as_json()
        )
        return fleet

    def _versions(self, version: Json, installation: Installation | None) -> None:
        pods = (*installation.operators, *installation.gateways) if installation else ()
        images = {pod["metadata"]["name"]: _images(pod) for pod in pods}
        self.bundle.add_json(
            "versions.json",
            "versions of cluster, plugin and images",
            {"kubernetes": version, "plugin": __version__, "images": images},
        )

    def _pods(self, namespace: str | None, installation: Installation | None) -> None:
        path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        workers = self._list("worker pods", path, {"labelSelector": WORKER_SELECTOR})
        if workers is not None:
            self.bundle.add_json("worker-pods.json", "the workers' pods", workers)
        own: list[Json] = []
        if installation is not None:
            own = [*installation.operators, *installation.gateways]
            self.bundle.add_json("pods.json", "pods of operator and gateway", own)
        self._events(namespace, {str(pod["metadata"]["name"]) for pod in (*own, *(workers or ()))})

    def _events(self, namespace: str | None, pods: set[str]) -> None:
        path = f"/api/v1/namespaces/{namespace}/events" if namespace else "/api/v1/events"
        found = self._list("Events of cameras", path, {"fieldSelector": "involvedObject.kind=Camera"}) or []
        for event in self._list("Events of pods", path, {"fieldSelector": "involvedObject.kind=Pod"}) or ():
            # A worker's pod that is gone is known by its container's name.
            about = event.get("involvedObject") or {}
            if about.get("name") in pods or about.get("fieldPath") == f"spec.containers{{{WORKER}}}":
                found.append(event)
        found.sort(key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""), reverse=True)
        self.bundle.add_json("events.json", "Events of cameras and pods, newest first", found[:_MOST_EVENTS])

    def _nodes(self) -> None:
        nodes = self._list("nodes", "/api/v1/nodes")
        if nodes is not None:
            self.bundle.add_json(
                "nodes.json", "nodes: conditions, taints, what they offer", [_node(n) for n in nodes]
            )
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        leases = self._list("the nodes' Leases", path)
        if leases is not None:
            renewed = {
                lease["metadata"]["name"]: (lease.get("spec") or {}).get("renewTime") for lease in leases
            }
            self.bundle.add_json("node-leases.json", "when each node was last heard of", renewed)

    def _logs(self, installation: Installation) -> None:
        for part, pods in (("operator", installation.operators), ("gateway", installation.gateways)):
            for pod in pods:
                name = str(pod["metadata"]["name"])
                self._log(
                    f"logs/{name}.log", f"log of the {part}", installation.namespace, name, part, _LOG_LINES
                )
                if _restarts(pod, part):
                    what = f"log of the {part} before its restart"
                    self._log(
                        f"logs/{name}.previous.log",
                        what,
                        installation.namespace,
                        name,
                        part,
                        _LOG_LINES,
                        True,
                    )

    def _worker_logs(self, fleet: Assessment, cameras: Sequence[CameraView]) -> None:
        """Of cameras that are not ready, one of each kind of trouble first."""
        from camfleet.kubectl.assess import spread

        by_id = {camera.id: camera for camera in cameras}
        for row in spread(fleet.bad, _WORKERS):
            camera = by_id[row.camera]
            if pod := str(camera.worker.get("podName") or ""):
                name = f"logs/workers/{camera.key}.log"
                self._log(
                    name, f"log of the worker of {camera.id}", camera.namespace, pod, WORKER, _WORKER_LINES
                )

    def _metrics(self, installation: Installation) -> None:
        for part, pods, port_name, port in (
            ("operator", installation.operators, "http-probes", PROBE_PORT),
            ("gateway", installation.gateways, "internal", INTERNAL_PORT),
        ):
            for pod in running(pods):
                name = str(pod["metadata"]["name"])
                number = container_port(pod, port_name, port)
                page = self._attempt(
                    f"metrics of {part} {name}",
                    lambda name=name, number=number: self._page(installation.namespace, name, number),  # type: ignore[misc]
                )
                if page is not None:
                    self.bundle.add_text(f"metrics/{name}.txt", f"/metrics of the {part}", page)

    # ── Tools ───────────────────────────────────────────────────────────────────────────────────────

    def _page(self, namespace: str, pod: str, port: int) -> str:
        status, body = self.tools.pod_page(self.cluster, namespace, pod, port, "/metrics")
        if status != 200:
            raise Problem(f"it answers with HTTP {status}")
        return body.decode(errors="replace")

    def _log(
        self,
        name: str,
        what: str,
        namespace: str,
        pod: str,
        container: str,
        lines: int,
        previous: bool = False,
    ) -> None:
        params = {
            "container": container,
            "tailLines": str(lines),
            "limitBytes": str(_MOST_EACH),
            **({"previous": "true"} if previous else {}),
        }
        found = self._attempt(
            f"{what}, pod {pod}", lambda: list(self.cluster.lines(log_path(namespace, pod), params))
        )
        if found is not None:
            self.bundle.add_lines(name, what, found)

    def _list(self, what: str, path: str, params: dict[str, str] | None = None) -> list[Json] | None:
        found = self._attempt(what, lambda: self.cluster.items(path, params, most=_MOST_OBJECTS))
        return None if found is None else found[:_MOST_OBJECTS]

    def _attempt(self, what: str, get: Callable[[], T]) -> T | None:
        try:
            return get()
        except Problem as error:
            self.bundle.lack(what, error.message)
            return None


def _images(pod: Json) -> dict[str, str]:
    statuses: Iterable[Any] = (pod.get("status") or {}).get("containerStatuses") or ()
    return {str(s.get("image")): str(s.get("imageID")) for s in statuses}


def _restarts(pod: Json, container: str) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((int(s.get("restartCount") or 0) for s in statuses if s.get("name") == container), 0)


def _node(raw: Json) -> Json:
    """What of a node matters here: its labels may say what is nobody's business."""
    status, spec = raw.get("status") or {}, raw.get("spec") or {}
    return {
        "name": raw["metadata"]["name"],
        "unschedulable": bool(spec.get("unschedulable")),
        "taints": spec.get("taints") or [],
        **{field: status[field] for field in _NODE_FIELDS if field in status},
    }
