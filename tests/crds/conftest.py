"""One API server with Camfleet's CustomResourceDefinitions for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from crd_api import CrdApi
from hypothesis import settings
from tests.testbed.control_plane import ControlPlane

from support.api_server import api_server

settings.register_profile("camfleet", deadline=None)
settings.load_profile("camfleet")


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    with api_server(crds=True) as control_plane:
        yield control_plane


@pytest.fixture(scope="session")
def api(plane: ControlPlane) -> CrdApi:
    return CrdApi(plane)
