"""Who the followed faces are: which of them to look at now, and what that told.

Embedding is what costs, so it is done per track and not per picture: while it is not sure whose face it is,
in pictures that are good enough, at most so often a second; afterwards only now and then, or when the track
may have passed to somebody else.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from camfleet_protocol.settings import Settings
from camfleet_protocol.vision import BlurFaces
from camfleet_worker.detectors.base import DetectorContext, InferenceUnavailableError
from camfleet_worker.detectors.providers import GpuFaultError, is_gpu_fault
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Image, Picture
from camfleet_worker.recognition.align import align_face
from camfleet_worker.recognition.embedder import Embedder, load_embedder
from camfleet_worker.recognition.gallery import GalleryStore, Vectors
from camfleet_worker.recognition.quality import RECOGNITION_LIMITS, QualityLimits, measure, refuse
from camfleet_worker.recognition.refine import SecondLook
from camfleet_worker.recognition.voting import (
    MAX_SAMPLES,
    UNSURE,
    Ballot,
    Counted,
    Rules,
    Verdict,
    judge,
)
from camfleet_worker.tracking.tracker import Track

logger = get_logger(__name__)

MAX_EMBEDDINGS_PER_SECOND = 10.0
_BURST = 4.0
"""Also the most in one picture."""
_EAGER_SECONDS = 0.15
_SLOW_SECONDS = 1.0
"""Between looks at a face of which there are enough pictures that do not say whose it is; more and more."""
_SLOWEST_SECONDS = 5.0
RECHECK_SECONDS = 10.0
_RECHECK_BLURRED_SECONDS = 3.0
"""Where faces of strangers are blurred, a track that passes to one must not stay clear for long."""
_REFUSED_SECONDS = 0.3
"""A face that was not good enough is given time to turn."""
_RETRY_SECONDS = 10.0
_THUMB = 16
_THUMB_SOURCE = 640
"""Width of the picture that it is cut from: the one that face detectors look at."""
_LIKE = 0.6
"""Correlation of a face's thumbnail with the one in the picture before. In a street view at five pictures a
second, half of all other people have less than 0.4 and one in ten more than 0.64; of the same face one in ten
has less than 0.64, half more than 0.88."""
_LIKE_BLURRED = 0.75
"""Where a stranger must not be taken for somebody known: one in a hundred other people is above."""
_SAME = 0.5
"""Of the threshold: a picture less alike to the others than that is not of the same face."""
_SAME_DOUBTFUL = 0.75
"""The same where the track may have passed to somebody else."""
_SAME_STRICT = 1.0
"""The same where a stranger must not be taken for somebody known."""
_AROUND = 0.35
"""Of the box, cut out on each side of a face: an aligned face reaches beyond its box."""
_LANDMARKS = 5


@dataclass(slots=True)
class FaceState:
    """What is known of one followed face.

    Attributes:
        verdict: Whose face it is, so far.
        refused: Why its last picture was not good enough; empty if it was.
        best: Embedding of its best picture.
        best_quality: Of that picture, 0 to 1.
        best_at: Capture time of that picture, Unix seconds.
    """

    verdict: Verdict = UNSURE
    refused: str = ""
    best: Vectors | None = None
    best_quality: float = 0.0
    best_at: float = 0.0
    ballot: Ballot = field(default_factory=Ballot)
    doubtful: bool = False
    """Whether the track may have passed to somebody else since its face was looked at."""
    suspect: bool = False
    """Whether that is so likely that nothing is said of whose it is."""
    thumb: NDArray[np.float32] | None = None
    looks: int = 0
    next_look: float = 0.0


@dataclass(frozen=True, slots=True)
class _Look:
    """A face cut out and found good enough."""

    track: Track
    state: FaceState
    aligned: Image
    quality: float


class Recognizer:
    """Owns the embedder and what is known of each face. One thread uses it; the gallery has its own lock."""

    def __init__(self, context: DetectorContext, gallery: GalleryStore) -> None:
        self.reason = ""
        self.message = ""
        self._context = context
        self._gallery = gallery
        self._embedder: Embedder | None = None
        self._second_look = SecondLook(context)
        self._wanted = ""
        self._retry_at = 0.0
        self._told = ""
        self._faces: dict[int, FaceState] = {}
        self._generations: dict[int, int] = {}
        """How often each track passed to another face; outlives what is known of the face."""
        self._budget = _BURST
        self._filled_at = 0.0
        self._compared_with = (0, Rules(0, 0), frozenset[str]())

    @property
    def embedder(self) -> str:
        """The model that runs; empty while faces are not recognised."""
        embedder = self._embedder
        return embedder.identity if embedder is not None else ""

    @property
    def gallery_version(self) -> int:
        """Version of the people that faces are compared with."""
        return self._gallery.version(self.embedder)

    def prepare(self, settings: Settings, now: float) -> bool:
        """Load the model that the settings ask for, or let go of it; whether faces can be recognised."""
        spec = settings.inference.face_recognition
        if not settings.recognition:
            self.let_go()
            if settings.inference.enabled and spec.enabled:
                self.reason = "RetentionMissing"
                self.message = "faces are not recognised: privacy.retentionDays is not set"
            return False
        # A clock that was set back must not make it wait for as long.
        waits = self._retry_at - _RETRY_SECONDS <= now < self._retry_at
        if spec.model != self._wanted or (self._embedder is None and not waits):
            if spec.model != self._wanted:
                self.let_go()
            self._wanted = spec.model
            self._retry_at = now + _RETRY_SECONDS
            self._load(spec.model)
        return self._embedder is not None

    def let_go(self) -> None:
        """Nobody is to be recognised: forget the faces, the model, and the people."""
        self._wanted = self.reason = self.message = ""
        self._faces.clear()
        if self._embedder is not None:
            self._embedder = None
            self._gallery.clear()

    def observe(self, picture: Picture, tracks: Sequence[Track], settings: Settings, at: float) -> None:
        """Look at the faces of a picture, as far as that is worth its cost. After `prepare` said yes."""
        embedder = self._embedder
        if embedder is None:
            return
        rules = self._rules(embedder, settings)
        self._budget = min(_BURST, self._budget + max(0.0, at - self._filled_at) * MAX_EMBEDDINGS_PER_SECOND)
        self._filled_at = at
        limits = QualityLimits(
            float(settings.inference.face_recognition.min_face_pixels),
            RECOGNITION_LIMITS.min_sharpness,
            RECOGNITION_LIMITS.max_yaw,
            RECOGNITION_LIMITS.max_pitch,
        )
        looks: list[_Look] = []
        blurred = settings.privacy.blur_faces is BlurFaces.UNKNOWN
        for track, state in self._due(picture, tracks, at, blurred=blurred):
            if len(looks) >= int(self._budget):
                break
            look = self._look(picture, track, state, limits, at)
            if look is not None:
                looks.append(look)
        if looks:
            self._budget -= len(looks)
            vectors = self._embed(embedder, [look.aligned for look in looks])
            for look, vector in zip(looks, vectors, strict=False):
                if np.isfinite(vector).all():
                    self._count(look, vector, rules, settings, at)
        self._settle_conflicts(tracks)

    def reconsider(self, settings: Settings, now: float) -> bool:
        """Compare all faces anew if the gallery or the rules have changed; whether they had."""
        embedder = self._embedder
        if embedder is None:
            return False
        groups = frozenset(settings.inference.face_recognition.groups or ())
        facts = (self.gallery_version, self._rules(embedder, settings), groups)
        if facts == self._compared_with:
            return False
        self._compared_with = facts
        for state in self._faces.values():
            self._judge(state, facts[1], settings, now)
            if not state.verdict.sure:
                state.next_look = min(state.next_look, now)
        return True

    def verdict(self, track: int) -> Verdict | None:
        """Whose face a track is of; None while faces are not recognised."""
        if self._embedder is None:
            return None
        state = self._faces.get(track)
        if state is None or state.suspect:
            return UNSURE
        return state.verdict

    def state(self, track: int) -> FaceState | None:
        """What is known of a track's face; None before it was looked at."""
        return self._faces.get(track)

    def generation(self, track: int) -> int:
        """How often a track passed to another face."""
        return self._generations.get(track, 0)

    def renew(self, track: int) -> None:
        """From now on a track counts as that of another face."""
        self._generations[track] = self.generation(track) + 1

    def keep(self, tracks: Collection[int]) -> None:
        """Forget all faces but those of these tracks."""
        if self._generations.keys() - tracks:
            self._generations = {track: n for track, n in self._generations.items() if track in tracks}
        if self._faces.keys() - tracks:
            self._faces = {track: state for track, state in self._faces.items() if track in tracks}

    def _embed(self, embedder: Embedder, faces: Sequence[Image]) -> Vectors:
        """Embeddings of faces; none if the model fails, which is told.

        Raises:
            GpuFaultError: The GPU is lost to this process, which must end.
        """
        try:
            vectors = embedder.embed(faces)
        except Exception as error:  # a model may raise anything; faces are followed without it
            if is_gpu_fault(error):
                raise GpuFaultError(f"{embedder.identity} has lost the GPU") from error
            kind = type(error).__name__
            self.reason, self.message = "RecognitionFailed", f"{embedder.identity} failed: {kind}"
            if self._told != kind:
                self._told = kind
                logger.error("faces cannot be embedded (%s); told once", kind, exc_info=error)
            return np.zeros((0, embedder.dimensions), np.float32)
        if self.reason:
            self.reason = self.message = self._told = ""
        return vectors

    def _load(self, name: str) -> None:
        try:
            self._embedder = load_embedder(name, self._context)
        except InferenceUnavailableError as error:
            self.reason, self.message = error.reason, str(error)
            if self._told != f"{name}:{error.reason}":
                self._told = f"{name}:{error.reason}"
                logger.warning("faces are not recognised: %s (%s)", error, error.reason)
            return
        self.reason = self.message = self._told = ""
        self._gallery.use(self._embedder.identity, self._embedder.dimensions)
        logger.info("faces are recognised by %s", self._embedder.identity)

    def _rules(self, embedder: Embedder, settings: Settings) -> Rules:
        spec = settings.inference.face_recognition
        return Rules(
            embedder.threshold if spec.threshold is None else spec.threshold,
            embedder.margin if spec.margin is None else spec.margin,
        )

    def _due(
        self, picture: Picture, tracks: Sequence[Track], at: float, *, blurred: bool
    ) -> list[tuple[Track, FaceState]]:
        """Those whose turn it is: who is not known yet first, and of these the biggest."""
        due: list[tuple[Track, FaceState]] = []
        for track in tracks:
            state = self._faces.setdefault(track.id, FaceState())
            before, state.thumb = state.thumb, _thumb(picture, track.detection.box)
            if len(state.ballot):
                like = 1.0 if before is None else float(before @ state.thumb)
                changed = track.missed or like < (_LIKE_BLURRED if blurred else _LIKE)
                state.doubtful |= track.jumped or changed
                state.suspect |= track.jumped or (changed and blurred)
                if state.doubtful:
                    state.next_look = min(state.next_look, at)
            if at >= state.next_look:
                due.append((track, state))
        due.sort(
            key=lambda item: (
                item[1].verdict.sure and not item[1].doubtful,
                len(item[1].ballot) > 1,
                -item[0].detection.box[3],
            )
        )
        return due

    def _look(
        self, picture: Picture, track: Track, state: FaceState, limits: QualityLimits, at: float
    ) -> _Look | None:
        state.next_look = at + _REFUSED_SECONDS
        left, top, width, height = _pixels(track.detection.box, picture)
        if height < limits.min_height_px:
            state.refused = "TooSmall"
            return None
        if len(track.detection.landmarks) != _LANDMARKS:
            state.refused = "NoLandmarks"
            return None
        size = np.array((picture.width, picture.height), np.float32)
        landmarks: NDArray[np.float32] = np.asarray(track.detection.landmarks, np.float32) * size
        around = _AROUND * max(width, height)
        image, (x, y) = picture.crop(left - around, top - around, width + 2 * around, height + 2 * around)
        landmarks -= np.array((x, y), np.float32)
        box = (left - x, top - y, width, height)
        aligned = align_face(image, landmarks)
        quality = measure(image, box, landmarks, aligned=aligned)
        state.refused = refuse(quality, limits) or ""
        if state.refused:
            return None
        # Only at what is to be embedded: it costs a quarter of that.
        better = self._second_look.landmarks(image, box, landmarks)
        if better is not landmarks:
            aligned = align_face(image, better)
        return _Look(track, state, aligned, max(quality.score, 0.01))

    def _count(self, look: _Look, vector: Vectors, rules: Rules, settings: Settings, at: float) -> None:
        state = look.state
        blurred = settings.privacy.blur_faces is BlurFaces.UNKNOWN
        alike = _SAME
        if state.doubtful:
            # A face without a name stays blurred: to make two appearances of it would protect nobody.
            alike = _SAME_STRICT if blurred and state.verdict.person is not None else _SAME_DOUBTFUL
        counted = state.ballot.add(
            vector, look.quality, least=alike * rules.threshold, at_once=state.doubtful
        )
        if counted is Counted.ANEW:
            state.verdict, state.best = UNSURE, None
            self.renew(look.track.id)
        state.suspect = state.doubtful = counted is Counted.ODD
        if state.best is None or look.quality > state.best_quality:
            state.best, state.best_quality, state.best_at = vector, look.quality, at
        self._judge(state, rules, settings, at)
        if state.verdict.sure and not state.doubtful:
            state.next_look = at + (_RECHECK_BLURRED_SECONDS if blurred else RECHECK_SECONDS)
        else:
            state.looks += 1
            slow = min(_SLOW_SECONDS * (state.looks // MAX_SAMPLES), _SLOWEST_SECONDS)
            state.next_look = at + max(_EAGER_SECONDS, slow)

    def _judge(self, state: FaceState, rules: Rules, settings: Settings, now: float) -> None:
        gallery = self._gallery.current
        if gallery is None or not len(state.ballot):
            state.verdict = UNSURE
            return
        groups = settings.inference.face_recognition.groups
        result = gallery.match(state.ballot.embeddings, now=now, groups=groups, weights=state.ballot.weights)
        state.verdict = judge(result, samples=len(state.ballot), rules=rules, before=state.verdict)

    def _settle_conflicts(self, tracks: Sequence[Track]) -> None:
        """Nobody is twice in one picture: of two faces with one name, the less similar one is unsure."""
        names: dict[str, FaceState] = {}
        for track in tracks:
            state = self._faces.get(track.id)
            if state is None or state.verdict.person is None:
                continue
            other = names.setdefault(state.verdict.person.id, state)
            if other is not state and other.verdict.person is not None:
                less = state
                if state.verdict.person.similarity > other.verdict.person.similarity:
                    less, names[state.verdict.person.id] = other, state
                less.verdict = Verdict(gallery_version=less.verdict.gallery_version, contested=True)


def _thumb(picture: Picture, box: tuple[float, float, float, float]) -> NDArray[np.float32]:
    """A face as 256 numbers whose product with those of a like one is nearly 1."""
    image = picture.bgr(_THUMB_SOURCE)
    height, width = image.shape[:2]
    x, y = min(int(box[0] * width), width - 2), min(int(box[1] * height), height - 2)
    right, bottom = round((box[0] + box[2]) * width), round((box[1] + box[3]) * height)
    part = image[y : max(y + 2, bottom), x : max(x + 2, right)]
    grey = cv2.cvtColor(cv2.resize(part, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    mean, deviation = (float(one[0, 0]) for one in cv2.meanStdDev(grey))
    values: NDArray[np.float32] = grey.astype(np.float32).ravel()
    values -= np.float32(mean)
    values /= np.float32(max(deviation * _THUMB, 1.0))
    return values


def _pixels(box: tuple[float, float, float, float], picture: Picture) -> tuple[float, float, float, float]:
    left, top, width, height = box
    return left * picture.width, top * picture.height, width * picture.width, height * picture.height
