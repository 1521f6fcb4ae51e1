"""The gateways' figures as Prometheus has scraped them: the source of signals where there is a server to ask.

It looks often whether something new has been scraped, which costs one small query, and asks for everything
when that is so. Everything is evaluated at one moment; if a scrape of that moment comes in between, the whole
is asked again for a moment earlier, so that never two scrapes of a gateway are mixed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from camfleet_operator.cluster.health.prometheus import INVALID, Prometheus, PrometheusError
from camfleet_operator.cluster.health.promql import (
    FLEET,
    FRESHNESS,
    Assembled,
    Assembler,
    Nothing,
    ResultError,
    Samples,
    queries,
    stamps_of,
)
from camfleet_operator.cluster.health.signals import Sample, Trouble

LOOKS_PER_SCRAPE = 4
SETTLE_SHARES = (0.0, 0.1, 0.4)
"""Of a scrape interval: how far back each try looks. What was scraped so long ago has been stored by now."""
SERVER = "prometheus"
"""The name of the server itself among the problems."""


class PrometheusSource:
    """What Prometheus has scraped off the gateways, as a `SignalSource`.

    Args:
        server: The client; others may use it too.
        scrape: The interval at which Prometheus scrapes the gateways, seconds.
        overrides: Queries by name, and the selector of the others.
        gateways: Says how many gateways there are, where that can be known otherwise; None if it cannot now.
    """

    kind = "prometheus"

    def __init__(
        self,
        server: Prometheus,
        *,
        scrape: float = 10.0,
        overrides: Mapping[str, str] | None = None,
        gateways: Callable[[], Awaitable[int | None]] | None = None,
    ) -> None:
        self._server = server
        self._queries = queries(overrides or {})
        self._assembler = Assembler(scrape)
        self._scrape = scrape
        self._gateways = gateways
        self.interval = scrape / LOOKS_PER_SCRAPE
        """Seconds between two looks."""

    @property
    def url(self) -> str:
        """The server's base."""
        return self._server.url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold connections to the server."""
        async with self._server.open():
            yield

    async def sample(self, now: float) -> Sample | None:
        """What has been scraped since the last sample; None if that is nothing."""
        try:
            found = await self._sample(now)
        except PrometheusError as error:
            return _failed(now, Trouble(error.reason, error.message))
        except ResultError as error:
            return _failed(now, Trouble(INVALID, str(error)))
        if isinstance(found, Nothing):
            return _failed(now, Trouble(found.reason, found.message)) if found.reason else None
        age, assembled = found
        problems = dict(assembled.problems)
        if (missing := await self._missing(len(assembled.scrapes))) is not None:
            problems["gateways"] = missing
        trouble = None
        if not assembled.scrapes:
            who, why = next(iter(problems.items()))
            trouble = Trouble("SignalsStale", f"no gateway's figures can be used; {who}: {why}")
        return Sample(
            at=now - age,
            scrapes=assembled.scrapes,
            complete=assembled.complete and missing is None,
            problems=problems,
            trouble=trouble,
        )

    # ── Private parts ───────────────────────────────────────────────────────────────────────────────

    async def _sample(self, now: float) -> tuple[float, Assembled] | Nothing:
        """What there is, and how old the oldest of it was at `now`, or a little more."""
        time: float | None = None
        back = 0.0
        for share in SETTLE_SHARES:
            if time is not None:
                time, back = time - share * self._scrape, back + share * self._scrape
            vector = await self._server.query(self._queries[FRESHNESS], time)
            moment = self._assembler.look(now, vector.time, vector.samples)
            if isinstance(moment, Nothing):
                return moment
            time = moment.time
            answers = await self._ask(time)
            after = stamps_of((await self._server.query(self._queries[FRESHNESS], time)).samples)
            if all(after.get(name) == moment.stamps[name] for name in moment.fresh):
                return moment.age + back, self._assembler.assemble(now, moment, answers)
        return Nothing("SignalsStale", "Prometheus scrapes the gateways faster than it answers")

    async def _ask(self, time: float) -> dict[str, Samples]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    name: group.create_task(self._server.query(self._queries[name], time)) for name in FLEET
                }
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return {name: task.result().samples for name, task in tasks.items()}

    async def _missing(self, used: int) -> str | None:
        expected = await self._gateways() if self._gateways is not None else None
        if expected is None or expected <= used:
            return None
        return f"there are {expected}, and Prometheus has figures of {used}"


def _failed(now: float, trouble: Trouble) -> Sample:
    return Sample(at=now, problems={SERVER: trouble.message}, trouble=trouble)
