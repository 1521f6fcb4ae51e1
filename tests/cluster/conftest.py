"""One cluster of processes for all tests of this folder; each test has its own namespace and operators."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.testbed.control_plane import RAISED_RATES, ControlPlane

from support.api_server import need_control_plane
from support.cluster_site import Site
from support.gateway_page import GatewayPage

NODES = 8
_AUDIT = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
"""


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A whole control plane with fake nodes and Camfleet's CRDs; it logs who writes what."""
    need_control_plane()
    folder = Path(tempfile.mkdtemp(prefix="camfleet-cluster-"))
    (folder / "audit.yaml").write_text(_AUDIT)
    arguments = (
        f"--audit-policy-file={folder / 'audit.yaml'}",
        f"--audit-log-path={folder / 'audit.log'}",
        "--audit-log-mode=blocking",
    )
    try:
        with ControlPlane(folder / "plane", api_arguments=arguments) as made:
            made.start_controller_manager(RAISED_RATES)
            made.start_scheduler(RAISED_RATES)
            made.start_kwok(NODES)
            made.apply_crds()
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(plane: ControlPlane, tmp_path: Path) -> Iterator[Site]:
    """A namespace of the test's own."""
    name = f"site-{uuid.uuid4().hex[:8]}"
    plane.create_namespace(name)
    with ExitStack() as stack:
        page = stack.enter_context(GatewayPage())
        made = Site(plane, name, tmp_path, page, stack)
        yield made
    plane.delete(made.cameras_path)
    plane.delete(f"/api/v1/namespaces/{name}")
