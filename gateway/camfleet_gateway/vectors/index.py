"""The index of vectors, behind one client: milvus-lite in a folder, or a Milvus server by its URL. Blocks.

All calls come from one thread: milvus-lite takes no two writers at once. pymilvus is imported with the first
of them; it costs seconds and 140 MB, which nobody pays who recognises no faces.

milvus-lite searches with the index FLAT: exact, and quick once rows are flushed into a segment (100,000 rows
in a tenth of a second), while rows that were only inserted are gone through one by one. So it is told to
flush every `FLUSH_ROWS`. A server, which may have millions, gets HNSW.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from camfleet_gateway.store.errors import UnavailableError
from camfleet_gateway.vectors.lite import Lite, silence

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 20.0
FLUSH_ROWS = 2000
MAX_FOUND = 1000
_DELETE_BATCH = 500
_WINDOW_ROWS = 16_000
"""A server gives 16,384 rows at most."""
_ID_BYTES = 256
"""64 characters in UTF-8."""
_HNSW = {"M": 16, "efConstruction": 200}
_LEAST_EF = 512
"""Neighbours that HNSW keeps in view: with fewer it overlooks some, above all where a filter holds."""

Vector = NDArray[np.float32]
T = TypeVar("T")


class IndexUnavailableError(UnavailableError):
    """The index of vectors cannot be used now."""


class IndexBrokenError(IndexUnavailableError):
    """Something is wrong with milvus-lite's files, or with a call; trying again may not help."""


@dataclass(frozen=True, slots=True)
class Row:
    """A face that was seen."""

    event_id: str
    camera: str
    time: float
    vector: Vector = field(repr=False)
    """Of length 1."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A face that was found, and its cosine similarity."""

    event_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where and when it must have been seen; None is anywhere and any time."""

    camera: str | None = None
    since: float | None = None
    until: float | None = None

    def expression(self) -> str:
        """The same as a filter of Milvus."""
        parts = []
        if self.camera is not None:
            parts.append(f'camera == "{_quoted(self.camera)}"')
        if self.since is not None:
            parts.append(f"time >= {float(self.since)!r}")
        if self.until is not None:
            parts.append(f"time < {float(self.until)!r}")
        return " and ".join(parts)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the index is: a folder for milvus-lite, or the URL of a server."""

    folder: Path
    url: str | None = None
    token_file: Path | None = None

    @property
    def lite(self) -> bool:
        """Whether it is milvus-lite."""
        return self.url is None


def key_of(event_id: str) -> str:
    """The primary key of an event: ids come from workers, and none of them gets into an expression."""
    return hashlib.sha256(event_id.encode(errors="surrogatepass")).hexdigest()[:40]


