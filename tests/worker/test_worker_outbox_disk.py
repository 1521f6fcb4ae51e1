"""The outbox on a disk that is full, for real: what is stored stays, what comes waits, all by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import outbox_events
import pytest

from camfleet_worker import outbox as module
from camfleet_worker.outbox import RETRY_SECONDS, Outbox
from support.small_disk import SmallDisk, small_disk

FULL = "events cannot be kept on disk now"


class Time:
    """A clock that only the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 2048) as found:
        yield found


@pytest.fixture
def clock() -> Time:
    return Time()


def put(outbox: Outbox, event_id: str, size: int = 60_000, **changes: Any) -> None:
    outbox_events.put(outbox, event_id, **({"crop": os.urandom(size)} | changes))


def ids(outbox: Outbox) -> list[str]:
    return [item.event.id for item in outbox.pending(5000)]


def test_a_full_disk_loses_nothing_is_said_once_and_heals(
    disk: SmallDisk, clock: Time, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(disk.path, "default.cam", clock=clock)
    for name in "abc":
        put(outbox, name)
    disk.fill()
    for name in "defgh":
        put(outbox, name)
        clock.now += RETRY_SECONDS
    assert ids(outbox) == list("abcdefgh") and len(outbox) == 8
    assert outbox.problem == "the disk is full" and outbox.dropped == 0
    orders = [item.event.order for item in outbox.pending(10)]
    assert orders == list(range(orders[0], orders[0] + 8))
    assert caplog.text.count(FULL) == 1
    disk.clear()
    outbox.tend()
    assert outbox.problem == "" and len(outbox) == 8
    outbox.close()
    again = Outbox(disk.path, "default.cam", clock=clock)
    assert ids(again) == list("abcdefgh") and again.dropped == 0
    put(again, "i")
    assert again.pending(10)[-1].event.order == orders[-1] + 1
    again.close()


def test_killed_or_closed_on_a_full_disk_it_still_has_what_it_had_stored(
    disk: SmallDisk, clock: Time
) -> None:
    _in_a_process_that_is_killed(disk.path, "abc")
    disk.fill()
    for stored in ("abc", "bc"):
        outbox = Outbox(disk.path, "default.cam", clock=clock)
        assert ids(outbox) == list(stored)
        put(outbox, "z")
        assert ids(outbox) == [*stored, "z"] and outbox.problem == "the disk is full"
        outbox.close()
        disk.clear()
        outbox = Outbox(disk.path, "default.cam", clock=clock)
        outbox.ack("a", 0)
        outbox.close()
        disk.fill()


def _in_a_process_that_is_killed(folder: Path, names: str) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from camfleet_worker.outbox import Outbox\n"
        "outbox = Outbox(Path(sys.argv[1]), 'default.cam')\n"
        "for name in sys.argv[2]:\n"
        "    outbox.put(name, kind='appearance', severity='info', message='', data={}, time=1.0,\n"
        "               crop=bytes(60000))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(folder), names], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_what_is_acknowledged_on_a_full_disk_does_not_come_again(disk: SmallDisk, clock: Time) -> None:
    outbox = Outbox(disk.path, "default.cam", clock=clock)
    for name in "abc":
        put(outbox, name)
    disk.fill()
    put(outbox, "d")
    for name in "abd":
        outbox.ack(name, 0)
    assert ids(outbox) == ["c"] and len(outbox) == 1
    disk.clear()
    clock.now += RETRY_SECONDS
    outbox.tend()
    assert outbox.problem == "" and ids(outbox) == ["c"]
    outbox.close()
    again = Outbox(disk.path, "default.cam")
    assert ids(again) == ["c"]
    again.close()


def test_a_revision_that_waits_in_memory_joins_the_one_on_disk(disk: SmallDisk, clock: Time) -> None:
    outbox = Outbox(disk.path, "default.cam", clock=clock)
    put(outbox, "a")
    put(outbox, "b")
    crop = outbox.pending(1)[0].crop
    disk.fill()
    put(outbox, "a", crop=b"", scene=os.urandom(60_000), data={"seen": 1})
    clock.now += RETRY_SECONDS
    put(outbox, "a", crop=b"", data={"seen": 2})
    assert [item.key for item in outbox.pending(9)] == [("a", 0), ("b", 0), ("a", 2)]
    disk.clear()
    outbox.tend()
    first, second = outbox.pending(9)
    assert (first.key, second.key) == (("a", 2), ("b", 0))
    assert first.crop == crop and len(first.scene) == 60_000 and first.event.data == {"seen": 2}
    outbox.close()


def test_memory_is_bounded_while_the_disk_is_full(
    disk: SmallDisk, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 5)
    outbox = Outbox(disk.path, "default.cam", clock=clock)
    disk.fill()
    for number in range(8):
        put(outbox, str(number))
    assert ids(outbox) == list("34567") and outbox.dropped == 3
    monkeypatch.setattr(module, "_MAX_WAITING_BYTES", 130_000)
    put(outbox, "8")
    assert ids(outbox) == list("78") and outbox.dropped == 7
    outbox.close()


def test_a_disk_that_is_full_from_the_start(disk: SmallDisk, clock: Time) -> None:
    disk.fill()
    outbox = Outbox(disk.path, "default.cam", clock=clock)
    assert outbox.problem == "the disk is full"
    put(outbox, "a")
    assert ids(outbox) == ["a"]
    disk.clear()
    outbox.tend()
    assert outbox.problem == "" and (disk.path / "outbox.db").exists()
    outbox.close()


def test_a_folder_that_goes_away_and_comes_back(tmp_path: Path, clock: Time) -> None:
    outbox = Outbox(tmp_path / "missing", "default.cam", clock=clock)
    assert outbox.problem.startswith("events cannot be kept: ")
    put(outbox, "a")
    (tmp_path / "missing").mkdir()
    outbox.tend()
    assert outbox.problem == "" and ids(outbox) == ["a"]
    outbox.close()
