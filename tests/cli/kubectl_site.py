"""A namespace of a real API server for the plugin: cameras with a status, an installation, its logs.

The API server's pod proxy does not go to loopback, so the operator's `/explain` comes from a server that the
plugin is given; pod logs go the real way, to a kubelet of the test's own.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from click.testing import CliRunner, Result
from tests.testbed.control_plane import ControlPlane

from camfleet.kubectl.cluster import Cluster
from camfleet.kubectl.evidence import Tools
from camfleet.kubectl.main import cli

CAMERAS = "/apis/camfleet.io/v1alpha1"
LEASES = "/apis/coordination.k8s.io/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
LEADER, STANDBY, GATEWAY = (
    "camfleet-operator-7d9c5-x2x4k",
    "camfleet-operator-7d9c5-m8zzq",
    "camfleet-gateway-5f6b-j7w9p",
)

Json = dict[str, Any]


def ago(seconds: float) -> str:
    """A time in the past, RFC 3339."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(status: str, reason: str, message: str = "", **others: tuple[str, str]) -> list[Json]:
    """Conditions as the operator writes them: Ready, and those given as `Type=(status, reason)`."""
    facts = {"Ready": (status, reason), **others}
    return [
        {
            "type": kind,
            "status": how,
            "reason": why,
            "message": message if how != "True" else "",
            "observedGeneration": 1,
            "lastTransitionTime": ago(192),
        }
        for kind, (how, why) in facts.items()
    ]


