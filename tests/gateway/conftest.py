"""A running gateway for the tests of this folder, and ways to be a worker or a viewer of it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from gateway_clients import FakeWorker
from gateway_cluster import GATEWAY_RULES, Cluster, ClusterGateway
from gateway_tokens import Tokens
from tests.testbed.control_plane import ControlPlane

from camfleet_protocol.camera import Camera
from camfleet_protocol.local import StateFolder
from support.api_server import api_server
from support.gateway_process import GatewayProcess, put_camera, test_pattern, worker_token


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens.yaml")


@pytest.fixture
def start(state: StateFolder) -> Iterator[Callable[..., GatewayProcess]]:
    """Start gateways that end with the test."""
    running: list[GatewayProcess] = []

    def start_one(**settings: Any) -> GatewayProcess:
        gateway = GatewayProcess(state, **settings)
        running.append(gateway)
        return gateway

    yield start_one
    for gateway in running:
        gateway.kill()
        if "Traceback" in gateway.log:
            print(gateway.log, file=sys.stderr)
            pytest.fail("the gateway has logged a traceback")


@pytest.fixture
def gateway(start: Callable[..., GatewayProcess], door: Camera) -> GatewayProcess:
    """A gateway without authentication, with a short linger, that knows the camera `door`."""
    return start(linger_seconds=0.5)


@pytest.fixture
def door(state: StateFolder) -> Camera:
    """A camera of the directory."""
    return put_camera(state, test_pattern("door"))


@pytest.fixture
def publish(state: StateFolder, gateway: GatewayProcess) -> Callable[[Camera], Any]:
    """Be the current worker of a camera, in an `async with` block; accepted on entry."""

    @asynccontextmanager
    async def publishing(camera: Camera, **options: Any) -> AsyncIterator[FakeWorker]:
        token = worker_token(state, camera)
        async with FakeWorker.running(gateway.internal_url, camera.id, token, **options) as worker:
            await worker.accepted()
            yield worker

    return publishing


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """An API server with Camfleet's CustomResourceDefinitions."""
    with api_server(crds=True) as control_plane:
        yield control_plane


@pytest.fixture(scope="session")
def cluster(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Users, operator and kubelet of that API server."""
    return Cluster(plane, tmp_path_factory.mktemp("cluster"))


@pytest.fixture(scope="session")
def in_cluster(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterGateway]:
    """A gateway of all namespaces, with all its rights; shared, so tests use namespaces of their own."""
    gateway = ClusterGateway(
        tmp_path_factory.mktemp("gateway"),
        cluster.kubeconfig(*GATEWAY_RULES),
    )
    yield gateway
    gateway.kill()
    assert "Traceback" not in gateway.log, gateway.log


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A namespace of the test's own."""
    return cluster.namespace()


@pytest.fixture
def start_in_cluster(tmp_path: Path) -> Iterator[Callable[..., ClusterGateway]]:
    """Start gateways of the cluster that end with the test."""
    running: list[ClusterGateway] = []

    def start_one(kubeconfig: Path, **settings: Any) -> ClusterGateway:
        gateway = ClusterGateway(tmp_path / f"gateway-{len(running)}", kubeconfig, **settings)
        running.append(gateway)
        return gateway

    yield start_one
    for gateway in running:
        gateway.kill()
        assert "Traceback" not in gateway.log, gateway.log
