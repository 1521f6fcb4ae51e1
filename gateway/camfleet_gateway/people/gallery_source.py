"""The gallery for workers: which version is current, and the messages that lead there.

Other replicas change the same database, so the version is looked up every second. Messages are built once
per model and base, off the event loop, and the same bytes go to every worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable

from camfleet_gateway.people.gallery_parts import Change, Share, build, share_for
from camfleet_gateway.people.known import KnownPeople
from camfleet_gateway.store.errors import StoreError

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
_KEPT = 16

Listener = Callable[[], None]
DimensionsOf = Callable[[str], Awaitable[int | None]]
"""How many values a model's vectors have; None if that is not known here."""


class GallerySource:
    """What `gallery_push` asks for."""

    def __init__(
        self,
        known: KnownPeople,
        *,
        size_of: DimensionsOf,
        dimensions_of: DimensionsOf,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Put it together.

        Args:
            known: Who is enrolled.
            size_of: What is surely known of a model; it is asked first.
            dimensions_of: What can be found out of one of which nobody has a face.
            poll_seconds: Between two looks at the database.
        """
        self._known = known
        self._size_of = size_of
        self._dimensions_of = dimensions_of
        self._poll_seconds = poll_seconds
        self._listeners: list[Listener] = []
        self._built: OrderedDict[tuple[str, int, int], asyncio.Future[tuple[bytes, ...]]] = OrderedDict()
        self._share: Share | None = None
        self._share_since = 0
        self._told = 0
        """The version that listeners know of."""
        self._failing = False
        self._usual: dict[str, tuple[int, int | None]] = {}
        """By model, the version at which it was counted, and how many values most faces have."""

    def version(self, embedder: str) -> int:
        """The current version for workers of this model; 0 while it is not known who is enrolled.

        Nobody enrolled is version 1: workers keep whom they have until the database was read.
        """
        return max(self._known.version, 1) if self._known.loaded else 0

    def on_change(self, listener: Listener) -> None:
        """Call `listener` whenever the version has changed."""
        self._listeners.append(listener)

    def needs_reembedding(self, embedder: str) -> int:
        """Faces of other models, which workers of this one do not get."""
        return sum(n for name, n in self._known.faces_by_embedder().items() if name != embedder)

    async def messages(self, embedder: str, version: int) -> tuple[bytes, ...]:
        """What brings a worker from `version` to the current one; a whole gallery where no change is known.

        Nothing for a model of which nobody has a face and that does not run here: it is not served.

        Args:
            embedder: Name and hash of the worker's model.
            version: What the worker has; 0 for none.
        """
        dimensions = (
            await self._size_of(embedder) or self._dimensions(embedder) or await self._dimensions_of(embedder)
        )
        if dimensions is None:
            return ()
        current = self.version(embedder)
        share = self._share_now()
        changes = self._known.changed_since(version) if version >= self._share_since else None
        if changes is None or 2 * len(changes[0]) > len(self._known.people) > 0:
            base, people, removed = 0, list(self._known.people.values()), list[str]()
        else:
            base, (people, removed) = version, changes
        key = (embedder, base, current)
        built = self._built.get(key)
        if built is None:
            change = Change(
                embedder=embedder,
                dimensions=dimensions,
                base=base,
                version=current,
                people=people,
                removed=removed,
                share=share,
            )
            built = asyncio.ensure_future(asyncio.to_thread(build, change))
            self._built[key] = built
            self._forget(current)
        self._built.move_to_end(key)
        try:
            return await asyncio.shield(built)
        except BaseException:
            if built.done() and (built.cancelled() or built.exception() is not None):
                self._built.pop(key, None)
            raise

    def _forget(self, current: int) -> None:
        for key in [key for key in self._built if key[2] != current]:
            del self._built[key]
        while len(self._built) > _KEPT:
            self._built.popitem(last=False)

    def _share_now(self) -> Share:
        share = share_for(len(self._known.people))
        if self._share is not None and share != self._share:
            # Each person's rows are others now: whoever has the earlier ones needs them all.
            self._share_since = self._known.version
        self._share = share
        return share

    def _dimensions(self, embedder: str) -> int | None:
        """How many values most people's faces have: one that is wrong takes the gallery from nobody."""
        counted, usual = self._usual.get(embedder, (0, None))
        if counted != self._known.version:
            sizes = Counter(
                int(rows[embedder].shape[1])
                for person in self._known.people.values()
                for rows in (person.faces, person.negatives)
                if embedder in rows
            )
            usual = max(sizes, key=lambda size: (sizes[size], size), default=None)
            self._usual[embedder] = self._known.version, usual
        return usual

    async def refresh(self) -> None:
        """Look for changes now, and tell of them."""
        await self._known.refresh()
        if self._known.version != self._told:  # others refresh what is known, too
            self._told = self._known.version
            self._forget(self._told)
            for listener in tuple(self._listeners):
                listener()

    async def run(self) -> None:
        """Look for changes of others, until cancelled."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                await self.refresh()
            except StoreError as error:
                if not self._failing:
                    logger.warning("the people cannot be read now: %s", error)
                self._failing = True
            else:
                self._failing = False
