"""One control plane with nodes that can be lost; each fleet on it has a namespace of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.testbed.components import API_LEVEL, ComponentMissingError, available, find
from tests.testbed.control_plane import RAISED_RATES, ControlPlane

from support.fake_nodes import FakeNodes
from support.fault_site import FULL, QUICK, FaultSite, Pace
from support.require import need

NODES = 4


@pytest.fixture(scope="session")
def pace() -> Pace:
    """As delivered with `CAMFLEET_FAULTS=full` (`make faults`), else quick."""
    return FULL if os.environ.get("CAMFLEET_FAULTS") == "full" else QUICK


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A whole control plane with Camfleet's CRDs, and no kwok."""
    need(available(API_LEVEL) is None, available(API_LEVEL) or "")
    try:
        for name in API_LEVEL:
            find(name)
    except ComponentMissingError as error:
        need(False, str(error))
    with ControlPlane() as made:
        made.start_controller_manager(RAISED_RATES)
        made.start_scheduler(RAISED_RATES)
        made.apply_crds()
        yield made


@pytest.fixture(scope="session")
def nodes(plane: ControlPlane) -> FakeNodes:
    """Nodes that can be lost."""
    return FakeNodes(plane, NODES)


@pytest.fixture
def start_site(
    plane: ControlPlane, nodes: FakeNodes, pace: Pace, tmp_path: Path
) -> Iterator[Callable[..., FaultSite]]:
    """Start fleets that end with the test; arguments are the operator's."""
    with ExitStack() as stack:

        def start(*arguments: str, **fields: Any) -> FaultSite:
            name = f"site-{uuid.uuid4().hex[:8]}"
            made = FaultSite(plane, name, tmp_path / name, nodes, pace, arguments, **fields)
            return stack.enter_context(made)

        yield start
