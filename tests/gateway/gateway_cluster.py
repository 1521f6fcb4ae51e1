"""A cluster around the gateway: Cameras, pods with tokens, a gateway with no more rights than it needs."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
from tests.testbed.control_plane import ControlPlane

from camfleet_protocol.camera import Camera
from camfleet_protocol.cluster import TOKEN_AUDIENCE, pod_name
from camfleet_protocol.local import StateFolder
from camfleet_protocol.settings import effective_settings
from support.gateway_process import GatewayProcess

CAMERAS = "/apis/camfleet.io/v1alpha1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CAMERA_RULE = {
    "apiGroups": ["camfleet.io"],
    "resources": ["cameras"],
    "verbs": ["get", "list", "watch", "create", "patch", "delete"],
}
REVIEW_RULE = {
    "apiGroups": ["authentication.k8s.io"],
    "resources": ["tokenreviews"],
    "verbs": ["create"],
}
GATEWAY_RULES = (CAMERA_RULE, REVIEW_RULE)
"""All that a gateway may do in a cluster."""
TEST_PATTERN: dict[str, Any] = {"source": {"testPattern": {}}}

Json = dict[str, Any]


class Cluster:
    """What the user, the operator and the kubelet would do, against a real API server."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane = plane
        self._folder = folder

    # ── Rights ──────────────────────────────────────────────────────────────────────────────────────

    def kubeconfig(self, *rules: Json, namespaces: tuple[str, ...] = ()) -> Path:
        """The kubeconfig of a new ServiceAccount with these rights, those on cameras only in `namespaces`."""
        name = f"gateway-{uuid.uuid4().hex[:8]}"
        account = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
        self.plane.post("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": name}})
        for number, rule in enumerate(rules):
            scopes = namespaces if rule is CAMERA_RULE and namespaces else (None,)
            for scope in scopes:
                kind, where = (
                    ("ClusterRole", RBAC) if scope is None else ("Role", f"{RBAC}/namespaces/{scope}")
                )
                role = f"{name}-{number}"
                self.plane.post(f"{where}/{kind.lower()}s", {"metadata": {"name": role}, "rules": [rule]})
                self.plane.post(
                    f"{where}/{kind.lower()}bindings",
                    {
                        "metadata": {"name": role},
                        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
                        "subjects": [account],
                    },
                )
        made = self.plane.post(f"/api/v1/namespaces/default/serviceaccounts/{name}/token", {"spec": {}})
        config = json.loads(self.plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": made["status"]["token"]}
        path = self._folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    # ── The user ────────────────────────────────────────────────────────────────────────────────────

    def namespace(self) -> str:
        """A new namespace, with the ServiceAccount that pods use."""
        name = f"t-{uuid.uuid4().hex[:8]}"
        self.plane.create_namespace(name)
        self.plane.post(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
        return name

    def camera(self, namespace: str, name: str, **spec: Any) -> Json:
        """Make a Camera."""
        body = {
            "apiVersion": "camfleet.io/v1alpha1",
            "kind": "Camera",
            "metadata": {"name": name},
            "spec": {**TEST_PATTERN, **spec},
        }
        return self.plane.post(f"{CAMERAS}/namespaces/{namespace}/cameras", body)

    def get(self, namespace: str, name: str) -> Json | None:
        """A Camera as it is."""
        return self.plane.get(f"{CAMERAS}/namespaces/{namespace}/cameras/{name}")

    def spec(self, namespace: str, name: str) -> Json:
        """The spec of a Camera as it is."""
        found = self.get(namespace, name)
        assert found is not None
        return dict(found["spec"])

    def delete(self, namespace: str, name: str) -> None:
        """Delete a Camera."""
        self.plane.delete(f"{CAMERAS}/namespaces/{namespace}/cameras/{name}")

    # ── The operator ────────────────────────────────────────────────────────────────────────────────

    def pod(self, camera: Json, attempt: int = 1) -> Json:
        """Make the pod of an attempt; no node ever runs it."""
        metadata = camera["metadata"]
        return self.pod_named(metadata["namespace"], pod_name(metadata["name"], metadata["uid"], attempt))

    def pod_named(self, namespace: str, name: str) -> Json:
        """Make any pod."""
        container = {"name": "worker", "image": "registry.invalid/worker"}
        body = {"metadata": {"name": name}, "spec": {"containers": [container]}}
        return self.plane.post(f"/api/v1/namespaces/{namespace}/pods", body)

    def status(self, camera: Json, **status: Any) -> None:
        """Write fields of a Camera's status."""
        metadata = camera["metadata"]
        path = f"{CAMERAS}/namespaces/{metadata['namespace']}/cameras/{metadata['name']}/status"
        self.plane.patch(path, {"status": status})

    def current(self, camera: Json, pod: Json, attempt: int = 1) -> None:
        """Say in the status that this pod is the camera's worker, with the settings of its spec."""
        settings = effective_settings(Camera.model_validate(camera))
        self.status(
            camera,
            worker={
                "attempt": attempt,
                "podName": pod["metadata"]["name"],
                "podUID": pod["metadata"]["uid"],
                "nodeName": "node-7",
            },
            settings={"hash": settings.hash, "values": settings.values()},
        )

    # ── The kubelet ─────────────────────────────────────────────────────────────────────────────────

    def token(self, pod: Json, *, audience: str = TOKEN_AUDIENCE) -> str:
        """The token that would be projected into a pod."""
        metadata = pod["metadata"]
        return self.plane.pod_token(metadata["namespace"], metadata["name"], audience=audience)

    def running(self, camera: Json, attempt: int = 1) -> str:
        """Make a camera's worker pod and name it in the status; its token."""
        pod = self.pod(camera, attempt)
        self.current(camera, pod, attempt)
        return self.token(pod)

    def forged(self, token: str, key: Path | None = None, **claims: Any) -> str:
        """A token with other claims, signed by the cluster's own key or by another one."""
        _, body, _ = token.split(".")
        changed = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | claims
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "RS256"}, changed))
        command = ["openssl", "dgst", "-sha256", "-sign", str(key or self.plane.folder / "sa.key")]
        signature = subprocess.run(command, input=signed.encode(), capture_output=True, check=True).stdout
        return f"{signed}.{_encoded(signature)}"

    def other_key(self) -> Path:
        """A key that no API server knows."""
        path = self._folder / "other.key"
        subprocess.run(["openssl", "genrsa", "-out", str(path), "2048"], check=True, capture_output=True)
        return path


