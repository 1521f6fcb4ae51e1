"""Intake of workers' events: stored in order, acknowledged when they are, bounded while they cannot be."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from gateway_clients import eventually

from camfleet_gateway import event_intake
from camfleet_gateway.clock import Clock
from camfleet_gateway.event_intake import MAX_QUEUED, Budget, EventIntake
from camfleet_gateway.status import Facts, facts_of
from camfleet_gateway.store.batches import StoreResult
from camfleet_gateway.store.errors import UnavailableError
from camfleet_protocol.logs import ContextAdapter
from camfleet_protocol.messages import MAX_PICTURE_CHARACTERS, EventAck, EventRecord, WorkerEvent
from support.gateway_process import test_pattern

RECOGNISES = {
    "inference": {"faceRecognition": {"enabled": True}},
    "privacy": {"retentionDays": 7},
    "site": "north",
}
JPEG = b"\xff\xd8\xff\xe0 a picture"
VECTOR = (np.ones(128, np.float32) / np.sqrt(128)).astype("<f2").tobytes()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def event(event_id: str, revision: int = 0, **attachments: Any) -> WorkerEvent:
    record = EventRecord(id=event_id, time=1.0, camera="other.cam", type="appearance", revision=revision)
    return WorkerEvent(event=record, **attachments)


@dataclass
class Site:
    """An intake with a sink that fails as often as it is told."""

    budget: Budget = field(default_factory=Budget)
    facts: Facts = field(default_factory=lambda: facts_of(test_pattern("door", **RECOGNISES)))
    fail: list[Exception] = field(default_factory=list)
    stored: list[tuple[EventRecord, dict[str, Any]]] = field(default_factory=list)
    acks: list[EventAck] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    refused: str = ""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    tries: int = 0

    def __post_init__(self) -> None:
        self.gate.set()
        self.intake = EventIntake(
            sink=self,
            budget=self.budget,
            clock=Clock(),
            acknowledge=self.acks.append,
            bad=self.problems.append,
            log=ContextAdapter(logging.getLogger(__name__), {}),
        )

    async def store(self, record: EventRecord, **values: Any) -> StoreResult:
        self.tries += 1
        await self.gate.wait()
        if self.fail:
            raise self.fail.pop(0)
        self.stored.append((record, values))
        return StoreResult(stored=True, refused=self.refused)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Site]:
        task = asyncio.create_task(self.intake.run("default.door", lambda: self.facts))
        try:
            yield self
        finally:
            task.cancel()
            self.intake.close()
            await asyncio.gather(task, return_exceptions=True)

    async def acknowledged(self, count: int) -> list[tuple[str, int]]:
        await eventually(lambda: len(self.acks) >= count, f"{count} acknowledgements")
        return [(ack.id, ack.revision) for ack in self.acks]


async def test_an_event_is_stored_with_all_it_brings_as_one_of_its_own_camera() -> None:
    async with Site().running() as site:
        message = event("a", 3, crop=b64(JPEG), scene=b64(JPEG + b"2"), embedding=b64(VECTOR), embedder="m@1")
        assert site.intake.take(message)
        assert await site.acknowledged(1) == [("a", 3)]
        ((record, values),) = site.stored
        assert (record.camera, record.revision) == ("default.door", 3)
        assert values == {
            "crop": JPEG,
            "scene": JPEG + b"2",
            "embedding": VECTOR,
            "embedder": "m@1",
            "site": "north",
            "retention_days": 7,
        }
        assert site.budget.used == 0 and not site.problems


async def test_texts_are_redacted() -> None:
    async with Site().running() as site:
        record = EventRecord(
            id="a",
            time=1.0,
            camera="x",
            type="source.lost",
            message="rtsp://u:hunter22@cam",
            data={"url": ["rtsp://u:hunter22@cam"]},
        )
        site.intake.take(WorkerEvent(event=record))
        await site.acknowledged(1)
        assert "hunter22" not in site.stored[0][0].model_dump_json()


@pytest.mark.parametrize(
    "settings", [{}, {"inference": {"faceRecognition": {"enabled": True}}}, {"privacy": {"retentionDays": 7}}]
)
async def test_no_face_is_kept_of_a_camera_that_may_not_recognise(settings: dict[str, Any]) -> None:
    site = Site(facts=facts_of(test_pattern("door", **settings)))
    async with site.running():
        site.intake.take(event("a", crop=b64(JPEG), embedding=b64(VECTOR), embedder="m@1"))
        await site.acknowledged(1)
        values = site.stored[0][1]
        assert (values["crop"], values["embedding"], values["embedder"]) == (JPEG, b"", "")


@pytest.mark.parametrize(
    ("attachments", "problem"),
    [
        ({"crop": "%%%"}, "crop"),
        ({"crop": b64(JPEG)[:-2]}, "crop"),
        ({"crop": "ÿÿÿÿ"}, "crop"),
        ({"scene": b64(b"GIF89a")}, "scene"),
        ({"scene": b64(JPEG + bytes(MAX_PICTURE_CHARACTERS * 3 // 4 - len(JPEG)))}, ""),
        ({"embedding": b64(VECTOR)[:-2]}, "embedding"),
        ({"embedding": b64(VECTOR + b"\0")}, "embedding"),
        ({"embedding": b64(bytes(256))}, "embedding"),
        ({"embedding": b64(np.full(128, np.nan, "<f2").tobytes())}, "embedding"),
        ({"embedding": b64(np.full(128, 9.0, "<f2").tobytes())}, "embedding"),
    ],
)
async def test_an_event_whose_attachment_is_none_is_stored_without_it(
    attachments: dict[str, str], problem: str
) -> None:
    async with Site().running() as site:
        site.intake.take(event("a", **attachments))
        await site.acknowledged(1)
        assert len(site.problems) == (1 if problem else 0) and problem in "".join(site.problems)
        (name,) = attachments
        assert bool(site.stored[0][1][name]) is not bool(problem)


async def test_while_the_store_is_away_nothing_is_acknowledged_and_order_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_intake, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(event_intake, "LONGEST_PAUSE", 0.02)
    site = Site(fail=[UnavailableError("the database is away")] * 5)
    site.gate.clear()
    async with site.running():
        for name in "abc":
            assert site.intake.take(event(name))
        assert not site.intake.take(event("b")), "told again while it waits"
        assert site.intake.take(event("b", 1)), "a further revision is another thing"
        await eventually(lambda: site.tries, "a try")
        assert not site.acks
        site.gate.set()
        assert await site.acknowledged(4) == [("a", 0), ("b", 0), ("c", 0), ("b", 1)]
        assert [record.id for record, _ in site.stored] == ["a", "b", "c", "b"]
        assert caplog.text.count("events cannot be stored now: the database is away") == 1


@pytest.mark.parametrize("refused", [True, False])
async def test_what_can_never_be_stored_does_not_hold_up_the_rest(
    refused: bool, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(refused="no such thing") if refused else Site(fail=[ValueError("a mistake")])
    async with site.running():
        site.intake.take(event("a"))
        site.intake.take(event("b"))
        assert await site.acknowledged(2) == [("a", 0), ("b", 0)]
        assert site.stored[-1][0].id == "b" and "stored" in caplog.text


@pytest.mark.parametrize(
    ("event_id", "type_", "ours"),
    [
        ("al-" + "0" * 40, "alert", True),
        ("a", "alert", True),
        ("a", "alert.ended", True),
        ("a", "camera.offline", True),
        ("al-1", "appearance", True),
        ("ae-1", "appearance", True),
        ("gw-1", "source.lost", True),
        ("alert", "appearance", False),
        ("a", "alerted", False),
        ("a", "cameras", False),
        ("a/b", "appearance", True),
        ("a\nb", "appearance", True),
        ("..", "appearance", True),
    ],
)
async def test_a_worker_tells_nothing_in_the_name_of_the_gateway(
    event_id: str, type_: str, ours: bool
) -> None:
    async with Site().running() as site:
        record = EventRecord(id=event_id, time=1.0, camera="x", type=type_, revision=2)
        site.intake.take(WorkerEvent(event=record))
        site.intake.take(event("after"))
        assert await site.acknowledged(2) == [(event_id, 2), ("after", 0)]
        assert [stored.id for stored, _ in site.stored] == (["after"] if ours else [event_id, "after"])
        assert len(site.problems) == ours


async def test_what_no_page_can_show_is_left_out() -> None:
    async with Site().running() as site:
        for number, data in enumerate(
            (
                {"kind": "face", "label": 5, "zones": "hall", "more": 1},
                {"zones": [None], "started": 1.0, "seen": 2.0, "kind": "face"},
                {"kind": "face", "label": "face", "track": 1, "person": {"id": 5}, "box": [2, 0, 0, 0]},
            )
        ):
            record = EventRecord(id=f"e{number}", time=9e12, camera="x", type="appearance", data=data)
            site.intake.take(WorkerEvent(event=record))
        await site.acknowledged(3)
        assert [record.data for record, _ in site.stored] == [
            {"kind": "face", "more": 1},
            {"started": 1.0, "seen": 2.0, "kind": "face"},
            {"kind": "face", "label": "face", "track": 1},
        ]
        assert all(abs(record.time - time.time()) < 60 for record, _ in site.stored)
        assert len(site.problems) == 3


async def test_memory_is_bounded_by_number_and_bytes_and_given_back() -> None:
    site = Site()
    site.gate.clear()
    async with site.running():
        taken = sum(site.intake.take(event(str(n))) for n in range(MAX_QUEUED + 10))
        assert taken == MAX_QUEUED
        assert site.budget.used == MAX_QUEUED * 4096
    assert site.budget.used == 0, "a session that ends takes nothing with it"
    site.budget.limit = 30_000
    async with site.running():
        assert site.intake.take(event("large", crop="A" * 20_000))
        assert not site.intake.take(event("too much", crop="A" * 20_000))
        assert site.intake.take(event("small"))
