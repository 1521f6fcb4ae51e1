"""Keeps a verdict for each camera: asks a source for the gateways' figures and judges them, again and again.

Where they come from does not matter here: from the gateways themselves (`gateways`) or from a Prometheus
server that scrapes them (`prometheus_source`). Both give the same samples, and one evaluator judges them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from camfleet_operator.cluster.health.evaluator import UNKNOWN_AFTER_SECONDS, Evaluator
from camfleet_operator.cluster.health.scrape import Scrape
from camfleet_operator.cluster.health.times import rfc3339
from camfleet_operator.cluster.health.verdicts import Criteria, Evidence, Health

logger = logging.getLogger(__name__)

HURRY_INTERVAL_SECONDS = 2.0
HURRY_SECONDS = 60.0
BLIND_SECONDS = UNKNOWN_AFTER_SECONDS


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a sample says nothing at all.

    Attributes:
        reason: CamelCase, one of a fixed set: fit for a condition and a metric.
        message: A sentence for people, without credentials.
    """

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What the gateways say at one moment.

    Attributes:
        at: When the oldest of the scrapes began, or earlier; monotonic seconds.
        scrapes: One per gateway whose figures can be used; none of them was in an earlier sample.
        complete: Whether that is every gateway there is.
        problems: Gateways (or servers) in trouble, and what is wrong with them.
        trouble: Why there are no scrapes; None if there are some.
    """

    at: float
    scrapes: Sequence[Scrape] = ()
    complete: bool = False
    problems: Mapping[str, str] = field(default_factory=dict)
    trouble: Trouble | None = None


class SignalSource(Protocol):
    """Where samples come from."""

    @property
    def kind(self) -> str:
        """`direct` or `prometheus`."""

    @property
    def url(self) -> str:
        """What is asked; without credentials."""

    @property
    def interval(self) -> float:
        """Seconds between two looks, as a rule."""

    def open(self) -> AbstractAsyncContextManager[object]:
        """Samples can be taken inside this context."""

    async def sample(self, now: float) -> Sample | None:
        """What there is now; None if that is nothing newer than what was given last.

        Args:
            now: The moment; monotonic seconds.
        """


@dataclass(frozen=True, slots=True)
class Blind:
    """Nothing can be known of any camera.

    Attributes:
        reason: CamelCase: `PrometheusUnreachable`, `SignalsStale`, `NoGateway`, `GatewayUnreachable`, …
        message: A sentence for people.
        since: When something was known last; monotonic seconds.
    """

    reason: str
    message: str
    since: float


class Signals:
    """Judges all cameras every few seconds.

    Args:
        source: What is asked.
        on_change: Called with the cameras whose verdict is another than before.
        on_tick: Called after each sample, good or not, and after `on_change`, with the seconds that it took
            to judge it; not where nothing new has been scraped.
        criteria: A camera's timeouts; should be cheap.
        cameras: Which cameras there are, so that one that no gateway names is Unknown in the end; without
            it, those that the gateways name.
        interval: Seconds between two looks, if not the source's; `hurry_interval` while a camera is starting.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        source: SignalSource,
        on_change: Callable[[set[str]], None],
        *,
        on_tick: Callable[[float], None] | None = None,
        criteria: Callable[[str], Criteria] = lambda _: Criteria(),
        cameras: Callable[[], Iterable[str]] | None = None,
        interval: float | None = None,
        hurry_interval: float = HURRY_INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.on_tick = on_tick
        self._on_change = on_change
        self._cameras = cameras
        self._interval = source.interval if interval is None else interval
        self._hurry_interval = min(self._interval, hurry_interval)
        self._clock = clock
        self._evaluator = Evaluator(criteria)
        self._hurry_until = float("-inf")
        self._wake = asyncio.Event()
        self._problems: dict[str, str] = {}
        self._trouble: Trouble | None = None
        self._known_at: float | None = None
        """When a sample was good last, or the first was asked for."""
        self._sampled_at: float | None = None
        """When the last good sample was scraped."""

    # ── What others ask ─────────────────────────────────────────────────────────────────────────────

    def health(self, camera_id: str) -> Health | None:
        """The latest verdict; None if there has been none."""
        return self._evaluator.health(camera_id)

    def evidence(self, camera_id: str) -> Evidence | None:
        """The last reading, whatever the verdict; None if there has been none of its present worker."""
        return self._evaluator.evidence(camera_id)

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

    def blind(self) -> Blind | None:
        """Why nothing has been known of any camera for half a minute; None if something has."""
        if self._trouble is None or self._known_at is None:
            return None
        if self._clock() - self._known_at < BLIND_SECONDS:
            return None
        return Blind(self._trouble.reason, self._trouble.message, self._known_at)

    @property
    def problems(self) -> dict[str, str]:
        """Gateways (or servers) that do not answer, and why; empty if all do."""
        return dict(self._problems)

    def describe(self) -> dict[str, Any]:
        """What is asked and how it answers, as JSON; times are RFC 3339."""
        blind = self.blind()
        return {
            "kind": self.source.kind,
            "url": self.source.url,
            "problems": self.problems,
            "sampledAt": self._time(self._sampled_at),
            "blind": None
            if blind is None
            else {"reason": blind.reason, "message": blind.message, "since": self._time(blind.since)},
        }

    # ── Life ────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        async with self.source.open():
            while True:
                started = self._clock()
                await self.tick()
                await self._rest(started)

    async def tick(self) -> set[str]:
        """Look once; the cameras whose verdict has changed. Inside `source.open()`."""
        now = self._clock()
        if self._known_at is None:
            self._known_at = now
        sample = await self.source.sample(now)
        if sample is None:
            return set()
        self._note(sample, now)
        started = time.perf_counter()
        changed = self._evaluator.tick(
            sample.at,
            sample.scrapes,
            complete=sample.complete,
            cameras=self._cameras() if self._cameras is not None else None,
            trouble=sample.trouble.reason if sample.trouble is not None else "",
        )
        spent = time.perf_counter() - started
        if changed:
            self._on_change(changed)
        if self.on_tick is not None:
            self.on_tick(spent)
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

    def _note(self, sample: Sample, now: float) -> None:
        """Remember who is in trouble, and log it when it begins and when it ends."""
        self._trouble = sample.trouble
        if sample.trouble is None:
            self._known_at, self._sampled_at = now, sample.at
        before, self._problems = self._problems, dict(sample.problems)
        for who, problem in self._problems.items():
            if who not in before:
                logger.warning("no figures from %s: %s", who, problem)
        for who in before.keys() - self._problems.keys():
            logger.info("%s answers again, or is gone", who)

    def _time(self, moment: float | None) -> str | None:
        if moment is None:
            return None
        return rfc3339(time.time() - (self._clock() - moment))
