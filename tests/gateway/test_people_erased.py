"""Somebody is enrolled, seen and erased: by the API, a worker's socket and the files of a real gateway."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sqlite3
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_clients import FakeWorker, eventually
from people_office import FIRST, NAMES, SECOND, Office, portrait
from people_site import JPEG, base64_row
from websockets.asyncio.client import connect

from camfleet_gateway.people.faces_client import FacesClient
from camfleet_gateway.people.judging import choose
from camfleet_protocol.messages import EventRecord, WorkerEvent
from camfleet_worker.recognition.gallery import GalleryStore
from support.gateway_process import put_camera, test_pattern, worker_token
from support.require import model_dir

pytestmark = pytest.mark.e2e
CROP = base64.b64encode(JPEG).decode()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.close()


async def embedded(picture: str) -> tuple[str, Any]:
    """The model and the vector of a portrait's face."""
    faces = FacesClient(model_dir(), "mobilefacenet")
    try:
        found = choose(await faces.analyze(portrait(picture)))
        return (await faces.embedder()).embedder, found.embedding
    finally:
        await faces.stop()


class Recogniser:
    """The part of a worker that has the gallery."""

    def __init__(self, worker: FakeWorker, embedder: str, dimensions: int) -> None:
        self.gallery = GalleryStore()
        self.gallery.use(embedder, dimensions)
        self._worker = worker
        self._taken = 0
        self._embedder = embedder
        worker.has = {"embedder": embedder, "gallery_version": 0}

    def take(self) -> None:
        """Take what the gateway has sent, and say so."""
        for part in self._worker.parts[self._taken :]:
            self.gallery.apply(part)
        self._taken = len(self._worker.parts)
        self._worker.has["gallery_version"] = self.gallery.version(self._embedder)

    def knows(self, *people: str) -> bool:
        self.take()
        current = self.gallery.current
        return current is not None and len(current) == len(people) and all(each in current for each in people)


def seen(event_id: str, camera: str, person: dict[str, Any]) -> EventRecord:
    data = {"kind": "face", "label": "face", "track": 1, "identity": "known", "person": person}
    return EventRecord(
        id=event_id,
        time=time.time(),
        camera=camera,
        type="appearance",
        message=f"{person['name']} appeared",
        data=data,
        order=1,
    )


