"""From the outbox to the gateway: a few at a time, with their pictures, again until they are acknowledged."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import outbox_events
import pytest

from camfleet_protocol.messages import EventAck, FrameCounts, SourceState, SourceStats, Stats, WorkerHello
from camfleet_protocol.settings import Settings
from camfleet_worker import event_sender
from camfleet_worker.counters import Counters
from camfleet_worker.live import Live
from camfleet_worker.outbox import MAX_CROP_BYTES, MAX_DATA_BYTES, MAX_EMBEDDING_BYTES, Outbox
from camfleet_worker.publisher import Hooks, Publisher
from support.fake_gateway import FakeGateway, fake_gateway

STATS = Stats(source=SourceStats(state=SourceState.CONNECTED), frames=FrameCounts())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not acknowledged is sent again soon."""
    monkeypatch.setattr(event_sender, "RETRY_SECONDS", 0.3)


@asynccontextmanager
async def sending(folder: Path, gateway: FakeGateway) -> AsyncIterator[tuple[Outbox, Publisher]]:
    """An outbox that is emptied into a gateway."""
    outbox = Outbox(folder, "default.cam")
    settings = Settings()
    publisher = Publisher(
        f"{gateway.url.replace('http', 'ws')}/ws/worker",
        read_token=lambda: None,
        live=Live(settings, settings.hash),
        counters=Counters(),
        outbox=outbox,
        hooks=Hooks(
            hello=lambda: WorkerHello(camera="default.cam"),
            stats=lambda: STATS,
            configure=lambda settings, digest: None,
            command=lambda name: None,
            demanded=lambda: None,
            set_ready=lambda ready: None,
        ),
    )
    task = asyncio.create_task(publisher.run())
    try:
        yield outbox, publisher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        outbox.close()


def put(outbox: Outbox, publisher: Publisher, event_id: str, **changes: Any) -> None:
    outbox_events.put(outbox, event_id, **changes)
    publisher.wake_events()


def sent(gateway: FakeGateway) -> list[tuple[str, int]]:
    return [(message.event.id, message.event.revision) for message in gateway.event_messages]


async def test_the_largest_event_arrives_whole(tmp_path: Path) -> None:
    async with fake_gateway() as gateway, sending(tmp_path, gateway) as (outbox, publisher):
        crop, scene = os.urandom(MAX_CROP_BYTES), os.urandom(MAX_CROP_BYTES)
        vector = os.urandom(MAX_EMBEDDING_BYTES)
        put(
            outbox, publisher, "a", crop=crop, scene=scene, embedding=vector, embedder="m@1",
            message="x" * 600, data={"text": "y" * (MAX_DATA_BYTES - 20)},
        )  # fmt: skip
        await gateway.until(lambda: gateway.event_messages, "the event")
        message = gateway.event_messages[0]
        assert base64.b64decode(message.crop) == crop and base64.b64decode(message.scene) == scene
        assert base64.b64decode(message.embedding) == vector and message.embedder == "m@1"
        assert len(message.event.data["text"]) == MAX_DATA_BYTES - 20
        await gateway.until(lambda: not len(outbox), "it is forgotten")
        assert len(gateway.event_messages) == 1


async def test_no_more_than_a_few_are_under_way_and_the_rest_follow_in_order(tmp_path: Path) -> None:
    async with (
        fake_gateway(ack_events=False) as gateway,
        sending(tmp_path, gateway) as (outbox, publisher),
    ):
        for number in range(30):
            put(outbox, publisher, f"{number:02}")
        seen = len(gateway.stats)
        await gateway.until(lambda: len(gateway.stats) >= seen + 2, "stats")
        assert sent(gateway) == [(f"{n:02}", 0) for n in range(event_sender.IN_FLIGHT)]
        gateway.ack_events = True
        for event_id, revision in sent(gateway):
            await gateway.send(EventAck(id=event_id, revision=revision))
        await gateway.until(lambda: len(gateway.event_messages) >= 30, "the rest")
        assert sent(gateway) == [(f"{n:02}", 0) for n in range(30)]


@pytest.mark.usefixtures("quick")
async def test_what_is_not_acknowledged_is_sent_again_though_others_are(tmp_path: Path) -> None:
    async with (
        fake_gateway(ack_events=False) as gateway,
        sending(tmp_path, gateway) as (outbox, publisher),
    ):
        put(outbox, publisher, "lost")
        for number in range(20):
            put(outbox, publisher, str(number))
            await gateway.until(lambda number=number: (str(number), 0) in sent(gateway), "the next one")  # type: ignore[misc]
            await gateway.send(EventAck(id=str(number)))
            await asyncio.sleep(0.05)
        assert sent(gateway).count(("lost", 0)) >= 3
        assert len(outbox) == 1


async def test_a_further_revision_does_not_wait_for_the_one_under_way(tmp_path: Path) -> None:
    async with (
        fake_gateway(ack_events=False) as gateway,
        sending(tmp_path, gateway) as (outbox, publisher),
    ):
        put(outbox, publisher, "a")
        await gateway.until(lambda: sent(gateway) == [("a", 0)], "the first revision")
        put(outbox, publisher, "a", data={"ended": 1})
        await gateway.until(lambda: sent(gateway) == [("a", 0), ("a", 1)], "the second")
        await gateway.send(EventAck(id="a", revision=0))
        seen = len(gateway.stats)
        await gateway.until(lambda: len(gateway.stats) > seen, "stats")
        assert len(outbox) == 1, "the first one's acknowledgement is not the second one's"
        await gateway.send(EventAck(id="a", revision=1))
        await gateway.until(lambda: not len(outbox), "it is forgotten")
