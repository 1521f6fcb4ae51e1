"""Files as sources, and everything that is no video."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from camfleet_protocol.camera import FileSource
from camfleet_protocol.messages import Demand, SourceState
from camfleet_worker.faults import Fault, SourceError
from camfleet_worker.sources.base import SourceContext
from camfleet_worker.sources.video import FileVideoSource
from support.fake_gateway import fake_gateway
from support.worker_process import worker_process


def _context(media_root: tuple[Path, ...] = ()) -> SourceContext:
    return SourceContext(wait=lambda seconds: True, media_root=media_root)


def _fault(path: Path | str, media_root: tuple[Path, ...] = ()) -> Fault:
    spec = FileSource.model_construct(path=str(path))  # Not validated: the worker does not rely on it.
    source = FileVideoSource(spec, _context(media_root))
    with pytest.raises(SourceError) as caught:
        source.open()
        for _ in range(200):
            source.read()
    source.close()
    return caught.value.fault


def _text(path: Path) -> None:
    path.write_text("This is not a video.\n" * 100)


def _random(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))


def _empty(path: Path) -> None:
    path.touch()


def _folder(path: Path) -> None:
    path.mkdir()


def _playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")


def _concat(path: Path) -> None:
    path.write_text("ffconcat version 1.0\nfile clip.mp4\n")


@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a.m3u8", "a.nfo", "a"])
@pytest.mark.parametrize("make", [_text, _random, _empty, _folder, _playlist, _concat])
def test_what_is_no_video_is_invalid(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    make(tmp_path / name)
    assert _fault(tmp_path / name) is Fault.INVALID


@pytest.mark.parametrize(
    "path",
    ["nothing.mp4", "rtsp://127.0.0.1:9/x", "http://127.0.0.1:9/x.mp4", "concat:a.mp4|b.mp4", "pipe:0"],
)
def test_missing_files_and_addresses_are_not_found(path: str) -> None:
    assert _fault(path) is Fault.NOT_FOUND


def test_files_outside_the_media_folders_are_refused(tmp_path: Path, clip: Path) -> None:
    root = tmp_path / "media"
    root.mkdir()
    shutil.copy(clip, root / "in.mp4")
    (root / "link.mp4").symlink_to(clip)
    inside = FileVideoSource(FileSource(path=str(root / "in.mp4")), _context((root,)))
    inside.open()
    inside.close()
    assert _fault(clip, (root,)) is Fault.MEDIA_NOT_ALLOWED
    assert _fault(root / "link.mp4", (root,)) is Fault.MEDIA_NOT_ALLOWED
    assert _fault(root / ".." / "media" / ".." / clip.name, (root,)) is Fault.NOT_FOUND


def test_a_file_is_paced_and_looped(clip: Path) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return True

    source = FileVideoSource(FileSource(path=str(clip)), SourceContext(wait=wait))
    source.open()
    pictures = []
    while len(pictures) < 50:
        if (picture := source.read()) is not None:
            pictures.append(picture)
    source.close()
    assert [p.number for p in pictures if p.discontinuity] == [1, 21, 41]
    assert all(two.number == one.number + 1 for one, two in pairwise(pictures))
    assert max(waits) <= 1.05
    assert pictures[0].bgr(160).shape == (120, 160, 3)
    assert pictures[7].bgr().shape == (240, 320, 3)
    assert (pictures[3].bgr().astype(int) - pictures[23].bgr()).max() <= 2


def test_a_file_that_is_not_looped_ends(clip: Path) -> None:
    source = FileVideoSource(FileSource(path=str(clip), loop=False), _context())
    source.open()
    with pytest.raises(SourceError) as caught:
        for _ in range(100):
            source.read()
    source.close()
    assert caught.value.fault is Fault.ENDED


async def test_a_file_plays_at_its_own_pace_and_ends(tmp_path: Path, clip: Path) -> None:
    source = f'{{"file": {{"path": "{clip}", "loop": false}}}}'
    async with (
        fake_gateway(demand=Demand(plain=True)) as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, source_json=source, detector=("motion",)) as worker,
    ):
        await gateway.until(
            lambda: gateway.stats and gateway.stats[-1].source.state is SourceState.ENDED, "the end"
        )
        await gateway.until(lambda: "source.ended" in gateway.event_types(), "the event")
        assert gateway.stats[-1].frames.captured == 20
        assert gateway.stats[-1].source.reason == "SourceEnded"
        span = gateway.stats[-1].last_frame_ns / 1e9 - gateway.frames[0].frame.captured_ns / 1e9
        assert 0.3 < span < 10
        assert worker.process.returncode is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ('{"http": {"url": "http://127.0.0.1:9/x"}}', "SourceUnsupported"),
        ('{"device": {"path": "/dev/video0"}}', "SourceUnsupported"),
        ('{"file": {"path": "/nothing.mp4"}}', "SourceNotFound"),
        ('{"file": {"path": "/etc/hostname"}}', "SourceInvalid"),
    ],
)
async def test_what_cannot_be_played_is_said_and_the_worker_stays(
    tmp_path: Path, source: str, reason: str
) -> None:
    async with (
        fake_gateway() as gateway,
        worker_process(tmp_path, gateway_url=gateway.url, source_json=source) as worker,
    ):
        await gateway.until(lambda: gateway.stats and gateway.stats[-1].source.reason == reason, reason)
        assert gateway.stats[-1].source.state is SourceState.BACKOFF
        await gateway.until(lambda: gateway.events, "the event")
        (event,) = gateway.events.values()
        assert event.type == "source.lost" and event.data["reason"] == reason
        assert worker.process.returncode is None
