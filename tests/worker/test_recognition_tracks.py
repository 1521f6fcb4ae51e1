"""Faces of a clip get the right names and no others, one event each; and are blurred where they must be.

The clip is made of the portraits that ageitgey/face_recognition carries: two people are enrolled from two
pictures each, others are shown.
"""

from __future__ import annotations

import importlib.util
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from camfleet_protocol.appearance import Appearance, Identity
from camfleet_protocol.detections import Detection
from camfleet_protocol.gallery import GalleryPart, GalleryPerson, GalleryUpdate, encode_part
from camfleet_protocol.messages import Demand
from camfleet_protocol.settings import InferenceSettings, Settings
from camfleet_protocol.vision import BlurFaces
from camfleet_worker.detectors.base import DetectorContext, load_detector
from camfleet_worker.detectors.group import DetectorGroup
from camfleet_worker.detectors.yunet import YuNetDetector
from camfleet_worker.outbox import Outbox
from camfleet_worker.picture import Image
from camfleet_worker.privacy import pixelated
from camfleet_worker.recognition.align import align_face
from camfleet_worker.recognition.embedder import OnnxEmbedder, load_embedder
from camfleet_worker.recognition.faces import FaceAnalyzer
from camfleet_worker.sources.video import VideoPicture
from camfleet_worker.tracking.facade import Tracks
from support.fake_gateway import Received, fake_gateway
from support.require import model_dir, sample
from support.worker_process import worker_process

ENROLLED = {"barack": ("obama.jpg", "obama2.jpg"), "joe": ("biden.jpg", "biden2.jpg")}
WIDTH, HEIGHT = 480, 270
CLIP_SECONDS = 60
START = 1_790_000_000.0
RECOGNISES: dict[str, Any] = {
    "inference": {"detectors": ["yunet"], "faceRecognition": {"enabled": True}},
    "privacy": {"retentionDays": 7},
}


class Silent:
    """Hears how detectors fare; a failure is the test's."""

    def failed(self, name: str, error: Exception) -> None:
        raise error

    def recovered(self, name: str) -> None:
        pass


@pytest.fixture(scope="session")
def analyzer() -> FaceAnalyzer:
    return FaceAnalyzer(DetectorContext(model_dir()), "mobilefacenet")


@pytest.fixture(scope="session")
def enrolled(analyzer: FaceAnalyzer) -> GalleryUpdate:
    """Two people from two portraits each."""
    vectors: list[NDArray[np.float32]] = []
    for names in ENROLLED.values():
        for name in names:
            image = cv2.imread(str(sample(f"people/{name}")))
            assert image is not None
            face = max(analyzer.analyze(image), key=lambda face: face.box_px[3])
            assert face.embedding is not None
            vectors.append(face.embedding)
    people = tuple(
        GalleryPerson(id=person, name=person.capitalize(), group="staff", rows=2) for person in ENROLLED
    )
    embedder = load_embedder("mobilefacenet", DetectorContext(model_dir()))
    part = GalleryPart(embedder=embedder.identity, dimensions=128, base=0, part=0, parts=1, people=people)
    return GalleryUpdate(1, part, np.stack(vectors).astype("<f2").tobytes())


def scene(name: str, step: float) -> Image:
    """A portrait on a grey wall, moving to the right."""
    image = cv2.imread(str(sample(f"people/{name}")))
    assert image is not None
    width = round(image.shape[1] * HEIGHT / image.shape[0])
    image = cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA)[:, :WIDTH]
    wall = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    left = min(round(step), WIDTH - image.shape[1])
    wall[:, left : left + image.shape[1]] = image
    return wall


