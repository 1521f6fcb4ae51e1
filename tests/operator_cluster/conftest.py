"""One API server for all tests of this folder, and clients of it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.testbed.control_plane import ControlPlane

from camfleet_operator.cluster.api import Api
from support.api_server import api_server


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """An API server with its etcd; nothing else runs."""
    with api_server(crds=True) as control_plane:
        yield control_plane


@pytest.fixture
async def api(plane: ControlPlane) -> AsyncIterator[Api]:
    """The operator's client, as cluster admin."""
    async with Api.connect(plane.kubeconfig) as client:
        yield client


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    """A namespace of the test's own, with the service account that pods need."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    plane.create_namespace(name)
    plane.post(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
    return name
