"""Webhooks against a real HTTP server: down, slow, wrong, and a gateway that starts again in between."""

from __future__ import annotations

import asyncio
import hmac
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from gateway_clients import eventually

from camfleet_gateway.clock import Clock
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.tables import Event
from camfleet_gateway.webhooks.backoff import given_up, pause
from camfleet_gateway.webhooks.config import Webhook, Webhooks, WebhooksFileError
from camfleet_gateway.webhooks.sender import WebhookSender
from camfleet_gateway.webhooks.signing import signature
from camfleet_protocol.messages import EventRecord

SECRET = "a-secret-of-the-receiver"


class Receiver:
    """An HTTP server that answers as it is told, and remembers what it was sent."""

    def __init__(self) -> None:
        self.received: list[tuple[web.BaseRequest, bytes]] = []
        self.answer: Callable[[], Awaitable[web.StreamResponse]] = self.fine
        self.port = 0
        self._runner: web.ServerRunner | None = None

    async def fine(self) -> web.StreamResponse:
        return web.Response(status=204)

    async def start(self) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            self.received.append((request, await request.read()))
            return await self.answer()

        self._runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        assert self._runner.addresses
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [json.loads(body)["event"]["id"] for _, body in self.received]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    server = Receiver()
    await server.start()
    yield server
    await server.stop()


class Site:
    """One start of a gateway's store and webhooks."""

    def __init__(self, folder: Path, webhooks: Path, url: str | None, **options: Any) -> None:
        clock = Clock()
        self.store = Store(GatewaySettings(data_dir=folder, database_url=url), clock)
        self.sender = WebhookSender(self.store, Webhooks(webhooks), clock=clock, look_seconds=0.2, **options)

    async def event(self, id_: str, **fields: Any) -> None:
        basis = {"id": id_, "time": 1.0, "camera": "default.door", "type": "alert"}
        await self.store.events.store(EventRecord.model_validate(basis | fields))

    async def waiting(self, name: str = "hook") -> int:
        found = (await self.sender.queue.counts()).get(name)
        return found.waiting if found else 0


