"""The images: each program starts as the user 10001 under a read-only root, and has no more than it needs."""

from __future__ import annotations

import json

import pytest
from restricted import pod, run
from tests.testbed.cluster import Cluster
from tests.testbed.images import PROGRAMS

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

LOOK = """
import json, os, shutil, sys
def writable(path):
    try:
        open(path + "/probe", "w").close()
    except OSError:
        return False
    return True
cached = [
    name for folder, _, names in os.walk(sys.prefix) for name in names if name.endswith(".py")
    and not os.path.exists(os.path.join(folder, "__pycache__", name[:-3] + ".cpython-311.pyc"))
]
print(json.dumps({
    "ids": [os.getuid(), os.getgid()],
    "writable": [path for path in ("/", "/opt/camfleet", "/usr", "/etc", "/tmp") if writable(path)],
    "tools": [name for name in ("pip", "gcc", "cc", "make", "uv") if shutil.which(name)],
    "sh": os.path.exists("/bin/sh"),
    "not compiled": cached,
}))
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_program_starts(cluster: Cluster, namespace: str, program: str) -> None:
    said = run(cluster, namespace, pod(program, cluster.images[program].reference, "--version"))
    assert said.startswith("camfleet, version")


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_the_image_is_like_from_inside(cluster: Cluster, namespace: str, program: str) -> None:
    manifest = pod(program, cluster.images[program].reference, "-c", LOOK, command=("python3",))
    seen = json.loads(run(cluster, namespace, manifest))
    assert seen == {"ids": [10001, 10001], "writable": ["/tmp"], "tools": [], "sh": True, "not compiled": []}


def test_the_worker_runs_and_listens_on_nothing(cluster: Cluster, namespace: str) -> None:
    worker = cluster.images["worker"].reference
    run(cluster, namespace, pod("worker", worker, "worker", "--mock", "--check-ports"))
