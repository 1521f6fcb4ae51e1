"""Which replica acts: a Lease of coordination.k8s.io, held by at most one of them at a time.

Two clocks are never compared. A standby measures by its own how long the record has not changed; only then
it takes over. The holder counts from the moment before it sent its last successful renewal, and stops
believing before any standby may start to. Whether we lead is worked out when somebody asks, so a process that
was stopped for a minute knows at its first instruction that it leads no more. Rules and defaults follow
client-go's leader election.

What a Lease cannot do is call back a request that is already under way; therefore writes carry UID
preconditions, and names that both replicas would choose alike.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from camfleet_operator.cluster.api import Api, Object
from camfleet_operator.cluster.api_errors import ApiError, Conflict, NotFound

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0
_JITTER = 0.2
_EARLY = 0.001
"""Seconds to wait beyond an expiry, so that it is one when we look."""


def steady_clock() -> float:
    """Seconds that go on while the machine sleeps, which `time.monotonic` does not count on Linux."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The record as it was read last, and since when it has not changed, by our clock."""

    document: Object
    since: float

    @property
    def spec(self) -> dict[str, Any]:
        return self.document.get("spec") or {}

    @property
    def holder(self) -> str:
        return str(self.spec.get("holderIdentity") or "")


class LeaderElection:
    """Tries to lead, and says whether it does.

    Args:
        api: The API server.
        namespace: Where the Lease is.
        name: Its name.
        identity: Who we are. No two live processes may have the same; a process that starts under the name
            of a dead one goes on with its Lease at once. The pod's name is right.
        lease: Seconds without a renewal after which others take over.
        renew_deadline: Seconds since the last renewal after which we stop believing; less than `lease`.
        retry: Seconds between tries.
        clock: Seconds that never jump.
        on_change: Called with `is_leader` whenever it has changed.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease: float = LEASE_SECONDS,
        renew_deadline: float = RENEW_DEADLINE_SECONDS,
        retry: float = RETRY_SECONDS,
        clock: Callable[[], float] = steady_clock,
        on_change: Callable[[bool], None] | None = None,
    ) -> None:
        if not retry < renew_deadline < lease:
            raise ValueError("a Lease needs retry < renew_deadline < lease")
        self._api = api
        self._namespace = namespace
        self._name = name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self.identity = identity
        self._lease = lease
        self._deadline = renew_deadline
        self._retry = retry
        self._clock = clock
        self.on_change = on_change
        self._held_until = float("-inf")
        self._told = False
        self._seen: _Seen | None = None
        self._lock = asyncio.Lock()
        self._released = False
        self._timer: asyncio.TimerHandle | None = None
        self.problem: str | None = None
        """What keeps us from taking part in the election, if anything does."""

    @property
    def is_leader(self) -> bool:
        """Whether we lead at this moment. Ask before every write."""
        return self._clock() < self._held_until

    @property
    def holder(self) -> str:
        """Who was seen to lead; empty if nobody."""
        return self._seen.holder if self._seen is not None else ""

    @property
    def annotations(self) -> dict[str, str]:
        """The Lease's annotations, as of the last time that it was seen."""
        metadata = self._seen.document.get("metadata") or {} if self._seen is not None else {}
        return dict(metadata.get("annotations") or {})

    async def run(self) -> None:
        """Take part until cancelled, or until `release`."""
        try:
            while not self._released:
                async with self._lock:
                    await self._try()
                self._tell()
                await asyncio.sleep(self._pause())
        finally:
            self._resign()

    async def release(self) -> None:
        """Stop leading and, if we led, let the next one take over at once."""
        self._released = True
        self._resign()
        async with self._lock:
            if self._seen is None or self._seen.holder != self.identity:
                return
            try:
                async with asyncio.timeout(self._deadline / 2):
                    await self._give_back()
            except (ApiError, TimeoutError) as error:
                logger.warning("the Lease could not be given back, it will expire: %s", error)

    # ── Private parts ───────────────────────────────────────────────────────────────────────────────

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(self._deadline / 2):
                await self._acquire_or_renew()
        except Conflict:
            self.problem = None
            await self._look()
        except (ApiError, TimeoutError) as error:
            if isinstance(error, NotFound):
                self._seen = None
            text = str(error) or "the API server does not answer"
            if text != self.problem:
                logger.warning("election: %s", text)
            self.problem = text
        else:
            self.problem = None

    async def _look(self) -> None:
        """Somebody was faster: see who, so that the wait starts now."""
        try:
            async with asyncio.timeout(self._deadline / 2):
                self._observe(await self._api.get(self._path))
        except (ApiError, TimeoutError) as error:
            self.problem = str(error) or "the API server does not answer"

    async def _acquire_or_renew(self) -> None:
        started = self._clock()
        if not self.is_leader or self._seen is None:
            self._observe(await self._api.get(self._path))
            if self._released:
                return
        if self._seen is None:
            made = await self._api.create(self._collection, self._document({}, {}))
        elif self._seen.holder in ("", self.identity) or self._expired():
            made = await self._api.update(
                self._path, self._document(self._seen.document["metadata"], self._seen.spec)
            )
        else:
            self._held_until = float("-inf")
            return
        self._observe(made)
        if not self._released:
            self._held_until = started + self._deadline
            self._arm()

    def _observe(self, document: Object | None) -> None:
        if document is None:
            self._seen = None
            return
        seen = _Seen(document, self._clock())
        if self._seen is not None and self._seen.spec == seen.spec:
            seen = replace(seen, since=self._seen.since)  # labels may change without anybody renewing
        self._seen = seen
        if seen.holder != self.identity:
            self._held_until = float("-inf")

    def _expires_at(self, seen: _Seen) -> float:
        try:
            theirs = float(seen.spec.get("leaseDurationSeconds") or 0)
        except (TypeError, ValueError):
            theirs = 0.0
        return seen.since + max(theirs, self._lease)

    def _expired(self) -> bool:
        return self._seen is not None and self._clock() >= self._expires_at(self._seen)

    def _document(self, metadata: dict[str, Any], spec: dict[str, Any]) -> Object:
        now = _micro_time()
        same = spec.get("holderIdentity") == self.identity
        transitions = spec.get("leaseTransitions") or 0
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": self._namespace, **metadata, "name": self._name},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": math.ceil(self._lease),
                "acquireTime": (spec.get("acquireTime") if same else None) or now,
                "renewTime": now,
                "leaseTransitions": transitions + (1 if spec and not same else 0),
            },
        }

    async def _give_back(self) -> None:
        for _ in range(2):
            seen = self._seen
            if seen is None or seen.holder != self.identity:
                return
            document = self._document(seen.document["metadata"], seen.spec)
            document["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            try:
                self._observe(await self._api.update(self._path, document))
                return
            except Conflict:  # a renewal whose answer we never saw
                self._observe(await self._api.get(self._path))

    def _pause(self) -> float:
        pause = self._retry * random.uniform(1 - _JITTER, 1)
        if self._seen is not None and self._seen.holder not in ("", self.identity):
            remaining = self._expires_at(self._seen) - self._clock()
            if 0 < remaining < pause:  # be there when it expires
                pause = remaining + _EARLY
        return pause

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        remaining = self._held_until - self._clock() + _EARLY
        self._timer = asyncio.get_running_loop().call_later(max(0.0, remaining), self._tell)

    def _resign(self) -> None:
        self._held_until = float("-inf")
        if self._timer is not None:
            self._timer.cancel()
        self._tell()

    def _tell(self) -> None:
        leads = self.is_leader
        if leads == self._told:
            return
        self._told = leads
        logger.info("%s %s", self.identity, "leads" if leads else "does not lead any more")
        if self.on_change is not None:
            self.on_change(leads)


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
