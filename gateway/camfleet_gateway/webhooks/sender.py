"""Calls webhooks. Each has a task, a rate and a few connections of its own: a slow one delays no other."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.clock import Clock
from camfleet_gateway.limits import TokenBucket
from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.view import EventView
from camfleet_gateway.store.writer import Stored
from camfleet_gateway.webhooks.backoff import given_up, pause
from camfleet_gateway.webhooks.config import Webhook, Webhooks
from camfleet_gateway.webhooks.queue import MAX_WAITING, Counts, Message, Queue, delivery_id
from camfleet_gateway.webhooks.signing import DELIVERY, EVENT_ID, REVISION, SIGNATURE, signature
from camfleet_protocol import __version__

if TYPE_CHECKING:
    import aiohttp  # who has no webhooks does without its memory

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
RATE_PER_SECOND = 10.0
AT_ONCE = 8
"""Calls of one webhook that may be under way."""
LOOK_SECONDS = 5.0
"""Between two looks at the files and at what others have put into the queue."""
SWEEP_SECONDS = 600.0
GOODBYE_SECONDS = 1.0
"""For calls that are under way when the gateway stops."""
RESULTS = ("delivered", "failed", "dead", "dropped")


@dataclass(slots=True)
class _Lane:
    """What one webhook has of its own."""

    task: asyncio.Task[None]
    wake: asyncio.Event
    counts: Counts = field(default_factory=Counts)


class WebhookSender:
    """All webhooks of this gateway."""

    def __init__(
        self,
        store: Store,
        webhooks: Webhooks,
        *,
        clock: Clock,
        pause: Callable[..., float] = pause,
        timeout: float = TIMEOUT_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Listen to the store.

        Args:
            store: Where events come by, and messages wait.
            webhooks: Whom to call.
            clock: Its Unix seconds say when a message is due.
            pause: As `backoff.pause`.
            timeout: Seconds for a call.
            look_seconds: Between two looks at files and queue.
        """
        self.webhooks = webhooks
        self.queue = Queue(store.database)
        self.results: Counter[tuple[str, str]] = Counter()
        """Attempts by webhook and result, since the start."""
        self.counts: dict[str, Counts] = {}
        """By webhook, as of the last look."""
        self._store = store
        self._clock = clock
        self._pause = pause
        self._timeout = timeout
        self._look_seconds = look_seconds
        self._chance = random.Random()
        self._lanes: dict[str, _Lane] = {}
        self._stopping = False
        self._taken: set[str] = set()
        """Messages that are being sent."""
        store.events.in_transaction(self._enqueue)
        store.events.on_stored(self._stored)

    # ── What it says of itself ─────────────────────────────────────────────────────────────────────

    def totals(self) -> dict[tuple[str, str], int]:
        """Attempts by webhook of the file and result, since the start."""
        names = self.webhooks.current
        return {(name, result): self.results[name, result] for name in names for result in RESULTS}

    def messages(self) -> dict[tuple[str, str], int]:
        """Messages by webhook of the file and state, as of the last look."""
        found: dict[tuple[str, str], int] = {}
        for name in self.webhooks.current:
            count = self.counts.get(name, Counts())
            found[name, "waiting"], found[name, "dead"] = count.waiting, count.dead
        return found

    # ── Into the queue ─────────────────────────────────────────────────────────────────────────────

    async def _enqueue(self, session: AsyncSession, stored: Sequence[Stored]) -> None:
        now = self._clock.wall()
        rows: list[dict[str, object]] = []
        for webhook in self.webhooks.current.values():
            for each in stored:
                if not webhook.wants(each.view, first=each.first):
                    continue
                if self.counts.get(webhook.name, Counts()).waiting >= MAX_WAITING:
                    self.results[webhook.name, "dropped"] += 1
                    continue
                rows.append(_row(webhook.name, each.view, first=each.first, now=now))
        if rows:
            await self.queue.add(session, rows)

    def _stored(self, view: EventView, first: bool) -> None:
        for name, lane in self._lanes.items():
            webhook = self.webhooks.current.get(name)
            if webhook is not None and webhook.wants(view, first=first):
                lane.wake.set()

    def look(self) -> None:
        """Have all webhooks look into the queue now."""
        for lane in self._lanes.values():
            lane.wake.set()

    # ── Out of it ──────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Send until cancelled."""
        await self._store.opened.wait()
        if not self.webhooks.configured:
            await asyncio.Event().wait()
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": f"camfleet/{__version__}"},
        ) as http:
            try:
                await self._supervise(http)
            finally:
                # They end by themselves if they can: nothing is torn out of the database.
                self._stopping = True
                self.look()
                if tasks := [lane.task for lane in self._lanes.values()]:
                    await asyncio.wait(tasks, timeout=2 * GOODBYE_SECONDS)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._lanes.clear()
                await self._give_back()

    async def _give_back(self) -> None:
        """What was not sent is due again at once, for the next process."""
        try:
            await self.queue.release(sorted(self._taken), self._clock.wall())
        except UnavailableError:
            pass  # then when its lease has run out
        self._taken.clear()

    async def _supervise(self, http: aiohttp.ClientSession) -> None:
        swept = self._clock.monotonic() - SWEEP_SECONDS
        while True:
            await asyncio.to_thread(self.webhooks.refresh)
            names = self.webhooks.current.keys()
            for name, lane in list(self._lanes.items()):
                if lane.task.done():  # its webhook was gone; a mistake of ours ends the gateway
                    lane.task.result()
                    del self._lanes[name]
            for name in names - self._lanes.keys():
                wake = asyncio.Event()
                task = asyncio.create_task(self._lane(http, name, wake), name=f"webhook-{name}")
                self._lanes[name] = _Lane(task, wake)
            self.look()
            try:
                self.counts = await self.queue.counts()
                if self._clock.monotonic() - swept >= SWEEP_SECONDS:
                    await self.queue.sweep(self._clock.wall(), sorted(names))
                    swept = self._clock.monotonic()
            except UnavailableError as error:
                logger.debug("the webhooks' queue cannot be read now: %s", error)
            await asyncio.sleep(self._look_seconds)

    async def _lane(self, http: aiohttp.ClientSession, name: str, wake: asyncio.Event) -> None:
        rate = TokenBucket(rate=RATE_PER_SECOND, burst=RATE_PER_SECOND, now=self._clock.monotonic())
        calls: set[asyncio.Task[None]] = set()
        try:
            while (webhook := self.webhooks.current.get(name)) is not None and not self._stopping:
                wake.clear()
                messages, wait = await self._due(name, AT_ONCE - len(calls))
                self._taken.update(message.id for message in messages)
                for message in messages:
                    await self._paced(rate)
                    calls.add(asyncio.create_task(self._send(http, webhook, message)))
                # With all connections in use the next message waits for one of them.
                done = {call for call in calls if call.done()}
                if len(calls) - len(done) >= AT_ONCE:
                    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                elif not messages:
                    await _either(wake, wait)
                calls -= done
                for call in done:
                    call.result()
        finally:
            if calls:
                await asyncio.wait(calls, timeout=GOODBYE_SECONDS)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def _due(self, name: str, limit: int) -> tuple[list[Message], float]:
        """Messages that were taken, and for how many seconds there will be no more."""
        try:
            if messages := await self.queue.take(name, self._clock.wall(), limit):
                return messages, 0.0
            due = await self.queue.next_due(name)
        except UnavailableError:
            return [], self._look_seconds
        if due is None:
            return [], self._look_seconds
        return [], min(max(due - self._clock.wall(), 0.01), self._look_seconds)

    async def _paced(self, rate: TokenBucket) -> None:
        while True:
            if rate.take(1, self._clock.monotonic()):
                return
            await asyncio.sleep(1 / RATE_PER_SECOND)

    async def _send(self, http: aiohttp.ClientSession, webhook: Webhook, message: Message) -> None:
        try:
            problem, asked = await self._call(http, webhook, message)
            await self._settle(webhook.name, message, problem, asked)
            self._taken.discard(message.id)
        except UnavailableError as error:
            # The lease runs out and the message is sent again: at least once.
            self._taken.discard(message.id)
            logger.warning("webhook %s: what became of a message cannot be stored: %s", webhook.name, error)

    async def _call(
        self, http: aiohttp.ClientSession, webhook: Webhook, message: Message
    ) -> tuple[str, float | None]:
        """Call once.

        Returns:
            What went wrong, empty if nothing, and for how many seconds the receiver asks us to wait.
        """
        import aiohttp

        body = message.body.encode()
        revision = json.loads(message.body)["event"]["revision"]
        headers = {
            **webhook.headers,
            "Content-Type": "application/json",
            EVENT_ID: message.event_id,
            REVISION: str(revision),
            DELIVERY: message.id,
        }
        if webhook.secret:
            headers[SIGNATURE] = signature(webhook.secret, body, int(self._clock.wall()))
        try:
            async with http.post(webhook.url, data=body, headers=headers, allow_redirects=False) as response:
                # The answer's body is not read: leaving this block closes the connection if there is one.
                if 200 <= response.status < 300:
                    return "", None
                return f"answered {response.status}", _retry_after(response)
        except TimeoutError:
            return f"no answer within {self._timeout:g} s", None
        except aiohttp.ClientConnectorCertificateError:
            return "its certificate is not valid", None
        except aiohttp.ClientConnectorError as error:
            return f"cannot be reached: {error.os_error.strerror or type(error.os_error).__name__}", None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"the call failed: {type(error).__name__}", None

    async def _settle(self, name: str, message: Message, problem: str, asked: float | None) -> None:
        if not problem:
            await self.queue.done(message.id)
            self.results[name, "delivered"] += 1
            return
        attempts = message.attempts + 1
        now = self._clock.wall()
        dead = given_up(attempts, now - message.created)
        due = now if dead else now + self._pause(attempts, asked=asked, chance=self._chance)
        await self.queue.failed(message.id, attempts=attempts, due=due, problem=problem, dead=dead)
        self.results[name, "failed"] += 1
        if dead:
            self.results[name, "dead"] += 1
        if dead or attempts == 1:
            then = "given up" if dead else "it is tried again"
            logger.warning("webhook %s: event %s: %s; %s", name, message.event_id, problem, then)


async def _either(wake: asyncio.Event, seconds: float) -> None:
    """Wait until somebody wakes us, or for so long."""
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        pass


def _row(webhook: str, view: EventView, *, first: bool, now: float) -> dict[str, object]:
    body = f'{{"type":"event","first":{"true" if first else "false"},"event":{view.encode()}}}'
    return {
        "id": delivery_id(webhook, view.id, view.revision),
        "webhook": webhook,
        "event_id": view.id,
        "body": body,
        "created": now,
        "due": now,
        "attempts": 0,
        "dead": False,
        "problem": "",
    }


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None
