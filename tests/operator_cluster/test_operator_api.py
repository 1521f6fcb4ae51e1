"""The client against a real API server: what comes back, which errors, and what happens to its token."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.testbed.control_plane import ControlPlane

from camfleet_operator.cluster.api import Api, resource_of
from camfleet_operator.cluster.api_errors import (
    AlreadyExists,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from camfleet_operator.cluster.connection import Connection, ConnectionConfigError

cluster = pytest.mark.cluster
MANAGER = "camfleet-operator"


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "worker", "image": "none"}], "terminationGracePeriodSeconds": 0},
    }


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@cluster
async def test_objects_come_and_go(api: Api, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    assert await api.get(f"{pods}/one") is None
    made = await api.create(pods, pod("one"))
    trap = {"x": 'a,"managedFields":[b'}
    slim = await api.create(pods, pod("two", annotations=trap), metadata_only=True)
    assert slim["metadata"]["uid"]
    assert "spec" not in slim
    assert slim["metadata"]["annotations"] == trap
    assert (
        slim["metadata"]["resourceVersion"]
        == (await api.get(f"{pods}/two") or {})["metadata"]["resourceVersion"]
    )
    with pytest.raises(AlreadyExists):
        await api.create(pods, pod("one"))

    found = await api.get(f"{pods}/one")
    assert found is not None
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    patched = await api.patch_merge(f"{pods}/one", {"metadata": {"labels": {"a": "b"}}})
    assert patched["metadata"]["labels"] == {"a": "b"}
    assert [item["metadata"]["name"] for item in (await api.list(pods, label_selector="a=b")).items] == [
        "one"
    ]

    assert not await api.delete(f"{pods}/one", uid=slim["metadata"]["uid"]), "another object's UID"
    assert await api.delete(f"{pods}/one", uid=made["metadata"]["uid"], grace_seconds=0)
    assert not await api.delete(f"{pods}/one")
    assert await api.get(f"{pods}/one") is None


@cluster
async def test_apply_takes_fields_over_and_status_is_applied_apart(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/settings"
    await api.apply(path, config_map("settings", fps="5"), field_manager="camfleet-gateway")
    applied = await api.apply(path, config_map("settings", fps="7"), field_manager=MANAGER)
    assert applied["data"] == {"fps": "7"}

    pods = f"/api/v1/namespaces/{namespace}/pods"
    await api.create(pods, pod("one"))
    condition = {"type": "camfleet.io/Seen", "status": "True"}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one"},
        "status": {"conditions": [condition]},
    }
    await api.apply_status(f"{pods}/one", body, field_manager=MANAGER)
    found = await api.get(f"{pods}/one")
    assert found is not None
    assert [c["status"] for c in found["status"]["conditions"] if c["type"] == "camfleet.io/Seen"] == ["True"]
    with pytest.raises(NotFound):
        await api.apply_status(f"{pods}/none", body | {"metadata": {"name": "none"}}, field_manager=MANAGER)


@cluster
async def test_an_update_of_what_has_changed_is_a_conflict(api: Api, namespace: str) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    made = await api.create(maps, config_map("one", a="1"))
    await api.update(f"{maps}/one", made | {"data": {"a": "2"}})
    with pytest.raises(Conflict):
        await api.update(f"{maps}/one", made | {"data": {"a": "3"}})


@cluster
async def test_errors_have_types_and_keep_secrets(api: Api, plane: ControlPlane, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    secret = "rtsp://admin:hunter2@camera/"
    with pytest.raises(Invalid) as invalid:
        await api.create(pods, pod("one", labels={"camera": secret}))
    assert "hunter2" not in str(invalid.value)
    assert invalid.value.causes == {"FieldValueInvalid"}
    with pytest.raises(NotFound):
        await api.create("/api/v1/namespaces/nowhere/pods", pod("one"))
    with pytest.raises(NotFound):
        await api.list("/apis/nothing.example/v1/things")

    token = plane.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token", {"spec": {}})
    weak = kubeconfig(plane, plane.folder / f"{namespace}.kubeconfig", token["status"]["token"])
    async with Api.connect(weak) as other:
        with pytest.raises(Forbidden):
            await other.list(pods)


@cluster
async def test_a_list_has_everything_in_pages(api: Api, namespace: str) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    await asyncio.gather(*(api.create(maps, config_map(f"m{n}")) for n in range(25)))
    listing = await api.list_as(maps, lambda item: str(item["metadata"]["name"]), limit=4)
    assert sorted(listing.items) == sorted(f"m{n}" for n in range(25))
    assert int(listing.resource_version) > 0


@cluster
async def test_writes_are_counted_by_kind_and_reads_are_not(plane: ControlPlane, namespace: str) -> None:
    writes: Counter[str] = Counter()
    async with Api.connect(plane.kubeconfig, on_write=lambda kind: writes.update([kind])) as api:
        pods = f"/api/v1/namespaces/{namespace}/pods"
        await api.create(pods, pod("one"))
        await api.list(pods)
        await api.get(f"{pods}/one")
        await api.delete(f"{pods}/one")
        await api.delete(f"{pods}/one")
    assert writes == {"create_pods": 1, "delete_pods": 2}


def test_the_resource_of_a_path() -> None:
    assert resource_of("/api/v1/namespaces/n/pods") == "pods"
    assert resource_of("/api/v1/namespaces/n/pods/p") == "pods"
    assert resource_of("/apis/camfleet.io/v1alpha1/namespaces/n/cameras/c/status") == "cameras_status"
    assert resource_of("/apis/camfleet.io/v1alpha1/cameras") == "cameras"
    assert resource_of("/api/v1/namespaces/n") == "namespaces"
    assert resource_of("/api/v1/nodes/n") == "nodes"


# ── Tokens and trouble ──────────────────────────────────────────────────────────────────────────────


def kubeconfig(plane: ControlPlane, path: Path, token: str) -> Path:
    config = json.loads(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path.write_text(json.dumps(config))
    return path


@cluster
async def test_the_pods_service_account_is_used_and_its_token_read_again(
    plane: ControlPlane, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def token() -> str:
        made = plane.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token", {"spec": {}})
        return str(made["status"]["token"])

    (tmp_path / "token").write_text("revoked\n")
    (tmp_path / "ca.crt").write_bytes((plane.folder / "pki" / "apiserver.crt").read_bytes())
    module = "kubernetes.aio.config.incluster_config"
    monkeypatch.setattr(f"{module}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{module}.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", plane.host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(plane.port))
    async with Api.connect(None) as api:
        assert api.connection_info().server == plane.url
        assert api.connection_info().authorization == "Bearer revoked"
        (tmp_path / "token").write_text(token() + "\n")
        with pytest.raises(Forbidden):  # known, and without rights: the old token would be a 401
            await api.list(f"/api/v1/namespaces/{namespace}/pods")
        fresh = token()
        (tmp_path / "token").write_text(fresh)
        assert (await api.refresh_connection()).authorization == f"Bearer {fresh}"


async def test_the_configuration_is_read_again_after_a_minute(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(plain("http://127.0.0.1:1", "first")))
    connection = Connection(path, clock=lambda: now)
    assert (await connection.load()).authorization == "Bearer first"
    path.write_text(json.dumps(plain("http://127.0.0.1:1", "second")))
    assert not connection.due
    now = 61.0
    assert connection.due
    assert await connection.refresh() == "Bearer second"
    path.write_text("{")
    assert await connection.refresh() == "Bearer second", "a file in the middle of its replacement"


@pytest.mark.parametrize("content", [None, "", "{", "apiVersion: v1", "contexts: []\ncurrent-context: x"])
async def test_an_unusable_configuration_is_named(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConnectionConfigError, match=str(path)):
        await Api.connect(path).open()


async def test_outside_a_pod_a_kubeconfig_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConnectionConfigError, match="name a kubeconfig"):
        await Api.connect(None).open()


def plain(server: str, token: str = "t") -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


class Scripted:
    """An API server that answers what the test says."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.seen: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        return self.answers.pop(0)