async def test_erased_everywhere(office: Office) -> None:
    ids = {}
    for name, pictures in zip(NAMES, (FIRST, SECOND), strict=True):
        ids[name] = office.person(name, external_id=f"badge-{name}")
        for picture in pictures:
            assert office.add(ids[name], portrait(picture)).status_code == 201
    embedder, vector = await embedded("obama1.jpg")
    gone, stays = ids[NAMES[0]], ids[NAMES[1]]
    recognises = {"inference": {"faceRecognition": {"enabled": True}}, "privacy": {"retentionDays": 3}}
    camera = put_camera(office.state, test_pattern("door", **recognises))
    await eventually(lambda: office.viewer.get("/api/cameras/door").status_code == 200, "the camera")
    token = worker_token(office.state, camera)
    live = f"ws{office.gateway.viewer_url.removeprefix('http')}/ws/events?person={gone}"
    async with (
        FakeWorker.running(office.gateway.internal_url, camera.id, token) as worker,
        connect(live, additional_headers=office.tokens.header("viewer")) as listener,
    ):
        await worker.accepted()
        recogniser = Recogniser(worker, embedder, len(vector))
        await eventually(lambda: recogniser.knows(gone, stays), "the gallery")
        assert recogniser.gallery.current is not None
        match = recogniser.gallery.current.match(np.asarray(vector)[None, :], now=time.time())
        assert match.best is not None and match.best.name == NAMES[0] and match.best.similarity > 0.6
        told = {"id": match.best.id, "name": match.best.name, "group": "staff", "similarity": 0.8}
        event = WorkerEvent(
            event=seen("seen-1", camera.id, told),
            crop=CROP,
            scene=CROP,
            embedding=base64_row(vector),
            embedder=embedder,
        )
        nobody = {**event.event.data, "identity": "unknown", "person": None}
        unnamed = event.event.model_copy(update={"id": "seen-0", "message": "somebody", "data": nobody})
        await worker.socket.send(event.model_copy(update={"event": unnamed}).encode())
        await worker.socket.send(event.encode())
        await worker.event_acks(2)
        found = await asyncio.to_thread(office.viewer.get, "/api/events", params={"person": gone})
        assert [each["id"] for each in found.json()["events"]] == ["seen-1"]

        def searched() -> list[str]:
            answer = office.operator.get("/api/faces/search", params={"person": gone})
            return [hit["event"]["id"] for hit in answer.json().get("faces", [])]

        await eventually(lambda: asyncio.to_thread(searched), "the face in the index of vectors", within=60)
        assert gone in dump(office.data) and traces(office.data, gone, "seen-1")

        path = f"/api/people/{gone}"
        before = (await asyncio.to_thread(office.admin.get, f"{path}/erasure")).json()
        assert before == {"faces": 2, "events": 1, "pictures": 4, "lookalikes": 1, "lookalike_pictures": 2}
        assert (await asyncio.to_thread(office.operator.get, f"{path}/erasure")).status_code == 403
        answer = await asyncio.to_thread(office.admin.delete, path)
        assert answer.status_code == 200, answer.text
        assert answer.json()["erased"] == {
            "faces": 2, "events": 1, "lookalikes": 1, "pictures": 6, "vectors": 4
        }  # fmt: skip
        await eventually(lambda: recogniser.knows(stays), "the gallery without them")
        told = [json.loads(await asyncio.wait_for(listener.recv(), 60))["event"] for _ in range(2)]
        assert [(each["revision"], each["person"] is None) for each in told] == [(0, False), (1, True)]

        # The worker repeats what it had told before it heard of it.
        late = event.model_copy(update={"event": event.event.model_copy(update={"revision": 5})})
        await worker.socket.send(late.encode())
        await worker.event_acks(3)

    for trace in (gone, NAMES[0], f"badge-{NAMES[0]}"):
        assert trace not in dump(office.data, without=("audit", "removed_people")), trace
    assert NAMES[0] not in dump(office.data), "the audit log holds no names"
    assert not traces(office.data, gone, "seen-0", "seen-1"), "files"
    for path in office.data.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert NAMES[0].encode() not in content, path
    for event_id in ("seen-0", "seen-1"):
        view = office.viewer.get(f"/api/events/{event_id}").json()
        assert view["person"] is None and view["crop_url"] is None and view["embedder"] == ""
    hits = office.operator.get("/api/faces/search", params={"event": "seen-1"})
    assert hits.status_code == 422, hits.text
    by_picture = office.operator.post("/api/faces/search", content=portrait("obama1.jpg")).json()
    assert by_picture["faces"] == [] and gone not in json.dumps(by_picture)
    with zipfile.ZipFile(io.BytesIO(office.admin.get("/api/people/export").content)) as archive:
        assert not any(gone in name for name in archive.namelist())
        assert gone.encode() not in archive.read("people.jsonl") + archive.read("faces.jsonl")
        assert stays.encode() in archive.read("people.jsonl")
    (entry,) = [
        each
        for each in office.admin.get("/api/audit", params={"subject": gone}).json()["entries"]
        if each["action"] == "person.erase"
    ]
    assert (entry["detail"]["events"], entry["detail"]["lookalikes"]) == (1, 1)
    assert entry["actor"] == "the-admin"
    assert office.operator.get("/api/people", params={"query": NAMES[0]}).json()["people"] == []


def dump(data: Path, *, without: tuple[str, ...] = ()) -> str:
    """All rows of the database as text."""
    database = sqlite3.connect(data / "camfleet.db")
    try:
        names = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        return "\n".join(
            repr(row)
            for name in names
            if name not in without
            for row in database.execute(f'select * from "{name}"')
        )
    finally:
        database.close()


def traces(data: Path, *marks: str) -> list[str]:
    """Files whose path tells of them."""
    paths = [path.relative_to(data).as_posix() for path in data.rglob("*")]
    return [path for path in paths if any(mark in path for mark in marks)]
