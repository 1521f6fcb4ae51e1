"""The direct evaluator: asks every gateway for its figures and keeps a verdict for each camera.

Used where no Prometheus server is asked. A URL's host may stand for many gateways (a headless Service): each
address is asked. An address that has left the name is still asked for half a minute: a gateway that is merely
not ready may hold workers yet, and one that has gone must not turn all its cameras into lost ones at once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
from yarl import URL

from camfleet_operator.cluster.scrape import FAMILIES, Scrape, parse
from camfleet_operator.cluster.verdicts import UNKNOWN_AFTER_SECONDS, Criteria, Evaluator, Health
from camfleet_protocol.redaction import redact

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 10.0
HURRY_INTERVAL_SECONDS = 2.0
HURRY_SECONDS = 60.0
TIMEOUT_SECONDS = 3.0
MAX_BYTES = 64 * 1024 * 1024
"""Of one page: twenty thousand cameras with all their series."""
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Instance:
    """One gateway: an address of a URL's host."""

    url: str
    address: str

    @property
    def name(self) -> str:
        """Address and port."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        port = urlsplit(self.url).port
        return f"{host}:{port}" if port else host

    def target(self) -> URL:
        """What to GET."""
        parts = urlsplit(self.url)
        query = urlencode([("name[]", family) for family in FAMILIES])
        return URL(f"{parts.scheme}://{self.name}{parts.path or '/metrics'}?{query}", encoded=True)


class Signals:
    """Judges all cameras every few seconds.

    Args:
        urls: Metrics pages of gateways, such as `http://camfleet-gateway-peers.camfleet.svc:8081/metrics`.
        on_change: Called with the cameras whose verdict is another than before.
        criteria: A camera's timeouts; should be cheap.
        cameras: Which cameras there are, so that one that no gateway names is Unknown in the end; without
            it, those that the gateways name.
        interval: Seconds between two looks; `hurry_interval` while a camera is starting.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        urls: Sequence[str],
        on_change: Callable[[set[str]], None],
        *,
        criteria: Callable[[str], Criteria] = lambda _: Criteria(),
        cameras: Callable[[], Iterable[str]] | None = None,
        interval: float = INTERVAL_SECONDS,
        hurry_interval: float = HURRY_INTERVAL_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._urls = tuple(dict.fromkeys(urls))
        self._on_change = on_change
        self._cameras = cameras
        self._interval = interval
        self._hurry_interval = min(interval, hurry_interval)
        self._timeout = timeout
        self._clock = clock
        self._evaluator = Evaluator(criteria)
        self._hurry_until = float("-inf")
        self._wake = asyncio.Event()
        self._seen: dict[Instance, float] = {}
        """When each address was last among those of its name."""
        self._times: dict[Instance, float] = {}
        """What each gateway's clock said last."""
        self._problems: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None
        self.ticked_at: float | None = None
        """When the last look ended; monotonic seconds."""

    # ── What others ask ─────────────────────────────────────────────────────────────────────────────

    def health(self, camera_id: str) -> Health | None:
        """The latest verdict; None if there has been none."""
        return self._evaluator.health(camera_id)

    def judged_at(self, camera_id: str) -> float:
        """When the scrape began that this verdict is from; 0 if there has been none."""
        return self._evaluator.judged_at(camera_id)

    def counts(self) -> dict[str, int]:
        """Cameras by verdict."""
        return self._evaluator.counts()

    def hurry(self) -> None:
        """Look more often for a minute: some camera is starting."""
        self._hurry_until = self._clock() + HURRY_SECONDS
        self._wake.set()

    def expect(self, camera_id: str) -> None:
        """A new worker of this camera begins: forget the verdict on its predecessor, and hurry.

        The next verdict is reported by `on_change` even if it is the same as before.
        """
        self._evaluator.expect(camera_id, self._clock())
        self.hurry()

    @property
    def problems(self) -> dict[str, str]:
        """Gateways that do not answer, and why; empty if all do."""
        return dict(self._problems)

    # ── Life ────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        async with self:
            while True:
                started = self._clock()
                await self.tick()
                await self._rest(started)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "camfleet-operator"},
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def tick(self) -> set[str]:
        """Look once; the cameras whose verdict has changed."""
        now = self._clock()
        instances, unresolved = await self._instances(now)
        answers = await asyncio.gather(*(self._ask(instance) for instance in instances))
        scrapes = [scrape for scrape in answers if scrape is not None]
        changed = self._evaluator.tick(
            now,
            scrapes,
            complete=not unresolved and len(scrapes) == len(instances),
            cameras=self._cameras() if self._cameras is not None else None,
        )
        self.ticked_at = self._clock()
        if changed:
            self._on_change(changed)
        return changed

    async def _rest(self, started: float) -> None:
        """Sleep until it is time again; `hurry` may make that sooner."""
        while True:
            self._wake.clear()
            now = self._clock()
            pause = self._hurry_interval if now < self._hurry_until else self._interval
            if (remaining := started + pause - now) <= 0:
                return
            try:
                async with asyncio.timeout(remaining):
                    await self._wake.wait()
            except TimeoutError:
                return

    # ── Private parts ───────────────────────────────────────────────────────────────────────────────

    async def _instances(self, now: float) -> tuple[list[Instance], bool]:
        """Whom to ask, and whether some name could not be resolved."""
        found = await asyncio.gather(*(self._resolve(url) for url in self._urls))
        for instances in found:
            for instance in instances or ():
                self._seen[instance] = now
        for instance, seen in list(self._seen.items()):
            if now - seen >= UNKNOWN_AFTER_SECONDS:
                del self._seen[instance]
                self._times.pop(instance, None)
                self._note(instance.name, None)
        return list(self._seen), any(not instances for instances in found)

    async def _resolve(self, url: str) -> list[Instance] | None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            async with asyncio.timeout(self._timeout):
                found = await asyncio.get_running_loop().getaddrinfo(
                    host, parts.port or 80, type=socket.SOCK_STREAM
                )
        except (OSError, TimeoutError) as error:
            self._note(host, str(error) or "the name server does not answer")
            return None
        self._note(host, None)
        return [Instance(url, str(address)) for address in dict.fromkeys(info[4][0] for info in found)]

    async def _ask(self, instance: Instance) -> Scrape | None:
        try:
            async with asyncio.timeout(self._timeout):
                page = await self._fetch(instance)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._note(instance.name, redact(str(error)) or f"no answer within {self._timeout:g} s")
            return None
        scrape = parse(page) if page is not None else None
        await asyncio.sleep(0)  # the next page is parsed after others have had their turn
        if scrape is None:
            self._note(instance.name, "what it answers is no gateway's metrics page")
            return None
        before = self._times.get(instance)
        self._times[instance] = scrape.time
        if before == scrape.time:
            self._note(instance.name, "its clock stands still: the page is an old one")
            return None
        self._note(instance.name, None)
        return scrape

    async def _fetch(self, instance: Instance) -> bytes | None:
        if self._session is None:
            raise RuntimeError("Signals is not running")
        target = instance.target()
        options: dict[str, Any] = {"headers": {"Host": urlsplit(instance.url).netloc}}
        if target.scheme == "https":
            options["server_hostname"] = urlsplit(instance.url).hostname
        async with self._session.get(target, allow_redirects=False, **options) as response:
            if response.status != 200:
                return None
            page = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                page += chunk
                if len(page) > MAX_BYTES:
                    response.close()
                    return None
        return bytes(page)

    def _note(self, who: str, problem: str | None) -> None:
        """Log a gateway's trouble when it begins and when it ends."""
        before = self._problems.get(who)
        if problem is None:
            if self._problems.pop(who, None) is not None:
                logger.info("gateway %s answers again, or is gone", who)
            return
        if before is None:
            logger.warning("gateway %s: %s", who, problem)
        self._problems[who] = problem
