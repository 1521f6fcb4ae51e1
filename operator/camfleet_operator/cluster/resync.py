"""Lists everything now and then: what a watch has lost, a listing finds."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from camfleet_operator.cluster.api import Api, Object
from camfleet_operator.cluster.api_errors import ApiError
from camfleet_operator.cluster.store import Kind, Store
from camfleet_protocol.cluster import CAMERAS, GROUP, PROFILES, VERSION, WORKER_SELECTOR

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0
_JITTER = 0.1

# Base, plural and label selector. Pods last: a camera must be known before its pods have somebody to concern.
_COLLECTIONS: dict[Kind, tuple[str, str, str | None]] = {
    Kind.PROFILE: (f"/apis/{GROUP}/{VERSION}", PROFILES, None),
    Kind.CAMERA: (f"/apis/{GROUP}/{VERSION}", CAMERAS, None),
    Kind.POD: ("/api/v1", "pods", WORKER_SELECTOR),
}


class Resync:
    """Replaces the store's content by listings.

    Args:
        changed: Called with each camera that a listing tells something new about.
        interval: Seconds between two listings.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        api: Api,
        store: Store,
        changed: Callable[[str], None],
        *,
        namespaces: tuple[str, ...] = (),
        interval: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        self._api = api
        self._store = store
        self._changed = changed
        self._namespaces = namespaces
        self._interval = interval
        self._clock = clock
        self._done = done
        self._versions: dict[str, str] = {}
        self.first = asyncio.Event()
        """Set once everything has been listed."""
        self.last = clock()

    @property
    def age(self) -> float:
        """Seconds since the last complete listing, or since the start."""
        return self._clock() - self.last

    async def run(self) -> None:
        """List at once, then every interval, until cancelled."""
        while True:
            try:
                await self.once()
                await asyncio.sleep(self._interval * random.uniform(1 - _JITTER, 1 + _JITTER))
            except ApiError as error:
                logger.warning("cannot list: %s", error.message)
                await asyncio.sleep(_RETRY_SECONDS)

    async def once(self) -> None:
        """List everything once.

        Raises:
            ApiError: Some listing failed; what others have told is kept.
        """
        for kind in _COLLECTIONS:
            for path in self.paths(kind):
                await self.list_again(kind, path)
        self.last = self._clock()
        self.first.set()
        self._done()

    def version(self, path: str) -> str:
        """At which version a collection was listed last."""
        return self._versions[path]

    def paths(self, kind: Kind) -> list[str]:
        """Where objects of a kind are listed: one path, or one for each namespace."""
        base, plural, _ = _COLLECTIONS[kind]
        places = [f"/namespaces/{namespace}" for namespace in self._namespaces] or [""]
        return [f"{base}{place}/{plural}" for place in places]

    async def list_again(self, kind: Kind, path: str) -> None:
        """List one collection, `path` of `paths(kind)`.

        Raises:
            ApiError: It could not be listed.
        """

        def take(raw: Object) -> str:
            # Told at once: if a later page fails, what this one has changed must not be forgotten.
            for key in self._store.apply(kind, raw, live=False):
                self._changed(key)
            return str(raw["metadata"]["uid"])

        listing = await self._api.list_as(path, take, label_selector=_COLLECTIONS[kind][2])
        self._versions[path] = listing.resource_version
        listed = set(listing.items)
        for key in self._store.sweep(kind, listed, listing.resource_version, within=_scope(path)):
            self._changed(key)


def _scope(path: str) -> str | None:
    """The namespace that a collection's path is limited to."""
    _, found, rest = path.partition("/namespaces/")
    return rest.partition("/")[0] if found else None
