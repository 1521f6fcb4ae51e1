"""The faces process as the gateway uses it: lazily, bounded, and replaced when it is lost. Real weights."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from gateway_clients import eventually
from people_site import ADMIN, direction, site

from camfleet_gateway.people.face_process import FaceCommand
from camfleet_gateway.people.faces_client import FacesClient
from camfleet_gateway.people.judging import usable
from camfleet_gateway.people.problems import RefusedError
from camfleet_protocol.gallery import decode_part
from camfleet_protocol.wire import parse_frame
from camfleet_worker.recognition.gallery import GalleryStore
from support.require import model_dir, sample

MODEL = "mobilefacenet"
STUB = """
import json, struct, sys, time
def write(message):
    text = json.dumps(message).encode()
    sys.stdout.buffer.write(struct.pack("<I", len(text)) + text + struct.pack("<I", 0))
    sys.stdout.buffer.flush()
def part():
    (length,) = struct.unpack("<I", sys.stdin.buffer.read(4))
    return sys.stdin.buffer.read(length)
write({"ready": True, "embedder": "stub@1", "dimensions": 4, "threshold": 0.5})
while True:
    request, picture = json.loads(part()), part()
    if picture == b"hang":
        time.sleep(600)
    if picture == b"crash":
        sys.exit(139)
    if picture == b"nonsense":
        sys.stdout.buffer.write(b"\\xff" * 64); sys.stdout.buffer.flush(); time.sleep(600)
    write({"id": request["id"], "width": 1, "height": 1, "faces": []})
