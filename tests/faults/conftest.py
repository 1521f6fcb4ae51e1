"""One control plane with nodes that can be lost; each fleet on it has a namespace of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.testbed.control_plane import RAISED_RATES, ControlPlane

from support.api_server import need_control_plane
from support.fake_nodes import FakeNodes
from support.fault_site import FULL, QUICK, FaultSite, Pace

NODES = 5
_MEASURED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What docs/fault-matrix.md has in its last column."""
    if lines := config.stash[_MEASURED]:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture
def measured(request: pytest.FixtureRequest, pace: Pace) -> Callable[..., None]:
    """Note a time, or whatever was found; it is printed at the end of the run."""

    def note(what: str, found: object) -> None:
        text = f"{found:.1f} s" if isinstance(found, float) else str(found)
        form = "full" if pace is FULL else "quick"
        request.config.stash[_MEASURED].append(f"{request.node.name} ({form}): {what}: {text}")

    return note


@pytest.fixture(scope="session")
def pace() -> Pace:
    """As delivered with `CAMFLEET_FAULTS=full` (`make faults`), else quick."""
    return FULL if os.environ.get("CAMFLEET_FAULTS") == "full" else QUICK


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A whole control plane with Camfleet's CRDs, and no kwok."""
    need_control_plane()
    with ControlPlane() as made:
        made.start_controller_manager(RAISED_RATES)
        made.start_scheduler(RAISED_RATES)
        made.apply_crds()
        yield made


@pytest.fixture(scope="session")
def nodes(plane: ControlPlane, pace: Pace) -> FakeNodes:
    """Nodes that can be lost."""
    return FakeNodes(plane, NODES, pace.lease)


def _starter(
    plane: ControlPlane, nodes: FakeNodes, pace: Pace, folder: Path, stack: ExitStack
) -> Callable[..., FaultSite]:
    """With `CAMFLEET_FAULTS_EVALUATOR=direct` operators ask the gateway itself."""
    direct = os.environ.get("CAMFLEET_FAULTS_EVALUATOR") == "direct"

    def start(*arguments: str, **fields: Any) -> FaultSite:
        name = f"site-{uuid.uuid4().hex[:8]}"
        fields = {"pace": pace, "direct": direct, **fields}
        made = FaultSite(plane, name, folder / name, nodes, arguments=arguments, **fields)
        return stack.enter_context(made)

    return start


@pytest.fixture
def start_site(
    plane: ControlPlane, nodes: FakeNodes, pace: Pace, tmp_path: Path
) -> Iterator[Callable[..., FaultSite]]:
    """Start fleets that end with the test; arguments are the operator's."""
    with ExitStack() as stack:
        yield _starter(plane, nodes, pace, tmp_path, stack)


@pytest.fixture(scope="module")
def start_shared_site(
    plane: ControlPlane, nodes: FakeNodes, pace: Pace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., FaultSite]]:
    """Start a fleet that ends with the tests of the file: each leaves it as it should be."""
    with ExitStack() as stack:
        yield _starter(plane, nodes, pace, tmp_path_factory.mktemp("sites"), stack)
