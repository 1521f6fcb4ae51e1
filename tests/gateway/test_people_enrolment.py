"""Enrolment by pictures through a real gateway, with its own faces process and real weights."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from people_office import FIRST, NAMES, SECOND, Office, portrait
from people_site import ADMIN, site, zipped

from camfleet_gateway.people.problems import RefusedError
from support.require import model_dir

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("office"))
    yield office
    office.close()


@pytest.fixture
def office(opened: Office) -> Iterator[Office]:
    yield opened
    opened.erase_all()


def changed(name: str, *, width: int = 0, quality: int = 92) -> bytes:
    """A portrait scaled down or packed anew, as JPEG."""
    image = cv2.imdecode(np.frombuffer(portrait(name), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    if width:
        image = cv2.resize(
            image, (width, width * image.shape[0] // image.shape[1]), interpolation=cv2.INTER_AREA
        )
    return jpeg(image, quality)


def jpeg(image: Any, quality: int = 92) -> bytes:
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])


def test_two_people_from_two_portraits_each(office: Office) -> None:
    ids = []
    for name, portraits in zip(NAMES, (FIRST, SECOND), strict=True):
        person = office.person(name, external_id=f"no-{name}", note="a note")
        ids.append(person)
        for number, picture in enumerate(portraits):
            answer = office.add(person, portrait(picture))
            assert answer.status_code == 201, answer.text
            face = answer.json()
            assert face["embedder"].startswith("mobilefacenet@") and face["source"] == "upload"
            assert face["quality"]["score"] > 0.3 and face["quality"]["height_px"] > 40
            crop = office.viewer.get(face["url"])
            assert crop.status_code == 200 and crop.content.startswith(b"\xff\xd8")
            assert len(crop.content) < len(portrait(picture)), "only the face is kept"
            shown = office.viewer.get(f"/api/people/{person}").json()
            assert shown["faces"] == number + 1 and shown["thumbnail_url"] == shown["thumbnail_url"]
    listed = office.viewer.get("/api/people").json()
    assert [person["name"] for person in listed["people"]] == sorted(NAMES)
    assert listed["total"] == 2 and listed["groups"] == {"staff": 2}
    assert {person["faces"] for person in listed["people"]} == {2}
    assert {person["note"] for person in listed["people"]} == {None}, "notes are not for viewers"
    told = office.operator.get("/api/people", params={"query": "NO-BARACK"}).json()
    assert [(person["name"], person["note"]) for person in told["people"]] == [("Barack", "a note")]
    # Another portrait is recognised: enrolling it for the other one is refused, and says whom it shows.
    wrong = office.add(ids[1], portrait("obama1.jpg"))
    assert wrong.status_code == 409, wrong.text
    error = wrong.json()["error"]
    assert error["code"] == "LooksLikeSomebodyElse" and "Barack" in error["message"]
    assert office.add(ids[0], portrait("obama1.jpg")).status_code == 201
    forced = office.add(ids[1], portrait("obama1.jpg"), force=1)
    assert forced.status_code == 201
    assert office.operator.delete(f"/api/people/{ids[1]}/faces/{forced.json()['id']}").status_code == 204
    faces = office.viewer.get(f"/api/people/{ids[1]}/faces").json()["faces"]
    assert len(faces) == 2 and forced.json()["id"] not in {face["id"] for face in faces}


def test_reasons_are_plain(office: Office) -> None:
    person = office.person("Barack")
    assert office.add(person, portrait("obama.jpg")).status_code == 201
    blank = jpeg(np.full((480, 640, 3), 128, np.uint8))
    for picture, status, code, words in (
        (portrait("obama.jpg"), 409, "Duplicate", "very picture"),
        (changed("obama.jpg", quality=80), 409, "Duplicate", "nothing new"),
        (portrait("obama_and_biden.jpg"), 422, "SeveralFaces", "3 faces"),
        (changed("biden.jpg", width=60), 422, "TooSmall", "pixels high"),
        (blank, 422, "NoFace", "no face"),
        (b"not a picture at all", 422, "NotAPicture", ""),
        (b"", 422, "NotAPicture", "empty"),
    ):
        answer = office.add(person, picture)
        assert answer.status_code == status, (code, answer.text)
        error = answer.json()["error"]
        assert error["code"] == code and words in error["message"], error
    assert office.add(person, changed("obama.jpg", quality=80), force=1).status_code == 201
    assert office.add(person, b"\xff" * (21 * 2**20)).status_code == 413
    assert office.add("nobody", portrait("obama.jpg")).json()["error"]["code"] == "unknown_person"
    form = office.operator.post(f"/api/people/{person}/faces", files={"picture": portrait("biden.jpg")})
    assert form.status_code == 415, "the body is the picture itself"


def test_who_may_do_what(office: Office) -> None:
    person = office.person("Barack")
    body: dict[str, Any] = {"json": {"name": "Joseph"}}
    for role, method, path, options, status in (
        ("viewer", "POST", "/api/people", body, 403),
        ("viewer", "PATCH", f"/api/people/{person}", body, 403),
        ("viewer", "POST", f"/api/people/{person}/faces", {"content": b"x"}, 403),
        ("viewer", "POST", "/api/people/import", {"content": b"x"}, 403),
        ("viewer", "POST", "/api/events/e/person", {"json": {"person_id": person}}, 403),
        ("operator", "DELETE", f"/api/people/{person}", {}, 403),
        ("operator", "GET", "/api/people/export", {}, 403),
        ("operator", "POST", "/api/people/reembed", {}, 403),
        ("viewer", "GET", f"/api/people/{person}", {}, 200),
        ("viewer", "GET", "/api/people/a%00b", {}, 422),
        ("viewer", "GET", "/api/people?query=%00", {}, 422),
        ("operator", "POST", "/api/events/a%00b/person", {"json": {"person_id": person}}, 422),
    ):
        answer = office.clients[role].request(method, path, **options)
        assert answer.status_code == status, (role, method, path, answer.text)
    nobody = httpx.get(f"{office.gateway.viewer_url}/api/people/{person}/faces/x.jpg", timeout=15)
    assert nobody.status_code == 401


def test_fields_are_checked_and_changed(office: Office) -> None:
    for body in (
        {},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "x" * 129},
        {"name": "a", "group": "Not A Label"},
        {"name": "a", "valid_from": "2026-02-01", "valid_until": "2026-01-01"},
        {"name": "a", "valid_from": "tomorrow"},
        {"name": "a", "age": 7},
    ):
        answer = office.operator.post("/api/people", json=body)
        assert answer.status_code == 422 and answer.json()["error"]["problems"], body
    person = office.person("Barack", group="night-shift", external_id="7", valid_from="2026-01-01")
    path = f"/api/people/{person}"
    view = office.operator.get(path).json()
    assert (view["group"], view["valid_from"], view["valid"]) == ("night-shift", 1767225600.0, True)
    taken = office.operator.post("/api/people", json={"name": "Joseph", "external_id": "7"})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "ExternalIdTaken")
    ended = office.operator.patch(path, json={"valid_until": "2026-01-31", "external_id": None}).json()
    assert (ended["valid_until"], ended["external_id"], ended["valid"]) == (1769903999.0, None, False)
    wrong = office.operator.patch(path, json={"valid_until": "2025-01-31"})
    assert wrong.status_code == 422 and "valid_until" in wrong.json()["error"]["message"]
    assert office.operator.patch(path, json={"name": None}).status_code == 422
    found = office.viewer.get("/api/people", params={"group": "night-shift"}).json()
    assert [each["id"] for each in found["people"]] == [person]


def test_pages(office: Office) -> None:
    for name in ("anna", "Bert", "berta", "Carl", "100%_sure", "Özge"):
        office.person(name)
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = office.viewer.get("/api/people", params=query).json()
        seen += [person["name"] for person in page["people"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ["100%_sure", "anna", "Bert", "berta", "Carl", "Özge"]
    for query, names in (
        ("bert", ["Bert", "berta"]),
        ("%_", ["100%_sure"]),
        ("_", ["100%_sure"]),
        ("özge", ["Özge"]),
    ):
        found = office.viewer.get("/api/people", params={"query": query}).json()
        assert [person["name"] for person in found["people"]] == names
    for cursor in ("!", "WyJcdWQ4MDAiLCJhIl0"):
        assert office.viewer.get("/api/people", params={"cursor": cursor}).status_code == 422


def test_an_import_twice_changes_nothing_and_an_export_restores(office: Office) -> None:
    table = (
        "name,group,external_id,valid_from,valid_until,note,pictures\r\n"
        "Barack,staff,1,2026-01-01,,first,a.jpg;b.jpg\r\n"
        'Joseph,visitor,2,,2030-12-31,"x, y",pictures/c.jpg\r\n'
        "Nobody,Bad Group,3,,,,\r\n"
        "Missing,staff,4,,,,missing.jpg\r\n"
    )
    files = {
        "people/people.csv": table.encode("utf-8-sig"),
        "people/a.jpg": portrait("obama.jpg"),
        "people/b.jpg": portrait("obama2.jpg"),
        "people/pictures/c.jpg": portrait("biden.jpg"),
        "people/Joseph/other.jpg": portrait("biden2.jpg"),
        "people/Joseph/both.jpg": portrait("obama_and_biden.jpg"),
        "__MACOSX/people/._a.jpg": b"junk",
    }
    report = office.imported(zipped(files))
    assert (report["format"], report["created"], report["refused"]) == ("table", 3, 1), report
    assert (report["faces_added"], report["pictures_refused"]) == (4, 2)
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["Nobody"]["action"] == "refused" and "group" in rows["Nobody"]["message"]
    assert [problem["code"] for problem in rows["Joseph"]["problems"]] == ["SeveralFaces"]
    assert [problem["code"] for problem in rows["Missing"]["problems"]] == ["NoSuchFile"]
    again = office.imported(zipped(files))
    assert (again["created"], again["updated"], again["unchanged"]) == (0, 0, 3), again
    assert again["faces_added"] == 0 and sum(row["faces_known"] for row in again["rows"]) == 4
    updated = office.imported(b"name;external_id;group\nBarack H.;1;blocked\n")
    assert (updated["updated"], updated["rows"][0]["name"]) == (1, "Barack H.")
    assert office.operator.get("/api/people/import").json()["running"] is False

    before = office.everybody()
    archive = office.admin.get("/api/people/export")
    assert archive.status_code == 200 and archive.headers["content-type"] == "application/zip"
    restored = office.imported(archive.content)
    assert (restored["format"], restored["unchanged"], restored["faces_added"]) == ("export", 3, 0)
    office.erase_all()
    refused = office.imported(archive.content)
    assert (refused["refused"], {row["code"] for row in refused["rows"]}) == (3, {"Erased"})
    assert office.everybody() == []
    assert [person["name"] for person, _ in before] == ["Barack H.", "Joseph", "Missing"]


async def test_an_export_restores_exactly_elsewhere(office: Office, tmp_path: Path) -> None:
    barack = office.person("Barack", note="=1+1", valid_until=2_000_000_000.25)
    for name in FIRST:
        assert office.add(barack, portrait(name)).status_code == 201
    archive = tmp_path / "people.zip"
    archive.write_bytes(office.admin.get("/api/people/export").content)
    faces = "select id, digest, quality, embedder, source, created from faces order by id"
    people = "select id, name, person_group, note, external_id, valid_until, created, updated from people"
    async with site(tmp_path / "elsewhere", faces=True, model_dir=model_dir()) as there:
        report = await there.people.importer.run(archive, ADMIN, group="", force=False)
        assert (report.created, report.faces_added, report.refused) == (1, 2, 0), report
        for query in (faces, people):
            assert stored(tmp_path / "elsewhere", query) == stored(office.data, query)
        for face_id, *_ in stored(office.data, faces):
            picture = office.viewer.get(f"/api/people/{barack}/faces/{face_id}.jpg").content
            assert there.store.snapshots.read_face(barack, face_id) == picture
        # The vectors are as they were, and nothing was embedded anew: no process was needed so far.
        assert there.people.faces.ready is None
        with pytest.raises(RefusedError, match="almost the same"):
            face = await there.people.enrolment.analyse(changed(FIRST[0], quality=85))
            await there.people.enrolment.add(barack, face, ADMIN, force=False)


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({"../evil.jpg": b"x"}, "leads out"),
        ({"/etc/evil.jpg": b"x"}, "leads out"),
        ({"a\\..\\evil.jpg": b"x"}, "leads out"),
        ({"a/b.jpg": bytes(30_000_000)}, "too tightly"),
        ({f"a/{n}.jpg": b"" for n in range(10_001)}, "10000 files"),
        ({"readme.txt": b"hello"}, "neither"),
        ({"people.csv": b"name,colour\na,red\n"}, "colour"),
        ({"people.csv": b"group\nstaff\n"}, "name among them"),
        ({"people.csv": b"\xff\xfe\x00"}, "UTF-8"),
        ({"manifest.json": b"{}", "people.jsonl": b"", "faces.jsonl": b""}, "manifest"),
    ],
)
def test_archives_that_nobody_packs_by_accident(office: Office, files: dict[str, bytes], part: str) -> None:
    answer = office.operator.post("/api/people/import", content=zipped(files))
    assert answer.status_code == 422, answer.text
    assert part in answer.json()["error"]["message"]
    assert office.everybody() == []


def test_links_and_nonsense_are_not_taken(office: Office) -> None:
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("Ann/1.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    for content in (stream.getvalue(), b"PK\x03\x04nonsense", b"PK\x05\x06" + b"\xff" * 18, b"\x00\x01", b""):
        answer = office.operator.post("/api/people/import", content=content)
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"]["code"] in ("BadArchive", "BadTable")
    scratch = office.data / "scratch"
    assert not list(scratch.glob("*")), "nothing stays of what was sent"


def stored(data: Path, query: str) -> list[tuple[Any, ...]]:
    """Rows of a database, read beside its gateway."""
    database = sqlite3.connect(data / "camfleet.db")
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()