def write_clip(path: Path, pictures: Iterator[Image], fps: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


def shown(seconds: float) -> str:
    """Who is to be seen at this second of the clip."""
    for begin, end, name in ((0, 9, "obama1.jpg"), (13, 19, "obama1.jpg"), (33, 43, "obama_and_biden.jpg")):
        if begin <= seconds < end:
            return name
    return ""


@pytest.fixture(scope="session")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One minute, two pictures a second; nobody is in it for fourteen seconds twice."""
    wall = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    names = [(shown(n / 2), n) for n in range(CLIP_SECONDS * 2)]
    return write_clip(
        tmp_path_factory.mktemp("people") / "portraits.mp4",
        (scene(name, n % 18) if name else wall for name, n in names),
        fps=2,
    )


class Run:
    """Feeds pictures through detection, tracking and a real outbox, at the pace of the machine."""

    def __init__(self, folder: Path, settings: dict[str, Any], detector: str = "yunet") -> None:
        context = DetectorContext(model_dir())
        self.at = START
        self.settings = Settings.model_validate(settings)
        self.outbox = Outbox(folder, "cam")
        self.puts = 0
        self.tracks = Tracks(context, put=self._put, clock=lambda: self.at)
        self._group = DetectorGroup([(detector, load_detector(detector, context))], lambda: self.at)

    def _put(self, event_id: str, **fields: Any) -> None:
        self.puts += 1
        self.outbox.put(event_id, **fields)

    def show(self, frame: av.VideoFrame, seconds: float) -> Sequence[Detection]:
        self.at += seconds
        picture = VideoPicture(frame, number=1, captured_ns=round(self.at * 1e9), discontinuity=False)
        blur = self.settings.privacy.blur_faces is not BlurFaces.NEVER
        turn = self._group.run(picture, self.settings.inference, Silent(), blur=blur, every_face=blur)
        return self.tracks.observe(picture, turn.fresh, turn.ran, self.settings)

    def events(self) -> list[Appearance]:
        """One per event, as it was told last."""
        pending = self.outbox.pending(1000)
        return [Appearance.model_validate(item.event.data) for item in pending]


def frames(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        yield from container.decode(video=0)


def test_ten_minutes_of_portraits_give_the_right_names_and_one_event_per_appearance(
    tmp_path: Path, portraits: Path, enrolled: GalleryUpdate
) -> None:
    run = Run(tmp_path, RECOGNISES)
    decoded = list(frames(portraits))
    assert len(decoded) == CLIP_SECONDS * 2
    labels: dict[str, Counter[str]] = {}
    for minute in range(10):
        for number, frame in enumerate(decoded):
            found = run.show(frame, 0.5)
            if minute == number == 0:
                run.tracks.apply_gallery(enrolled)  # as it comes to a worker that has just started
            labels.setdefault(shown(number / 2), Counter()).update(face.label for face in found)
    assert run.tracks.gallery_version == 1
    assert set(labels["obama1.jpg"]) <= {"Barack", "face"}, "never another name"
    assert set(labels["obama_and_biden.jpg"]) <= {"Barack", "Joe", "face", "unknown"}
    alone, both = labels["obama1.jpg"], labels["obama_and_biden.jpg"]
    assert alone["Barack"] > 0.9 * alone.total() and both["Barack"] == both["Joe"] > 0.8 * 10 * 20
    run.at += 30
    run.tracks.tick(run.settings)
    events = run.events()
    named = Counter(event.person.name for event in events if event.person is not None)
    # Alone (with a pause of four seconds in it) and in the picture with Joe, once a minute each.
    assert named == {"Barack": 20, "Joe": 10}
    assert sum(event.returns for event in events) == 10
    others = [event for event in events if event.person is None]
    assert len(others) == 10, "somebody in the crowd, once a minute"
    assert all(event.identity in (Identity.UNSURE, Identity.UNKNOWN) for event in others)
    assert all(event.ended is not None for event in events)
    assert run.puts <= 3 * len(events), "told when sure and when it has gone, and seldom in between"


@pytest.mark.parametrize("seed", (1, 2))
def test_strangers_of_whom_pictures_are_missed_are_one_appearance_each(
    tmp_path: Path, enrolled: GalleryUpdate, seed: int
) -> None:
    """Six people, seen by a worker that has too little CPU, where strangers must not be shown."""
    package = importlib.util.find_spec("insightface")
    assert package is not None and package.origin is not None
    image = cv2.imread(str(Path(package.origin).parent / "data/images/t1.jpg"))
    assert image is not None
    image = cv2.resize(image, (870, 600), interpolation=cv2.INTER_AREA)
    run = Run(tmp_path, {**RECOGNISES, "privacy": {"retentionDays": 7, "blurFaces": "Unknown"}})
    chance = random.Random(seed)
    seconds = 0.0
    while seconds < 10:
        wall = np.full((720, 1280, 3), 90, np.uint8)
        left = round(seconds * 20)
        wall[60:660, left : left + 870] = image
        pause = chance.choice((0.2, 0.2, 0.2, 0.2, 0.3, 0.4, 0.6, 0.9))
        run.show(av.VideoFrame.from_ndarray(wall, format="bgr24"), pause)
        if not seconds:
            run.tracks.apply_gallery(enrolled)
        seconds += pause
    run.at += 30
    run.tracks.tick(run.settings)
    assert [event.identity for event in run.events()] == [Identity.UNKNOWN] * 6


def test_events_carry_what_people_and_programs_need(
    tmp_path: Path, portraits: Path, enrolled: GalleryUpdate, analyzer: FaceAnalyzer
) -> None:
    run = Run(tmp_path, RECOGNISES)
    for number, frame in enumerate(frames(portraits)):
        run.show(frame, 0.5)
        if number == 0:
            run.tracks.apply_gallery(enrolled)
        if number == 6:
            break
    (item,) = run.outbox.pending(10)
    assert item.event.message == "Barack in view." and item.event.type == "appearance"
    (appearance,) = run.events()
    assert appearance.embedder == item.embedder == run.tracks.embedder and appearance.gallery_version == 1
    assert appearance.detector.startswith("yunet@") and appearance.person is not None
    assert appearance.person.similarity > appearance.person.runner_up + 0.3
    assert len(item.crop) <= 60 * 1024 and len(item.scene) <= 80 * 1024
    scene = cv2.imdecode(np.frombuffer(item.scene, np.uint8), cv2.IMREAD_COLOR)
    crop = cv2.imdecode(np.frombuffer(item.crop, np.uint8), cv2.IMREAD_COLOR)
    assert scene is not None and scene.shape == (HEIGHT, WIDTH, 3)
    (face,) = analyzer.analyze(crop)
    assert face.embedding is not None
    stored = np.frombuffer(item.embedding, "<f2").astype(np.float32)
    assert float(stored @ face.embedding) > 0.8, "the embedding is of the face in the crop"


def test_nothing_is_embedded_unless_retention_is_set(tmp_path: Path, portraits: Path) -> None:
    run = Run(tmp_path, {"inference": RECOGNISES["inference"]})
    for frame in list(frames(portraits))[:6]:
        found = run.show(frame, 0.5)
    assert [face.label for face in found] == ["face"] and found[0].track_id == 1
    assert run.tracks.embedder == "" and run.tracks.reason == "RetentionMissing"
    (item,) = run.outbox.pending(10)
    assert item.event.message == "A face in view." and item.embedding == b"" and item.crop


def test_a_model_that_fails_costs_the_names_and_nothing_else(
    tmp_path: Path, portraits: Path, enrolled: GalleryUpdate, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, RECOGNISES)
    shown = iter(list(frames(portraits)))
    with monkeypatch.context() as broken:
        broken.setattr(OnnxEmbedder, "embed", lambda self, faces: 1 / 0)
        for _ in range(4):
            found = run.show(next(shown), 0.5)
        assert [face.label for face in found] == ["face"]
        assert run.tracks.reason == "RecognitionFailed" and "ZeroDivisionError" in run.tracks.message
    run.tracks.apply_gallery(enrolled)
    for _ in range(4):
        found = run.show(next(shown), 0.5)
    assert [face.label for face in found] == ["Barack"] and run.tracks.reason == ""


def test_a_person_who_is_erased_is_not_known_any_more(
    tmp_path: Path, portraits: Path, enrolled: GalleryUpdate
) -> None:
    run = Run(tmp_path, RECOGNISES)
    for number, frame in enumerate(list(frames(portraits))[:16]):
        found = run.show(frame, 0.5)
        if number == 0:
            run.tracks.apply_gallery(enrolled)
        if number == 10:
            assert found[0].person == "barack"
            part = GalleryPart(
                embedder=run.tracks.embedder, dimensions=128, base=1, part=0, parts=1, removed=("barack",)
            )
            run.tracks.apply_gallery(GalleryUpdate(2, part, b""))
    assert found[0].person == "" and found[0].label == "unknown"
    (event,) = run.events()
    assert event.person is None and event.identity is Identity.UNKNOWN and event.gallery_version == 2


def test_a_face_that_another_one_replaces_at_once_is_another_appearance(
    tmp_path: Path, enrolled: GalleryUpdate
) -> None:
    """Two people at one place, from one picture to the next: the track passes over, the name does not."""
    image = cv2.imread(str(sample("people/obama_and_biden.jpg")))
    assert image is not None
    height, width = image.shape[:2]
    walls = []
    for left in (0.30, 0.49):  # the middles of the two faces are 0.19 apart
        begin, end = round(left * width), round((left + 0.25) * width)
        part = image[round(0.1 * height) : round(0.6 * height), begin:end]
        wall = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        across = round(part.shape[1] * HEIGHT / part.shape[0]) // 2 * 2
        wall[:, 100 : 100 + across] = cv2.resize(part, (across, HEIGHT), interpolation=cv2.INTER_AREA)
        walls.append(wall)
    clip = write_clip(tmp_path / "swap.mp4", (walls[n // 15 % 2] for n in range(30)), fps=5)
    run = Run(tmp_path, RECOGNISES)
    middle: list[list[str]] = []
    for number, frame in enumerate(frames(clip)):
        found = run.show(frame, 0.2)
        if number == 0:
            run.tracks.apply_gallery(enrolled)
        middle.append([face.label for face in found if 0.2 < face.box[0] + face.box[2] / 2 < 0.6])
    names = [name for label in middle for name in label if name != "face"]
    assert names == ["Joe"] * names.count("Joe") + ["Barack"] * names.count("Barack")
    assert names.count("Joe") >= 12 and names.count("Barack") >= 12
    assert not any("Joe" in label for label in middle[15:]), "not for one picture"
    run.at += 30
    run.tracks.tick(run.settings)
    told = [event.person.name for event in run.events() if event.person is not None]
    assert sorted(told) == ["Barack", "Joe"]


@pytest.mark.parametrize("mode", ["Always", "Unknown", "Never"])
def test_pictures_of_events_are_blurred_as_the_settings_say(
    tmp_path: Path, portraits: Path, enrolled: GalleryUpdate, analyzer: FaceAnalyzer, mode: str
) -> None:
    looker = Looker()
    original = max(analyzer.analyze(scene("obama1.jpg", 0)), key=lambda face: face.box_px[3]).embedding
    run = Run(tmp_path, {**RECOGNISES, "privacy": {"retentionDays": 7, "blurFaces": mode}})
    nobody = enrolled.part.model_copy(update={"people": enrolled.part.people[1:]})
    likeness: list[list[float]] = []
    for number, frame in enumerate(list(frames(portraits))[:17]):
        run.show(frame, 0.5)
        if number == 0:  # without Barack
            run.tracks.apply_gallery(GalleryUpdate(1, nobody, enrolled.vectors[nobody.size :]))
        if number == 10:
            run.tracks.apply_gallery(GalleryUpdate(2, enrolled.part, enrolled.vectors))
        if number in (8, 16):
            (item,) = run.outbox.pending(10)
            pictures = (cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in (item.crop, item.scene))
            likeness.append([looker.likeness(picture, original) for picture in pictures])
            message = item.event.message
    assert message == "Barack in view."
    clear_before, clear_after = mode == "Never", mode != "Always"
    assert [like > 0.6 for like in likeness[0]] == [clear_before] * 2, likeness
    assert [like > 0.6 for like in likeness[1]] == [clear_after] * 2, likeness
    assert all(like > 0.6 or like < 0.35 for both in likeness for like in both)


def test_persons_of_the_sample_clip_are_counted_with_zones_and_dwell(tmp_path: Path) -> None:
    """Six people come in one by one, stand at the table for ten seconds and more, and leave to the right."""
    table = [{"x": 0.4, "y": 0.6}, {"x": 0.75, "y": 0.6}, {"x": 0.75, "y": 1}, {"x": 0.4, "y": 1}]
    door = [{"x": 0.78, "y": 0}, {"x": 1, "y": 0}, {"x": 1, "y": 1}, {"x": 0.78, "y": 1}]
    options = {"name": "yolox", "confidence": 0.5, "classes": ["person"]}
    zones = [
        {"name": "table", "points": table, "dwellSeconds": 5},
        {"name": "door", "points": door, "dwellSeconds": 5},
    ]
    inference = {"detectors": ["yolox"], "detectorOptions": [options], "zones": zones}
    run = Run(tmp_path, {"inference": inference}, "yolox")
    counts: set[tuple[str, str, int]] = set()
    for number, frame in enumerate(frames(sample("one-by-one-person-detection.mp4"))):
        if number % 5 == 0:  # of ten a second
            run.show(frame, 0.5)
            counts.update((one.label, one.zone, one.count) for one in run.tracks.present)
    run.at += 30
    run.tracks.tick(run.settings)
    events = run.events()
    assert [event.label for event in events] == ["person"] * 6
    assert [[stay.name for stay in event.zones] for event in events] == [["table"]] * 6, (
        "no one stays in the door"
    )
    assert all(8 < event.zones[0].seconds < 30 for event in events)
    assert counts == {("person", "", 1), ("person", "table", 1)}, "never two at once"


# ── Blur ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pixelated_face_is_nobodys(analyzer: FaceAnalyzer) -> None:
    image = cv2.imread(str(sample("people/obama1.jpg")))
    assert image is not None
    (face,) = analyzer.analyze(image)
    height, width = image.shape[:2]
    left, top, across, down = face.box_px
    box = (left / width, top / height, across / width, down / height)
    hidden = pixelated(image, [box])
    part = hidden[round(top) + 9 : round(top + down) - 9, round(left) + 9 : round(left + across) - 9]
    assert len(np.unique(part.reshape(-1, 3), axis=0)) <= 64, "a few flat blocks"
    assert not np.shares_memory(hidden, image)
    looker = Looker()
    assert looker.likeness(image, face.embedding) > 0.8
    assert looker.likeness(hidden, face.embedding) < 0.3


class Looker:
    """Finds and compares faces as whoever got hold of a picture might."""

    def __init__(self) -> None:
        context = DetectorContext(model_dir())
        self._detector = YuNetDetector(context)
        self._embedder = load_embedder("mobilefacenet", context)

    def likeness(self, image: Image, embedding: NDArray[np.float32]) -> float:
        """The most that any face of a picture is like this one; -1 if there is no face."""
        size = np.array(image.shape[1::-1], np.float32)
        aligned = [
            align_face(image, np.asarray(face.landmarks, np.float32) * size)
            for face in self._detector.detect(image, confidence=0.5)
        ]
        return float((self._embedder.embed(aligned) @ embedding).max(initial=-1.0))


def _decoded(received: Received) -> Image:
    image = cv2.imdecode(np.frombuffer(received.frame.payload, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


async def test_no_picture_of_a_worker_shows_a_face_that_must_not_be_seen(
    tmp_path: Path, enrolled: GalleryUpdate, analyzer: FaceAnalyzer
) -> None:
    """Two people who come and go, each to where the other one was; then one is enrolled, and may be seen."""
    looker = Looker()
    nobody = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    both = [scene("obama_and_biden.jpg", step) for step in (0, 30, 60, 90)]
    joe, barack = (
        face.embedding for face in sorted(analyzer.analyze(both[0])[:2], key=lambda face: face.box_px)
    )
    clip = write_clip(
        tmp_path / "both.mp4", (both[n // 20 % 4] if n % 20 > 3 else nobody for n in range(80)), fps=20
    )
    settings = {
        mode: Settings.model_validate({**RECOGNISES, "privacy": {"retentionDays": 7, "blurFaces": mode}})
        for mode in ("Always", "Unknown")
    }
    async with (
        fake_gateway(demand=Demand(plain=True, annotated=True)) as gateway,
        worker_process(
            tmp_path / "worker",
            gateway_url=gateway.url,
            source_json=json.dumps({"file": {"path": str(clip), "loop": True}}),
            settings_json=settings["Always"].model_dump_json(by_alias=True),
            model_dir=model_dir(),
        ),
    ):
        await gateway.until(lambda: sum(bool(one.meta.detections) for one in gateway.frames) >= 16, "faces")
        for received in gateway.frames:
            image = _decoded(received)
            for embedding in (joe, barack):
                assert looker.likeness(image, embedding) < 0.35
        assert not gateway.stats[-1].inference_reason
        await gateway.configure(settings["Unknown"])
        await gateway.send(_only_barack(enrolled))
        begin = len(gateway.frames)

        def seen() -> bool:
            newest = gateway.frames[-1]
            return _named(newest) and looker.likeness(_decoded(newest), barack) > 0.5

        await gateway.until(seen, "who is known is clear", 40)
        await gateway.until(lambda: sum(_named(one) for one in gateway.frames[begin:]) >= 16, "some more")
        after = gateway.frames[begin:]
        assert all(looker.likeness(_decoded(one), joe) < 0.35 for one in after)
        # Nobody looks for faces any more: then nothing is to be seen at all, and the worker says why.
        off = settings["Unknown"].model_copy(update={"inference": InferenceSettings(enabled=False)})
        await gateway.configure(off)
        await gateway.until(lambda: gateway.stats[-1].inference_reason == "FacesNotFound", "it says so")
        last = _decoded(gateway.frames[-1])
        assert last[:30, :50].reshape(-1, 3).std(axis=0).max() < 4, "flat blocks"


def _named(received: Received) -> bool:
    return any(face.label == "Barack" for face in received.meta.detections)


def _only_barack(update: GalleryUpdate) -> bytes:
    part = update.part.model_copy(update={"people": update.part.people[:1]})
    return encode_part(1, part, update.vectors[: part.size])
