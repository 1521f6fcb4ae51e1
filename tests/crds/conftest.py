"""One API server with Camfleet's CustomResourceDefinitions for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from crd_api import CrdApi
from hypothesis import settings
from tests.testbed.components import available
from tests.testbed.control_plane import ControlPlane

from support.require import need

settings.register_profile("camfleet", deadline=None)
settings.load_profile("camfleet")


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    missing = available(("kube-apiserver", "etcd", "kubectl"))
    need(missing is None, missing or "the API level")
    with ControlPlane() as control_plane:
        control_plane.apply_crds()
        yield control_plane


@pytest.fixture(scope="session")
def api(plane: ControlPlane) -> CrdApi:
    return CrdApi(plane)
