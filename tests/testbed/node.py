"""The node level: containerd, kubelet, kube-proxy and a DNS server, on a `Machine` of the testbed's own.

Images run as real pods. Pods reach each other, Services by name, and the API server; they have no way out of
the machine. `kubectl logs`, `exec` and `port-forward` work.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.testbed.components import find
from tests.testbed.control_plane import ControlPlane
from tests.testbed.images import overlay_works
from tests.testbed.machine import ADDRESS, POD_CIDR, Machine, plugins
from tests.testbed.processes import wait_until

NAME = "camfleet-node"
DOMAIN = "cluster.local"
PAUSE_IMAGE = "camfleet.io/testbed/pause:1"
_SOCKET = "/run/containerd/containerd.sock"  # in the node's own /run


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

    def start_runtime(self) -> None:
        """Start containerd; needs no control plane."""
        self.folder.mkdir(exist_ok=True)
        configuration = self.folder / "containerd.toml"
        configuration.write_text(self._containerd_configuration())
        network = self.folder / "cni"
        network.mkdir(exist_ok=True)
        (network / "10-testbed.conflist").write_text(json.dumps(self._network(), indent=2))
        process = self._plane.run(
            "containerd", f"--config={configuration}", program=shutil.which("containerd")
        )
        wait_until(self._runtime_answers, "containerd", process=process)
        self._import_pause()

    def import_image(self, archive: Path) -> None:
        """Load an image into the node."""
        self._ctr("images", "import", str(archive))

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
            f"--root-dir={self.folder / 'kubelet'}",
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

    def _ctr(self, *arguments: str) -> str:
        return self.run("ctr", f"--address={_SOCKET}", "--namespace=k8s.io", *arguments)

    def _runtime_answers(self) -> bool:
        try:
            self._ctr("version")
        except RuntimeError:
            return False
        return True

    def _import_pause(self) -> None:
        """The sandbox's image: one static program, put into an archive as `docker save` would."""
        archive = self.folder / "pause.tar"
        _save_static(find("pause"), PAUSE_IMAGE, archive)
        self.import_image(archive)

    def _containerd_configuration(self) -> str:
        snapshotter = "overlayfs" if overlay_works(self.folder) else "native"
        return f"""version = 2
root = "{self.folder / "containerd"}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
                    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
                    "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE runc could not lower the score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins()}"
    conf_dir = "{self.folder / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""

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
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
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


def _save_static(program: Path, reference: str, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as temporary:
        folder = Path(temporary)
        layer = folder / "layer.tar"
        with tarfile.open(layer, "w") as tar:
            tar.add(program, arcname="pause")
        digest = subprocess.run(["sha256sum", str(layer)], capture_output=True, text=True, check=True).stdout[
            :64
        ]
        configuration = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(
                platform.machine(), platform.machine()
            ),
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
        (folder / "config.json").write_text(json.dumps(configuration))
        manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with tarfile.open(archive, "w") as tar:
            for name in ("manifest.json", "config.json", "layer.tar"):
                tar.add(folder / name, arcname=name)
