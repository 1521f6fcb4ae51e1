"""How the tests are spread over several processes (`make test`, by pytest-xdist), and which run alone.

Most tests wait most of the time, so several at once take a fraction of the time. Tests that share something
expensive stay together in one process, in the order of their files. Tests that measure what a busy machine
spoils run last, while nothing else does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

UNITS = {
    # One node, one store of images, one set of control groups on a machine.
    "node": ("tests/node/", "tests/images/"),
    # A control plane each, with a scheduler and nodes.
    "cluster: faults": ("tests/cluster/test_operator_faults.py",),
    "faults": ("tests/faults/",),
    "cluster": ("tests/cluster/",),
    # A control plane each.
    "chart": ("tests/chart/",),
    "gateway in a cluster": ("tests/gateway/test_gateway_kubernetes",),
    "operator in a cluster": ("tests/operator_cluster/",),
    "schemas": ("tests/crds/",),
    "kubectl": ("tests/cli/test_kubectl",),
    # A Milvus server.
    "vectors": ("tests/gateway/test_vectors",),
    # Long files.
    "worker": ("tests/worker/test_worker_publish.py",),
    "rtsp": ("tests/worker/test_worker_rtsp.py",),
    "fleet": ("tests/e2e/test_local_fleet.py",),
    # They measure how steady pictures come, and how soon somebody is back.
    "alone": (
        "tests/e2e/test_local_pace.py",
        "tests/gateway/test_gateway_fanout.py::test_slow_viewers",
        "tests/page/test_page_faces.py::test_boxes_stand_on_faces",  # boxes of the last inference
    ),
}
"""By name: beginnings of the node ids of what stays together. What takes longest starts first."""

ALONE = "alone"
_RANKS = {ALONE: 1, **{name: place - len(UNITS) for place, name in enumerate(UNITS) if name != ALONE}}


def unit_of(nodeid: str) -> str:
    """The unit of a test: its file, unless said otherwise."""
    own = (name for name, starts in UNITS.items() if nodeid.startswith(starts))
    return next(own, nodeid.partition("::")[0])


def in_order(nodeids: Sequence[str]) -> list[int]:
    """The places of the tests, in the order in which units start: files in between, `ALONE` at the end."""
    return sorted(range(len(nodeids)), key=lambda place: _RANKS.get(unit_of(nodeids[place]), 0))


class ByUnit(LoadScopeScheduling):
    """Gives each process a unit, and the next one when it is nearly through."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


@contextmanager
def room(folder: Path, *, alone: bool) -> Iterator[None]:
    """Have the machine together with others, or alone. Nobody passes somebody who waits for that."""
    with (folder / "door").open("w") as door, (folder / "room").open("w") as inside:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


# ── Hooks of pytest and of pytest-xdist ─────────────────────────────────────────────────────────────────


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByUnit:
    config.option.loadscopereorder = False
    return ByUnit(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = [items[place] for place in in_order([item.nodeid for item in items])]


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the clock of pytest-timeout
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with room(Path(item.config.option.basetemp).parent, alone=unit_of(item.nodeid) == ALONE):
        return (yield)
