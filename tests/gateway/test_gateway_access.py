"""Who may do what: every route with every role, origins, hosts, tokens taken back."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_clients import FakeViewer, ws
from gateway_tokens import Tokens
from pydantic import ValidationError
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from camfleet_gateway.auth import (
    SUBPROTOCOL_PREFIX,
    Authenticator,
    Tickets,
    TokensFileError,
    bearer_token,
    read_tokens,
    subprotocol_token,
)
from camfleet_gateway.clock import Clock
from camfleet_gateway.settings import GatewaySettings, is_loopback
from camfleet_protocol.camera import Camera
from camfleet_protocol.local import StateFolder
from support.gateway_process import GatewayProcess, put_camera, test_pattern

PUBLIC, VIEWER, OPERATOR, ADMIN = 0, 1, 2, 3
RANKS = {None: 0, "worker": 0, "viewer": 1, "operator": 2, "admin": 3}

ROUTES = [
    ("GET", "/livez", PUBLIC),
    ("GET", "/readyz", PUBLIC),
    ("GET", "/", PUBLIC),
    ("GET", "/docs", PUBLIC),
    ("GET", "/openapi.json", PUBLIC),
    ("GET", "/static/none.js", PUBLIC),
    ("GET", "/metrics", VIEWER),
    ("GET", "/api/session", VIEWER),
    ("GET", "/api/cameras", VIEWER),
    ("GET", "/api/cameras/door", VIEWER),
    ("GET", "/cameras/door/stream/status", VIEWER),
    ("GET", "/cameras/door/snapshot.jpg", VIEWER),
    ("GET", "/cameras/nowhere/stream/feed", VIEWER),
    ("GET", "/api/events", VIEWER),
    ("GET", "/api/events/nowhere", VIEWER),
    ("GET", "/api/events/nowhere/crop.jpg", VIEWER),
    ("GET", "/api/events/nowhere/scene.jpg", VIEWER),
    ("DELETE", "/api/events/nowhere", ADMIN),
    ("GET", "/api/audit", ADMIN),
    ("GET", "/api/alerts", VIEWER),
    ("POST", "/api/alerts/nowhere/acknowledge", OPERATOR),
    ("GET", "/api/webhooks", OPERATOR),
    ("GET", "/api/webhooks/dead", OPERATOR),
    ("POST", "/api/webhooks/dead/nowhere/retry", ADMIN),
    ("DELETE", "/api/webhooks/dead/nowhere", ADMIN),
    ("GET", "/api/faces/search", OPERATOR),
    ("POST", "/api/faces/search", OPERATOR),
    ("GET", "/api/people", VIEWER),
    ("POST", "/api/people", OPERATOR),
    ("GET", "/api/people/nowhere", VIEWER),
    ("PATCH", "/api/people/nowhere", OPERATOR),
    ("GET", "/api/people/nowhere/erasure", ADMIN),
    ("DELETE", "/api/people/nowhere", ADMIN),
    ("GET", "/api/people/nowhere/faces", VIEWER),
    ("POST", "/api/people/nowhere/faces", OPERATOR),
    ("GET", "/api/people/nowhere/faces/nowhere.jpg", VIEWER),
    ("DELETE", "/api/people/nowhere/faces/nowhere", OPERATOR),
    ("POST", "/api/people/import", OPERATOR),
    ("GET", "/api/people/import", OPERATOR),
    ("GET", "/api/people/export", ADMIN),
    ("POST", "/api/people/reembed", ADMIN),
    ("GET", "/api/people/reembed", OPERATOR),
    ("POST", "/api/events/nowhere/person", OPERATOR),
    ("POST", "/api/tickets", VIEWER),
    ("PATCH", "/api/cameras/door", OPERATOR),
    ("POST", "/cameras/nowhere/stream/start", OPERATOR),
    ("POST", "/cameras/nowhere/stream/stop", OPERATOR),
    ("GET", "/streaming/debug", OPERATOR),
    ("POST", "/api/cameras", ADMIN),
    ("DELETE", "/api/cameras/nowhere", ADMIN),
]


@pytest.fixture
def guarded(start: Callable[..., GatewayProcess], state: StateFolder, tokens: Tokens) -> GatewayProcess:
    put_camera(state, test_pattern("door"))
    return start(tokens_file=str(tokens.path))


async def test_every_route_with_every_role(guarded: GatewayProcess, tokens: Tokens) -> None:
    async with httpx.AsyncClient(base_url=guarded.viewer_url, timeout=60) as http:
        document = (await http.get("/openapi.json")).json()
        for path, operations in document["paths"].items():
            concrete = {re.sub(r"\{[^}]+\}", name, path) for name in ("door", "nowhere")}
            for method in operations:
                assert any(m == method.upper() and p in concrete for m, p, _ in ROUTES), (method, path)
        for method, path, needed in ROUTES:
            for role, rank in RANKS.items():
                # Bodies are not JSON, so that what is permitted changes nothing.
                content = b"{" if method in ("POST", "PATCH") else None
                answer = await http.request(method, path, headers=tokens.header(role), content=content)
                what = (method, path, role, answer.status_code)
                if rank >= needed:
                    assert answer.status_code not in (401, 403), what
                elif rank == 0:
                    assert answer.status_code == 401, what
                    assert answer.headers["www-authenticate"] == "Bearer"
                else:
                    assert answer.status_code == 403, what
                if answer.status_code in (401, 403):
                    assert set(answer.json()["error"]) == {"code", "message"}
    for token in tokens.by_role.values():
        assert token not in guarded.log


async def close_code(uri: str, **options: Any) -> int | None:
    """How a WebSocket ends at once, or None if it stays open long enough for an answer to a ping."""
    async with connect(uri, **options) as client:
        try:
            await client.send('{"op":"ping"}')
            await client.send("ping")
            await asyncio.wait_for(client.recv(), 60)
        except ConnectionClosed:
            return client.close_code
        return None


async def test_websockets_with_every_role(guarded: GatewayProcess, tokens: Tokens) -> None:
    for path in ("/ws", "/ws/stream", "/ws/stream/door", "/ws/events"):
        uri = ws(guarded.viewer_url) + path
        for role, rank in RANKS.items():
            expected = None if rank >= VIEWER else 4401
            by_header = await close_code(
                uri, subprotocols=["camera.v1"], additional_headers=tokens.header(role)
            )
            assert by_header == expected, (path, role)
            if role is not None:
                encoded = base64.urlsafe_b64encode(tokens.by_role[role].encode()).rstrip(b"=").decode()
                offered = [SUBPROTOCOL_PREFIX + encoded, "camera.v1"]
                assert await close_code(uri, subprotocols=offered) == expected, (path, role)
    async with connect(
        ws(guarded.viewer_url) + "/ws",
        subprotocols=["camera.v1"],  # type: ignore[list-item]
        additional_headers=tokens.header("viewer"),
    ) as client:
        assert client.subprotocol == "camera.v1"
    assert (
        await close_code(ws(guarded.viewer_url) + "/ws", additional_headers=tokens.header("viewer")) == 1002
    )


async def test_a_token_taken_back_ends_what_it_opened(guarded: GatewayProcess, tokens: Tokens) -> None:
    viewer_token = tokens.by_role["viewer"]
    async with (
        FakeViewer.running(guarded.viewer_url, token=viewer_token) as viewer,
        FakeViewer.running(guarded.viewer_url, token=tokens.by_role["admin"]) as admin,
        httpx.AsyncClient(base_url=guarded.viewer_url, timeout=60) as http,
        http.stream("GET", "/cameras/door/stream/feed", headers=tokens.header("viewer")) as feed,
    ):
        await viewer.hello()
        await admin.hello()
        tokens.write(("operator", "admin", "worker"))
        await asyncio.wait_for(viewer.closed.wait(), 60)
        assert viewer.socket.close_code == 4401
        await asyncio.wait_for(feed.aread(), 60)
        assert not admin.closed.is_set()
        assert (await http.get("/api/session", headers=tokens.header("viewer"))).status_code == 401
        tokens.path.write_text("tokens: [{name: broken")
        assert (await http.get("/api/session", headers=tokens.header("admin"))).status_code == 401
        tokens.write(("admin",))
        assert (await http.get("/api/session", headers=tokens.header("admin"))).json()["role"] == "admin"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://{host}", True),
        ("https://{host}", True),
        ("https://console.example", True),
        ("https://evil.example", False),
        ("http://127.0.0.1:1", False),
        ("null", False),
        ("file://", False),
        ("http://{host}.evil.example", False),
    ],
)
async def test_origins(start: Callable[..., GatewayProcess], origin: str | None, allowed: bool) -> None:
    gateway = start(allowed_origin=["https://console.example"])
    host = f"127.0.0.1:{gateway.viewer_port}"
    headers = {} if origin is None else {"Origin": origin.format(host=host)}
    async with httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as http:
        changed = await http.post("/cameras/nowhere/stream/start", headers=headers)
        assert changed.status_code == (404 if allowed else 403)
        assert (await http.get("/api/cameras", headers=headers)).status_code == 200
    for path in ("/ws", "/ws/stream", "/ws/events"):
        opening = connect(
            ws(gateway.viewer_url) + path,
            subprotocols=["camera.v1"],  # type: ignore[list-item]
            additional_headers=headers,
        )
        if allowed:
            async with opening:
                pass
        else:
            with pytest.raises(InvalidStatus) as refused:
                async with opening:
                    pass
            assert refused.value.response.status_code == 403


async def test_names_of_the_host(start: Callable[..., GatewayProcess], tokens: Tokens) -> None:
    def get(gateway: GatewayProcess, host: str, **headers: str) -> int:
        url = f"{gateway.viewer_url}/api/cameras"
        return httpx.get(url, headers={"Host": host, **headers}, timeout=60).status_code

    open_to_all = start(allowed_host=["cams.local"])
    for host in ("localhost", "127.0.0.1:8080", "[::1]:8080", "cams.local", "cams.local:99"):
        assert get(open_to_all, host) == 200, host
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "10.0.0.1"):
        assert get(open_to_all, host) in (400, 403), host
    open_to_all.stop()
    guarded = start(tokens_file=str(tokens.path), allowed_host=["cams.local"])
    admin = tokens.header("admin")
    assert get(guarded, "cams.local", **admin) == 200
    assert get(guarded, "evil.example", **admin) == 403
    guarded.stop()
    any_host = start(tokens_file=str(tokens.path))
    assert get(any_host, "whatever.example", **admin) == 200


def test_without_tokens_only_loopback() -> None:
    with pytest.raises(ValidationError, match="loopback"):
        GatewaySettings(host="0.0.0.0")
    assert GatewaySettings(host="0.0.0.0", tokens_file=Path("tokens.yaml")).authentication
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "a.localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "example.org", "::", "127.0.0.1.example.org")))


def test_tokens_file_mistakes_are_named_and_no_value_is(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    for content in (
        "tokens: [{name: a, role: king, sha256: SECRETVALUE}]",
        "tokens: [",
        "[1, 2]",
        "tokens: 5",
    ):
        path.write_text(content)
        with pytest.raises(TokensFileError) as error:
            read_tokens(path)
        assert "SECRETVALUE" not in str(error.value)
    with pytest.raises(TokensFileError):
        Authenticator(tmp_path / "missing.yaml")


def test_tokens_are_found_where_they_may_be() -> None:
    assert bearer_token("Bearer abc") == "abc"
    assert bearer_token("bearer  abc ") == "abc"
    assert bearer_token("Basic abc") is None
    assert bearer_token("Bearer ") is None
    encoded = base64.urlsafe_b64encode(b"cft_x").rstrip(b"=").decode()
    assert subprotocol_token(["camera.v1", SUBPROTOCOL_PREFIX + encoded]) == "cft_x"
    for bad in ("!!", "_w", "a", "é"):
        assert subprotocol_token([SUBPROTOCOL_PREFIX + bad]) is None
    assert hashlib.sha256(b"cft_x").hexdigest()


def test_tickets_end() -> None:
    now = [1000.0]
    tickets = Tickets(Clock(wall=lambda: now[0]))
    ticket = tickets.issue("default.door", "feed", "ab" * 32)
    assert tickets.issuer(ticket, "default.door", "feed") == "ab" * 8
    assert tickets.issuer(ticket, "default.door", "snapshot") is None
    assert tickets.issuer(ticket, "default.hall", "feed") is None
    other = Tickets(Clock(wall=lambda: now[0]))
    assert other.issuer(ticket, "default.door", "feed") is None, "another key"
    for anything in ("", ".", "..", "\ud800.\x00", "é.é", "AA.AA", ticket + ".", ticket * 9, "e30.e30"):
        assert tickets.issuer(anything, "default.door", "feed") is None
    now[0] += 61
    assert tickets.issuer(ticket, "default.door", "feed") is None


async def test_no_other_site_can_embed_an_answer(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with publish(door) as worker, httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as http:
        for path in ("/", "/api/cameras", "/nowhere", "/livez", "/static/nothing.js", "/docs"):
            answer = await http.get(path)
            assert answer.headers["cross-origin-resource-policy"] == "same-origin", path
        refused = await http.get("/api/cameras", headers={"Host": "evil.example"})
        assert refused.status_code == 403
        assert refused.headers["cross-origin-resource-policy"] == "same-origin"
        async with http.stream("GET", "/cameras/door/stream/feed") as feed:
            assert feed.headers["cross-origin-resource-policy"] == "same-origin"
        await worker.demand(lambda d: not d.annotated, "none again")


async def test_head_is_get_without_a_body(gateway: GatewayProcess, door: Camera, publish: Any) -> None:
    async with publish(door) as worker, httpx.AsyncClient(base_url=gateway.viewer_url, timeout=60) as http:
        streaming = asyncio.create_task(worker.stream(20, annotated=True))
        try:
            for path in ("/api/cameras", "/api/session", "/livez", "/readyz", "/metrics", "/openapi.json"):
                head, get = await http.head(path), await http.get(path)
                assert (head.status_code, head.content) == (200, b""), path
                assert head.headers["content-type"] == get.headers["content-type"], path
            snapshot = await http.head("/cameras/door/snapshot.jpg")
            assert (snapshot.status_code, snapshot.headers["content-type"]) == (200, "image/jpeg")
            assert int(snapshot.headers["content-length"]) > 0 and not snapshot.content
            feed = await http.head("/cameras/door/stream/feed")
            assert (feed.status_code, feed.headers["allow"], feed.content) == (405, "GET", b"")
            assert (await http.head("/api/cameras/nowhere")).status_code == 404
            assert (await http.head("/api/tickets")).status_code == 405
            debug = (await http.get("/streaming/debug")).json()
            assert debug["traffic"]["mjpeg"]["frames_sent"] == 0
        finally:
            streaming.cancel()
            await asyncio.gather(streaming, return_exceptions=True)
