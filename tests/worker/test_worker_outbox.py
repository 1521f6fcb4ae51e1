"""The outbox: what waits, in which revision and order, what is dropped, and files of earlier versions."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from outbox_events import put

from camfleet_protocol.messages import EventRecord
from camfleet_worker.outbox import MAX_CROP_BYTES, Outbox
from camfleet_worker.tracking.left import end_left


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    found = Outbox(tmp_path, "default.cam")
    yield found
    found.close()


def keys(outbox: Outbox, limit: int = 5000) -> list[tuple[str, int]]:
    """Id and revision of all that waits."""
    return [item.key for item in outbox.pending(limit)]


def test_the_newest_revision_replaces_those_that_wait_and_keeps_the_place(outbox: Outbox) -> None:
    put(outbox, "a", data={"seen": 1}, crop=b"crop", scene=b"scene")
    put(outbox, "b")
    put(outbox, "a", data={"seen": 2}, scene=b"better", embedding=b"\0\1", embedder="m@1")
    first, second = outbox.pending(10)
    assert (first.key, second.key) == (("a", 1), ("b", 0))
    assert (first.crop, first.scene, first.embedding, first.embedder) == (b"crop", b"better", b"\0\1", "m@1")
    assert first.event.data == {"seen": 2} and first.event.time == 1000.0
    assert len(outbox) == 2 and outbox.dropped == 0


def test_order_and_revision_rise_over_restarts_and_acknowledgements(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, "default.cam")
    put(outbox, "a")
    outbox.add("source.lost", "warning", "gone", {})
    orders = [item.event.order for item in outbox.pending(10)]
    assert orders[1] == orders[0] + 1 and abs(orders[0] - time.time()) < 60
    for event_id, revision in keys(outbox):
        outbox.ack(event_id, revision)
    assert len(outbox) == 0
    outbox.close()
    outbox = Outbox(tmp_path, "default.cam")
    put(outbox, "b")
    put(outbox, "a")
    found = {item.event.id: item.event for item in outbox.pending(10)}
    assert (found["a"].revision, found["a"].order) == (1, orders[0]), "the same event goes on"
    assert (found["b"].revision, found["b"].order) == (0, orders[1] + 1)
    outbox.close()


def test_an_acknowledgement_leaves_higher_revisions(outbox: Outbox) -> None:
    put(outbox, "a")
    put(outbox, "a")
    outbox.ack("a", 0)
    assert keys(outbox) == [("a", 1)]
    outbox.ack("unknown", 5)
    outbox.ack("a", 1)
    assert keys(outbox) == [] and len(outbox) == 0


def test_what_is_in_flight_is_left_out(outbox: Outbox) -> None:
    for name in "abcd":
        put(outbox, name)
    assert [item.event.id for item in outbox.pending(2, {("a", 0), ("b", 0)})] == ["c", "d"]
    put(outbox, "a")
    assert [item.key for item in outbox.pending(1, {("a", 0), ("b", 0)})] == [("a", 1)]


def test_past_its_number_or_bytes_the_oldest_goes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(tmp_path, "default.cam", limit=10, limit_bytes=100_000)
    for number in range(25):
        put(outbox, f"small-{number}")
    assert [event_id for event_id, _ in keys(outbox)] == [f"small-{n}" for n in range(15, 25)]
    assert len(outbox) == 10 and outbox.dropped == 15
    for number in range(4):
        put(outbox, f"large-{number}", crop=os.urandom(40_000))
    assert [event_id for event_id, _ in keys(outbox)] == ["large-2", "large-3"]
    assert outbox.dropped == 27 and outbox.problem == ""
    assert [record.message for record in caplog.records].count(
        "the outbox is full: the oldest events are dropped"
    ) == 1
    outbox.close()


def test_the_disk_gets_its_room_back(outbox: Outbox, tmp_path: Path) -> None:
    for number in range(40):
        put(outbox, str(number), crop=os.urandom(80_000))
    for event_id, revision in keys(outbox):
        outbox.ack(event_id, revision)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 300_000


def test_too_large_an_attachment_is_left_out_and_said(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    put(outbox, "a", crop=bytes(MAX_CROP_BYTES), scene=bytes(MAX_CROP_BYTES + 1), embedding=bytes(3073))
    put(outbox, "b", data={"text": "x" * 20_000})
    first, second = outbox.pending(2)
    assert (len(first.crop), first.scene, first.embedding) == (MAX_CROP_BYTES, b"", b"")
    assert second.event.data == {}
    assert len(caplog.records) == 3


def test_text_is_redacted(outbox: Outbox) -> None:
    outbox.add("source.lost", "warning", "rtsp://u:hunter22@cam failed", {})
    put(outbox, "a", message="rtsp://u:hunter22@cam")
    assert all("hunter22" not in item.event.message for item in outbox.pending(2))


def test_a_file_that_is_none_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(os.urandom(10_000))
    outbox = Outbox(tmp_path, "default.cam")
    put(outbox, "a")
    assert keys(outbox) == [("a", 0)] and outbox.problem == ""
    outbox.close()


def test_what_this_version_cannot_read_is_dropped_and_counted(outbox: Outbox, tmp_path: Path) -> None:
    for name in "abc":
        put(outbox, name)
    outbox.close()
    database = sqlite3.connect(tmp_path / "outbox.db")
    database.execute("UPDATE events SET body = '{}' WHERE id = 'b'")
    database.commit()
    database.close()
    again = Outbox(tmp_path, "default.cam")
    assert [item.event.id for item in again.pending(9)] == ["a", "c"]
    assert len(again) == 2 and again.dropped == 1
    again.close()


def test_a_file_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "outbox.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(
        "CREATE TABLE events"
        " (n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, body TEXT NOT NULL)"
    )
    for name in ("one", "two"):
        event = EventRecord(id=name, time=1.0, camera="default.cam", type="source.lost", message=name)
        database.execute("INSERT INTO events (id, body) VALUES (?, ?)", (name, event.model_dump_json()))
    database.execute("INSERT INTO events (id, body) VALUES ('odd', '{}')")
    database.commit()
    database.close()
    for _ in range(2):  # the second time it is one of this version
        outbox = Outbox(tmp_path, "default.cam")
        assert keys(outbox) == [("one", 0), ("two", 0)]
        orders = [item.event.order for item in outbox.pending(2)]
        assert orders[0] > 0 and orders[1] == orders[0] + 1
        outbox.close()
    outbox = Outbox(tmp_path, "default.cam")
    put(outbox, "three")
    assert outbox.pending(3)[2].event.order == orders[1] + 1
    outbox.close()


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        (tmp_path / "outbox.db").touch(0o644)  # as a version before left it
        for folder in (tmp_path, tmp_path / "new"):
            folder.mkdir(exist_ok=True)
            outbox = Outbox(folder, "default.gate")
            put(outbox, "a")
            rights = {path.name: path.stat().st_mode & 0o777 for path in folder.glob("outbox.db*")}
            outbox.close()
            assert rights == {"outbox.db": 0o600, "outbox.db-wal": 0o600}
    finally:
        os.umask(before)


def _appearance(**changes: Any) -> dict[str, Any]:
    return {"kind": "face", "label": "face", "track": 1, "started": 1000.0, "seen": 1003.0} | changes


KILLED = """
import os, sys
from pathlib import Path
from camfleet_worker.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), "default.cam")
told = {"kind": "appearance", "severity": "info", "message": "", "time": 1000.0}
seen = {"kind": "face", "label": "face", "track": 1, "started": 1000.0, "seen": 1003.0}
for name in ("stays", "leaves", "waits"):
    outbox.put(name, data=seen, crop=b"crop", **told)
