"""Following, recognising and telling put together; detector and model say what the test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from camfleet_protocol.detections import Detection
from camfleet_protocol.gallery import GalleryPart, GalleryPerson, GalleryUpdate
from camfleet_protocol.settings import Settings
from camfleet_protocol.vision import BlurFaces
from camfleet_worker import inference
from camfleet_worker.counters import Counters
from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError
from camfleet_worker.dispatch import Dispatcher
from camfleet_worker.inference import Inference
from camfleet_worker.live import Live
from camfleet_worker.picture import Image, Picture
from camfleet_worker.presence import Presence
from camfleet_worker.privacy import Face, FaceCover
from camfleet_worker.recognition import recognizer
from camfleet_worker.recognition.quality import FaceQuality
from camfleet_worker.tracking.facade import Tracks
from camfleet_worker.tracking_port import Ran
from camfleet_worker.watchdog import Stage

Box = tuple[float, float, float, float]
Vector = NDArray[np.float32]
START = 1_790_000_000.0
SECOND = 1_000_000_000
HERE, THERE = (0.2, 0.3, 0.1, 0.3), (0.7, 0.3, 0.1, 0.3)
ANN, BOB = np.eye(8, dtype=np.float32)[:2]
FACES = (Ran("yunet", "face", "yunet@000000000000"),)
OBJECTS = (Ran("yolox", "object", "yolox@000000000000"),)


class Shot(Picture):
    """Noise, another one for each `look`; dark on the left, bright on the right."""

    def __init__(self, number: int, at: float, look: int) -> None:
        super().__init__(
            number=number, captured_ns=round(at * 1e9), width=640, height=360, discontinuity=False
        )
        self._look = look

    def _convert(self, width: int, height: int) -> Image:
        image = np.random.default_rng(self._look).integers(0, 128, (height, width, 3), dtype=np.uint8)
        image[:, width // 2 :] += 127
        return image


class Model:
    """Says that every face is the one it was told."""

    identity = "fake@000000000000"
    dimensions, threshold, margin = 8, 0.45, 0.05

    def __init__(self) -> None:
        self.vector: Vector = ANN
        self.vectors: dict[bool, Vector] = {}
        """Whose dark faces and whose bright ones are, if not the same one's."""

    def embed(self, aligned: Sequence[Image]) -> Vector:
        return np.stack([self.vectors.get(face.mean() > 127, self.vector) for face in aligned])


@dataclass
class Told:
    """A revision of an event."""

    at: float
    id: str
    data: dict[str, Any]
    embedding: bytes
    crop: bytes

    @property
    def name(self) -> str:
        return str(self.data.get("person", {}).get("name", ""))


@dataclass
class Scene:
    """Five pictures a second, unless said otherwise."""

    model: Model
    at: float = 0.0
    number: int = 0
    look: int = 0
    told: list[Told] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    shown: Sequence[Detection] = ()

    def __post_init__(self) -> None:
        self.tracks = Tracks(DetectorContext(None), put=self._put, clock=lambda: START + self.at)

    def _put(self, event_id: str, *, data: dict[str, Any], **more: Any) -> None:
        self.told.append(Told(self.at, event_id, data, more.get("embedding", b""), more.get("crop", b"")))

    def set(
        self, recognition: bool = True, retention: int | None = 7, blur: str = "Never", **inference: Any
    ) -> None:
        self.settings = Settings.model_validate(
            {
                "inference": {
                    "detectors": ["yunet"],
                    "faceRecognition": {"enabled": recognition},
                    **inference,
                },
                "privacy": {"retentionDays": retention, "blurFaces": blur},
            }
        )

    def show(
        self, seconds: float, *boxes: Box, every: float = 0.2, kind: str = "face", detectors: int = 1
    ) -> None:
        for _ in range(round(seconds / every)):
            self.at, self.number = self.at + every, self.number + 1
            found = [_found(kind, box) for box in boxes]
            self.shown = self.tracks.observe(
                Shot(self.number, START + self.at, self.look),
                found,
                (FACES * detectors) if kind == "face" else OBJECTS,
                self.settings,
            )

    def enrol(self) -> None:
        people = tuple(GalleryPerson(id=name.lower(), name=name, rows=1) for name in ("Ann", "Bob"))
        part = GalleryPart(embedder=Model.identity, dimensions=8, base=0, part=0, parts=1, people=people)
        self.tracks.apply_gallery(GalleryUpdate(1, part, np.stack([ANN, BOB]).astype("<f2").tobytes()))

    @property
    def last(self) -> list[Told]:
        """Each event as it was told last."""
        return list({told.id: told for told in self.told}.values())


