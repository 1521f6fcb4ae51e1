"""Nodes that can be lost: each is a kwok process of its own, which keeps its Lease and its Ready condition.

A node is lost by stopping its process: nothing is said to the API server, the Lease is renewed no more, and
what the kubelet would have to do with its pods is not done. Worker pods are left to `pod_runner`; kwok itself
plays only other pods, such as those of a Deployment.
"""

from __future__ import annotations

import signal
from datetime import datetime
from pathlib import Path

from tests.testbed.components import find
from tests.testbed.control_plane import ControlPlane
from tests.testbed.processes import Process, free_port, wait_until

# As kwok's own stages for pods, but not for workers.
_NOT_A_WORKER = """
    - key: '.metadata.labels["app.kubernetes.io/component"]'
      operator: 'NotIn'
      values: ['worker']"""
_STAGES = f"""
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {{name: pod-ready}}
spec:
  resourceRef: {{apiGroup: v1, kind: Pod}}
  selector:
    matchExpressions:{_NOT_A_WORKER}
    - {{key: '.metadata.deletionTimestamp', operator: DoesNotExist}}
    - {{key: '.status.podIP', operator: DoesNotExist}}
  next:
    statusTemplate: |
      {{{{ $now := Now }}}}
      conditions:
      - {{lastTransitionTime: {{{{ $now | Quote }}}}, status: "True", type: Initialized}}
      - {{lastTransitionTime: {{{{ $now | Quote }}}}, status: "True", type: Ready}}
      - {{lastTransitionTime: {{{{ $now | Quote }}}}, status: "True", type: ContainersReady}}
      containerStatuses:
      {{{{ range .spec.containers }}}}
      - image: {{{{ .image | Quote }}}}
        name: {{{{ .name | Quote }}}}
        ready: true
        restartCount: 0
        state: {{running: {{startedAt: {{{{ $now | Quote }}}}}}}}
      {{{{ end }}}}
      podIP: "10.0.0.1"
      phase: Running
      startTime: {{{{ $now | Quote }}}}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {{name: pod-delete}}
spec:
  resourceRef: {{apiGroup: v1, kind: Pod}}
  selector:
    matchExpressions:{_NOT_A_WORKER}
    - {{key: '.metadata.deletionTimestamp', operator: Exists}}
  next:
    finalizers: {{empty: true}}
    delete: true
"""


class FakeNodes:
    """Nodes `node-0`, … of a control plane; all but the last have the label `cameras=true`.

    Args:
        plane: A running control plane without a kwok of its own.
        count: How many.
        lease_seconds: How long their Leases last, renewed four times as often; a kubelet's 40 s.
    """

    def __init__(self, plane: ControlPlane, count: int, lease_seconds: int = 40) -> None:
        self.names = [f"node-{number}" for number in range(count)]
        self._plane = plane
        self._lease_seconds = lease_seconds
        self._processes: dict[str, Process] = {}
        self._lost: set[str] = set()
        stages = plane.folder / "kwok-stages.yaml"
        stages.write_text(_STAGES)
        for name in self.names:
            plane.create_node(name)
            if name != self.names[-1]:
                plane.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": {"cameras": "true"}}})
            self._start(name, stages)
        for name in self.names:
            wait_until(lambda name=name: self.ready(name), f"{name} Ready", process=self._processes[name])

    def _start(self, name: str, stages: Path) -> None:
        self._processes[name] = self._plane.run(
            f"kwok-{name}",
            f"--kubeconfig={self._plane.kubeconfig}",
            f"--config={stages}",
            f"--manage-single-node={name}",
            f"--server-address=127.0.0.1:{free_port()}",
            f"--node-lease-duration-seconds={self._lease_seconds}",
            program=find("kwok"),
        )

    def lose(self, name: str) -> None:
        """The node is silent from now on."""
        self._lost.add(name)
        self._processes[name].signal(signal.SIGSTOP)

    def revive(self, name: str) -> None:
        """It is back: its kubelet reports again."""
        self._processes[name].signal(signal.SIGCONT)
        self._lost.discard(name)

    def alive(self, name: str) -> bool:
        """Whether its kubelet does its work."""
        return name not in self._lost

    def ready(self, name: str) -> bool:
        """Whether the API server believes it Ready, and pods may be put there."""
        node = self._plane.get(f"/api/v1/nodes/{name}") or {}
        conditions = node.get("status", {}).get("conditions", ())
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        return ready and not node.get("spec", {}).get("taints")

    def lease_age(self, name: str, now: float) -> float:
        """Seconds since its Lease was renewed; `now` is Unix time."""
        lease = self._plane.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}")
        assert lease is not None, f"{name} has no Lease"
        return now - datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()
