"""Galleries on their way to workers: over real sockets, from a source that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from gateway_clients import FakeWorker, eventually

from camfleet_gateway import gallery_push
from camfleet_gateway.apps import internal_app
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.main import MAX_WORKER_MESSAGE_BYTES
from camfleet_gateway.servers import listen, port_of, server_for
from camfleet_gateway.settings import GatewaySettings
from camfleet_protocol.camera import Camera
from camfleet_protocol.gallery import GalleryPart, GalleryPerson, encode_part
from camfleet_protocol.local import StateFolder
from camfleet_protocol.messages import FrameAck
from support.gateway_process import put_camera, test_pattern, worker_token
from support.stopwatch import Stopwatch

MODEL = "mobilefacenet@b7120c095d60"
DIMENSIONS = 128


class Source:
    """People by version: version v has v people per part."""

    def __init__(self, *, parts: int = 1, rows: int = 1) -> None:
        self.current = 0
        self.asked: list[tuple[str, int]] = []
        self.parts = parts
        self.rows = rows
        self.refuses: set[str] = set()
        self.fail = 0
        self._listeners: list[Callable[[], None]] = []

    def version(self, embedder: str) -> int:
        return self.current

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def change(self, version: int) -> None:
        self.current = version
        for listener in self._listeners:
            listener()

    async def messages(self, embedder: str, version: int) -> Sequence[bytes]:
        self.asked.append((embedder, version))
        if self.fail:
            self.fail -= 1
            raise ValueError("nothing to be had")
        if embedder in self.refuses:
            return ()
        vector = np.random.default_rng(1).bytes(DIMENSIONS * 2 * self.rows)
        return [
            encode_part(
                self.current,
                GalleryPart(
                    embedder=embedder,
                    dimensions=DIMENSIONS,
                    base=version,
                    part=part,
                    parts=self.parts,
                    people=(GalleryPerson(id=f"p{part}", name="A", rows=self.rows),),
                ),
                vector,
            )
            for part in range(self.parts)
        ]


class Site:
    """A gateway in this process, its cameras and its source of people."""

    def __init__(self, gateway: Gateway, state: StateFolder, port: int, source: Source) -> None:
        self.gateway = gateway
        self.state = state
        self.url = f"http://127.0.0.1:{port}"
        self.source = source
        self.push = gateway.gallery_push

    def camera(self, name: str) -> Camera:
        return put_camera(self.state, test_pattern(name))

    @asynccontextmanager
    async def worker(self, name: str = "door", embedder: str = MODEL) -> AsyncIterator[FakeWorker]:
        camera = self.camera(name)
        await eventually(lambda: camera.id in self.gateway.hub.channels, "the camera")
        token = worker_token(self.state, camera)
        async with FakeWorker.running(self.url, camera.id, token) as worker:
            worker.has = {"embedder": embedder, "gallery_version": 0}
            await worker.accepted()
            yield worker


@asynccontextmanager
async def site(folder: Path, source: Source) -> AsyncIterator[Site]:
    state = StateFolder(folder / "state")
    state.create()
    gateway = Gateway(GatewaySettings(state_dir=state.root, port=0, internal_port=0))
    gateway.gallery_push.connect(source)
    await gateway.start()
    listener = listen("127.0.0.1", 0)
    server = server_for(internal_app(gateway), max_message_bytes=MAX_WORKER_MESSAGE_BYTES)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield Site(gateway, state, port_of(listener), source)
    finally:
        await gateway.stop()
        server.should_exit = True
        await serving
        listener.close()


def versions(worker: FakeWorker) -> list[tuple[int, int]]:
    """Base and version of the whole transfers that a worker has had."""
    return [(u.part.base, u.version) for u in worker.parts if u.part.part + 1 == u.part.parts]


async def test_a_worker_gets_what_it_has_not_and_every_change_within_a_second(tmp_path: Path) -> None:
    async with site(tmp_path, Source(parts=3)) as s, s.worker() as worker:
        await eventually(lambda: list(s.push.receivers), "statistics")
        assert s.push.outdated() == 0, "while it is not known who is enrolled, everybody keeps what they have"
        s.source.change(5)
        await eventually(lambda: versions(worker) == [(0, 5)], "the gallery")
        assert [update.part.part for update in worker.parts] == [0, 1, 2]
        worker.has["gallery_version"] = 5
        await eventually(lambda: s.push.outdated() == 0, "it says so")
        stopwatch = Stopwatch()
        s.source.change(6)
        await eventually(lambda: versions(worker) == [(0, 5), (5, 6)], "the change")
        assert stopwatch.seconds < 5  # a second, on a machine of its own
        s.source.change(7)  # before it has said that it has 6
        await eventually(lambda: versions(worker)[-1] == (6, 7), "the next change, on top of what was sent")


async def test_changes_close_together_are_one_transfer(tmp_path: Path) -> None:
    async with site(tmp_path, Source()) as s, s.worker() as worker:
        await eventually(lambda: list(s.push.receivers), "statistics")
        for version in range(1, 50):
            s.source.change(version)
        await eventually(lambda: versions(worker) and versions(worker)[-1][1] == 49, "the last version")
        assert len(versions(worker)) <= 2


async def test_who_does_not_take_it_is_served_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery_push, "CONFIRM_SECONDS", 0.3)
    async with site(tmp_path, Source()) as s, s.worker() as worker:
        s.source.change(5)
        await eventually(lambda: len(versions(worker)) >= 3, "again and again")
        assert set(versions(worker)) == {(0, 5)}
        worker.has["gallery_version"] = 5
        await eventually(lambda: s.push.outdated() == 0, "it says so")


async def test_a_worker_that_comes_later_or_changes_its_model_gets_all(tmp_path: Path) -> None:
    async with site(tmp_path, Source()) as s:
        s.source.change(5)
        async with s.worker() as worker:
            await eventually(lambda: versions(worker) == [(0, 5)], "the gallery")
            worker.has = {"embedder": "other@123", "gallery_version": 0}
            await eventually(lambda: worker.parts[-1].part.embedder == "other@123", "of its new model")
            worker.has = {"embedder": "", "gallery_version": 0}
            await eventually(lambda: not list(s.push.receivers), "it does not recognise any more")
            count = len(worker.parts)
            s.source.change(6)
            worker.seq = 0
            await eventually(lambda: worker.captured > 30, "more statistics")
            assert len(worker.parts) == count


async def test_a_model_that_is_not_served_is_refused_once_per_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()
    source.refuses.add("other@123")
    async with site(tmp_path, source) as s, s.worker(embedder="other@123") as worker:
        s.source.change(5)
        await eventually(lambda: "no people for workers of the model other@123" in caplog.text, "said")
        captured = worker.captured
        await eventually(lambda: worker.captured > captured + 10, "more statistics")
        assert len(source.asked) == 1 and not worker.parts and s.push.outdated() == 1
        source.refuses.clear()
        s.source.change(6)
        await eventually(lambda: versions(worker) == [(0, 6)], "what there is now")


async def test_a_source_that_fails_is_asked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    source.fail = 3
    async with site(tmp_path, source) as s, s.worker() as worker:
        s.source.change(5)
        await eventually(lambda: versions(worker) == [(0, 5)], "in the end")
        assert caplog.text.count("people cannot be brought to workers: nothing to be had") == 1


async def test_pictures_are_acknowledged_while_a_large_gallery_comes(tmp_path: Path) -> None:
    async with site(tmp_path, Source(parts=40, rows=64)) as s, s.worker() as worker:
        s.source.parts = 200
        s.source.change(5)
        sent = 0
        while not versions(worker):
            seq = await worker.send()
            sent += 1
            await eventually(lambda seq=seq: seq in {a.seq for a in worker.of(FrameAck)}, "acknowledged")  # type: ignore[misc]
        assert len(worker.parts) == 200 and sent >= 1
        assert s.push.bytes_sent > 200 * 64 * 256


async def test_a_worker_that_reads_nothing_makes_room_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_push, "TRANSFERS", 1)
    monkeypatch.setattr(gallery_push, "STALL_SECONDS", 0.5)
    async with (
        site(tmp_path, Source(parts=300, rows=64)) as s,
        s.worker("deaf") as deaf,
        s.worker("door") as worker,
    ):
        await eventually(lambda: len(list(s.push.receivers)) == 2, "statistics of both")
        deaf.socket.transport.pause_reading()
        s.source.change(5)
        await eventually(lambda: versions(worker) == [(0, 5)], "the other one is served")
        assert not versions(deaf)
        largest = max(session.link.unsent_bytes for session in s.gateway.workers.sessions)
        assert largest < 100_000, "one message at most waits here"
        worker.has["gallery_version"] = 5
        deaf.socket.transport.resume_reading()
        await eventually(lambda: versions(deaf) and versions(deaf)[-1] == (0, 5), "it reads again")
