"""The client of Prometheus against a server that misbehaves in every way there is."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from camfleet_operator.cluster.health import prometheus as prometheus_module
from camfleet_operator.cluster.health.prometheus import Credentials, Prometheus, PrometheusError
from camfleet_operator.cluster.health.prometheus_source import PrometheusSource
from camfleet_operator.cluster.health.sources import prometheus_server
from camfleet_operator.cluster.settings import OperatorSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SECRET = "hush-hush-1234"


def vector(*samples: tuple[dict[str, str], str], time: float = 1000.5, **more: Any) -> dict[str, Any]:
    """An answer."""
    result = [{"metric": labels, "value": [time, value]} for labels, value in samples]
    return {"status": "success", "data": {"resultType": "vector", "result": result}, **more}


class FakePrometheus:
    """Answers as the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Handler | object = vector(({"instance": "a"}, "1"))
        self.status = 200
        self.forms: list[dict[str, str]] = []
        self.requests: list[web.Request] = []
        self.over = asyncio.Event()
        self.url = ""

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self.over.set()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.forms.append({key: str(value) for key, value in (await request.post()).items()})
        self.requests.append(request)
        if callable(self.answer):
            return await self.answer(request)  # type: ignore[no-any-return]
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return web.Response(body=body, status=self.status)


@pytest.fixture
async def server() -> AsyncIterator[FakePrometheus]:
    fake = FakePrometheus()
    await fake.start()
    yield fake
    await fake.stop()


async def ask(url: str, within: float = 5.0, **credentials: Any) -> Any:
    client = Prometheus(url, Credentials(**credentials), timeout=within)
    async with client.open():
        return await client.query("up", 1000.25)


async def failure(url: str, within: float = 5.0, **credentials: Any) -> tuple[str, str]:
    with pytest.raises(PrometheusError) as raised:
        await ask(url, within, **credentials)
    return raised.value.reason, raised.value.message


@pytest.mark.parametrize("prefix", ["", "/", "/prometheus", "/select/0/prometheus/"])
async def test_an_instant_query(server: FakePrometheus, prefix: str) -> None:
    server.answer = vector(({"a": "b"}, "1"), ({"a": "c"}, "NaN"), infos=["a metric might not be a counter"])
    found = await ask(f"{server.url}{prefix}")
    assert found.samples == [({"a": "b"}, "1"), ({"a": "c"}, "NaN")]
    assert found.time == 1000.5
    [request] = server.requests
    assert (request.method, request.path) == ("POST", f"{prefix.rstrip('/')}/api/v1/query")
    assert server.forms == [{"query": "up", "nocache": "1", "time": "1000.25"}]
    assert "Authorization" not in request.headers


async def test_an_empty_vector_and_a_query_string(server: FakePrometheus) -> None:
    server.answer = vector()
    found = await ask(f"{server.url}/x?tenant=7")
    assert (list(found.samples), found.time) == ([], None)
    assert server.requests[0].path_qs == "/x/api/v1/query?tenant=7"


