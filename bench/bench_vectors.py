"""How long it takes to find where a face was seen: the gateway's own index over many event vectors.

Vectors of length 1, a hundred for each person and those alike by a cosine of about 0.6, are put in as events
of 100 cameras over 30 days, then searched for with the filters that the API has. The ratio is to numpy: one
product with all vectors in memory, and the same filters as masks. Without `--url` it is milvus-lite in a
temporary folder (FLAT, exact); with it a Milvus server (HNSW), for which the recall of the first ten against
the exact answer matters. What it makes it removes.

    python bench/bench_vectors.py [--rows 100000] [--dimensions 128] [--searches 20] [--json]
    python bench/bench_vectors.py --rows 1000000 --url http://milvus:19530 --token-file token
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine
from numpy.typing import NDArray

from camfleet_gateway.vectors.index import Index, Row, Target, Wanted

CAMERAS = 100
SPAN = 30 * 86400.0
BATCH = 1000
OF_EACH = 100
NOISE = 0.8
LIMIT = 100
GOAL_SECONDS = 5.0
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def measured(call: Callable[[int], object], times: int) -> list[float]:
    found = []
    for number in range(times):
        begin = time.perf_counter()
        call(number)
        found.append(time.perf_counter() - begin)
    return found


def _directions(random: np.random.Generator, rows: int, dimensions: int) -> NDArray[np.float32]:
    found = random.standard_normal((rows, dimensions), dtype=np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


class Events:
    """Vectors with the camera and the time of each."""

    def __init__(self, rows: int, dimensions: int) -> None:
        random = np.random.default_rng(1)
        self.vectors = _directions(random, rows, dimensions)
        people = _directions(random, max(1, rows // OF_EACH), dimensions)
        for start in range(0, rows, BATCH):  # the memory of all at once would show in the result
            some = self.vectors[start : start + BATCH]
            some *= NOISE
            some += people[random.integers(0, len(people), len(some))]
            some /= np.linalg.norm(some, axis=1, keepdims=True)
        self.cameras = np.arange(rows) % CAMERAS
        self.times = np.arange(rows) * (SPAN / rows)

    def row(self, number: int) -> Row:
        """One event."""
        return Row(
            f"event-{number}",
            f"default.cam-{self.cameras[number]}",
            float(self.times[number]),
            self.vectors[number],
        )

    def exact(self, number: int, wanted: Wanted) -> list[int]:
        """The most similar ones by numpy."""
        mask = np.ones(len(self.vectors), bool)
        if wanted.camera is not None:
            mask &= self.cameras == int(wanted.camera.rpartition("-")[2])
        if wanted.since is not None:
            mask &= self.times >= wanted.since
        values = np.where(mask, self.vectors @ self.vectors[number], -2.0)
        best = np.argpartition(values, -LIMIT)[-LIMIT:]
        return [int(index) for index in best[np.argsort(-values[best])] if values[index] > -2.0]


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    rows, searches = arguments.rows, arguments.searches
    events = Events(rows, arguments.dimensions)
    before = resident_mb()
    index = Index(Target(folder, arguments.url, arguments.token_file))
    name = f"camfleet_bench_{secrets.token_hex(4)}"
    begin = time.perf_counter()
    index.open()
    opened = time.perf_counter() - begin
    try:
        begin = time.perf_counter()
        index.make(name, arguments.dimensions)
        for start in range(0, rows, BATCH):
            index.put(name, [events.row(number) for number in range(start, min(rows, start + BATCH))])
        index.flush(name)
        inserted = time.perf_counter() - begin
        indexed = until_indexed(index, name) if arguments.url else 0.0

        filters = {
            "anywhere, any time": Wanted(),
            "one camera": Wanted(camera="default.cam-7"),
            "the last three days": Wanted(since=0.9 * SPAN),
            "one camera, the last three days": Wanted(camera="default.cam-7", since=0.9 * SPAN),
        }
        chosen = np.random.default_rng(2).integers(0, rows, searches)
        first = measured(lambda _: index.search(name, [events.vectors[0]], Wanted(), LIMIT), 1)[0]
        results: dict[str, Any] = {}
        for what, wanted in filters.items():
            recalls = []

            def search(number: int, wanted: Wanted = wanted, recalls: list[float] = recalls) -> None:
                asked = int(chosen[number])
                hits = index.search(name, [events.vectors[asked]], wanted, LIMIT)
                recalls.append(_recall(events, asked, wanted, [hit.event_id for hit in hits]))

            def timed(number: int, wanted: Wanted = wanted) -> None:
                index.search(name, [events.vectors[int(chosen[number])]], wanted, LIMIT)

            def exact(number: int, wanted: Wanted = wanted) -> None:
                events.exact(int(chosen[number]), wanted)

            times = measured(timed, searches)
            measured(search, min(5, searches))
            floor = statistics.median(measured(exact, searches))
            results[what] = {
                "median_s": statistics.median(times),
                "max_s": max(times),
                "numpy_s": floor,
                "ratio": statistics.median(times) / floor,
                "recall_at_10": statistics.mean(recalls),
            }
        # What came since the last flush, and what was deleted, cost extra.
        fresh = [
            Row(f"new-{number}", "default.cam-7", SPAN + number, events.vectors[number])
            for number in range(min(1900, rows))
        ]
        index.put(name, fresh)
        unflushed = statistics.median(
            measured(lambda _: index.search(name, [events.vectors[5]], Wanted(), LIMIT), 5)
        )
        index.flush(name)
        gone = [f"event-{number}" for number in range(0, rows, 10)]
        begin = time.perf_counter()
        index.delete(name, gone)
        deleting = time.perf_counter() - begin
        deleted = statistics.median(
            measured(lambda _: index.search(name, [events.vectors[5]], Wanted(), LIMIT), 5)
        )
        resident = resident_mb()
        index.close()
        begin = time.perf_counter()
        index.search(name, [events.vectors[5]], Wanted(), LIMIT)
        cold = time.perf_counter() - begin
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    finally:
        index.drop(name)
        index.close()
    return {
        "index": index.kind,
        "rows": rows,
        "dimensions": arguments.dimensions,
        "open_s": opened,
        "insert_s": inserted,
        "insert_per_s": rows / inserted,
        "indexed_s": indexed,
        "first_search_s": first,
        "searches": results,
        "with_unflushed_s": unflushed,
        "with_a_tenth_deleted_s": deleted,
        "delete_a_tenth_s": deleting,
        "first_search_after_a_restart_s": cold,
        "resident_mb": resident - before,
        "disk_mb": size,
    }


def until_indexed(index: Index, name: str) -> float:
    """Wait until a server has all rows in its HNSW, built after they were flushed; seconds taken."""
    begin = time.perf_counter()
    while not index.indexed(name):
        time.sleep(0.5)
    index.search(name, [np.eye(1, index.dimensions(name), dtype=np.float32)[0]], Wanted(), 1)  # loads it
    client: Any = index._client
    client.refresh_load(name)
    return time.perf_counter() - begin


def _recall(events: Events, asked: int, wanted: Wanted, found: list[str]) -> float:
    right = {f"event-{number}" for number in events.exact(asked, wanted)[:10]}
    return len(right & set(found[:10])) / len(right)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--url")
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(arguments, Path(folder))
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        tell(result)
    return 0 if max(found["max_s"] for found in result["searches"].values()) <= GOAL_SECONDS else 1


def tell(result: dict[str, Any]) -> None:
    print(machine())
    print(f"{result['index']}: {result['rows']:,} vectors of {result['dimensions']} dimensions")
    print(f"  opened in {result['open_s']:.1f} s, put in and flushed in {result['insert_s']:.1f} s", end="")
    print(f", indexed {result['indexed_s']:.1f} s later" if result["indexed_s"] else "")
    restarted = result["first_search_after_a_restart_s"]
    print(f"  first search {result['first_search_s']:.2f} s, after a restart {restarted:.2f} s")
    for what, found in result["searches"].items():
        print(f"  {what}: median {found['median_s']:.3f} s, at most {found['max_s']:.3f} s", end=", ")
        print(f"{found['ratio']:.1f} x numpy ({found['numpy_s'] * 1000:.1f} ms)", end=", ")
        print(f"recall@10 {found['recall_at_10']:.2f}")
    print(f"  with 1,900 rows not flushed {result['with_unflushed_s']:.3f} s")
    print(f"  with a tenth deleted {result['with_a_tenth_deleted_s']:.3f} s", end=", ")
    print(f"deleted in {result['delete_a_tenth_s']:.1f} s")
    print(f"  memory {result['resident_mb']:.0f} MB more, disk {result['disk_mb']:.0f} MB")


if __name__ == "__main__":
    raise SystemExit(main())
