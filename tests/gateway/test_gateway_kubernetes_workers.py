"""Who may publish in a cluster: tokens of pods, checked by a real API server. Needs the API level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from gateway_clients import FakeViewer, FakeWorker, eventually
from gateway_cluster import CAMERA_RULE, GATEWAY_RULES, Cluster, ClusterGateway, Json, camera_id
from gateway_tokens import Tokens

from camfleet_protocol.cluster import pod_name
from support.gateway_process import test_pattern

pytestmark = pytest.mark.cluster


def connecting(gateway: ClusterGateway, camera: Json, token: str, **options: Any) -> Any:
    return FakeWorker.running(gateway.internal_url, camera_id(camera), token, **options)


async def refused(
    gateway: ClusterGateway, camera: Json, token: str, *, reason: str, code: int = 1008, **options: Any
) -> None:
    """See a worker refused with this code, and counted under this reason."""
    before = gateway.refused().get(reason, 0)
    async with connecting(gateway, camera, token, **options) as worker:
        found, goodbyes = await worker.closing()
    assert (found, goodbyes[-1].retry_ms is None) == (code, code == 1008), worker.socket.close_reason
    assert gateway.refused().get(reason, 0) == before + 1, gateway.refused()


async def test_the_worker_of_a_camera_is_accepted_and_configured(
    in_cluster: ClusterGateway, cluster: Cluster, namespace: str
) -> None:
    camera = cluster.camera(namespace, "door", stream={"fps": 3})
    token = cluster.running(camera)
    async with connecting(in_cluster, camera, token) as worker:
        await worker.accepted()
        assert (await worker.configured()).settings["stream"]["fps"] == 3
        async with FakeViewer.running(in_cluster.viewer_url, camera_id(camera)) as viewer:
            await worker.demand(lambda d: d.plain, "plain")
            seq = await worker.send()
            await eventually(lambda: seq in viewer.seqs(), "the picture")
            seen = await viewer.state(camera_id(camera), "live")
            assert seen.settings["stream"]["fps"] == 3
        cluster.status(camera, settings={"hash": "other", "values": {"stream": {"fps": 7}}})
        await eventually(
            lambda: worker.of(type(worker.received[1])) and worker.received[-1].op == "configure", "settings"
        )
        assert (worker.received[-1].hash, worker.received[-1].settings["stream"]["fps"]) == ("other", 7)
    assert token not in in_cluster.log


async def test_refused_for_good(in_cluster: ClusterGateway, cluster: Cluster, namespace: str) -> None:
    camera, other = cluster.camera(namespace, "gate"), cluster.camera(namespace, "garden")
    elsewhere = cluster.camera(cluster.namespace(), "gate")
    old, now = cluster.pod(camera, 2), cluster.pod(camera, 3)
    cluster.current(camera, now, 3)
    token = cluster.token(now)
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    unbound = cluster.plane.post(account, {"spec": {"audiences": ["camfleet-gateway"]}})["status"]["token"]
    gone = cluster.pod_named(namespace, "gone")
    gone_token = cluster.token(gone)
    path = f"/api/v1/namespaces/{namespace}/pods/gone"
    cluster.plane.client.request("DELETE", path, json={"gracePeriodSeconds": 0}).raise_for_status()

    async def no(presented: str, reason: str, *, claims: Json = camera, attempt: int = 3) -> None:
        await refused(in_cluster, claims, presented, reason=reason, attempt=attempt)

    await no(cluster.running(other), "wrong_camera", attempt=1)
    await no(cluster.running(elsewhere), "wrong_camera", attempt=1)
    await no(cluster.token(cluster.pod_named(namespace, "any")), "wrong_camera")
    await no(token, "wrong_camera", attempt=4)
    await no(cluster.token(now, audience="another"), "wrong_audience")
    await no(cluster.forged(token, exp=1_700_000_000), "expired_token")
    await no(cluster.forged(token, key=cluster.other_key()), "bad_token")
    await no(cluster.forged(token, iss="https://elsewhere.example"), "bad_token")
    await no(token[:-8] + "AAAAAAAA", "bad_token")
    await no("cft_nonsense", "bad_token")
    await no(gone_token, "bad_token")
    await no(unbound, "unbound_token")
    await no(cluster.token(old), "fenced", attempt=2)
    async with connecting(in_cluster, camera, token, attempt=3) as worker:
        await worker.accepted()


async def test_a_pod_that_took_the_place_of_the_current_one_is_refused(
    in_cluster: ClusterGateway, cluster: Cluster, namespace: str
) -> None:
    camera = cluster.camera(namespace, "door")
    pod = cluster.pod(camera)
    cluster.current(camera, pod)
    path = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}"
    cluster.plane.client.request("DELETE", path, json={"gracePeriodSeconds": 0}).raise_for_status()
    await refused(in_cluster, camera, cluster.token(cluster.pod(camera)), reason="fenced")


async def test_connecting_before_the_status_names_the_pod_works(
    in_cluster: ClusterGateway, cluster: Cluster, namespace: str
) -> None:
    camera = cluster.camera(namespace, "door")
    pod = cluster.pod(camera)
    async with connecting(in_cluster, camera, cluster.token(pod)) as worker:
        await eventually(
            lambda: httpx.get(f"{in_cluster.viewer_url}/streaming/debug", timeout=60).json()["held_workers"],
            "held",
        )
        cluster.status(camera, worker={"attempt": 1})
        cluster.current(camera, pod)
        await worker.accepted()


async def test_held_in_vain(
    start_in_cluster: Callable[..., ClusterGateway], cluster: Cluster, namespace: str
) -> None:
    gateway = start_in_cluster(cluster.kubeconfig(*GATEWAY_RULES), hold_seconds=0.5)
    camera = cluster.camera(namespace, "door")
    token = cluster.token(cluster.pod(camera, 2))
    cluster.current(camera, cluster.pod(camera), 1)
    await eventually(lambda: camera_id(camera) in gateway.cameras(namespace), "the camera is known")
    await refused(gateway, camera, token, reason="not_current", code=1013, attempt=2)


async def test_when_the_status_moves_on_the_old_worker_goes(
    in_cluster: ClusterGateway, cluster: Cluster, namespace: str
) -> None:
    camera = cluster.camera(namespace, "door")
    async with connecting(in_cluster, camera, cluster.running(camera)) as old:
        await old.accepted()
        pod = cluster.pod(camera, 2)
        async with connecting(in_cluster, camera, cluster.token(pod), attempt=2) as new:
            cluster.status(camera, worker={"attempt": 2, "podName": "", "podUID": ""})
            code, goodbyes = await old.closing()
            assert code == 1008 and goodbyes[-1].retry_ms is None
            cluster.current(camera, pod, 2)
            await new.accepted()


async def test_the_newest_socket_of_a_pod_wins(
    in_cluster: ClusterGateway, cluster: Cluster, namespace: str
) -> None:
    camera = cluster.camera(namespace, "door")
    token = cluster.running(camera)
    async with connecting(in_cluster, camera, token) as first:
        await first.accepted()
        async with connecting(in_cluster, camera, token) as second:
            await second.accepted()
            code, goodbyes = await first.closing()
            assert code == 1001 and goodbyes[-1].retry_ms is not None


async def test_a_camera_made_anew_knows_its_old_worker_no_more(
    in_cluster: ClusterGateway, cluster: Cluster, namespace: str
) -> None:
    camera = cluster.camera(namespace, "door")
    token = cluster.running(camera)
    async with connecting(in_cluster, camera, token) as old:
        await old.accepted()
        cluster.delete(namespace, "door")
        assert (await old.closing())[0] == 1008
    anew = cluster.camera(namespace, "door")
    new_token = cluster.running(anew)
    await refused(in_cluster, anew, token, reason="wrong_camera")
    async with connecting(in_cluster, anew, new_token) as worker:
        await worker.accepted()
    names = {pod_name("door", made["metadata"]["uid"], 1) for made in (camera, anew)}
    assert len(names) == 2


async def test_static_tokens_publish_what_nobody_manages(
    cluster: Cluster, namespace: str, start_in_cluster: Callable[..., ClusterGateway], tokens: Tokens
) -> None:
    camera = cluster.camera(namespace, "door")
    gateway = start_in_cluster(cluster.kubeconfig(*GATEWAY_RULES), tokens_file=str(tokens.path))
    token = tokens.by_role["worker"]
    async with connecting(gateway, camera, token) as worker:
        assert (await worker.closing())[0] == 1008
    free = test_pattern("free", namespace)
    async with FakeWorker.running(gateway.internal_url, free.id, token) as worker:
        await worker.accepted()


async def test_a_gateway_that_may_not_review_tokens_refuses_nobody_for_good(
    cluster: Cluster, namespace: str, start_in_cluster: Callable[..., ClusterGateway]
) -> None:
    gateway = start_in_cluster(cluster.kubeconfig(CAMERA_RULE), hold_seconds=0.5)
    camera = cluster.camera(namespace, "door")
    await refused(gateway, camera, cluster.running(camera), reason="unverified", code=1013)
    assert "the gateway may not create tokenreviews" in gateway.log
