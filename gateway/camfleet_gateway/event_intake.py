"""A worker's events on their way into the store: in order, and acknowledged only when they are there.

Each session has a short queue and one task that empties it. While the store is away the task tries again with
pauses and acknowledges nothing: the worker keeps what it has, and tells it again. What does not fit into the
queue, or into what all queues together may hold, is passed over for the same reason.
"""

from __future__ import annotations

import asyncio
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from camfleet_gateway.clock import Clock
from camfleet_gateway.limits import TokenBucket
from camfleet_gateway.status import Facts
from camfleet_gateway.store.batches import StoreResult
from camfleet_gateway.store.errors import StoreError, UnavailableError
from camfleet_protocol.appearance import APPEARANCE, Appearance
from camfleet_protocol.logs import ContextAdapter
from camfleet_protocol.messages import EventAck, EventRecord, WorkerEvent
from camfleet_protocol.redaction import redact

MAX_QUEUED = 32
MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""Of all sessions together."""
MAX_EVENTS_PER_SECOND = 50.0
MAX_PICTURE_BYTES = 84 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
_JPEG = b"\xff\xd8\xff"
_FLOAT16 = np.dtype("<f2")
_OUR_TYPES = re.compile(r"(alert|camera)(\.|$)")
_OUR_IDS = ("al-", "ae-", "gw-")
"""What only the gateway tells: alerts, and how its cameras are."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Others could not be a part of a path: nobody could open or delete such an event."""
_LATEST = 32_503_680_000.0
"""The year 3000: beyond it is no time that a browser can show."""


class EventSink(Protocol):
    """Where events go."""

    async def store(
        self,
        record: EventRecord,
        *,
        crop: bytes,
        scene: bytes,
        embedding: bytes,
        embedder: str,
        site: str,
        retention_days: float | None,
    ) -> StoreResult:
        """Store an event; returns once it is on disk.

        Raises:
            UnavailableError: Not now.
        """


@dataclass(slots=True)
class Budget:
    """Bytes that the queues of all sessions hold."""

    used: int = 0
    limit: int = MAX_QUEUED_BYTES


