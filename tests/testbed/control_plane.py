"""The API level: etcd, kube-apiserver and, where asked for, scheduler, controller-manager and kwok.

No root is needed and everything listens on loopback. What the API server decides (schemas, CEL, RBAC,
admission, TokenReview) is real, as are scheduling and garbage collection; kwok plays the nodes.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.testbed.components import find
from tests.testbed.namespaces import Namespaces
from tests.testbed.processes import Process, Startable, free_port, wait_until

# Users of the token file: name, groups. The tokens are random per run and never leave its folder.
_USERS = {
    "admin": "system:masters",
    "system:kube-scheduler": "",
    "system:kube-controller-manager": "",
    "node-admin": "system:masters",
}


@dataclass(frozen=True, slots=True)
class Rates:
    """Client-side limits of scheduler and controller-manager, requests per second and burst."""

    qps: int = 50
    burst: int = 100


DEFAULT_RATES = Rates()
RAISED_RATES = Rates(1000, 2000)


class ControlPlane(Startable):
    """A Kubernetes control plane of processes. A context manager: leaving it ends all of them.

    Args:
        folder: Data, logs and kubeconfig; a temporary one if not given.
        host: Address that the API server listens on and is reached by.
        die_with_parent: Whether the processes end when this one does, however it ends.
        api_arguments: More arguments for kube-apiserver, such as `--audit-policy-file=…`.
        inside: Namespaces for all processes; `host` is then an address there, and this machine reaches the
            API server by a forwarded port of its loopback.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        host: str = "127.0.0.1",
        die_with_parent: bool = True,
        api_arguments: Iterable[str] = (),
        inside: Namespaces | None = None,
    ) -> None:
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="camfleet-testbed-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.host = host
        self.port = free_port(host) if inside is None else 6443
        self.etcd = ""
        """Address of etcd."""
        self.processes: dict[str, Process] = {}
        self.kubeconfig = self.folder / "kubeconfig"
        self.inside = inside
        self._front_port: int | None = None
        self._die = die_with_parent
        self._api_arguments = tuple(api_arguments)
        self._client: httpx.Client | None = None
        self._tokens: dict[str, str] = {}

    # ── Life ────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start etcd and the API server, and wait until it answers."""
        self._make_secrets()
        etcd_port, peer_port = free_port(), free_port()
        self.etcd = etcd = f"http://127.0.0.1:{etcd_port}"
        self.run(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self._api_command = (
            f"--etcd-servers={etcd}",
            # All addresses, inside: the certificate then holds for localhost as well.
            f"--bind-address={self.host if self.inside is None else '0.0.0.0'}",
            f"--advertise-address={self.host}",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'pki'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'sa.pub'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=1000",
            *self._api_arguments,
        )
        if self.inside is not None:
            self._front_port = self.forward("api", f"{self.host}:{self.port}")
        self.start_api_server()
        self.write_kubeconfig(self.kubeconfig, url=self.url)

    def start_api_server(self) -> None:
        """Start the API server (again)."""
        process = self.run("kube-apiserver", *self._api_command)
        certificate = self.folder / "pki" / "apiserver.crt"
        wait_until(
            lambda: certificate.exists() and "END CERTIFICATE" in certificate.read_text(),
            "the API server's certificate",
            process=process,
        )
        if self._client is not None:
            self._client.close()
        self._client = httpx.Client(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=str(certificate)),
            headers={"Authorization": f"Bearer {self._tokens['admin']}"},
            timeout=60,
        )
        wait_until(self._ready, "the API server", process=process)

    def stop(self) -> None:
        """End everything, in the reverse order, and remove a temporary folder."""
        if self._client is not None:
            self._client.close()
        for name in reversed(list(self.processes)):
            self.processes.pop(name).kill(signal.SIGKILL)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, name: str, *arguments: str, program: str | Path | None = None) -> Process:
        """Start a component, or `program`, under `name`; its log is `NAME.log` in the folder."""
        process = Process(
            [program or find(name), *arguments],
            self.folder / f"{name}.log",
            die_with_parent=self._die,
            inside=self.inside,
        )
        self.processes[name] = process
        return process

    def forward(self, name: str, target: str, *, port: int | None = None) -> int:
        """Bring `HOST:PORT` of the namespaces to a port of this machine's loopback, and return that."""
        assert self.inside is not None
        port = port or free_port()
        name = f"forward-{name}-{port}"  # several tests may want the same Service
        process = Process(
            [sys.executable, Path(__file__).with_name("forward.py"), self.inside.network, f"{port}={target}"],
            self.folder / f"{name}.log",
            die_with_parent=self._die,
        )
        self.processes[name] = process
        wait_until(lambda: "listening" in process.tail(), f"the forward to {target}", process=process)
        return port

    # ── More components ─────────────────────────────────────────────────────────────────────────────

    def start_controller_manager(self, rates: Rates = DEFAULT_RATES, *arguments: str) -> None:
        """Start the controller-manager: garbage collection, service accounts, node life cycle."""
        self.write_kubeconfig(self.folder / "controller-manager.kubeconfig")
        self.run(
            "kube-controller-manager",
            f"--kubeconfig={self.folder / 'controller-manager.kubeconfig'}",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--root-ca-file={self.folder / 'pki' / 'apiserver.crt'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--cert-dir={self.folder / 'controller-manager-pki'}",
            f"--kube-api-qps={rates.qps}",
            f"--kube-api-burst={rates.burst}",
            *arguments,
        )
        wait_until(
            lambda: self.get("/api/v1/namespaces/default/serviceaccounts/default") is not None,
            "the default service account",
            process=self.processes["kube-controller-manager"],
        )

    def start_scheduler(self, rates: Rates = DEFAULT_RATES) -> None:
        """Start the scheduler."""
        self.write_kubeconfig(self.folder / "scheduler.kubeconfig")
        self.run(
            "kube-scheduler",
            f"--kubeconfig={self.folder / 'scheduler.kubeconfig'}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--cert-dir={self.folder / 'scheduler-pki'}",
            f"--kube-api-qps={rates.qps}",
            f"--kube-api-burst={rates.burst}",
        )

    def start_kwok(self, nodes: int = 1, *, capacity: dict[str, str] | None = None) -> None:
        """Start kwok, and make nodes `node-0`, … for it; `capacity` is added to each, such as GPUs."""
        self.run(
            "kwok",
            f"--kubeconfig={self.kubeconfig}",
            "--manage-all-nodes=true",
            f"--server-address=127.0.0.1:{free_port()}",
            # With node leases kwok renews Leases; without, it would PATCH each node's status all the time.
            "--node-lease-duration-seconds=40",
        )
        for number in range(nodes):
            self.create_node(f"node-{number}", capacity=capacity)

    def create_node(self, name: str, *, capacity: dict[str, str] | None = None) -> None:
        """Make a node for kwok to play."""
        resources = {"cpu": "64", "memory": "256Gi", "pods": "110", **(capacity or {})}
        self.post(
            "/api/v1/nodes",
            {
                "kind": "Node",
                "apiVersion": "v1",
                "metadata": {
                    "name": name,
                    "labels": {"kubernetes.io/hostname": name, "type": "kwok"},
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                },
                "status": {"capacity": resources, "allocatable": resources},
            },
        )

    # ── Talking to it ───────────────────────────────────────────────────────────────────────────────

    @property
    def url(self) -> str:
        """Address of the API server."""
        return self.inner_url if self._front_port is None else f"https://localhost:{self._front_port}"

    @property
    def inner_url(self) -> str:
        """Address of the API server for the processes of the testbed."""
        return f"https://{self.host}:{self.port}"

    @property
    def client(self) -> httpx.Client:
        """An HTTP client that is cluster admin."""
        assert self._client is not None, "start() first"
        return self._client

    def get(self, path: str, **params: str) -> dict[str, Any] | None:
        """GET; None for 404."""
        answer = self.client.get(path, params=params)
        return None if answer.status_code == 404 else _checked(answer)

    def items(self, path: str, **params: str) -> list[dict[str, Any]]:
        """GET a collection."""
        found: list[dict[str, Any]] = _checked(self.client.get(path, params=params))["items"]
        return found

    def post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """POST an object."""
        return _checked(self.client.post(path, json=document))

    def patch(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Merge-PATCH an object."""
        return _checked(
            self.client.patch(
                path, content=json.dumps(patch), headers={"Content-Type": "application/merge-patch+json"}
            )
        )

    def delete(self, path: str) -> None:
        """DELETE an object or a collection; it is fine if it is gone already."""
        answer = self.client.delete(path)
        if answer.status_code != 404:
            _checked(answer)

    def create_namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        """Make a namespace and wait for its default service account, if a controller makes one."""
        self.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
        if "kube-controller-manager" in self.processes:
            wait_until(
                lambda: self.get(f"/api/v1/namespaces/{name}/serviceaccounts/default") is not None,
                "the namespace's default service account",
            )

    def pod_token(self, namespace: str, pod: str, *, audience: str, seconds: int = 3600) -> str:
        """A ServiceAccount token bound to a pod, as the kubelet would project it."""
        found = self.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")
        assert found is not None, f"no pod {pod}"
        request = {
            "spec": {
                "audiences": [audience],
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "kind": "Pod",
                    "apiVersion": "v1",
                    "name": pod,
                    "uid": found["metadata"]["uid"],
                },
            }
        }
        account = found["spec"].get("serviceAccountName", "default")
        made = self.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", request)
        return str(made["status"]["token"])

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as admin and return what it prints."""
        done = subprocess.run(
            [find("kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout + (done.stderr if not check else "")

    def apply_crds(self) -> None:
        """Install Camfleet's CustomResourceDefinitions and wait until they are served."""
        crds = Path(__file__).resolve().parents[2] / "crds"
        self.kubectl("apply", "--server-side", "-f", str(crds))
        for plural in ("cameras", "cameraprofiles"):
            wait_until(
                # 404 until it is served, 429 while its storage is made ready.
                lambda plural=plural: self.client.get(f"/apis/camfleet.io/v1alpha1/{plural}").is_success,
                f"the API to serve {plural}",
            )

    def write_kubeconfig(self, path: Path, *, user: str = "admin", url: str | None = None) -> None:
        """Write a kubeconfig, for a process of the testbed unless `url` says how else the API is reached."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "testbed",
                    "cluster": {
                        "server": url or self.inner_url,
                        "certificate-authority": str(self.folder / "pki" / "apiserver.crt"),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": self._tokens[user]}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
            "current-context": "testbed",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=2))  # JSON is YAML

    # ── Private parts ───────────────────────────────────────────────────────────────────────────────

    def _ready(self) -> bool:
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _make_secrets(self) -> None:
        for command in (
            ["genrsa", "-out", "sa.key", "2048"],
            ["rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"],
        ):
            subprocess.run(["openssl", *command], cwd=self.folder, check=True, capture_output=True)
        self._tokens = {user: secrets.token_hex(16) for user in _USERS}
        lines = [f'{self._tokens[user]},{user},{user},"{groups}"' for user, groups in _USERS.items()]
        tokens = self.folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text("\n".join(lines) + "\n")


def _checked(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        raise RuntimeError(
            f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}"
        )
    decoded: dict[str, Any] = answer.json()
    return decoded