class Index:
    """Collections of vectors. Not thread-safe."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._client: Any = None
        self._lite: Lite | None = None
        self._unflushed: dict[str, int] = {}
        self._loaded: set[str] = set()
        self._dimensions: dict[str, int] = {}

    @property
    def kind(self) -> str:
        """For people: which Milvus with which index."""
        return "milvus-lite, FLAT (exact)" if self.target.lite else "Milvus, HNSW"

    @property
    def used(self) -> bool:
        """Whether there may be anything in it."""
        return self._client is not None or not self.target.lite or self._data.exists()

    @property
    def _data(self) -> Path:
        return self.target.folder / "milvus"

    # ── Open and close ─────────────────────────────────────────────────────────────────────────────

    def open(self) -> None:
        """Connect, and start milvus-lite in this process if it is that; nothing if that was done.

        Raises:
            IndexUnavailableError: It cannot be used now.
        """
        if self._client is not None:
            return
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes to stderr whatever the log level
        try:
            from pymilvus import MilvusClient  # type: ignore[import-untyped]

            silence()
            # Its own notion of an idle connection makes milvus-lite hang up.
            options = {"grpc.keepalive_time_ms": 600_000}
            uri, token = self._serve() if self.target.url is None else (self.target.url, self._token())
            self._client = self._ask(
                lambda: MilvusClient(uri=uri, token=token, timeout=TIMEOUT_SECONDS, grpc_options=options)
            )
        except ImportError as error:
            raise IndexUnavailableError(f"the index of vectors cannot be used: {error}") from None
        except BaseException:
            self.close()
            raise

    def _serve(self) -> tuple[str, str]:
        try:
            self._lite = Lite(self._data)
        except BlockingIOError:
            raise IndexUnavailableError("another process uses the index of vectors") from None
        except OSError as error:
            raise IndexUnavailableError(f"milvus-lite does not start: {error}") from None
        except ImportError:
            raise
        except Exception as error:  # whatever it finds in its files
            raise IndexBrokenError(f"milvus-lite does not start: {_words(error)}") from error
        return self._lite.uri, ""

    def _token(self) -> str:
        if self.target.token_file is None:
            return ""
        try:
            return self.target.token_file.read_text().strip()
        except OSError as error:
            raise IndexUnavailableError(f"{self.target.token_file}: {error.strerror}") from None

    def close(self) -> None:
        """Disconnect; milvus-lite ends."""
        if self._client is not None:
            self._client.close()
        if self._lite is not None:
            self._lite.close()
        self._client = self._lite = None
        for memory in (self._unflushed, self._dimensions, self._loaded):
            memory.clear()

    # ── Collections ────────────────────────────────────────────────────────────────────────────────

    def collections(self, prefix: str) -> list[str]:
        """Names of the collections that begin so."""
        names: list[str] = self._run(lambda client: client.list_collections(timeout=TIMEOUT_SECONDS))
        return sorted(name for name in names if name.startswith(prefix))

    def dimensions(self, name: str) -> int | None:
        """The dimensions of a collection; None if there is no such one."""

        def ask(client: Any) -> int | None:
            if not client.has_collection(name, timeout=TIMEOUT_SECONDS):
                return None
            fields = client.describe_collection(name, timeout=TIMEOUT_SECONDS)["fields"]
            return next(int(field["params"]["dim"]) for field in fields if field["name"] == "vector")

        if name not in self._dimensions and (found := self._run(ask)) is not None:
            self._dimensions[name] = found
        return self._dimensions.get(name)

    def make(self, name: str, dimensions: int) -> int:
        """Make a collection, unless it is there; returns the dimensions that it has."""
        if (there := self.dimensions(name)) is not None:
            return there

        def make(client: Any) -> None:
            from pymilvus import DataType

            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=40)
            schema.add_field("event", DataType.VARCHAR, max_length=_ID_BYTES)
            schema.add_field("camera", DataType.VARCHAR, max_length=127)
            schema.add_field("time", DataType.DOUBLE)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions)
            index = client.prepare_index_params()
            if self.target.lite:
                index.add_index("vector", index_type="FLAT", metric_type="IP")
            else:
                index.add_index("vector", index_type="HNSW", metric_type="IP", params=_HNSW)
            client.create_collection(
                name,
                schema=schema,
                index_params=index,
                # milvus-lite has no other, and no word for it.
                **({} if self.target.lite else {"consistency_level": "Strong"}),
                timeout=TIMEOUT_SECONDS,
            )

        self._run(make)
        return self._dimensions.setdefault(name, dimensions)

    def drop(self, name: str) -> None:
        """Remove a collection with its files."""
        self._run(lambda client: client.drop_collection(name, timeout=TIMEOUT_SECONDS))
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._unflushed.pop(name, None)
        self._dimensions.pop(name, None)
        self._loaded.discard(name)

    def count(self, name: str) -> int:
        """Rows of a collection; milvus-lite's about."""
        if not self.target.lite:  # its statistics have neither what is not flushed nor what was deleted
            self._load(name)
            [row] = self._run(
                lambda client: client.query(name, output_fields=["count(*)"], timeout=TIMEOUT_SECONDS)
            )
            return int(row["count(*)"])
        found = self._run(lambda client: client.get_collection_stats(name, timeout=TIMEOUT_SECONDS))
        return int(found.get("row_count", 0))

    # ── Rows ───────────────────────────────────────────────────────────────────────────────────────

    def put(self, name: str, rows: Sequence[Row]) -> None:
        """Insert rows, or replace those of the same events."""
        if not rows:
            return
        data = [
            {
                "key": key_of(row.event_id),
                "event": row.event_id.encode(errors="replace").decode(),
                "camera": row.camera,
                "time": row.time,
                "vector": row.vector.tolist(),
            }
            for row in rows
        ]
        self._run(lambda client: client.upsert(name, data, timeout=TIMEOUT_SECONDS))
        if self.target.lite:
            self._unflushed[name] = self._unflushed.get(name, 0) + len(rows)
            if self._unflushed[name] >= FLUSH_ROWS:
                self.flush(name)

    def flush(self, name: str) -> None:
        """Have all rows in segments, where an index finds them."""
        self._run(lambda client: client.flush(name, timeout=10 * TIMEOUT_SECONDS))
        self._unflushed[name] = 0

    def delete(self, name: str, event_ids: Sequence[str]) -> int:
        """Delete the rows of events; returns how many there were."""
        self._load(name)
        keys = [key_of(event_id) for event_id in event_ids]
        batches = [keys[start : start + _DELETE_BATCH] for start in range(0, len(keys), _DELETE_BATCH)]
        return sum(self._delete(name, batch) for batch in batches)

    def _delete(self, name: str, keys: list[str]) -> int:
        # What is not there must not be deleted: milvus-lite would remember each for good.
        rows = self._run(
            lambda client: client.get(name, ids=keys, output_fields=["key"], timeout=TIMEOUT_SECONDS)
        )
        there = [row["key"] for row in rows]
        if there:
            self._run(lambda client: client.delete(name, ids=there, timeout=TIMEOUT_SECONDS))
        return len(there)

    def window(self, name: str, begin: float, end: float) -> dict[str, str] | None:
        """Events between two times, by key; None if there are too many to tell."""
        self._load(name)
        expression = f"time >= {begin!r} and time < {end!r}"
        rows = self._run(
            lambda client: client.query(
                name,
                filter=expression,
                output_fields=["key", "event"],
                limit=_WINDOW_ROWS,
                timeout=TIMEOUT_SECONDS,
            )
        )
        return None if len(rows) >= _WINDOW_ROWS else {row["key"]: row["event"] for row in rows}

    def search(self, name: str, vectors: Sequence[Vector], wanted: Wanted, limit: int) -> list[Hit]:
        """The most similar faces to any of some vectors, most similar first, each event once.

        Args:
            name: The collection.
            vectors: Of length 1.
            wanted: Where and when.
            limit: For each vector.
        """
        self._load(name)
        params = {} if self.target.lite else {"ef": max(_LEAST_EF, 4 * limit)}
        found = self._run(
            lambda client: client.search(
                name,
                data=[vector.tolist() for vector in vectors],
                limit=limit,
                filter=wanted.expression(),
                output_fields=["event"],
                search_params={"metric_type": "IP", "params": params},
                timeout=TIMEOUT_SECONDS,
            )
        )
        best: dict[str, float] = {}
        for hits in found:
            for hit in hits:
                event, similarity = hit["entity"]["event"], float(hit["distance"])
                best[event] = max(similarity, best.get(event, -2.0))
        ordered = sorted(best.items(), key=lambda item: -item[1])
        return [Hit(event, min(1.0, max(-1.0, similarity))) for event, similarity in ordered]

    def indexed(self, name: str) -> bool:
        """Whether a server has indexed all that was flushed."""
        # Not `pending_index_rows`: it counts what is compacted and indexed once more, too.
        told = self._run(lambda client: client.describe_index(name, "vector", timeout=TIMEOUT_SECONDS))
        return int(told["indexed_rows"]) >= int(told["total_rows"])

    def compact(self, name: str) -> int:
        """Have a server forget what was deleted; returns the job's number. milvus-lite has no such thing.

        It leaves as it is what it has in memory, deletions too, and what it has not indexed: flush first, and
        wait until it is `indexed`.
        """
        return int(self._run(lambda client: client.compact(name, timeout=TIMEOUT_SECONDS)))

    def compacted(self, job: int) -> bool:
        """Whether it is done: new files are there, and the old ones wait to be removed."""
        state: str = self._run(lambda client: client.get_compaction_state(job, timeout=TIMEOUT_SECONDS))
        return state == "Completed"

    # ── Calls ──────────────────────────────────────────────────────────────────────────────────────

    def _load(self, name: str) -> None:
        if name not in self._loaded:
            self._run(lambda client: client.load_collection(name, timeout=10 * TIMEOUT_SECONDS))
            self._loaded.add(name)

    def _run(self, call: Callable[[Any], T]) -> T:
        if self._lite is not None and not self._data.exists():
            logger.warning("the files of the index of vectors are gone")
            self.reset()  # else it would go on with what it has in memory
        self.open()
        client = self._client
        assert client is not None
        return self._ask(lambda: call(client))

    def _ask(self, call: Callable[[], T]) -> T:
        """Call, with what goes wrong as an error of ours; the connection is made anew after it."""
        try:
            return call()
        except IndexUnavailableError:
            raise
        except Exception as error:  # its libraries raise what they like; nothing of it may end the gateway
            logger.debug("the index of vectors", exc_info=error)
            self._loaded.clear()
            self._dimensions.clear()
            words = f"the index of vectors cannot be used now: {_words(error)}"
            if self.target.lite:
                raise IndexBrokenError(words) from None
            if self._client is not None:
                self._client.close()
                self._client = None
            raise IndexUnavailableError(words) from None

    def reset(self) -> None:
        """Remove all that milvus-lite has; it is empty then."""
        self.close()
        shutil.rmtree(self._data, ignore_errors=True)


def _words(error: Exception) -> str:
    """The first line of an error's text."""
    cause = error.__cause__
    if "UNAUTHENTICATED" in str(cause):  # pymilvus says that the server may be unavailable
        return "the server refuses the token"
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _quoted(text: str) -> str:
    """A text as it may stand between quotes: ids of cameras have nothing that must be escaped."""
    return "".join(character for character in text if character.isalnum() or character in "-._")
