"""The machine that a testbed's node believes to run on: namespaces, address, control groups, masked folders.

All of it is the testbed's own, so it meets neither this machine's containers nor another testbed, and leaves
nothing behind: what the kernel does not take away with the namespaces, `Machine.stop` does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from tests.testbed.components import find
from tests.testbed.namespaces import Namespaces
from tests.testbed.processes import Process, started_at, wait_until

# The node's address. Nothing routes it out of the network namespace, so it clashes with nobody's network.
ADDRESS = "10.88.0.1"
POD_CIDR = "10.88.1.0/24"
SERVICE_CIDR = "10.96.0.0/16"

# The machine's folder, inside: the kubelet makes sockets, and a socket's path is at most 107 characters long.
INSIDE = Path("/run/testbed")
# Paths that programs of a node have built in. Empty and in memory, inside.
_MASKED = ("/run", "/var/log", "/var/lib/kubelet", "/var/lib/cni")
# The kubelet insists on these, for the whole machine. Inside it finds files that say what it wants to read.
_KERNEL_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
_TOOLS = ("unshare", "ip", "iptables", "mount", "runc", "containerd", "ctr")


def missing() -> str | None:
    """Why this machine cannot carry a node, or None if it can."""
    if os.geteuid() != 0:
        return "a node needs root"
    absent = [name for name in _TOOLS if shutil.which(name) is None]
    if plugins() is None:
        absent.append("CNI plugins")
    return f"not installed: {', '.join(absent)}" if absent else None


def plugins() -> Path | None:
    """The folder with the CNI plugins."""
    return next((p for p in map(Path, ("/usr/lib/cni", "/opt/cni/bin")) if (p / "ptp").exists()), None)


class Machine:
    """Namespaces in which `ADDRESS` is local and packets are routed, and a control group `cgroup`."""

    def __init__(self, folder: Path, *, die_with_parent: bool = True) -> None:
        self.folder = folder
        self.cgroup = ""
        self.holder: Process | None = None
        self.inside: Namespaces | None = None
        self._die = die_with_parent

    def start(self) -> Namespaces:
        """Make it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made = [path for path in map(Path, _MASKED) if not path.exists()]
        for path in made:
            path.mkdir(parents=True)
        (self.folder / "made-folders").write_text("".join(f"{path}\n" for path in made))
        self.holder = holder = Process(
            Namespaces.command(find("pause")), self.folder / "namespaces.log", die_with_parent=self._die
        )
        _sweep_cgroups()
        # Named after the holder, so that whoever finds it can tell whether it is still in use.
        self.cgroup = f"camfleet-{holder.pid}-{started_at(holder.pid)}"
        for hierarchy in _hierarchies():
            _enable_controllers(hierarchy)
            (hierarchy / self.cgroup).mkdir(exist_ok=True)
        wait_until(lambda: Namespaces.made_by(holder.pid), "the namespaces", process=holder, seconds=10)
        inside = Namespaces.made_by(holder.pid)
        assert inside is not None
        self.inside = inside
        # /proc is mounted last, before the first program of the namespaces starts.
        wait_until(
            lambda: "pause" in Path(f"/proc/{inside.holder}/comm").read_text(),
            "them",
            process=holder,
            seconds=10,
        )
        self._furnish(inside)
        return inside

    def _furnish(self, inside: Namespaces) -> None:
        settings = self.folder / "kernel"
        script = ["set -e", "mount --make-rshared /"]
        script += [f"mount -t tmpfs -o mode=755 testbed {path}" for path in _MASKED]
        for name, value in _KERNEL_SETTINGS.items():
            if not Path("/proc/sys", name).exists():
                continue
            file = settings / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{value}\n")
            script.append(f"mount --bind {file} /proc/sys/{name}")
        script += [
            f"mkdir -p /run/lock {INSIDE}",
            f"mount --bind {self.folder} {INSIDE}",
            "ip link set lo up",
            # On the loopback interface, yet not a loopback address, which the kubelet would refuse.
            f"ip address add {ADDRESS}/32 dev lo",
            # For the node's own connections to Services; kube-proxy's rules then say where they really go.
            f"ip route add {SERVICE_CIDR} dev lo src {ADDRESS}",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
        ]
        inside.run("sh", "-c", "\n".join(script))

    def kill(self) -> None:
        """End whatever runs in it. Who has started processes in it should await their end before `stop`."""
        if self.holder is not None:
            self.holder.kill()

    def stop(self) -> None:
        """End whatever runs in it, and remove what is left."""
        self.kill()
        end(self.inside, self.cgroup, self.folder)


def end(inside: Namespaces | None, cgroup: str, folder: Path) -> None:
    """Wait until nothing runs in the namespaces any more, and remove control groups and made folders."""
    if inside is not None:
        wait_until(lambda: not inside.alive, "the end of the node's processes", seconds=30)
    for hierarchy in _hierarchies() if cgroup else ():
        _remove_cgroup(hierarchy / cgroup)
    record = folder / "made-folders"
    if record.exists():
        for line in record.read_text().splitlines():
            with contextlib.suppress(OSError):  # somebody else uses it by now
                Path(line).rmdir()


def _hierarchies() -> list[Path]:
    """Where control groups are mounted: one folder for version 2, one per controller for version 1."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def _enable_controllers(hierarchy: Path) -> None:
    """With version 2, let groups below the root have the controllers that the kubelet asks for."""
    control = hierarchy / "cgroup.subtree_control"
    if not control.exists():
        return
    offered = set((hierarchy / "cgroup.controllers").read_text().split())
    for name in sorted(
        {"cpu", "cpuset", "hugetlb", "memory", "pids"} & offered - set(control.read_text().split())
    ):
        control.write_text(f"+{name}")


def _sweep_cgroups() -> None:
    """Remove the groups of machines whose end nobody has awaited."""
    for hierarchy in _hierarchies():
        for path in hierarchy.glob("camfleet-*-*"):
            pid, started = path.name.split("-")[1:]
            if started_at(int(pid)) != int(started):
                with contextlib.suppress(OSError):
                    _remove_cgroup(path)


def _remove_cgroup(path: Path) -> None:
    if not path.exists():
        return
    for child, _, _ in os.walk(path, topdown=False):
        deadline = time.monotonic() + 10
        while True:
            try:
                os.rmdir(child)
                break
            except FileNotFoundError:
                break
            except OSError:  # busy for a moment after the last process
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