@pytest.fixture(params=["sqlite", "postgresql"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").database()

    @asynccontextmanager
    async def starting(sending: bool = True, **options: Any) -> AsyncIterator[Site]:
        site = Site(tmp_path / "data", tmp_path / "webhooks.yaml", url, **{"pause": at_once, **options})
        await site.store.start(lambda: None)
        task = asyncio.create_task(site.sender.run()) if sending else None
        try:
            yield site
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await site.store.stop()

    return starting


def at_once(*_: Any, **__: Any) -> float:
    return 0.05


def write(tmp_path: Path, *entries: dict[str, Any]) -> Path:
    (tmp_path / "secret").write_text(SECRET + "\n")
    path = tmp_path / "webhooks.yaml"
    path.write_text(json.dumps({"webhooks": list(entries)}))
    return path


def hook(receiver: Receiver, name: str = "hook", **fields: Any) -> dict[str, Any]:
    return {"name": name, "url": receiver.url, "secret_file": "secret", **fields}


async def test_a_message_is_signed_and_says_which_event_it_is_about(
    tmp_path: Path, receiver: Receiver, start: Any
) -> None:
    (tmp_path / "headers").write_text("Authorization: Bearer of-the-receiver\n")
    write(tmp_path, hook(receiver, headers_file="headers"))
    async with start() as site:
        await site.event("e1", message="one")
        await site.event("e1", message="two", revision=3)
        await eventually(lambda: len(receiver.received) == 2, "two messages")
        await eventually(lambda: site.sender.results["hook", "delivered"] == 2, "both delivered")
    for number, (request, body) in enumerate(receiver.received):
        event = json.loads(body)
        assert (event["type"], event["event"]["id"], event["first"]) == ("event", "e1", number == 0)
        assert request.headers["Camfleet-Event-Id"] == "e1"
        assert request.headers["Camfleet-Event-Revision"] == ("0", "3")[number]
        assert request.headers["Authorization"] == "Bearer of-the-receiver"
        time, _, mac = request.headers["Camfleet-Signature"].partition(",")
        signed = time.removeprefix("t=").encode() + b"." + body
        assert mac == "v1=" + hmac.digest(SECRET.encode(), signed, "sha256").hex()
    deliveries = {request.headers["Camfleet-Delivery"] for request, _ in receiver.received}
    assert len(deliveries) == 2


async def test_only_what_is_asked_for_is_told(tmp_path: Path, receiver: Receiver, start: Any) -> None:
    write(
        tmp_path,
        hook(
            receiver,
            events=["camera.*", "alert"],
            cameras=["default.*"],
            severities=["critical", "warning"],
            updates=False,
        ),
    )
    async with start() as site:
        await site.event("no-type", type="appearance", severity="critical")
        await site.event("no-camera", camera="yard.gate", severity="critical")
        await site.event("no-severity")
        await site.event("yes", type="camera.offline", severity="warning")
        await site.event("yes", type="camera.offline", severity="warning", revision=1)
        await site.event("last", severity="critical")
        await eventually(lambda: "last" in receiver.ids, "the last event")
    assert receiver.ids == ["yes", "last"]


async def test_what_people_correct_is_told_and_stays(tmp_path: Path, receiver: Receiver, start: Any) -> None:
    write(tmp_path, hook(receiver, events=["appearance"]))
    bob, alice = ({"identity": "known", "person": {"id": name, "name": name}} for name in ("Bob", "Alice"))
    async with start() as site:
        await site.event("e1", type="appearance", data=bob)
        await eventually(lambda: len(receiver.received) == 1, "the event")
        for failing in (True, False):
            try:
                async with site.store.database.session() as session:
                    event = await session.get(Event, "e1")
                    assert event is not None
                    event.data, event.person_id, event.decided = alice, "Alice", True
                    view = await site.store.events.corrected(session, "e1")
                    if failing:
                        raise LookupError
            except LookupError:
                continue
            site.store.events.tell(view)
        await eventually(lambda: len(receiver.received) == 2, "the correction")
        await site.event("e1", type="appearance", data=bob)
        await site.event("e1", type="appearance", data=bob, revision=1)
        await eventually(lambda: len(receiver.received) == 3, "what its worker has to say besides")
        await eventually(lambda: site.sender.results["hook", "delivered"] == 3, "all delivered")
    events = [json.loads(body)["event"] for _, body in receiver.received]
    told = [(event["revision"], event["person"]["name"]) for event in events]
    assert told == [(0, "Bob"), (1, "Alice"), (2, "Alice")]


async def test_what_is_not_taken_is_tried_again_until_it_is(
    tmp_path: Path, receiver: Receiver, start: Any
) -> None:
    write(tmp_path, hook(receiver))
    answers = iter([500, 302, 404, 204])
    hung = asyncio.Event()

    async def answer() -> web.StreamResponse:
        status = next(answers)
        if status == 404:
            await hung.wait()
        return web.Response(status=status, headers={"Location": receiver.url})

    receiver.answer = answer
    async with start(timeout=0.3) as site:
        await site.event("e1")
        await eventually(lambda: site.sender.results["hook", "delivered"] == 1, "delivered")
        assert site.sender.results["hook", "failed"] == 3
        assert await site.waiting() == 0
        hung.set()
    assert receiver.ids == ["e1"] * 4


async def test_nothing_is_lost_or_doubled_while_receiver_or_gateway_are_away(
    tmp_path: Path, receiver: Receiver, start: Any
) -> None:
    write(tmp_path, hook(receiver))
    await receiver.stop()
    async with start() as site:
        for number in range(5):
            await site.event(f"e{number}")
        await eventually(lambda: site.sender.results["hook", "failed"] >= 5, "attempts")
    async with start(sending=False) as site:  # killed before it could send anything
        await site.event("e5")
        await site.event("e0")
    await receiver.start()
    async with start() as site:
        await eventually(lambda: len(set(receiver.ids)) == 6, "all events")
        await eventually(lambda: site.sender.results["hook", "delivered"] == 6, "all delivered")
        assert await site.waiting() == 0
    assert sorted(receiver.ids) == [f"e{number}" for number in range(6)]


async def test_a_slow_webhook_delays_no_other(tmp_path: Path, receiver: Receiver, start: Any) -> None:
    slow = Receiver()
    release = asyncio.Event()

    async def never() -> web.StreamResponse:
        await release.wait()
        return web.Response()

    slow.answer = never
    await slow.start()
    write(tmp_path, hook(receiver), hook(slow, "slow"))
    try:
        async with start() as site:
            for number in range(10):
                await site.event(f"e{number}")
            await eventually(lambda: len(receiver.ids) == 10, "all of the other")
            await eventually(lambda: len(slow.ids) == 8, "as many at once as may be")
            assert site.sender.results["slow", "delivered"] == 0
            release.set()
            await eventually(lambda: site.sender.results["slow", "delivered"] == 10, "all of the slow one")
    finally:
        await slow.stop()


async def test_what_is_given_up_is_listed_and_can_be_sent_again(
    tmp_path: Path, receiver: Receiver, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("camfleet_gateway.webhooks.backoff.MAX_ATTEMPTS", 2)
    write(tmp_path, hook(receiver))

    async def broken() -> web.StreamResponse:
        return web.Response(status=500)

    receiver.answer = broken
    async with start() as site:
        await site.event("e1")
        await eventually(lambda: site.sender.results["hook", "dead"] == 1, "given up")
        [dead] = await site.sender.queue.dead(None, 10)
        assert (dead.event_id, dead.attempts, dead.problem) == ("e1", 2, "answered 500")
        receiver.answer = receiver.fine
        async with site.store.database.session() as session:
            assert await site.sender.queue.revive(session, dead.id, 0.0)
            assert not await site.sender.queue.revive(session, "d-1\0", 0.0)
        site.sender.look()
        await eventually(lambda: site.sender.results["hook", "delivered"] == 1, "delivered")
        assert await site.sender.queue.counts() == {}


async def test_an_answer_is_not_read(tmp_path: Path, receiver: Receiver, start: Any) -> None:
    write(tmp_path, hook(receiver))

    async def endless() -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(receiver.received[-1][0])
        try:
            while True:
                await response.write(bytes(65536))
                await asyncio.sleep(0.001)
        except (ConnectionError, asyncio.CancelledError):
            return response

    receiver.answer = endless
    async with start() as site:
        await site.event("e1")
        await eventually(lambda: site.sender.results["hook", "delivered"] == 1, "delivered")


async def test_the_file_is_read_again_and_a_bad_one_changes_nothing(
    tmp_path: Path, receiver: Receiver, start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, hook(receiver, events=["nothing"]))
    async with start() as site:
        write(tmp_path, hook(receiver, "second"))
        await eventually(lambda: "second" in site.sender.webhooks.current, "the new webhook")
        await eventually(lambda: "second" in site.sender._lanes, "its lane")
        await site.event("e1")
        await eventually(lambda: receiver.ids == ["e1"], "a message")
        path.write_text("webhooks: [{name: second, url: 'http://user:hunter2secret@example.org/'}]")
        await eventually(lambda: "stay as they were" in caplog.text, "a complaint")
        assert "hunter2secret" not in caplog.text
        assert "second" in site.sender.webhooks.current


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"url": "https://user:hunter2secret@example.org/"}, "must hold no user, password or token"),
        ({"url": "https://user@example.org/"}, "must hold no user, password or token"),
        ({"url": "https://example.org/?token=hunter2secret"}, "must hold no user, password or token"),
        ({"url": "file:///etc/passwd"}, "must be an http:// or https:// URL"),
        ({"url": "http://"}, "must be an http:// or https:// URL"),
        ({"url": "http://[::1/"}, "this is no URL"),
        ({"url": "http://a b/"}, "percent-encoded"),
        ({"secret": "hunter2secret"}, "secret"),
        ({"secret_file": "none"}, "none: No such file"),
        ({"secret_file": "short"}, "at least 16"),
        ({"secret_env": "CAMFLEET_NO_SUCH"}, "not in the environment"),
        ({"secret_env": "X", "secret_file": "y"}, "exclude each other"),
        ({"headers_file": "no-headers"}, "must hold lines such as"),
        ({"headers_file": "bad-header"}, "is not for headers_file"),
        ({"events": []}, "events"),
        ({"severities": ["loud"]}, "severities"),
        ({"name": "Not a name"}, "name"),
    ],
)
def test_a_file_that_cannot_be_used_says_why_and_quotes_nothing(
    tmp_path: Path, entry: dict[str, Any], problem: str
) -> None:
    (tmp_path / "short").write_text("hunter2secret")
    (tmp_path / "no-headers").write_text("hunter2secret")
    (tmp_path / "bad-header").write_text("Host: hunter2secret")
    path = write(tmp_path, {"name": "hook", "url": "https://example.org/x", **entry})
    with pytest.raises(WebhooksFileError) as caught:
        Webhooks(path)
    assert problem in str(caught.value)
    assert "hunter2secret" not in str(caught.value)