@pytest.mark.parametrize(
    ("status", "answer", "reason", "said"),
    [
        (
            503,
            {"status": "error", "errorType": "timeout", "error": "query timed out"},
            "Unavailable",
            "timed out",
        ),
        (500, b"<html>nginx</html>", "Unavailable", "status 500"),
        (429, b"slow down", "Unavailable", "slow down"),
        (422, {"status": "error", "error": "many-to-many matching"}, "QueryInvalid", "many-to-many"),
        (400, {"status": "error", "error": "parse error: unexpected"}, "QueryInvalid", "parse error"),
        (401, b"Unauthorized", "Refused", "status 401"),
        (403, b"", "Refused", "status 403"),
        (404, b"404 page not found", "Invalid", "not found"),
        (405, b"", "Invalid", "status 405"),
        (200, b"", "Invalid", "not JSON"),
        (200, b"<html></html>", "Invalid", "not JSON"),
        (200, b"[" * 100_000, "Invalid", "not JSON"),
        (200, b"\xff\xfe{}", "Invalid", ""),
        (200, [], "Invalid", "none of Prometheus"),
        (200, {"status": "success"}, "Invalid", "none of Prometheus"),
        (200, {"status": "error", "error": "no", "data": {}}, "Invalid", "no success"),
        (
            200,
            {"status": "success", "data": {"resultType": "scalar", "result": [1, "1"]}},
            "Invalid",
            "scalar",
        ),
        (200, {"status": "success", "data": {"resultType": "matrix", "result": []}}, "Invalid", "matrix"),
        (200, {"status": "success", "data": {"resultType": "vector", "result": [1]}}, "Invalid", "vector"),
        (200, {"status": "success", "data": {"resultType": "vector"}}, "Invalid", "vector"),
        (
            200,
            {
                "status": "success",
                "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, 1]}]},
            },
            "Invalid",
            "vector",
        ),
        (200, vector(({}, "1"), warnings=["store-1 is unreachable"]), "Warnings", "store-1"),
        (200, vector(({}, "1"), isPartial=True), "Warnings", "partial"),
    ],
)
async def test_answers_that_cannot_be_used(
    server: FakePrometheus, status: int, answer: object, reason: str, said: str
) -> None:
    server.status, server.answer = status, answer
    found, message = await failure(server.url)
    assert found == f"Prometheus{reason}"
    assert said in message
    assert len(message) < 400
    assert "\n" not in message


async def test_a_redirect_is_not_followed(server: FakePrometheus) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://127.0.0.1:1/login")

    server.answer = elsewhere
    assert (await failure(server.url))[0] == "PrometheusInvalid"
    assert len(server.requests) == 1


async def test_silence_and_absence(server: FakePrometheus) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await server.over.wait()
        return web.Response()

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"status"')
        await server.over.wait()
        return response

    for answer in (silent, trickle):
        server.answer = answer
        assert await failure(server.url, within=0.3) == ("PrometheusTimeout", "no answer within 0.3 s")
    assert (await failure("http://127.0.0.1:1"))[0] == "PrometheusUnreachable"
    for host in ("prometheus.invalid", "x" * 70, "a..b"):
        assert (await failure(f"http://{host}:9090"))[0] == "PrometheusUnreachable"


async def test_a_connection_that_was_closed_meanwhile_is_opened_anew(server: FakePrometheus) -> None:
    async def close(request: web.Request) -> web.StreamResponse:
        if len(server.requests) == 1:
            return web.json_response(vector(({}, "1")))
        server.answer = vector(({}, "2"))
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.answer = close
    client = Prometheus(server.url)
    async with client.open(), client.open():
        assert [(await client.query("up")).samples[0][1] for _ in range(2)] == ["1", "2"]
    assert len(server.requests) == 3


async def test_too_much(server: FakePrometheus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus_module, "MAX_BYTES", 100_000)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while not server.over.is_set():
            await response.write(b" " * 10_000)
        return response

    server.answer = endless
    reason, message = await failure(server.url)
    assert (reason, message) == ("PrometheusInvalid", "the answer has more than 100000 bytes")


