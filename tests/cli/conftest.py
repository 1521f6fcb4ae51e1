"""One API server for the tests of the kubectl plugin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubectl_site import Kubelet, PluginSite, plugin_site
from tests.testbed.control_plane import ControlPlane

from support.api_server import api_server


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """An API server with Camfleet's CustomResourceDefinitions."""
    with api_server(crds=True) as control_plane:
        yield control_plane


@pytest.fixture(scope="session")
def kubelet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    """Keeps the logs of all sites' pods."""
    made = Kubelet(tmp_path_factory.mktemp("kubelet"))
    yield made
    made.stop()


@pytest.fixture
def site(plane: ControlPlane, kubelet: Kubelet, tmp_path: Path) -> Iterator[PluginSite]:
    """Two namespaces of the test's own; nothing is installed yet."""
    with plugin_site(plane, kubelet, tmp_path) as made:
        yield made
