"""Keeps the index like the database: what was stored gets in, what was deleted gets out, the rest is mended.

The database is the truth and the index can be made from it at any time (`rebuild`). New vectors come from the
store's listener and wait in memory; what a crash, or a server that was away, has lost is found by comparing
the two, in small steps, at the start and after every trouble. Deleting does not wait: if it cannot be done
the event is not deleted either.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from camfleet_gateway.clock import Clock
from camfleet_gateway.people.embeddings import from_bytes
from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.store.service import Store
from camfleet_gateway.store.view import EventView
from camfleet_gateway.vectors.index import Hit, Index, IndexBrokenError, Row, Target, Vector, Wanted
from camfleet_gateway.vectors.names import Name, model_hash, prefix
from camfleet_gateway.vectors.purge import LATER_SECONDS, SOON_SECONDS, PurgeMark
from camfleet_gateway.vectors.rows import HIGHEST, LOWEST, KeptVectors
from camfleet_gateway.vectors.sizes import SizeOf, Sizes, not_known

logger = logging.getLogger(__name__)

MAX_PENDING = 5000
REMEMBER_DELETED = 20_000
BROKEN_TIMES = 3
"""So often in a row must milvus-lite fail for its files to be thrown away."""
_BATCH = 256
_WINDOW = 2000
_PAGE = 500
_PAUSE_SECONDS = 0.02
"""Between two steps, so that events and searches get their turn."""
_AGAIN_SECONDS = (1.0, 60.0)
_LOOK_SECONDS = 30.0
_COMPARE_EVERY = 24 * 3600.0

T = TypeVar("T")


class Vectors:
    """The vectors of all events. Lives on the event loop; the index has a thread."""

    def __init__(self, store: Store, target: Target, *, clock: Clock, size_of: SizeOf = not_known) -> None:
        """Listen to the store."""
        self.index = Index(target)
        self.problem = ""
        """Why the index cannot be used now; empty when all is well."""
        self._kept = KeptVectors(store)
        self._store = store
        self._clock = clock
        self._prefix = prefix(store.sealer.key_id)
        self._mark = PurgeMark(target.folder / "purge")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vectors")
        self._pending: OrderedDict[str, tuple[str, Row]] = OrderedDict()
        """Model and row by event id."""
        self._deleted: OrderedDict[str, None] = OrderedDict()
        """What was deleted of late: a transaction that has not ended yet still shows it."""
        self._sizes = Sizes(self._kept, size_of, clock)
        self._current: dict[str, Name] = {}
        """The collection of each model, by its hash."""
        self._compare = True
        self._compared = -math.inf
        self._compacting: dict[str, int | None] = {}
        """Collections that a server has to compact, with its job's number once it was asked to."""
        self._soon = -math.inf
        """When the last one who was erased must be gone from the disk; they may still be in it until then."""
        self._wake = asyncio.Event()
        store.events.on_vector(self._stored)
        store.events.on_delete(self._delete)

    @property
    def pending(self) -> int:
        """Vectors that are stored and not yet in the index."""
        return len(self._pending)

    # ── What the store tells ───────────────────────────────────────────────────────────────────────

    def _stored(self, view: EventView, embedding: bytes) -> None:
        try:
            row = Row(view.id, view.camera, view.time, from_bytes(embedding))
        except ValueError:
            return
        if not view.embedder:
            return
        if len(self._pending) >= MAX_PENDING:
            self._compare = True  # it is found again by comparing
            self._pending.popitem(last=False)
        self._pending[view.id] = (view.embedder, row)
        self._wake.set()

    async def _delete(self, ids: Sequence[str]) -> None:
        for event_id in ids:
            self._pending.pop(event_id, None)
            self._deleted[event_id] = None
        while len(self._deleted) > REMEMBER_DELETED:
            self._deleted.popitem(last=False)
        if self.problem and self.index.used:
            raise UnavailableError(self.problem)  # events are not kept waiting for a server that is away
        try:
            await self._run(self._delete_now, list(ids))
        except UnavailableError as error:
            self._look(error)
            raise

    def _look(self, error: UnavailableError) -> None:
        """Have the task of `run` find out what is wrong, and mend it."""
        if not self._compare:
            logger.warning("%s", error)
        self._compare = True
        self._wake.set()

    def _delete_now(self, ids: list[str]) -> None:
        if not ids or not self.index.used:
            return
        if sum(self.index.delete(name, ids) for name in self.index.collections(self._prefix)):
            self._ask(LATER_SECONDS)

    async def erased(self, _: AsyncSession, __: str) -> None:
        """Somebody is being erased: what is deleted with them must soon be gone from the disk, too.

        Raises:
            UnavailableError: That cannot be written down.
        """
        if self.index.used:
            self._soon = self._clock.wall() + SOON_SECONDS
            await self._run(self._ask, SOON_SECONDS)

    def _ask(self, seconds: float) -> None:
        try:
            self._mark.ask(self._clock.wall() + seconds)
        except OSError as error:
            raise UnavailableError(f"the index of vectors: {error.strerror}") from error

    def _begin_purge(self) -> None:
        self._mark.begin()
        if (left := self._soon - self._clock.wall()) > 0:
            self._ask(left)

    # ── Searching ──────────────────────────────────────────────────────────────────────────────────

    async def search(self, embedder: str, vectors: Sequence[Vector], wanted: Wanted, limit: int) -> list[Hit]:
        """The most similar faces of one model, most similar first.

        Raises:
            UnavailableError: The index cannot be used now.
        """

        def search() -> list[Hit]:
            name = self._current.get(model_hash(embedder))
            size = self._sizes.known(embedder)
            fitting = [vector for vector in vectors if size is None or len(vector) == size]
            if name is None or not fitting:
                return []
            return self.index.search(name.text(self._prefix), fitting, wanted, limit)

        try:
            if not self._current and self.index.used:
                await self._find()
            return await self._run(search)
        except UnavailableError as error:
            self._look(error)
            raise

    async def count(self) -> int:
        """Vectors in the index, about.

        Raises:
            UnavailableError: The index cannot be used now.
        """
        names = [name.text(self._prefix) for name in self._current.values()]
        return await self._run(lambda: sum(self.index.count(name) for name in names))

    async def _find(self) -> None:
        """Know the collections; of several generations only the oldest is surely complete."""

        def find() -> dict[str, Name]:
            texts = self.index.collections(self._prefix)
            names = sorted(name for text in texts if (name := Name.parse(text, self._prefix)))
            current: dict[str, Name] = {}
            for name in names:
                if current.setdefault(name.model, name) is not name:
                    self.index.drop(name.text(self._prefix))
            return current

        self._current = await self._run(find)

    # ── Keeping up ─────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Keep the index like the database until cancelled."""
        await self._store.opened.wait()
        pause, broken = _AGAIN_SECONDS[0], 0
        while True:
            try:
                await self.step()
            except UnavailableError as error:
                broken = broken + 1 if isinstance(error, IndexBrokenError) else 0
                if broken == BROKEN_TIMES:
                    logger.error("the index of vectors is broken and is made anew: %s", error)
                    await self._run(self.index.reset)
                    self._current, broken = {}, 0
                if not self.problem:
                    logger.warning("%s", error)
                self.problem = str(error)
                self._compare = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, _AGAIN_SECONDS[1])
                continue
            if self.problem:
                logger.info("the index of vectors can be used again")
            self.problem, pause, broken = "", _AGAIN_SECONDS[0], 0
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def step(self) -> None:
        """Do what is to be done now.

        Raises:
            UnavailableError: Database or index are away.
        """
        self._wake.clear()
        if self._compare or self._clock.monotonic() - self._compared >= _COMPARE_EVERY:
            self._compare = False
            self._compacting = {}  # a server that was away may have given it up
            try:
                await self._compare_all()
            except BaseException:
                self._compare = True
                raise
            self._compared = self._clock.monotonic()
        while self._pending:
            await self._insert()
        if await self._run(self._mark.due) <= self._clock.wall():
            await self._purge()

    async def _insert(self) -> None:
        """Put the oldest of what waits into the index."""
        batch = list(self._pending.values())[:_BATCH]
        by_model: dict[str, list[Row]] = {}
        for embedder, row in batch:
            by_model.setdefault(embedder, []).append(row)
        for embedder, rows in by_model.items():
            if embedder and model_hash(embedder) not in self._current and self.index.used:
                await self._find()
            name = self._current.get(model_hash(embedder), Name(model_hash(embedder), 1))
            await self._put(embedder, name, rows)
            self._current[name.model] = name
            for row in rows:
                if self._pending.get(row.event_id, ("", None))[1] is row:
                    del self._pending[row.event_id]
            size = self._sizes.known(embedder)
            if any(len(row.vector) != size for row in rows) and await self._sizes.doubt(embedder):
                await self._rebuild(embedder)

    async def _put(self, embedder: str, name: Name, rows: Sequence[Row]) -> int:
        """Put rows into a collection, made if it is not there; returns how many fit into it."""
        fresh = [row for row in rows if row.event_id not in self._deleted]
        if not fresh:
            return 0
        size = self._sizes.known(embedder) or await self._sizes.look(embedder) or len(fresh[0].vector)

        def put() -> int:
            if self.index.make(name.text(self._prefix), size) != size:
                return -1
            fitting = [row for row in fresh if len(row.vector) == size]
            self.index.put(name.text(self._prefix), fitting)
            return len(fitting)

        count = await self._run(put)
        if count < 0:  # made before that was known; comparing makes it anew
            self._compare = True
            self._wake.set()
        return max(0, count)

    # ── Comparing ──────────────────────────────────────────────────────────────────────────────────

    async def _compare_all(self) -> None:
        models = await self._kept.models()
        if not models and not self.index.used:
            return
        await self._find()
        await self._drop_without(models)
        for embedder in models:
            if (current := self._current.get(model_hash(embedder))) is None:
                await self._rebuild(embedder)
            else:
                await self._compare_model(embedder, current)

    async def _drop_without(self, models: Sequence[str]) -> None:
        """Remove the collections of models that the database has nothing of any more."""
        for model in self._current.keys() - {model_hash(embedder) for embedder in models}:
            name = self._current.pop(model)
            await self._run(self.index.drop, name.text(self._prefix))

    async def _compare_model(self, embedder: str, name: Name) -> None:
        """Go through all times in windows: put in what is missing, take out what belongs to nothing."""
        size = await self._sizes.look(embedder)
        if size is not None and await self._run(self.index.make, name.text(self._prefix), size) != size:
            await self._rebuild(embedder)
            return
        begin, missing, surplus = -math.inf, 0, 0
        while begin < math.inf:
            end = await self._kept.end_of_window(embedder, begin, _WINDOW)
            low, high = max(begin, LOWEST), min(end, HIGHEST)
            # The index first: what is in it then, is in the database by the time that is asked.
            there = await self._run(self.index.window, name.text(self._prefix), low, high)
            kept = await self._kept.between(embedder, low, high)
            if there is None:  # far more than the database has: it is quicker to make it anew
                await self._rebuild(embedder)
                return
            missing += await self._fill(embedder, name, [kept[key] for key in kept.keys() - there.keys()])
            if extra := [there[key] for key in there.keys() - kept.keys()]:
                surplus += await self._run(self.index.delete, name.text(self._prefix), extra)
                await self._run(self._ask, LATER_SECONDS)
            begin = end
            await asyncio.sleep(_PAUSE_SECONDS)
        if missing or surplus:
            logger.info("index of vectors: %d were missing, %d belonged to nothing", missing, surplus)

    async def _fill(self, embedder: str, name: Name, ids: Sequence[str]) -> int:
        count = 0
        for start in range(0, len(ids), _PAGE):
            count += await self._put(
                embedder, name, await self._kept.some(embedder, ids[start : start + _PAGE])
            )
        return count

    # ── Making it anew ─────────────────────────────────────────────────────────────────────────────

    async def rebuild(self) -> int:
        """Make all collections anew from the database; returns how many vectors there are.

        What is searched meanwhile is the old collection. Nothing that was deleted is in the new one.

        Raises:
            UnavailableError: Database or index are away.
        """
        await self._run(self._begin_purge)
        self._compacting = {}
        await self._find()
        count = 0
        models = await self._kept.models()
        await self._drop_without(models)
        for embedder in models:
            count += await self._rebuild(embedder)
        await self._run(self._mark.done)
        return count

    async def _rebuild(self, embedder: str) -> int:
        model = model_hash(embedder)
        old = self._current.get(model)
        name = Name(model, old.generation + 1 if old is not None else 1)
        page = await self._kept.page(embedder, "", _PAGE)
        count = 0
        while page.last:
            count += await self._put(embedder, name, page.rows)
            await asyncio.sleep(_PAUSE_SECONDS)
            page = await self._kept.page(embedder, page.last, _PAGE)
        if count:
            await self._run(self.index.flush, name.text(self._prefix))
            self._current[model] = name
        else:
            self._current.pop(model, None)
        if old is not None:
            await self._run(self.index.drop, old.text(self._prefix))
        logger.info("index of vectors: %d were put into a new collection", count)
        return count

    async def _purge(self) -> None:
        """Have gone from the disk what was deleted. A server takes its time; it is asked with each step."""
        if self.index.target.lite:
            await self.rebuild()
            return
        if not self._compacting:
            await self._run(self._begin_purge)
            await self._find()
            for name in self._current.values():
                await self._run(self.index.flush, name.text(self._prefix))
                self._compacting[name.text(self._prefix)] = None
        for text, job in list(self._compacting.items()):
            if job is None:
                if not await self._run(self.index.indexed, text):
                    return
                job = self._compacting[text] = await self._run(self.index.compact, text)
            if not await self._run(self.index.compacted, job):
                return
            del self._compacting[text]
        await self._run(self._mark.done)

    async def stop(self) -> None:
        """Close the index."""
        await self._run(self.index.close)
        self._thread.shutdown()

    async def _run(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
