"""A namespace with cameras and operators, as tests on the API level see it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.testbed.control_plane import ControlPlane
from tests.testbed.processes import StartError, wait_until

from support.gateway_page import GatewayPage
from support.operator_process import OperatorProcess

_CAMERAS = "/apis/camfleet.io/v1alpha1/namespaces/{}/cameras"
_PROFILES = "/apis/camfleet.io/v1alpha1/namespaces/{}/cameraprofiles"


@dataclass
class Cameras:
    """A namespace with cameras."""

    plane: ControlPlane
    name: str
    folder: Path

    # ── Cameras ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def cameras_path(self) -> str:
        return _CAMERAS.format(self.name)

    @property
    def pods_path(self) -> str:
        return f"/api/v1/namespaces/{self.name}/pods"

    def create(self, name: str, **spec: Any) -> dict[str, Any]:
        """Create a camera: a test pattern on a CPU, unless said otherwise."""
        return self.plane.post(
            self.cameras_path,
            {
                "apiVersion": "camfleet.io/v1alpha1",
                "kind": "Camera",
                "metadata": {"name": name},
                "spec": {"source": {"testPattern": {}}, "gpu": {"mode": "Disabled"}, **spec},
            },
        )

    def create_profile(self, name: str, **spec: Any) -> None:
        self.plane.post(
            _PROFILES.format(self.name),
            {
                "apiVersion": "camfleet.io/v1alpha1",
                "kind": "CameraProfile",
                "metadata": {"name": name},
                "spec": spec,
            },
        )

    def change_profile(self, name: str, **spec: Any) -> None:
        self.plane.patch(f"{_PROFILES.format(self.name)}/{name}", {"spec": spec})

    def change(self, name: str, **spec: Any) -> None:
        self.plane.patch(f"{self.cameras_path}/{name}", {"spec": spec})

    def camera(self, name: str) -> dict[str, Any]:
        found = self.plane.get(f"{self.cameras_path}/{name}")
        assert found is not None, f"no camera {name}"
        return found

    def conditions(self, name: str) -> dict[str, tuple[str, str]]:
        """Status and reason by type."""
        found = self.camera(name).get("status", {}).get("conditions", [])
        return {c["type"]: (c["status"], c["reason"]) for c in found}

    def ready(self, name: str) -> bool:
        return self.conditions(name).get("Ready", ("", ""))[0] == "True"

    def wait_ready(self, *names: str, seconds: float = 90) -> None:
        for name in names:
            self.wait(lambda name=name: self.ready(name), f"{name} to be Ready", seconds=seconds)

    def pods(self, camera: str | None = None) -> list[dict[str, Any]]:
        """Worker pods, by label, that are not being deleted."""
        selector = "app.kubernetes.io/component=worker"
        if camera is not None:
            selector += f",camfleet.io/camera={camera}"
        found = self.plane.items(self.pods_path, labelSelector=selector)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def pod(self, camera: str) -> dict[str, Any]:
        (found,) = self.pods(camera)
        return found

    def events(self, camera: str) -> list[tuple[str, str]]:
        """Reason and text of the Events about a camera."""
        found = self.plane.items(
            f"/api/v1/namespaces/{self.name}/events", fieldSelector=f"involvedObject.name={camera}"
        )
        return [(event["reason"], event["message"]) for event in found]

    def wait(self, check: Callable[[], object], what: str, *, seconds: float = 90) -> None:
        try:
            wait_until(check, what, seconds=seconds)
        except StartError:
            self.print_logs()
            print(self.plane.kubectl("-n", self.name, "get", "cameras,pods", "-o", "wide", check=False))
            raise

    def print_logs(self) -> None:
        """What may explain a failure."""


@dataclass
class Site(Cameras):
    """A namespace with cameras, and the operators that see to it."""

    page: GatewayPage
    stack: ExitStack
    operators: list[OperatorProcess] = field(default_factory=list)

    def create(self, name: str, **spec: Any) -> dict[str, Any]:
        """As `Cameras` does; the gateway's page knows it too."""
        self.page.cameras.add(f"{self.name}.{name}")
        return super().create(name, **spec)

    def print_logs(self) -> None:
        for operator in self.operators:
            print(operator.log()[-4000:])

    # ── Operators ───────────────────────────────────────────────────────────────────────────────────

    def operator(self, *arguments: str, start: bool = True) -> OperatorProcess:
        """Start an operator for this namespace; several share a Lease."""
        number = len(self.operators)
        made = OperatorProcess(
            self.plane.kubeconfig,
            self.folder / f"operator-{number}.log",
            f"--namespace={self.name}",
            f"--lease-namespace={self.name}",
            f"--identity=operator-{number}",
            f"--gateway-metrics={self.page.url}",
            *arguments,
        )
        self.operators.append(made)
        self.stack.callback(made.stop)
        if start:
            made.start()
            self.wait(lambda: made.leads() or number > 0, "the operator to lead")
        return made

    # ── What was written ────────────────────────────────────────────────────────────────────────────

    def writes(self, since: float = 0.0) -> list[str]:
        """What operators have written here, `verb resource[/subresource] name`, the Lease left out.

        Args:
            since: Unix time; earlier writes are left out.
        """
        path = self.plane.folder.parent / "audit.log"
        found: list[str] = []
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            reference = entry.get("objectRef", {})
            if not entry.get("userAgent", "").startswith("camfleet-operator"):
                continue
            if reference.get("namespace") != self.name or reference.get("resource") == "leases":
                continue
            if _unix(entry["requestReceivedTimestamp"]) < since:
                continue
            what = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
            found.append(f"{entry['verb']} {what} {reference.get('name', '')}")
        return found


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