async def test_a_token_is_read_again_when_it_changes(server: FakePrometheus, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{SECRET}\n")
    client = Prometheus(server.url, Credentials(bearer_token_file=token))
    async with client.open():
        await client.query("up")
        other = tmp_path / "next"
        other.write_text("another-5678")
        os.replace(other, token)
        await client.query("up")
        token.write_text("")
        with pytest.raises(PrometheusError, match="are empty") as empty:
            await client.query("up")
        token.unlink()
        with pytest.raises(PrometheusError, match="No such file") as absent:
            await client.query("up")
    assert {empty.value.reason, absent.value.reason} == {"PrometheusRefused"}
    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == [f"Bearer {SECRET}", "Bearer another-5678"]


async def test_users_headers_and_what_is_never_said(server: FakePrometheus, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(SECRET)

    async def indiscreet(request: web.Request) -> web.StreamResponse:
        sent = request.headers["Authorization"]
        text = f"bad {sent} {sent.split()[1]} {SECRET} for {request.headers['X-Scope-OrgID']} X\n"
        return web.Response(text=text * 50, status=401)

    server.answer = indiscreet
    settings = OperatorSettings.model_validate(
        {
            "prometheus_url": server.url,
            "prometheus_username": "camfleet",
            "prometheus_password_file": password,
            "prometheus_header": ["X-Scope-OrgID: tenant-one", "X-Other:2"],
        }
    )
    client = prometheus_server(settings)
    assert client is not None
    async with client.open():
        with pytest.raises(PrometheusError) as raised:
            await client.query("up")
    [request] = server.requests
    pair = base64.b64encode(f"camfleet:{SECRET}".encode()).decode()
    assert request.headers["Authorization"] == f"Basic {pair}"
    assert (request.headers["X-Scope-OrgID"], request.headers["X-Other"]) == ("tenant-one", "2")
    for secret in (SECRET, pair, "tenant-one"):
        assert secret not in str(raised.value)
    assert raised.value.reason == "PrometheusRefused"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prometheus_url": "http://user:pw@prometheus:9090"}, "prometheus_url"),
        ({"prometheus_url": "http://prometheus:99999"}, "prometheus_url"),
        ({"prometheus_url": "http://:9090"}, "prometheus_url"),
        ({"prometheus_header": ["no colon"]}, "prometheus_header"),
        ({"prometheus_header": ["X: a\r\nY: b"]}, "prometheus_header"),
        ({"prometheus_username": "a:b"}, "prometheus_username"),
        ({"prometheus_username": "a", "prometheus_bearer_token_file": "/x"}, "exclude each other"),
        ({"prometheus_password_file": "/x"}, "needs prometheus_username"),
        ({"prometheus_key_file": "/x"}, "needs prometheus_cert_file"),
        ({"scrape_seconds": 0}, "scrape_seconds"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        OperatorSettings.model_validate(wrong)
    assert "pw@" not in str(raised.value)


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def issue(folder: Path, name: str, ca: str) -> None:
    """A key and a certificate for 127.0.0.1."""
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
    openssl(folder, "req", "-new", *key, "-subj", f"/CN={name}", "-out", f"{name}.csr")
    signed = ["-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial", "-extfile", "san", "-days", "2"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")


def authority(folder: Path, name: str) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
    openssl(folder, "req", "-x509", *key, "-subj", f"/CN={name}", "-days", "2", "-out", f"{name}.crt")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    authority(folder, "ca")
    authority(folder, "other")
    issue(folder, "server", "ca")
    issue(folder, "client", "ca")
    return folder


async def test_tls_with_an_authority_and_a_client_certificate(pki: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki / "ca.crt")
    context.load_cert_chain(pki / "server.crt", pki / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    server = FakePrometheus()
    await server.start(context)
    ours = {"cert_file": pki / "client.crt", "key_file": pki / "client.key"}
    try:
        assert (await ask(server.url, ca_file=pki / "ca.crt", **ours)).time == 1000.5
        assert (await ask(server.url, insecure=True, **ours)).time == 1000.5
        for credentials in (ours, {"ca_file": pki / "other.crt", **ours}, {"ca_file": pki / "ca.crt"}):
            assert (await failure(server.url, **credentials))[0] == "PrometheusUnreachable"
        for credentials in (
            {"ca_file": pki / "absent.crt"},
            {"ca_file": pki / "ca.key"},
            {"cert_file": pki / "client.crt", "key_file": pki / "server.key"},
        ):
            assert (await failure(server.url, **credentials))[0] == "PrometheusRefused"
    finally:
        await server.stop()


async def test_a_new_client_certificate_is_taken_up(pki: Path, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=pki / "ca.crt")
    context.load_cert_chain(pki / "server.crt", pki / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    server = FakePrometheus()
    await server.start(context)
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    client = Prometheus(server.url, Credentials(ca_file=pki / "ca.crt", cert_file=cert, key_file=key))
    try:
        async with client.open():
            cert.write_bytes((pki / "other.crt").read_bytes())
            key.write_bytes((pki / "other.key").read_bytes())
            with pytest.raises(PrometheusError):
                await client.query("up")
            cert.write_bytes((pki / "client.crt").read_bytes())
            key.write_bytes((pki / "client.key").read_bytes())
            assert (await client.query("up")).time == 1000.5
    finally:
        await server.stop()


# ── The source ──────────────────────────────────────────────────────────────────────────────────────


class FakeFleet:
    """Answers the default queries for one gateway with one camera."""

    def __init__(self, server: FakePrometheus) -> None:
        self.stamp = 1000.0
        self.moves = 0
        """So many more times, a scrape comes in between."""
        server.answer = self._answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        query = str(form["query"])
        labels = {"instance": "g:1", "namespace": "n", "camera": "door"}
        if query.startswith("max by (instance) (timestamp("):
            sample = ({"instance": "g:1"}, f"{self.stamp}")
        elif "camfleet_camera" not in query:
            sample = ({"instance": "g:1"}, "1" if "up" in query else f"{self.stamp}")
        elif "timestamp_seconds" in query:
            sample = (labels, f"{self.stamp - 1}")
        else:
            if "worker_connected" in query and self.moves:
                self.moves -= 1
                self.stamp += 1
            sample = (labels, "0" if "frozen" in query else "1")
        found = [] if "errors" in query else [sample]
        return web.json_response(vector(*found, time=float(str(form.get("time", self.stamp + 4)))))


async def test_a_scrape_is_given_once_and_never_mixed_with_another(server: FakePrometheus) -> None:
    fleet = FakeFleet(server)
    source = PrometheusSource(Prometheus(server.url), scrape=10)
    async with source.open():
        sample = await source.sample(50.0)
        assert sample is not None
        assert (sample.at, sample.complete, sample.trouble) == (46.0, True, None)
        [scrape] = sample.scrapes
        assert (scrape.instance, scrape.time) == ("g:1", 1000.0)
        asked = len(server.forms)
        assert {form.get("time") for form in server.forms} == {None, "1004.0"}
        assert await source.sample(52.0) is None
        assert len(server.forms) == asked + 1, "one small query finds nothing new"
        fleet.stamp, fleet.moves = 1010.0, 1
        sample = await source.sample(60.0)
        assert sample is not None
        assert sample.scrapes[0].time == 1011.0
        assert sample.at == 57.0
        assert server.forms[-1]["time"] == "1013.0", "a second earlier than at first"
        fleet.stamp, fleet.moves = 1020.0, 10
        sample = await source.sample(70.0)
        assert sample is not None
        assert sample.trouble is not None
        assert sample.trouble.reason == "SignalsStale"
        assert not sample.scrapes


async def test_other_gateways_than_prometheus_knows_of_make_it_incomplete(server: FakePrometheus) -> None:
    fleet = FakeFleet(server)
    counts: list[int | None] = [2, 1, None]

    async def gateways() -> int | None:
        return counts.pop(0)

    source = PrometheusSource(Prometheus(server.url), scrape=10, gateways=gateways)
    async with source.open():
        for complete in (False, True, True):
            sample = await source.sample(fleet.stamp)
            assert sample is not None
            assert sample.complete is complete
            assert ("gateways" in sample.problems) is not complete
            fleet.stamp += 10


async def test_one_query_that_fails_fails_the_sample(server: FakePrometheus) -> None:
    fleet = FakeFleet(server)
    source = PrometheusSource(Prometheus(server.url), scrape=10, overrides={"last_frame": "nonsense("})

    async def answer(request: web.Request) -> web.StreamResponse:
        if (await request.post())["query"] == "nonsense(":
            return web.json_response({"status": "error", "error": "parse error"}, status=400)
        return await fleet._answer(request)

    server.answer = answer
    async with source.open():
        sample = await source.sample(50.0)
        assert sample is not None
        assert sample.trouble is not None
        assert sample.trouble.reason == "PrometheusQueryInvalid"
        assert "parse error" in sample.trouble.message
        assert list(sample.problems) == ["prometheus"]
