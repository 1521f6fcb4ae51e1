"""Helm, and a real API server for what it makes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from helm_chart import Helm
from tests.testbed.components import API_LEVEL, available, find
from tests.testbed.control_plane import ControlPlane

from support.require import need


@pytest.fixture(scope="session")
def helm() -> Helm:
    missing = available(("helm",))
    need(missing is None, missing or "helm")
    return Helm(find("helm"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[ControlPlane]:
    missing = available((*API_LEVEL, "helm"))
    need(missing is None, missing or "the API level")
    # Owner references are checked as strict clusters do: our operator must not need rights on finalizers.
    strict = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement"
    with ControlPlane(api_arguments=[strict]) as plane:
        plane.start_controller_manager()
        yield plane


@pytest.fixture
def live_helm(helm: Helm, cluster: ControlPlane) -> Helm:
    return Helm(helm.program, cluster.kubeconfig)


@pytest.fixture(scope="session")
def make_namespace(cluster: ControlPlane) -> Callable[..., str]:
    """Makes a namespace of its own for a test."""
    numbers = itertools.count()

    def make(labels: dict[str, str] | None = None) -> str:
        name = f"chart-{next(numbers)}"
        cluster.create_namespace(name, labels)
        return name

    return make