class EventIntake:
    """The events of one session. Lives on the event loop."""

    def __init__(
        self,
        *,
        sink: EventSink,
        budget: Budget,
        clock: Clock,
        acknowledge: Callable[[EventAck], None],
        bad: Callable[[str], None],
        log: ContextAdapter,
    ) -> None:
        self._sink = sink
        self._budget = budget
        self._clock = clock
        self._acknowledge = acknowledge
        self._bad = bad
        self._log = log
        self._queue: dict[tuple[str, int], tuple[WorkerEvent, int]] = {}
        self._filled = asyncio.Event()
        self._rate = TokenBucket(
            rate=MAX_EVENTS_PER_SECOND, burst=4 * MAX_EVENTS_PER_SECOND, now=clock.monotonic()
        )
        self._away = False

    def take(self, message: WorkerEvent) -> bool:
        """Queue an event; false if there is no room, or it is queued already."""
        key = (message.event.id, message.event.revision)
        size = len(message.crop) + len(message.scene) + len(message.embedding) + 4096
        if key in self._queue or len(self._queue) >= MAX_QUEUED:
            return False
        if self._budget.used + size > self._budget.limit:
            return False
        self._queue[key] = (message, size)
        self._budget.used += size
        self._filled.set()
        return True

    async def run(self, camera: str, facts: Callable[[], Facts]) -> None:
        """Store what is queued, until cancelled.

        Args:
            camera: Every event is one of this camera, whatever it says of itself.
            facts: What is known of the camera now.
        """
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                key, (message, _) = next(iter(self._queue.items()))
                await self._turn()
                await self._store(message, camera, facts)
                self._forget(key)

    def close(self) -> None:
        """Give back what it holds; nothing of that is acknowledged."""
        for key in list(self._queue):
            self._forget(key)

    def _forget(self, key: tuple[str, int]) -> None:
        _, size = self._queue.pop(key, (None, 0))
        self._budget.used -= size

    async def _turn(self) -> None:
        if not self._rate.take(1, self._clock.monotonic()):
            await asyncio.sleep(1 / MAX_EVENTS_PER_SECOND)
            self._rate.take(1, self._clock.monotonic())

    async def _store(self, message: WorkerEvent, camera: str, facts: Callable[[], Facts]) -> None:
        if problem := _problem(message.event):
            self._bad(problem)
            self._acknowledge(EventAck(id=message.event.id, revision=message.event.revision))
            return
        record = message.event.model_copy(
            update={
                "camera": camera,
                "time": message.event.time if message.event.time < _LATEST else self._clock.wall(),
                "message": redact(message.event.message),
                "data": self._shaped(message.event.type, redacted(message.event.data)),
            }
        )
        crop, scene = self._picture(message.crop, "crop"), self._picture(message.scene, "scene")
        vector = self._vector(message.embedding)
        pause = FIRST_PAUSE
        while True:
            known = facts()
            try:
                result = await self._sink.store(
                    record,
                    crop=crop,
                    scene=scene,
                    # Nothing by which a face is recognised is kept of a camera that may not do that.
                    embedding=vector if known.recognition else b"",
                    embedder=message.embedder if known.recognition and vector else "",
                    site=known.site,
                    retention_days=known.retention_days,
                )
            except UnavailableError as error:
                if not self._away:
                    self._log.warning("events cannot be stored now: %s", error)
                self._away = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            except (StoreError, SQLAlchemyError, ValueError) as error:
                # The same would happen every time; the worker must not keep it in front of all others.
                self._log.error("an event of type %s cannot be stored: %s", record.type, type(error).__name__)
                break
            else:
                self._away = False
                if result.refused:
                    self._log.error("an event of type %s is not stored: %s", record.type, result.refused)
                break
        self._acknowledge(EventAck(id=record.id, revision=record.revision))

    def _shaped(self, type_: str, data: dict[str, object]) -> dict[str, object]:
        """An appearance's data without what is not as it must be: pages and programs rely on that."""
        if type_ != APPEARANCE:
            return data
        try:
            Appearance.model_validate(data)
        except ValidationError as error:
            wrong = {problem["loc"][0] for problem in error.errors() if problem["type"] != "missing"}
            if wrong:
                self._bad("the data of an appearance are not as they must be")
            return {name: value for name, value in data.items() if name not in wrong}
        return data

    def _picture(self, text: str, what: str) -> bytes:
        data = _decoded(text)
        if data is None or len(data) > MAX_PICTURE_BYTES or (data and not data.startswith(_JPEG)):
            self._bad(f"the {what} of an event is not a JPEG in base64 of at most {MAX_PICTURE_BYTES} bytes")
            return b""
        return data

    def _vector(self, text: str) -> bytes:
        data = _decoded(text)
        if data is None or len(data) % _FLOAT16.itemsize or (data and not _of_length_one(data)):
            self._bad("the embedding of an event is not float16 of length 1 in base64")
            return b""
        return data


def _problem(record: EventRecord) -> str:
    """Why an event cannot be taken; empty if it can."""
    if not _ID.fullmatch(record.id):
        return "the id of an event is not of letters, digits, - and _"
    if record.id.startswith(_OUR_IDS) or _OUR_TYPES.match(record.type):
        return "an event is one that only the gateway makes"
    return ""


def redacted(data: dict[str, object]) -> dict[str, object]:
    """An event's data with every text in it redacted."""
    text = json.dumps(data)
    clean = redact(text)
    if clean == text:
        return data
    try:
        decoded = json.loads(clean)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _decoded(text: str) -> bytes | None:
    try:
        return binascii.a2b_base64(text, strict_mode=True) if text else b""
    except ValueError:  # binascii.Error, or characters beyond ASCII
        return None


def _of_length_one(data: bytes) -> bool:
    values = np.frombuffer(data, _FLOAT16).astype(np.float32)
    return bool(np.isfinite(values).all()) and abs(float(np.linalg.norm(values)) - 1.0) < 0.05
