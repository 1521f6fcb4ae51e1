"""The node level: containerd, kubelet, kube-proxy and a DNS server, on a `Machine` of the testbed's own.

Images run as real pods. Pods reach each other, Services by name, and the API server; they have no way out of
the machine. `kubectl logs`, `exec` and `port-forward` work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.testbed.control_plane import ControlPlane
from tests.testbed.images import Image
from tests.testbed.machine import ADDRESS, INSIDE, POD_CIDR, Machine
from tests.testbed.processes import wait_until
from tests.testbed.runtime import SOCKET, Runtime

NAME = "camfleet-node"
DOMAIN = "cluster.local"


class Node:
    """One node of a cluster whose control plane runs on the same machine."""

    def __init__(self, machine: Machine, plane: ControlPlane) -> None:
        self._machine = machine
        self._plane = plane
        self.folder = machine.folder / "node"

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return NAME

    def start_runtime(self, images: Iterable[Image]) -> None:
        """Load images and start containerd; needs no control plane."""
        network = self.folder / "cni"
        network.mkdir(parents=True, exist_ok=True)
        (network / "10-testbed.conflist").write_text(json.dumps(self._network(), indent=2))
        assert self._machine.inside is not None
        self.runtime = Runtime(self.folder, self._machine.inside, self._plane)
        self.runtime.start(images)

    def start(self) -> None:
        """Join the cluster: name server, kubelet, kube-proxy; wait until the node is ready."""
        self._start_dns()
        self._start_kubelet()
        self._start_proxy()
        wait_until(self._ready, "the node to be ready", process=self._plane.processes["kubelet"])

    def set_capacity(self, resource: str, count: int) -> None:
        """Let the node offer an extended resource, such as GPUs that are not there; the kubelet keeps it."""
        key = resource.replace("~", "~0").replace("/", "~1")
        answer = self._plane.client.patch(
            f"/api/v1/nodes/{NAME}/status",
            content=json.dumps(
                [
                    {"op": "add", "path": f"/status/{part}/{key}", "value": str(count)}
                    for part in ("capacity", "allocatable")
                ]
            ),
            headers={"Content-Type": "application/json-patch+json"},
        )
        answer.raise_for_status()
        wait_until(lambda: self._allocatable().get(resource) == str(count), f"the node to offer {resource}")

    def run(self, *command: str | Path) -> str:
        """Run a program on the node, as root."""
        assert self._machine.inside is not None
        return self._machine.inside.run(*command)

    # ── Private parts ───────────────────────────────────────────────────────────────────────────────

    def _start_kubelet(self) -> None:
        configuration = self.folder / "kubelet.json"
        resolver = self.folder / "resolv.conf"
        resolver.write_text(f"nameserver {ADDRESS}\n")
        configuration.write_text(json.dumps(self._kubelet_configuration(resolver), indent=2))
        kubeconfig = self.folder / "kubeconfig"
        self._plane.write_kubeconfig(kubeconfig)
        self._plane.run(
            "kubelet",
            f"--config={configuration}",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={INSIDE / self.folder.name / 'kubelet'}",
            f"--cert-dir={self.folder / 'kubelet-pki'}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
        )

    def _start_proxy(self) -> None:
        kubeconfig = self.folder / "kubeconfig"
        self._plane.run(
            "kube-proxy",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}",
            "--proxy-mode=iptables",
            f"--cluster-cidr={POD_CIDR}",
            # These are the machine's, not the network namespace's.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        )

    def _start_dns(self) -> None:
        kubeconfig = self.folder / "dns.kubeconfig"
        self._plane.write_kubeconfig(kubeconfig)
        configuration = self.folder / "Corefile"
        configuration.write_text(
            f".:53 {{\n  bind {ADDRESS}\n  errors\n  kubernetes {DOMAIN} in-addr.arpa {{\n"
            f"    kubeconfig {kubeconfig} testbed\n    ttl 2\n  }}\n}}\n"
        )
        self._plane.run("coredns", f"-conf={configuration}")

    def _ready(self) -> bool:
        node = self._plane.get(f"/api/v1/nodes/{NAME}")
        conditions = node["status"].get("conditions", []) if node else []
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def _allocatable(self) -> dict[str, str]:
        node = self._plane.get(f"/api/v1/nodes/{NAME}")
        assert node is not None
        found: dict[str, str] = node["status"]["allocatable"]
        return found

    def _network(self) -> dict[str, Any]:
        # Point to point rather than a bridge: each packet of a pod is routed, so kube-proxy sees the answers
        # of Services as well, whether the kernel filters bridges or not.
        return {
            "cniVersion": "0.4.0",
            "name": "testbed",
            "plugins": [
                {
                    "type": "ptp",
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": POD_CIDR}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": str(self.folder / "addresses"),
                    },
                }
            ],
        }

    def _kubelet_configuration(self, resolver: Path) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            # Nobody else is in the network namespace.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._machine.cgroup}",
            "clusterDNS": [ADDRESS],
            "clusterDomain": DOMAIN,
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            # By default a minute: a changed Secret reaches its pod with this.
            "syncFrequency": "10s",
            "resolvConf": str(resolver),
            "podLogsDir": str(self.folder / "logs"),
            "volumePluginDir": str(self.folder / "volume-plugins"),
            # However full the disk is: it is the machine's, and the images cannot be fetched again.
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "0%",
                "imagefs.available": "0%",
            },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "serializeImagePulls": False,
            "shutdownGracePeriod": "0s",
        }
