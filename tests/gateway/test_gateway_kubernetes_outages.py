"""The Kubernetes API goes away, comes back, forgets, falls silent. Needs the API level."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_clients import FakeViewer, FakeWorker, eventually
from gateway_cluster import GATEWAY_RULES, Cluster, ClusterGateway, camera_id
from tests.testbed.components import available
from tests.testbed.control_plane import ControlPlane

from camfleet_gateway.kube import Kube
from camfleet_gateway.kubernetes_directory import KubernetesDirectory
from support.relay import Relay
from support.require import need

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def own_plane() -> Iterator[ControlPlane]:
    missing = available(("kube-apiserver", "etcd", "kubectl"))
    need(missing is None, missing or "the API level")
    with ControlPlane() as plane:
        plane.apply_crds()
        yield plane


@pytest.fixture
def own(own_plane: ControlPlane, tmp_path: Path) -> Iterator[Cluster]:
    yield Cluster(own_plane, tmp_path)
    if not own_plane.processes["kube-apiserver"].running:
        own_plane.start_api_server()


async def test_while_the_api_server_is_away_all_goes_on(
    own: Cluster, start_in_cluster: Callable[..., ClusterGateway]
) -> None:
    namespace = own.namespace()
    gateway = start_in_cluster(own.kubeconfig(*GATEWAY_RULES), hold_seconds=1.0)
    door, hall = own.camera(namespace, "door"), own.camera(namespace, "hall")
    door_token, hall_token = own.running(door), own.running(hall)
    async with (
        FakeWorker.running(gateway.internal_url, camera_id(door), door_token) as worker,
        FakeViewer.running(gateway.viewer_url, camera_id(door)) as viewer,
        httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as http,
    ):
        await worker.accepted()
        own.plane.processes["kube-apiserver"].kill()
        await eventually(lambda: "the Kubernetes API cannot be reached" in gateway.log, "it is noticed")
        assert (await http.get("/readyz")).status_code == 200
        assert set(gateway.cameras(namespace)) == {camera_id(door), camera_id(hall)}
        await worker.demand(lambda d: d.plain, "plain")
        seq = await worker.send()
        await eventually(lambda: seq in viewer.seqs(), "pictures come")
        answer = await http.post(f"/cameras/{camera_id(door)}/stream/stop")
        assert answer.status_code == 503 and "cannot be reached" in answer.text
        async with FakeWorker.running(gateway.internal_url, camera_id(hall), hall_token) as unknown:
            code, goodbyes = await unknown.closing()
            assert code == 1013 and goodbyes[-1].retry_ms is not None, "neither let in nor sent away for good"
        async with FakeWorker.running(gateway.internal_url, camera_id(door), door_token) as again:
            await again.accepted()  # its token was found good less than a minute ago
        own.plane.start_api_server()
        own.camera(namespace, "new")
        await eventually(lambda: f"{namespace}.new" in gateway.cameras(), "followed again")
        async with FakeWorker.running(gateway.internal_url, camera_id(hall), hall_token) as known:
            await known.accepted()
        assert (await http.post(f"/cameras/{camera_id(door)}/stream/stop")).status_code == 200
    assert gateway.log.count("ERROR") < 12, "an outage is told once, not at every try"


async def test_what_went_unseen_is_made_up_for(
    own: Cluster, start_in_cluster: Callable[..., ClusterGateway]
) -> None:
    """The version we knew is too old for the API server (410): the listing replaces the view."""
    namespace = own.namespace()
    gateway = start_in_cluster(own.kubeconfig(*GATEWAY_RULES))
    keep, change = own.camera(namespace, "keep"), own.camera(namespace, "change")
    own.camera(namespace, "lose")
    token = own.running(keep)
    await eventually(lambda: len(gateway.cameras(namespace)) == 3, "known")
    async with FakeWorker.running(gateway.internal_url, camera_id(keep), token) as worker:
        await worker.accepted()
        os.kill(gateway.pid, signal.SIGSTOP)
        try:
            own.namespace()  # something else, so that the API server's memory begins after what we know
            own.plane.processes["kube-apiserver"].kill()
            own.plane.start_api_server()
            own.delete(namespace, "lose")
            own.status(change, worker={"attempt": 5})
            own.camera(namespace, "come")
        finally:
            os.kill(gateway.pid, signal.SIGCONT)
        wanted = {f"{namespace}.{name}" for name in ("keep", "change", "come")}
        await eventually(lambda: set(gateway.cameras(namespace)) == wanted, "the view is right")
        assert "listing cameras again: the watch is too far behind" in gateway.log
        assert not worker.closed.is_set()


def test_a_gateway_starts_before_the_api_server(
    own: Cluster, start_in_cluster: Callable[..., ClusterGateway]
) -> None:
    namespace = own.namespace()
    own.camera(namespace, "door")
    kubeconfig = own.kubeconfig(*GATEWAY_RULES)
    own.plane.processes["kube-apiserver"].kill()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClusterGateway, "answers", "livez")
        gateway = start_in_cluster(kubeconfig)
    assert httpx.get(f"{gateway.internal_url}/readyz", timeout=5).status_code == 503
    own.plane.start_api_server()
    gateway.until(f"{namespace}.door", bool, "it catches up")
    assert httpx.get(f"{gateway.internal_url}/readyz", timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("content", "text"),
    [(None, "Invalid kube-config file"), ("{", "cannot be addressed by kubeconfig"), ("{}", "kubeconfig")],
)
def test_a_useless_kubeconfig_is_said_in_one_line(tmp_path: Path, content: str | None, text: str) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    if content is not None:
        kubeconfig.write_text(content)
    with pytest.raises(AssertionError) as error:
        ClusterGateway(tmp_path / "gateway", kubeconfig)
    assert "ended with 2" in str(error.value) and text in str(error.value)
    assert "Traceback" not in str(error.value)


async def test_a_watch_that_falls_silent_is_taken_up_again(own: Cluster, tmp_path: Path) -> None:
    namespace = own.namespace()
    own.camera(namespace, "first")
    relay = Relay(own.plane.port)
    async with relay.listening() as port:
        config: Any = json.loads(own.kubeconfig(*GATEWAY_RULES).read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        path = tmp_path / "relayed"
        path.write_text(json.dumps(config))
        directory = KubernetesDirectory(Kube(path), (namespace,), idle_seconds=1.0)
        await directory.start(lambda: None)
        try:
            await eventually(lambda: directory.ready and directory.current, "listed, and watching")
            assert set(directory.cameras()) == {f"{namespace}.first"}
            relay.freeze()
            await asyncio.to_thread(own.camera, namespace, "second")
            await eventually(lambda: len(directory.cameras()) == 2, "seen through a new connection")
        finally:
            await directory.stop()


async def test_five_hundred_cameras(own: Cluster, start_in_cluster: Callable[..., ClusterGateway]) -> None:
    """All at once, several pages long; each change arrives, and nobody waits for it."""
    namespace = own.namespace()
    path = f"/apis/camfleet.io/v1alpha1/namespaces/{namespace}/cameras"
    config = json.loads(own.plane.kubeconfig.read_text())
    limit = asyncio.Semaphore(20)
    async with httpx.AsyncClient(
        base_url=own.plane.url,
        verify=own.plane.client._transport._pool._ssl_context,  # type: ignore[attr-defined]
        headers={"Authorization": f"Bearer {config['users'][0]['user']['token']}"},
        timeout=60,
    ) as api:

        async def send(method: str, where: str, body: Any, kind: str = "application/json") -> None:
            async with limit:
                answer = await api.request(
                    method, where, content=json.dumps(body), headers={"Content-Type": kind}
                )
                answer.raise_for_status()

        def camera(number: int) -> Any:
            return {
                "apiVersion": "camfleet.io/v1alpha1",
                "kind": "Camera",
                "metadata": {"name": f"cam-{number}"},
                "spec": {"source": {"testPattern": {}}},
            }

        await asyncio.gather(*(send("POST", path, camera(n)) for n in range(500)))
        gateway = start_in_cluster(own.kubeconfig(*GATEWAY_RULES))
        assert len(gateway.cameras(namespace)) == 500, "ready means that all are known"
        status = {"status": {"worker": {"attempt": 3, "podName": "p", "podUID": "u", "nodeName": "n"}}}
        merge = "application/merge-patch+json"
        await asyncio.gather(*(send("PATCH", f"{path}/cam-{n}/status", status, merge) for n in range(500)))

        async def seen() -> bool:
            info = await asyncio.to_thread(
                httpx.get,
                f"{gateway.internal_url}/metrics",
                params={"name[]": "camfleet_camera_info"},
                timeout=60,
            )
            return info.text.count('node="n",pod="p",attempt="3"') == 500

        await eventually(seen, "every status is seen")
        await send("DELETE", path, {})
        await eventually(lambda: not gateway.cameras(namespace), "all are gone")


async def test_in_a_pod_the_service_accounts_token_is_read_again(
    own: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet replaces the token in place; one that has become bad is noticed at once."""
    namespace = own.namespace()
    own.camera(namespace, "door")
    config = json.loads(own.kubeconfig(*GATEWAY_RULES).read_text())
    token = tmp_path / "token"
    token.write_text("not-yet-a-token")
    certificate = config["clusters"][0]["cluster"]["certificate-authority"]
    loader = "kubernetes.aio.config.incluster_config"
    monkeypatch.setattr(f"{loader}.SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(f"{loader}.SERVICE_CERT_FILENAME", certificate)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(own.plane.port))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    directory = KubernetesDirectory(Kube(), (namespace,))
    await directory.start(lambda: None)
    try:
        assert not directory.ready
        token.write_text(config["users"][0]["user"]["token"])
        await eventually(lambda: set(directory.cameras()) == {f"{namespace}.door"}, "it is let in")
    finally:
        await directory.stop()
