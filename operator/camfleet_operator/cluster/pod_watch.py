"""Worker pods, followed by a watch of our own.

Pods are the many and the large: each camera's has four events before it runs, of 5 KB each. Through kopf,
which starts a task for every object and wraps every event, such an event costs about ten times the CPU that
it costs here. What a broken watch may have missed is listed again before the next one starts from there, so
nothing is lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from camfleet_operator.cluster.api import Api
from camfleet_operator.cluster.api_errors import ApiError, Expired
from camfleet_operator.cluster.resync import Resync
from camfleet_operator.cluster.store import Kind, Store
from camfleet_protocol.cluster import WORKER_SELECTOR

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 15.0


class PodWatch:
    """Follows worker pods until cancelled.

    Args:
        api: The API server.
        store: Where news goes.
        changed: Called with a camera whose pods have changed.
        resync: Has listed the pods, and lists them again where a watch cannot go on.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        api: Api,
        store: Store,
        changed: Callable[[str], None],
        resync: Resync,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._store = store
        self._changed = changed
        self._resync = resync
        self._clock = clock

    async def run(self) -> None:
        """Follow, from the first listing on."""
        await self._resync.first.wait()
        async with asyncio.TaskGroup() as group:
            for path in self._resync.paths(Kind.POD):
                group.create_task(self._follow(path), name=f"watch {path}")

    async def _follow(self, path: str) -> None:
        version, failures = self._resync.version(path), 0
        while True:
            started = self._clock()
            try:
                async for kind, pod in self._api.watch(
                    path, resource_version=version, label_selector=WORKER_SELECTOR
                ):
                    version, failures = str(pod["metadata"]["resourceVersion"]), 0
                    if kind == "BOOKMARK":
                        continue
                    gone = kind == "DELETED"
                    changed = self._store.remove if gone else self._store.apply
                    for key in changed(Kind.POD, pod):
                        self._changed(key)
                if self._clock() - started < _FIRST_PAUSE:
                    await asyncio.sleep(_FIRST_PAUSE)  # an API server that ends watches at once
            except Expired:
                version = await self._list_again(path, version)
            except ApiError as error:
                failures += 1
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(failures - 1, 10))
                logger.warning("pods cannot be followed, next try in about %.1f s: %s", pause, error.message)
                await asyncio.sleep(pause * random.uniform(0.7, 1.3))

    async def _list_again(self, path: str, version: str) -> str:
        """What happened since `version` is no longer known: list, and go on from there."""
        logger.info("the history of pods is gone, listing them anew")
        try:
            await self._resync.list_again(Kind.POD, path)
        except ApiError as error:
            logger.warning("pods cannot be listed: %s", error.message)
            await asyncio.sleep(_FIRST_PAUSE)
            return version
        return self._resync.version(path)