def _found(kind: str, box: Box) -> Detection:
    left, top, width, height = box
    landmarks = tuple((left + 0.15 * width * i, top + 0.1 * height * i) for i in range(5))
    label = "face" if kind == "face" else "person"
    return Detection(
        kind=kind, label=label, score=0.9, box=box, landmarks=landmarks if kind == "face" else ()
    )


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    model = Model()
    monkeypatch.setattr(recognizer, "load_embedder", lambda name, context: model)
    good = FaceQuality(height_px=100, sharpness=100, yaw=0, pitch=0, roll=0, score=0.9)
    monkeypatch.setattr(recognizer, "measure", lambda *args, **more: good)
    monkeypatch.setattr(recognizer, "refuse", lambda *args, **more: None)
    scene = Scene(model)
    scene.set()
    return scene


def _ann_is_here(scene: Scene) -> None:
    scene.show(0.2, HERE)
    scene.enrol()
    scene.show(3.8, HERE)
    assert [told.name for told in scene.last] == ["Ann"]


def test_more_faces_than_can_be_covered_one_by_one_cover_the_picture() -> None:
    cover = FaceCover()
    for number, count in ((1, 300), (2, 1025)):
        faces = [Face((n % 40 / 40, n // 40 / 40, 0.02, 0.02), n) for n in range(count)]
        cover.saw(number * 10 * SECOND, faces)
        areas = cover.areas(number * 10 * SECOND, BlurFaces.UNKNOWN)
        assert isinstance(areas, tuple)
        if count == 300:
            assert len(areas) == 300
        else:
            assert areas == ((0.0, 0.0, 1.0, 1.0),)


def test_a_track_that_passed_to_somebody_else_stays_theirs_when_recognition_ends(scene: Scene) -> None:
    _ann_is_here(scene)
    scene.model.vector, scene.look = BOB, 1
    scene.show(4, HERE)
    assert [told.name for told in scene.last] == ["Ann", "Bob"]
    scene.set(recognition=False)
    scene.show(6, HERE)
    scene.show(20)
    ann, bob, nobody = scene.last
    assert (ann.name, bob.name, nobody.name) == ("Ann", "Bob", "")
    assert ann.data["ended"] <= START + 5, "the second face is not hers"
    assert bob.data["ended"] == pytest.approx(START + 8, abs=0.1)
    assert nobody.data["started"] > START + 8 and nobody.data["ended"] == pytest.approx(START + 14)


@pytest.mark.parametrize("how", ["switched off", "no retention", "no picture"])
def test_when_recognition_ends_nobody_in_view_keeps_a_name(scene: Scene, how: str) -> None:
    _ann_is_here(scene)
    scene.set(recognition=how == "no retention", retention=None)
    if how == "no picture":
        scene.tracks.tick(scene.settings)
    else:
        scene.show(0.2, HERE)
    (ann,) = scene.last
    assert ann.name == "Ann" and ann.data["ended"] == pytest.approx(START + 4)
    assert (scene.tracks.embedder, scene.tracks.gallery_version) == ("", 0)
    scene.show(3, HERE)
    assert [told.data["identity"] for told in scene.last] == ["known", "none"]
    assert [(each.label, each.count) for each in scene.tracks.present] == [("face", 1)]
    scene.set()
    scene.show(0.2, HERE)
    scene.enrol()
    scene.show(3, HERE)
    assert [told.name for told in scene.last][-1] == "Ann", "and is known again when it is switched on"


def test_no_vector_leaves_after_recognition_was_switched_off(scene: Scene) -> None:
    scene.show(0.4, HERE)
    assert scene.told == [] and scene.tracks.embedder, "not told of yet"
    scene.set(recognition=False)
    scene.show(3, HERE)
    assert scene.told and not any(told.embedding for told in scene.told)


def test_nothing_of_people_is_kept_while_nobody_looks(scene: Scene) -> None:
    _ann_is_here(scene)
    scene.tracks.end_all()
    assert (scene.tracks.embedder, scene.tracks.gallery_version, scene.tracks.reason) == ("", 0, "")
    scene.show(0.2, HERE)
    assert scene.tracks.gallery_version == 0, "they are pushed again"


def test_a_crowd_is_counted_whole(scene: Scene) -> None:
    crowd = [(n % 20 / 20, n // 20 / 20, 0.04, 0.04) for n in range(300)]
    scene.show(1, *crowd, kind="object")
    assert [each.count for each in scene.tracks.present] == [300]


@pytest.mark.parametrize("every", [1.0, 3.1, 10.0])
@pytest.mark.parametrize("kind", ["face", "object"])
def test_pictures_that_are_rare_tell_as_well(scene: Scene, every: float, kind: str) -> None:
    scene.show(10 * every, HERE, every=every, kind=kind)
    assert [each.count for each in scene.tracks.present] == [1]
    scene.at += every - 0.1
    scene.tracks.tick(scene.settings)
    assert [each.count for each in scene.tracks.present] == [1], "until the next picture, and longer"
    scene.show(10 * every, every=every, kind=kind)
    assert len(scene.last) == 1 and scene.last[0].data["ended"] == pytest.approx(START + 10 * every)


def test_a_long_pause_makes_nobody_wait_for_as_long(scene: Scene) -> None:
    scene.show(2, HERE, kind="object")
    scene.at += 600
    scene.show(0.2, HERE, kind="object")
    scene.show(5, kind="object")
    scene.show(0.2, HERE, kind="object")
    scene.show(10, kind="object")
    assert len(scene.last) == 1, "two sights of a moment are nothing"


def test_a_name_goes_to_whoever_is_more_like_the_person(scene: Scene) -> None:
    alike = (0.6 * ANN + 0.8 * np.eye(8, dtype=np.float32)[3]).astype(np.float32)
    scene.model.vectors = {False: alike, True: ANN}
    _ann_is_here(scene)
    scene.show(6, HERE, THERE)
    scene.show(20)
    assert [(told.name, told.data["identity"]) for told in scene.last] == [("", "unsure"), ("Ann", "known")]


def test_a_face_that_two_detectors_find_is_one(scene: Scene) -> None:
    left, top, width, height = HERE
    _ann_is_here(scene)
    scene.show(3, HERE, THERE, (left + 0.01, top + 0.02, width, height), detectors=2)
    assert [(each.label, each.count) for each in scene.tracks.present] == [("face", 2)]
    first, other, twin = scene.shown
    assert (twin.track_id, twin.label) == (first.track_id, "Ann") != (other.track_id, other.label)
    scene.show(20)
    assert len(scene.last) == 2


def test_recognition_without_anybody_who_looks_for_faces_says_so(scene: Scene) -> None:
    scene.show(55, HERE, every=1.0, kind="object")
    assert scene.tracks.reason == "", "it may take its time"
    scene.show(10, HERE, every=1.0, kind="object")
    assert scene.tracks.reason == "NoFaceDetector" and "no detector" in scene.tracks.message
    scene.show(1, every=1.0)
    assert scene.tracks.reason == "", "it looks, and finds none"
    scene.show(65, HERE, every=1.0, kind="object")
    assert scene.tracks.reason == "NoFaceDetector"
    scene.set(recognition=False)
    scene.show(1, HERE, every=1.0, kind="object")
    assert scene.tracks.reason == scene.tracks.message == ""


def test_a_known_face_is_clear_in_the_picture_of_its_event(scene: Scene) -> None:
    """Not covered by what it was before it was followed, at five pictures a second."""
    scene.set(blur="Unknown")
    _ann_is_here(scene)
    crop = cv2.imdecode(np.frombuffer(scene.last[0].crop, np.uint8), cv2.IMREAD_GRAYSCALE)
    height, width = crop.shape
    middle = crop[height // 3 : -height // 3, width // 3 : -width // 3]
    assert cv2.Laplacian(middle, cv2.CV_64F).var() > 500, "not a few flat blocks"


@pytest.mark.parametrize(
    "drawn",
    [[[1]], "x", np.zeros((0, 0, 3), np.uint8), np.zeros((9, 9, 5), np.uint8), np.zeros((9, 9, 3), np.int64)],
    ids=["list", "text", "empty", "five colours", "numbers"],
)
def test_an_engines_picture_that_is_none_is_its_failure(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, drawn: Any
) -> None:
    plugin = Plugin()
    plugin.drawn = drawn
    scene.set(engine="plugin")
    runner, step = _runner(scene, monkeypatch, Broken(), plugin)
    step()
    assert runner.latest is not None and runner.latest[0].annotated is None
    assert runner.reason == "InferenceFailed"
    plugin.drawn = np.zeros((9, 9, 3), np.uint8)
    step()
    assert runner.latest[0].annotated is plugin.drawn and runner.reason == ""


class Broken:
    """A detector that finds a face, until it breaks."""

    input_width, kind, identity = 640, "face", "yunet@000000000000"

    def __init__(self) -> None:
        self.broken = False

    def detect(self, image: Image, *, confidence: float) -> Sequence[Detection]:
        if self.broken:
            raise RuntimeError("no")
        return [_found("face", HERE)]


class Plugin:
    """An engine that finds nothing."""

    drawn: Any = None

    def process_frame(self, frame: Image) -> tuple[Image | None, list[Detection]]:
        return self.drawn, []


def _runner(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, detector: Broken, plugin: Plugin
) -> tuple[Inference, Callable[[], None]]:
    """Inference without its thread, and what makes it take a picture."""
    monkeypatch.setattr(inference, "load_detector", lambda name, context: detector)
    monkeypatch.setattr(inference, "load_engine", lambda name: plugin)
    live, counters = Live(scene.settings, ""), Counters()
    dispatcher = Dispatcher(live, counters)
    runner = Inference(
        DetectorContext(None),
        live=live,
        dispatcher=dispatcher,
        counters=counters,
        stage=Stage("inference"),
        presence=Presence(lambda kind: None, lambda kind, seconds: None, lambda: scene.at),
        tracking=scene.tracks,
        clock=lambda: scene.at,
    )

    def step() -> None:
        live.settings = scene.settings
        scene.at, scene.number = scene.at + 0.2, scene.number + 1
        dispatcher.for_inference.put(Shot(scene.number, START + scene.at, 0))
        runner._step()

    return runner, step


def test_loading_the_face_embedder_has_its_own_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, step = _runner(scene, monkeypatch, Broken(), Plugin())
    doing: list[str] = []

    def load(name: str, context: DetectorContext) -> Model:
        doing.append(runner._stage.doing)
        return scene.model

    monkeypatch.setattr(recognizer, "load_embedder", load)
    step()
    assert doing == ["loading the face embedder"] and scene.tracks.embedder == scene.model.identity
    assert runner._stage.doing == "running inference"


def test_no_detector_of_another_backend_is_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    _, step = _runner(scene, monkeypatch, Broken(), Plugin())
    made: list[tuple[str, str]] = []

    def load(name: str, context: DetectorContext) -> Broken:
        if name == "scrfd":
            raise InferenceUnavailableError("ModelMissing", "not there")
        made.append((name, context.backend))
        return Broken()

    monkeypatch.setattr(inference, "load_detector", load)
    for backend, detectors in (
        ("auto", ["yunet", "scrfd"]),
        ("auto", ["yunet", "scrfd", "yolox"]),
        ("opencv", ["yunet", "scrfd", "yolox"]),
    ):
        scene.set(detectors=detectors, backend=backend)
        step()
    assert made == [("yunet", "auto"), ("yolox", "auto"), ("yunet", "opencv"), ("yolox", "opencv")]


@pytest.mark.parametrize("how", ["the detector fails", "an engine takes over"])
def test_who_is_not_looked_for_any_more_is_not_there(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    detector = Broken()
    _, step = _runner(scene, monkeypatch, detector, Plugin())

    def run(seconds: float) -> None:
        for _ in range(round(seconds * 5)):
            step()

    run(4)
    assert [each.count for each in scene.tracks.present] == [1] and len(scene.told) == 1
    if how == "the detector fails":
        detector.broken = True
    else:
        scene.set(engine="plugin")
    run(20)
    assert scene.tracks.present == () and scene.last[0].data["ended"] == pytest.approx(START + 4)
    if how == "an engine takes over":
        assert scene.tracks.embedder == "", "nobody is to be recognised"