def test_a_secret_may_come_after_the_file_that_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "webhooks.yaml"
    path.write_text("webhooks: []")
    webhooks = Webhooks(path)
    path.write_text("webhooks: [{name: desk, url: 'http://desk/', secret_file: later}]")
    assert not webhooks.refresh() and not webhooks.refresh()
    assert len(caplog.records) == 1, "said once"
    (tmp_path / "later").write_text("sixteen characters, and more")
    assert webhooks.refresh() and list(webhooks.current) == ["desk"]
    assert not webhooks.refresh()


def test_a_file_with_nothing_in_it_or_none_at_all_is_no_webhook(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.yaml"
    path.write_text("")
    assert Webhooks(path).current == {} == Webhooks(None).current
    two = {"name": "hook", "url": "https://example.org/"}
    with pytest.raises(WebhooksFileError, match="twice"):
        Webhooks(write(tmp_path, two, two))
    with pytest.raises(WebhooksFileError, match="not YAML"):
        path.write_text("{")
        Webhooks(path)


def test_a_webhook_shows_no_secret(tmp_path: Path) -> None:
    url = "https://example.org/services/T123/of-the-receiver"
    shown = repr(Webhooks(write(tmp_path, {"name": "hook", "url": url, "secret_file": "secret"})).current)
    assert SECRET not in shown and "T123" not in shown and "example.org" in shown
    assert Webhook.__dataclass_fields__["headers"].repr is False


def test_pauses_double_to_an_hour_and_honour_what_is_asked() -> None:
    class Middle(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return (a + b) / 2

    pauses = [pause(attempts, chance=Middle()) for attempts in range(1, 13)]
    assert pauses == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]
    assert pause(1, asked=100, chance=Middle()) == 100
    assert pause(1, asked=1e9, chance=Middle()) == 3600
    assert pause(5, asked=1, chance=Middle()) == 160
    assert {8 <= pause(1, chance=random.Random(n)) <= 12 for n in range(50)} == {True}
    assert not given_up(19, 3600) and given_up(20, 0) and given_up(1, 86400)


def test_the_signature_is_of_time_and_body() -> None:
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac a-secret-of-the-receiver
    assert signature(SECRET.encode(), b"{}", 1700000000) == (
        "t=1700000000,v1=" + hmac.new(SECRET.encode(), b"1700000000.{}", "sha256").hexdigest()
    )
