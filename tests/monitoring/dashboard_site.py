"""A fleet, an operator's page and other exporters' pages, scraped by a real Prometheus.

Gateway and workers are real processes (`camfleet local`). The operator's page is its own metrics class,
served by this process. What a cluster has besides (DCGM exporter, node-exporter, cAdvisor, a GPU) is played.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from camfleet_operator.cluster.metrics import OperatorMetrics
from support.fleet import Fleet, running_fleet
from support.prometheus_process import PrometheusProcess

HALL: dict[str, Any] = {
    "source": {"testPattern": {"width": 320, "height": 240, "fps": 10}},
    "inference": {"detectors": ["mock"]},
    "site": "north",
}
YARD: dict[str, Any] = {**HALL, "site": "south"}
DEAD: dict[str, Any] = {**YARD, "source": {"rtsp": {"url": "rtsp://127.0.0.1:9/nothing"}}}
PAUSED: dict[str, Any] = {**YARD, "suspend": True}
NODE = "local"
"""What the local runtime calls its node."""

EXPORTERS = f"""
DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="GPU-0",device="nvidia0",modelName="NVIDIA L4",Hostname="{NODE}"}} 41
DCGM_FI_DEV_FB_USED{{gpu="0",UUID="GPU-0",device="nvidia0",modelName="NVIDIA L4",Hostname="{NODE}"}} 5230
DCGM_FI_DEV_FB_FREE{{gpu="0",UUID="GPU-0",device="nvidia0",modelName="NVIDIA L4",Hostname="{NODE}"}} 17300
node_uname_info{{nodename="{NODE}",machine="x86_64",sysname="Linux"}} 1
node_cpu_seconds_total{{cpu="0",mode="idle"}} %(now)s
node_cpu_seconds_total{{cpu="1",mode="idle"}} %(half)s
node_memory_MemAvailable_bytes 3e9
node_memory_MemTotal_bytes 8e9
%(pods)s
"""


class Pages:
    """Text for Prometheus at `/operator`, `/standby` and `/exporters`."""

    def __init__(self) -> None:
        self.operator, self.standby = OperatorMetrics(), OperatorMetrics()
        self.pods: list[str] = []
        self.gpu_camera = ""
        self._started = time.time()

    def page(self, path: str) -> bytes:
        """One of the pages, as of now."""
        if path == "/exporters":
            return self._exporters().encode()
        return {"/operator": self.operator, "/standby": self.standby}[path].page()

    def _exporters(self) -> str:
        now = time.time() - self._started
        received = "container_network_receive_bytes_total"
        lines = [f'{received}{{namespace="default",pod="{pod}",interface="eth0"}} 1e6' for pod in self.pods]
        if self.gpu_camera:
            name = "camfleet_camera_worker_gpu_memory_bytes"
            lines.append(f'{name}{{namespace="default",camera="{self.gpu_camera}"}} 9e8')
        return EXPORTERS % {"now": now, "half": now / 2, "pods": "\n".join(lines)}


def work(metrics: OperatorMetrics, *, leads: bool) -> None:
    """What an operator counts while all is well."""
    metrics.leading(leads)
    for _ in range(20):
        metrics.reconciled("done", 0.002)
        metrics.wrote("update_leases")
    metrics.queue_depth(0)
    metrics.resynced()
    metrics.rollout_waiting(0)
    metrics.judged({"Healthy": 2, "Unhealthy": 0, "Unknown": 0})
    metrics.attributed({"None": 2, "Worker": 0, "Node": 0}, {"Healthy": 1, "Dead": 0})
    metrics.blind(None)
    metrics.ticked(0.001)


def trouble(metrics: OperatorMetrics) -> None:
    """What it counts when something is wrong."""
    for _ in range(3):
        metrics.moved("NodeLost")
        metrics.held("Budget")
    metrics.frozen("fleet", True)
    metrics.blind("PrometheusUnreachable")


@contextmanager
def served(pages: Pages) -> Iterator[str]:
    """The pages on a port of this machine; gives `host:port`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.page(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def watching(fleet: Fleet, camera: str) -> Iterator[None]:
    """Somebody looks at a camera, endlessly."""
    ended = threading.Event()

    def watch() -> None:
        with httpx.stream("GET", f"{fleet.url}/cameras/{camera}/stream/feed", timeout=60) as answer:
            for _ in answer.iter_raw():
                if ended.is_set():
                    return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)


class Site:
    """The fleet, its Prometheus, and the pages that are played."""

    def __init__(self, fleet: Fleet, prometheus: PrometheusProcess, pages: Pages) -> None:
        self.fleet, self.prometheus, self.pages = fleet, prometheus, pages

    def pause_gateway(self, seconds: float) -> None:
        """Let it do nothing for a while."""
        gateway = self.fleet.find("gateway")
        gateway.suspend()
        try:
            time.sleep(seconds)
        finally:
            gateway.resume()


def scrape_configs(gateway: str, pages: str) -> list[dict[str, Any]]:
    """As a PodMonitor with `honorLabels` makes them: targets have a namespace and a pod of their own."""

    def config(job: str, path: str, pod: str, target: str = pages) -> dict[str, Any]:
        labels = {"job": job, "namespace": "camfleet", "pod": pod, "container": "main"}
        return {
            "job_name": pod,
            "metrics_path": path,
            "honor_labels": True,
            "static_configs": [{"targets": [target], "labels": {**labels, "instance": pod}}],
        }

    return [
        config("camfleet/camfleet-gateway", "/metrics", "gateway-0", gateway),
        config("camfleet/camfleet-operator", "/operator", "operator-0"),
        config("camfleet/camfleet-operator", "/standby", "operator-1"),
        config("exporters", "/exporters", "exporters-0"),
    ]


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Two cameras that stream, one of them watched; a healthy operator and its standby."""
    pages = Pages()
    work(pages.operator, leads=True)
    work(pages.standby, leads=False)
    with (
        running_fleet(folder, cameras={"hall": HALL, "yard": YARD}) as fleet,
        served(pages) as address,
        PrometheusProcess(
            scrape_configs=scrape_configs(fleet.url.removeprefix("http://"), address)
        ) as prometheus,
    ):
        for name in ("hall", "yard"):
            fleet.wait_state(name, "live")
            pages.pods.append(fleet.object(name)["status"]["worker"]["podName"])
        with watching(fleet, "hall"):
            prometheus.until(
                "count(rate(camfleet_camera_frames_published_total[5s])"
                " and camfleet_camera_last_inference_timestamp_seconds > 0) == 2"
            )
            yield Site(fleet, prometheus, pages)
