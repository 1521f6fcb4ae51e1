"""Asks every gateway for its figures, where no Prometheus server does: the direct source of signals.

A URL's host may stand for many gateways (a headless Service): each address is asked. An address that has
left the name is still asked for half a minute: a gateway that is merely not ready may hold workers yet, and
one that has gone must not turn all its cameras into lost ones at once.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from yarl import URL

from camfleet_operator.cluster.health.evaluator import UNKNOWN_AFTER_SECONDS
from camfleet_operator.cluster.health.scrape import FAMILIES, Scrape, parse
from camfleet_operator.cluster.health.signals import Sample, Trouble
from camfleet_protocol.redaction import redact

INTERVAL_SECONDS = 10.0
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


class Gateways:
    """The gateways' own pages as a `SignalSource`.

    Args:
        urls: Metrics pages of gateways, such as `http://camfleet-gateway-peers.camfleet.svc:8081/metrics`.
        interval: Seconds between two looks.
        timeout: Seconds for a name's addresses, and for one page.
    """

    kind = "direct"

    def __init__(
        self,
        urls: Sequence[str],
        *,
        interval: float = INTERVAL_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self.interval = interval
        self._urls = tuple(dict.fromkeys(urls))
        self._timeout = timeout
        self._seen: dict[Instance, float] = {}
        """When each address was last among those of its name."""
        self._times: dict[Instance, float] = {}
        """What each gateway's clock said last."""
        self._problems: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        """The pages, separated by spaces."""
        return redact(" ".join(self._urls))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold connections to the gateways."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "camfleet-operator"},
            auto_decompress=False,
        ) as self._session:
            yield
        self._session = None

    async def sample(self, now: float) -> Sample:
        """Ask all of them at once."""
        instances, unresolved = await self._instances(now)
        answers = await asyncio.gather(*(self._ask(instance) for instance in instances))
        scrapes = [scrape for scrape in answers if scrape is not None]
        return Sample(
            at=now,
            scrapes=scrapes,
            complete=not unresolved and len(scrapes) == len(instances),
            problems=dict(self._problems),
            trouble=None if scrapes else self._trouble(),
        )

    async def count(self) -> int | None:
        """How many gateways there are by name; None if a name cannot be resolved now."""
        found = await asyncio.gather(*(self._resolve(url) for url in self._urls))
        return None if None in found or not found else sum(len(instances or ()) for instances in found)

    # ── Private parts ───────────────────────────────────────────────────────────────────────────────

    def _trouble(self) -> Trouble:
        first = next((f"{who}: {why}" for who, why in self._problems.items()), "no gateway is known")
        return Trouble("GatewayUnreachable", f"no gateway could be asked; {first}")

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
        except (OSError, TimeoutError, UnicodeError) as error:  # no host name may look like that
            self._note(host, str(error) or "the name server does not answer")
            return None
        self._note(host, None)
        # One family: with addresses of both, each gateway would seem to be two that contradict each other.
        family = min(info[0] for info in found)
        addresses = dict.fromkeys(str(info[4][0]) for info in found if info[0] == family)
        return [Instance(url, address) for address in addresses]

    async def _ask(self, instance: Instance) -> Scrape | None:
        try:
            async with asyncio.timeout(self._timeout):
                page = await self._fetch(instance)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._note(instance.name, redact(str(error)) or f"no answer within {self._timeout:g} s")
            return None
        scrape = parse(page, instance.name) if page is not None else None
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
            raise RuntimeError("the source is not open")
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
        if problem is None:
            self._problems.pop(who, None)
        else:
            self._problems[who] = problem