"""


class StubCommand(FaceCommand):
    """A process that does what the picture says: what the real one cannot be made to."""

    @property
    def arguments(self) -> tuple[str, ...]:
        return (sys.executable, "-c", STUB)


@asynccontextmanager
async def client(folder: Path | None = None, **options: Any) -> AsyncIterator[FacesClient]:
    faces = FacesClient(folder, MODEL, **options)
    try:
        yield faces
    finally:
        await faces.stop()


@asynccontextmanager
async def stub(**options: Any) -> AsyncIterator[FacesClient]:
    async with client(Path("."), **options) as faces:
        faces._command = StubCommand(Path("."), MODEL)
        yield faces


def portrait(name: str) -> bytes:
    return sample(f"people/{name}").read_bytes()


def alive(process: int) -> bool:
    return psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE


async def test_other_portraits_have_the_right_names(tmp_path: Path) -> None:
    """Two people from two portraits each; on other portraits a worker finds them and no others."""
    async with site(tmp_path, faces=True, model_dir=model_dir()) as here:
        for name, pictures in (
            ("Barack", ("obama.jpg", "obama2.jpg")),
            ("Joseph", ("biden.jpg", "biden2.jpg")),
        ):
            person = await here.person(name)
            for picture in pictures:
                face = await here.people.enrolment.analyse(portrait(picture))
                await here.people.enrolment.add(person.id, face, ADMIN, force=False)
        ready = await here.people.faces.embedder()
        gallery = GalleryStore()
        gallery.use(ready.embedder, ready.dimensions)
        for message in await here.people.gallery.messages(ready.embedder, 0):
            gallery.apply(decode_part(parse_frame(message)))
        assert gallery.current is not None

        async def names(picture: str) -> list[str]:
            found = []
            for face in (await here.people.faces.analyze(portrait(picture))).faces:
                assert gallery.current is not None
                rows = np.asarray(usable(face).embedding)[None, :]
                match = gallery.current.match(rows, now=time.time())
                assert match.best is not None and match.runner_up is not None
                print(
                    picture,
                    match.best.name,
                    round(match.best.similarity, 3),
                    round(match.runner_up.similarity, 3),
                )
                sure = (
                    match.best.similarity >= ready.threshold
                    and match.best.similarity - match.runner_up.similarity >= ready.margin
                )
                found.append(match.best.name if sure else "")
            return found

        assert await names("obama1.jpg") == ["Barack"]
        found = await names("obama_and_biden.jpg")
        assert found == ["Joseph", "Barack", ""], "from left to right, and one whom nobody knows"


async def test_another_model_and_all_pictures_anew(tmp_path: Path) -> None:
    async with site(tmp_path, faces=True, model_dir=model_dir()) as here:
        current = here.people.kit.embedder
        assert current.startswith(f"{MODEL}@") and here.people.faces.processes == (), "told by the file"
        ann = await here.person("Ann")
        taken = await here.people.enrolment.analyse(portrait("obama.jpg"))
        assert taken.embedder == current
        old = replace(taken, embedder="mobilefacenet@000000000000", embedding=direction(1))
        await here.people.enrolment.add(ann.id, old, ADMIN, force=True)
        blank = replace(old, crop=b"\xff\xd8\xffno face", digest="")
        await here.people.enrolment.add(ann.id, blank, ADMIN, force=True)
        assert here.people.gallery.needs_reembedding(current) == 2
        begun = await here.people.reembedding.begin(ADMIN)
        assert (begun.running, begun.total, begun.embedder) == (True, 2, current)
        await eventually(lambda: not here.people.reembedding.view.running, "all pictures")
        done = here.people.reembedding.view
        assert (done.done, done.failed) == (1, 1)
        assert here.people.gallery.needs_reembedding(current) == 1
        (row,) = here.people.known.people[ann.id].faces[current]
        assert float(row @ taken.embedding) > 0.95, "the same face, from its crop"


async def test_started_when_needed_and_ended_when_idle() -> None:
    async with client(model_dir(), idle_seconds=0.2) as faces:
        assert faces.ready is None and faces.processes == ()
        analysis = await faces.analyze(portrait("obama.jpg"))
        assert len(analysis.faces) == 1
        assert faces.ready is not None and faces.ready.embedder.startswith(f"{MODEL}@")
        (process,) = faces.processes
        await eventually(lambda: faces.processes == () and not alive(process), "the idle process ends")
        assert (await faces.analyze(portrait("obama.jpg"))).faces[0].embedding == analysis.faces[0].embedding


async def test_a_process_that_was_killed_is_replaced() -> None:
    async with client(model_dir()) as faces:
        await faces.embedder()
        (process,) = faces.processes
        os.kill(process, signal.SIGKILL)
        assert (await faces.analyze(portrait("obama.jpg"))).faces
        assert faces.processes != (process,)


async def test_bad_pictures_cost_no_process() -> None:
    async with client(model_dir()) as faces:
        await faces.embedder()
        before = faces.processes
        for picture in (b"nothing", b"\xff\xd8\xff" + b"\0" * 5000, b"\x89PNG\r\n\x1a\n" + b"\0" * 50):
            with pytest.raises(RefusedError) as refused:
                await faces.analyze(picture)
            assert (refused.value.code, refused.value.status) == ("NotAPicture", 422)
        assert faces.processes == before


async def test_no_weights_no_folder_no_package(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        async with client(folder) as faces:
            with pytest.raises(RefusedError) as refused:
                await faces.analyze(b"x")
            assert (refused.value.code, refused.value.status) == ("ModelMissing", 503)
            assert "onnx" in str(refused.value), "what to do"


@pytest.mark.parametrize("picture", [b"crash", b"nonsense", b"hang"])
async def test_a_picture_that_breaks_it_breaks_no_other(picture: bytes) -> None:
    async with stub(pool=1, picture_seconds=5.0) as faces:
        if picture == b"hang":
            faces._picture_seconds = 0.3
        with pytest.raises(RefusedError) as refused:
            await faces.analyze(picture)
        assert (refused.value.code, refused.value.status) == ("FacesFailed", 503)
        faces._picture_seconds = 20.0
        assert (await faces.analyze(b"good")).width == 1


async def test_what_waits_is_bounded_and_who_goes_leaves_nothing_behind() -> None:
    async with stub(pool=1, waiting=2, picture_seconds=0.5) as faces:
        await faces.embedder()
        slow = asyncio.create_task(faces.analyze(b"hang"))
        next_one = asyncio.create_task(faces.analyze(b"good"))
        await asyncio.sleep(0)
        with pytest.raises(RefusedError) as refused:
            await faces.analyze(b"good")
        assert refused.value.code == "Busy"
        slow.cancel()
        assert (await next_one).width == 1
        await eventually(lambda: faces._waiting == 0, "the picture of whoever has gone")


async def test_two_at_once_and_all_gone_at_the_end() -> None:
    async with stub(pool=2) as faces:
        await asyncio.gather(*(faces.analyze(b"good") for _ in range(8)))
        processes = faces.processes
        assert len(processes) == 2 and all(map(alive, processes))
    await eventually(lambda: not any(map(alive, processes)), "its processes")
    with pytest.raises(RefusedError):
        await faces.analyze(b"good")


async def test_the_gateway_needs_no_vision_library() -> None:
    """What it imports for people: neither OpenCV nor ONNX Runtime."""
    code = (
        "import sys, camfleet_gateway.people.routes;"
        "print([name for name in ('cv2', 'onnxruntime', 'camfleet_worker') if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"