class ExplainServer:
    """The operator's probe port: `/explain` and `/metrics`, as a test wants them."""

    def __init__(self) -> None:
        self.fleet: Json = {
            "time": ago(0),
            "identity": LEADER,
            "leader": True,
            "dryRun": False,
            "paused": False,
            "evaluator": {
                "kind": "prometheus",
                "url": "http://prometheus.monitoring:9090",
                "problems": {},
                "sampledAt": ago(4),
                "blind": None,
            },
            "frozen": [],
            "budget": {"cameras": 10.0, "nodes": 1.0},
            "verdicts": {"Healthy": 1, "Unhealthy": 1, "Unknown": 0},
            "nodes": [],
            "cameras": [],
        }
        self.cameras: dict[str, Json] = {}
        self.metrics = "camfleet_operator_leader 1.0\n"
        self.asked: list[tuple[str, str]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                found: Json | None = owner.fleet
                if camera := parse_qs(url.query).get("camera"):
                    found = owner.cameras.get(camera[0])
                body = json.dumps(found).encode() if url.path == "/explain" else owner.metrics.encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def pod_page(self, cluster: Cluster, namespace: str, pod: str, port: int, path: str) -> tuple[int, bytes]:
        """Stands for the API server's pod proxy."""
        self.asked.append((pod, path))
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._server.server_port}{path}", timeout=10
            ) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def unhealthy(self, camera: str, **more: Any) -> Json:
        """Have it explain a camera as bad by its worker's fault."""
        document = {
            "camera": camera,
            "verdict": "Unhealthy",
            "reason": "InferenceStuck",
            "message": "no picture was examined for 31 s",
            "fault": "Worker",
            "readings": 4,
            "needed": 3,
            "badSince": ago(41),
            "gateway": GATEWAY,
            "node": "node-3",
            "pod": "gate-1a2b3c4d5e",
            "attempt": 3,
            "decision": {
                "action": "Held",
                "reason": "Backoff",
                "message": "it was moved lately",
                "notBefore": ago(-80),
            },
            "lastReassignment": None,
            "history": [
                {"time": ago(71), "verdict": "Healthy", "reason": ""},
                {"time": ago(41), "verdict": "Unhealthy", "reason": "InferenceStuck"},
            ],
            "placement": "away from node-2 (failed this camera 14m ago)",
            **more,
        }
        self.cameras[camera] = document
        self.fleet["cameras"].append(document)
        return document

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Kubelet:
    """Answers the API server when somebody asks for a pod's log."""

    def __init__(self, folder: Path) -> None:
        self.logs: dict[str, str] = {}
        """By `POD`, or `POD/previous`."""
        self.asked: list[str] = []
        key, certificate = folder / "kubelet.key", folder / "kubelet.crt"
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        subprocess.run(
            ["openssl", "req", "-x509", *curve, "-subj", "/CN=kubelet", "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                owner.asked.append(self.path)
                pod = url.path.split("/")[3]
                previous = "/previous" if "previous=true" in url.query else ""
                text = owner.logs.get(pod + previous)
                body = (text if text is not None else "no such container").encode()
                if tail := parse_qs(url.query).get("tailLines"):
                    body = b"".join(body.splitlines(keepends=True)[-int(tail[0]) :])
                self.send_response(404 if text is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class PluginSite:
    """A namespace with cameras, and one with an installation."""

    plane: ControlPlane
    kubelet: Kubelet
    folder: Path
    explain: ExplainServer = field(default_factory=ExplainServer)
    name: str = field(default_factory=lambda: f"north-{uuid.uuid4().hex[:6]}")
    install: str = field(default_factory=lambda: f"camfleet-{uuid.uuid4().hex[:6]}")

    def __post_init__(self) -> None:
        for namespace in (self.name, self.install):
            self.plane.create_namespace(namespace)
            self.plane.post(
                f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}}
            )

    # ── Running the plugin ──────────────────────────────────────────────────────────────────────────

    def run(self, *arguments: str, kubeconfig: Path | None = None, tools: Tools | None = None) -> Result:
        """Run a command as this namespace's user; the first argument is its name."""
        command, *rest = arguments
        scope = [] if {"-A", "-n"} & set(rest) else ["-n", self.name]
        return CliRunner().invoke(
            cli,
            [
                command,
                *rest,
                *scope,
                f"--kubeconfig={kubeconfig or self.plane.kubeconfig}",
                f"--install-namespace={self.install}",
            ],
            obj=tools or Tools(pod_page=self.explain.pod_page),
        )

    def json(self, *arguments: str) -> Any:
        """What a command prints as JSON; its exit code is not looked at."""
        result = self.run(*arguments, "-o", "json")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return json.loads(result.stdout)

    def user(self, *rules: Json, install_rules: tuple[Json, ...] = ()) -> Path:
        """The kubeconfig of a ServiceAccount with these rights in the two namespaces and none else."""
        name = f"user-{uuid.uuid4().hex[:6]}"
        account = {"kind": "ServiceAccount", "name": name, "namespace": self.name}
        self.plane.post(f"/api/v1/namespaces/{self.name}/serviceaccounts", {"metadata": {"name": name}})
        for namespace, granted in ((self.name, rules), (self.install, install_rules)):
            if not granted:
                continue
            where = f"{RBAC}/namespaces/{namespace}"
            self.plane.post(f"{where}/roles", {"metadata": {"name": name}, "rules": list(granted)})
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
            self.plane.post(
                f"{where}/rolebindings", {"metadata": {"name": name}, "roleRef": role, "subjects": [account]}
            )
        made = self.plane.post(f"/api/v1/namespaces/{self.name}/serviceaccounts/{name}/token", {"spec": {}})
        config = json.loads(self.plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": made["status"]["token"]}
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    # ── Objects ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def cameras_path(self) -> str:
        return f"{CAMERAS}/namespaces/{self.name}/cameras"

    def camera(
        self,
        name: str,
        status: list[Json] | None = None,
        *,
        node: str = "node-3",
        attempt: int = 1,
        spec: Json | None = None,
        metadata: Json | None = None,
        **more: Any,
    ) -> Json:
        """A Camera whose worker runs, with these conditions; Ready without."""
        made = self.plane.post(
            self.cameras_path,
            {
                "apiVersion": "camfleet.io/v1alpha1",
                "kind": "Camera",
                "metadata": {"name": name, **(metadata or {})},
                "spec": {"source": {"testPattern": {}}, **(spec or {})},
            },
        )
        self.status(
            name,
            conditions=conditions("True", "Streaming") if status is None else status,
            worker={"attempt": attempt, "podName": f"{name}-pod-{attempt}", "nodeName": node},
            **more,
        )
        return made

    def status(self, name: str, **status: Any) -> None:
        """Write fields of a Camera's status, as the operator does."""
        self.plane.patch(f"{self.cameras_path}/{name}/status", {"status": status})

    def get(self, name: str) -> Json:
        found = self.plane.get(f"{self.cameras_path}/{name}")
        assert found is not None
        return found

    def profile(self, name: str, **metadata: Any) -> None:
        self.plane.post(
            f"{CAMERAS}/namespaces/{self.name}/cameraprofiles",
            {
                "apiVersion": "camfleet.io/v1alpha1",
                "kind": "CameraProfile",
                "metadata": {"name": name, **metadata},
                "spec": {},
            },
        )

    def pod(self, namespace: str, name: str, part: str, **spec: Any) -> Json:
        """A pod that runs, on the node whose kubelet is ours."""
        labels = spec.pop("labels", {})
        ports = spec.pop("ports", [])
        body = {
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "nodeName": f"node-of-{self.install}",
                "containers": [
                    {
                        "name": part,
                        "image": "registry.invalid/camfleet",
                        "ports": ports,
                        **spec.pop("container", {}),
                    }
                ],
                **spec,
            },
        }
        made = self.plane.post(f"/api/v1/namespaces/{namespace}/pods", body)
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        self.plane.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status})
        return made

    def lease(self) -> Json:
        found = self.plane.get(f"{LEASES}/namespaces/{self.install}/leases/camfleet-operator")
        assert found is not None
        return found

    def installed(self) -> PluginSite:
        """Two operators, of which one leads, a gateway with its Secret, and the kubelet of their node."""
        node = f"node-of-{self.install}"
        self.plane.post(
            "/api/v1/nodes",
            {
                "kind": "Node",
                "apiVersion": "v1",
                "metadata": {"name": node},
                "status": {
                    "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": self.kubelet.port}},
                },
            },
        )
        labels = {"app.kubernetes.io/part-of": "camfleet", "app.kubernetes.io/instance": "camfleet"}
        for name in (LEADER, STANDBY):
            self.pod(
                self.install,
                name,
                "operator",
                labels={**labels, "app.kubernetes.io/component": "operator"},
                ports=[{"name": "http-probes", "containerPort": 8082}],
            )
        self.pod(
            self.install,
            GATEWAY,
            "gateway",
            labels={**labels, "app.kubernetes.io/component": "gateway"},
            ports=[{"name": "http", "containerPort": 8080}, {"name": "internal", "containerPort": 8081}],
            volumes=[{"name": "tokens", "secret": {"secretName": "camfleet-viewer-tokens"}}],
        )
        self.plane.post(
            f"{LEASES}/namespaces/{self.install}/leases",
            {
                "metadata": {"name": "camfleet-operator"},
                "spec": {"holderIdentity": LEADER, "leaseDurationSeconds": 15},
            },
        )
        return self


@contextmanager
def plugin_site(plane: ControlPlane, kubelet: Kubelet, folder: Path) -> Iterator[PluginSite]:
    """A site whose cameras and installation are gone afterwards, so that none finds another's."""
    site = PluginSite(plane, kubelet, folder)
    try:
        yield site
    finally:
        site.explain.stop()
        plane.delete(site.cameras_path)
        plane.delete(f"/api/v1/namespaces/{site.install}/pods?gracePeriodSeconds=0")
