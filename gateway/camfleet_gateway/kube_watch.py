"""A collection of the Kubernetes API, followed for ever: LIST, then WATCH from there, LIST again when lost.

A LIST replaces: what it does not name is gone, however long ago that was. While the API server is away
nothing is gone: what was seen last stays. A watch that is silent for longer than the API server's bookmarks
allow is taken for dead and continued from the same version.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from typing import Protocol

import aiohttp

from camfleet_gateway.kube import Json, Kube, KubeConfigError, KubeError, KubeUnreachableError

logger = logging.getLogger(__name__)

PAGE = 200
"""Objects per page of a LIST: a few milliseconds to decode."""
IDLE_SECONDS = 90.0
"""The API server sends a bookmark about once a minute."""
WATCH_SECONDS = 300
LIST_SECONDS = 30.0
FIRST_DELAY, LONGEST_DELAY = 0.5, 15.0
_STEADY_SECONDS = 5.0
_SLICE_SECONDS = 0.005
_GONE, _UNAUTHORIZED = 410, 401


class Consumer(Protocol):
    """Takes what is seen. Called on the event loop."""

    def seen(self, document: Json) -> None:
        """An object as it is now."""

    def gone(self, namespace: str, name: str) -> None:
        """An object was deleted."""

    def listed(self, present: set[tuple[str, str]]) -> None:
        """A LIST is complete: whatever it did not name is gone."""


class _ExpiredError(Exception):
    """The version we have is too old for the API server."""


class KubeWatch:
    """Follows one collection."""

    def __init__(
        self, kube: Kube, path: str, consumer: Consumer, *, what: str, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        """Prepare it.

        Args:
            kube: The API server.
            path: Path of the collection.
            consumer: Takes what is seen.
            what: The collection in words, for the log.
            idle_seconds: Silence after which a watch counts as dead.
        """
        self.listed = False
        """Whether a first LIST is complete."""
        self.current = False
        """Whether the view is as new as the API server's, as far as one can know."""
        self._kube = kube
        self._path = path
        self._consumer = consumer
        self._what = what
        self._idle_seconds = idle_seconds
        self._version: str | None = None
        self._failures = 0
        self._told = ""
        self._breath = time.monotonic()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            began = time.monotonic()
            asked = 0.0
            try:
                if self._version is None:
                    self._version = await self._list()
                    self.listed = True
                self._version = await self._watch(self._version)
            except _ExpiredError:
                logger.info("listing %s again: the watch is too far behind", self._what)
                self._version = None
            except KubeError as error:
                asked = error.retry_after
                self._failed(_words(error, self._what))
                if error.status == _UNAUTHORIZED:
                    await self._renew()
            except KubeUnreachableError as error:
                self._failed(f"the Kubernetes API cannot be reached: {error}")
                if error.untrusted:
                    await self._renew()
            self._failures = 0 if time.monotonic() - began > _STEADY_SECONDS else self._failures + 1
            delay = 0.0 if self._failures == 0 else _delay(self._failures)
            await asyncio.sleep(max(delay, asked))

    async def _list(self) -> str:
        present: set[tuple[str, str]] = set()
        query = {"limit": str(PAGE)}
        while True:
            try:
                page = await self._kube.call("GET", self._path, query=query, seconds=LIST_SECONDS)
            except KubeError as error:
                if error.status == _GONE:  # between two pages
                    raise _ExpiredError from None
                raise
            for document in page.get("items", ()):
                metadata = document["metadata"]
                present.add((metadata.get("namespace", ""), metadata["name"]))
                self._consumer.seen(document)
                await self._breathe()
            following = page["metadata"].get("continue")
            if not following:
                break
            query["continue"] = following
        self._consumer.listed(present)
        return str(page["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        """Follow from a version until the API server ends it; returns the version to go on from."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(random.randint(WATCH_SECONDS * 3 // 4, WATCH_SECONDS)),
        }
        try:
            async with self._kube.lines(self._path, query, idle_seconds=self._idle_seconds) as lines:
                self._recovered()
                while line := await _line(lines):
                    version = self._event(line)
                    self._version = version  # if the connection breaks, we go on from here
                    await self._breathe()
        except KubeError as error:
            if error.status == _GONE:
                raise _ExpiredError from None
            raise
        return version

    def _event(self, line: bytes) -> str:
        """Pass an event on; returns its version."""
        try:
            event = json.loads(line)
            kind, document = event["type"], dict(event["object"])
            if kind != "ERROR":
                metadata = document["metadata"]
                seen = str(metadata["resourceVersion"])
                namespace, name = metadata.get("namespace", ""), metadata.get("name", "")
        except (ValueError, KeyError, TypeError) as error:
            # Half a line at the end of a broken connection, or something between us and the API server.
            raise KubeUnreachableError(f"unusable answer to a watch: {type(error).__name__}") from None
        match kind:
            case "ERROR":
                raise _told_error(document)
            case "DELETED":
                self._consumer.gone(namespace, name)
            case "ADDED" | "MODIFIED":
                self._consumer.seen(document)
        return seen

    async def _breathe(self) -> None:
        """Let others run after some milliseconds of work: a fleet may change all at once."""
        if time.monotonic() - self._breath > _SLICE_SECONDS:
            await asyncio.sleep(0)
            self._breath = time.monotonic()

    async def _renew(self) -> None:
        try:
            await self._kube.open()
        except KubeConfigError as error:
            self._failed(str(error))

    def _failed(self, text: str) -> None:
        self.current = False
        if text != self._told:
            logger.error("%s; what is known of %s stays", text, self._what)
        self._told = text

    def _recovered(self) -> None:
        self.current = True
        if self._told:
            logger.info("following %s again", self._what)
        self._told = ""


async def _line(lines: aiohttp.StreamReader) -> bytes:
    try:
        return await lines.readline()
    except ValueError:
        raise KubeUnreachableError("a line of a watch is beyond all bounds") from None


def _told_error(status: Json) -> Exception:
    """What an ERROR event tells: a Status object."""
    code = status.get("code")
    if code == _GONE:
        return _ExpiredError()
    return KubeError(
        code if isinstance(code, int) else 500, str(status.get("reason", "")), str(status.get("message", ""))
    )


def _delay(failures: int) -> float:
    """Seconds before the next try: doubling, and never the same for two gateways."""
    return min(FIRST_DELAY * 2.0 ** min(failures - 1, 10), LONGEST_DELAY) * random.uniform(0.5, 1.0)


def _words(error: KubeError, what: str) -> str:
    match error.status:
        case 401:
            return "the Kubernetes API does not accept the gateway's token"
        case 403:
            return f"the gateway may not list and watch {what}: {error}"
        case 404:
            return f"the Kubernetes API does not know {what}: are the CustomResourceDefinitions installed?"
    return f"the Kubernetes API has refused: {error}"
