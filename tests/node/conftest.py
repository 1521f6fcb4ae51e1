"""One cluster for all tests of the node level, with the working tree's images on its node.

`cluster.plane` is its control plane (`kubectl`, `get`, `post`, …), `cluster.images` what is on its node, and
`cluster.install(values)`, `cluster.load_media(path, namespace=…)`, `cluster.run_rtsp_server(user, password)`,
`cluster.forward_service(namespace, name, port)`, `cluster.node.set_capacity("nvidia.com/gpu", 4)`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from tests.testbed.cluster import Cluster, missing

from support.require import need


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster."""
    why = missing()
    need(why is None, f"a node: {why}")
    with Cluster(report=lambda line: print(line, flush=True)) as running:
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own in which only restricted pods are admitted."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    cluster.plane.create_namespace(name, {"pod-security.kubernetes.io/enforce": "restricted"})
    yield name
    cluster.plane.delete(f"/api/v1/namespaces/{name}")