@pytest.fixture
async def scripted(tmp_path: Path) -> Any:
    double = Scripted()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", double.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(plain(f"http://127.0.0.1:{port}")))
    async with Api.connect(path, timeout=30) as api:
        yield double, api
    await runner.cleanup()


def status(code: int, message: str = "", headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"kind": "Status", "message": message}, status=code, headers=headers)


async def test_a_throttled_request_tells_for_how_long(scripted: tuple[Scripted, Api]) -> None:
    double, api = scripted
    pauses: list[float] = []
    api.on_throttled = pauses.append
    double.answers = [
        status(429, headers={"Retry-After": "7"}),
        status(503, headers={"Retry-After": "3"}),
        status(503),
        status(500, headers={"Retry-After": "4"}),
    ]
    with pytest.raises(TooManyRequests) as throttled:
        await api.create("/api/v1/namespaces/n/pods", {})
    assert throttled.value.retry_after == 7
    with pytest.raises(Unavailable) as unavailable:
        await api.create("/api/v1/namespaces/n/pods", {})
    assert unavailable.value.retry_after == 3
    for _ in range(2):
        with pytest.raises(Unavailable):
            await api.create("/api/v1/namespaces/n/pods", {})
    assert pauses == [7, 3], "only who says for how long asks for a pause"


async def test_an_expired_continuation_starts_the_list_again(scripted: tuple[Scripted, Api]) -> None:
    double, api = scripted

    def page(name: str, token: str = "") -> web.Response:
        return web.json_response({"metadata": {"resourceVersion": "9", "continue": token}, "items": [name]})

    double.answers = [page("old", "x"), status(410), page("a", "y"), page("b")]
    assert (await api.list("/api/v1/pods")).items == ["a", "b"]
    double.answers = [status(410), status(410), status(410), status(410)]
    with pytest.raises(Expired):
        await api.list("/api/v1/pods")


async def test_what_is_no_answer_is_unavailable(scripted: tuple[Scripted, Api], tmp_path: Path) -> None:
    double, api = scripted
    double.answers = [web.Response(text="<html>a proxy</html>"), web.Response(status=502, text="bad gateway")]
    for _ in range(2):
        with pytest.raises(Unavailable):
            await api.get("/api/v1/pods")
    with socket.socket() as taken:  # bound and not listening: refused
        taken.bind(("127.0.0.1", 0))
        path = tmp_path / "refused"
        path.write_text(json.dumps(plain(f"http://127.0.0.1:{taken.getsockname()[1]}")))
        async with Api.connect(path) as other:
            with pytest.raises(Unavailable):
                await other.get("/api/v1/pods")
        with pytest.raises(Unavailable):
            await other.get("/api/v1/pods")


async def test_a_server_that_says_nothing_times_out(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        path = tmp_path / "silent"
        path.write_text(json.dumps(plain(f"http://127.0.0.1:{silent.getsockname()[1]}")))
        async with Api.connect(path, timeout=0.2) as api:
            with pytest.raises(Unavailable, match="within 0\\.2 s"):
                await api.create("/api/v1/namespaces/n/pods", {})