class ClusterGateway(GatewayProcess):
    """A gateway process of `camfleet gateway --kubernetes`."""

    def __init__(self, folder: Path, kubeconfig: Path, **settings: Any) -> None:
        super().__init__(
            StateFolder(folder), state_dir=None, kubernetes=True, kubeconfig=str(kubeconfig), **settings
        )

    def _ready(self) -> bool:
        said = re.findall(r"listening: viewers 127\.0\.0\.1:(\d+), internal 127\.0\.0\.1:(\d+)", self.log)
        if len(said) <= self._starts:
            return False
        self.viewer_port, self.internal_port = map(int, said[-1])
        try:
            if httpx.get(f"{self.internal_url}/{self.answers}", timeout=2).status_code != 200:
                return False
        except httpx.HTTPError:
            return False
        self._starts += 1
        return True

    answers = "readyz"
    """The probe that must be good before the gateway counts as started."""
    _starts = 0

    def cameras(self, namespace: str | None = None) -> dict[str, Json]:
        """All cameras by id, or those of a namespace."""
        found = httpx.get(f"{self.viewer_url}/api/cameras", timeout=60).json()["cameras"]
        return {c["camera_id"]: c for c in found if namespace in (None, c["namespace"])}

    def until(self, camera: str, check: Any, what: str, within: float = 60.0) -> Any:
        """Wait until a camera, or None for none, is as wanted."""
        deadline = time.monotonic() + within
        while True:
            answer = httpx.get(f"{self.viewer_url}/api/cameras/{camera}", timeout=60)
            found = answer.json() if answer.status_code == 200 else None
            if check(found):
                return found
            assert time.monotonic() < deadline, f"{what}: {found}"
            time.sleep(0.02)

    def refused(self) -> dict[str, int]:
        """The count of refused sessions by reason."""
        text = httpx.get(
            f"{self.internal_url}/metrics",
            params={"name[]": "camfleet_gateway_sessions_refused_total"},
            timeout=60,
        ).text
        found = re.findall(r'^camfleet_gateway_sessions_refused_total\{reason="(\w+)"\} (\S+)$', text, re.M)
        return {reason: int(float(count)) for reason, count in found}


def camera_id(camera: Json) -> str:
    """`namespace.name`."""
    return f"{camera['metadata']['namespace']}.{camera['metadata']['name']}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
