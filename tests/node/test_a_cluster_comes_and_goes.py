"""`make cluster` ends with a live camera, and `make cluster-down` leaves nothing.

First in its folder, for the cluster of the other tests has the store of images to itself while it runs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.testbed import cluster
from tests.testbed.processes import wait_until

from support.require import need

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def _needs() -> None:
    why = cluster.missing()
    need(why is None, f"a node: {why}")


def machine() -> dict[str, object]:
    """What a cluster could change on this machine, apart from processes and its own folder."""
    links = json.loads(subprocess.run(["ip", "-json", "address"], capture_output=True, check=True).stdout)
    return {
        "links": {link["ifname"]: [entry["local"] for entry in link["addr_info"]] for link in links},
        "filters": subprocess.run(["iptables-save"], capture_output=True, check=True).stdout,
        "namespaces": sorted(path.name for path in Path("/run/netns").glob("*")),
        "settings": {name: Path("/proc/sys", name).read_text() for name in KERNEL},
        "folders": [
            path.exists()
            for path in map(
                Path, ("/etc/cni", "/opt/cni", "/var/lib/cni", "/var/lib/kubelet", "/opt/containerd")
            )
        ],
    }


def processes_of(folder: Path) -> list[str]:
    """The command lines that name the folder: components have their files there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and str(os.getpid()) != path.parent.name:
            found.append(line)
    return found


def cgroups() -> set[Path]:
    return set(Path("/sys/fs/cgroup").glob("**/camfleet-*-*"))


def test_make_cluster_and_make_cluster_down(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    environment = {**os.environ, "CAMFLEET_CLUSTER": "processes", "CAMFLEET_CLUSTER_DIR": str(folder)}
    environment["XDG_CACHE_HOME"] = str(cluster.images.cache_folder().parent)

    def command(name: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.testbed", name],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    before, groups = machine(), cgroups()
    try:
        said = command("up")
        assert f"export KUBECONFIG={folder}" in said
        address = next(word for word in said.split() if word.startswith("http://127.0.0.1:"))
        with urllib.request.urlopen(address, timeout=60) as page:
            assert b"<html" in page.read().lower()
        assert "runs already" in command("up")
        assert processes_of(folder)
        assert cgroups() - groups
    finally:
        command("down")
    assert processes_of(folder) == []
    assert cgroups() - groups == set()
    assert not folder.exists()
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert machine() == before
    assert "no cluster" in command("down")


def test_a_cluster_ends_with_the_process_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from tests.testbed.machine import Machine
from tests.testbed.processes import Process
machine = Machine(Path({str(tmp_path / "machine")!r}))
inside = machine.start()
inner = Process(["sleep", "12345"], Path({str(tmp_path / "log")!r}), inside=inside)
print(inner.pid, machine.cgroup, flush=True)
time.sleep(600)
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cluster.images.cache_folder().parent)}
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, cgroup = parent.stdout.readline().split()
        assert Path(f"/proc/{pid}").exists()
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of what ran inside")
    # Empty control groups stay, until the next machine comes.
    subprocess.run(
        [sys.executable, "-c", "from tests.testbed.machine import _sweep_cgroups as sweep; sweep()"],
        cwd=ROOT,
        check=True,
    )
    assert not any(path.name == cgroup for path in cgroups())