outbox.put("leaves", data={**seen, "ended": 1003.0}, **told)
outbox.put("stays", data={**seen, "seen": 1009.0}, **told)
outbox.ack("leaves", 1)
outbox.ack("stays", 1)
os._exit(9)
"""


def test_what_a_killed_worker_had_in_view_is_ended_by_the_next_one(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False).returncode == 9
    for _ in range(2):  # and not again by the one after it
        outbox = Outbox(tmp_path, "default.cam")
        end_left(outbox.going_on(), outbox.put)
        found = {item.event.id: item for item in outbox.pending(9)}
        assert {name: item.event.revision for name, item in found.items()} == {"stays": 2, "waits": 1}
        assert found["stays"].event.data["ended"] == 1009.0
        assert (
            found["stays"].event.message == "A face was in view for 9 s." and found["waits"].crop == b"crop"
        )
        outbox.close()


def test_what_goes_on_is_remembered_in_bounds(outbox: Outbox) -> None:
    for number in range(1003):
        put(outbox, f"e{number}", data=_appearance())
        outbox.ack(f"e{number}", 0)
    assert [event.id for event in outbox.going_on()] == [f"e{number}" for number in range(3, 1003)]
    put(outbox, "odd", data={})
    end_left(outbox.going_on(), outbox.put)
    assert [event.id for event in outbox.going_on()] == ["odd"], "of which nothing is known"
