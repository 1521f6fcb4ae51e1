"""Tracking, recognition, zones and appearances put together, for the inference thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from camfleet_protocol.appearance import APPEARANCE, Identity, Match
from camfleet_protocol.detections import Detection
from camfleet_protocol.gallery import GalleryUpdate
from camfleet_protocol.messages import Present
from camfleet_protocol.settings import Settings
from camfleet_protocol.vision import BlurFaces
from camfleet_worker.boxes import overlap
from camfleet_worker.detectors.base import DetectorContext
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Picture
from camfleet_worker.privacy import Face, FaceCover
from camfleet_worker.recognition.gallery import GalleryRefusedError, GalleryStore
from camfleet_worker.recognition.recognizer import Recognizer
from camfleet_worker.recognition.voting import Verdict
from camfleet_worker.tracking.appearances import Appearances, Sighting, Thing
from camfleet_worker.tracking.facade import PutEvent
from camfleet_worker.tracking.snapshots import Scene, Snapshot, Unencoded, take, take_scene
from camfleet_worker.tracking.tracker import Track, Tracker
from camfleet_worker.tracking.wording import message_of, severity_of
from camfleet_worker.tracking_port import TRACKED_KINDS, Ran

logger = get_logger(__name__)

_BACKWARDS_SECONDS = 2.0
"""A clock that is set back by more makes everything begin anew."""
_FACELESS_SECONDS = 60.0
"""Faces that were not looked for in so long are not looked for at all."""
_BETTER = 1.15
"""So much better a picture must be to be taken instead of the last one."""
_MAX_PHOTOGRAPHS = 192
"""In one picture; the others of a crowd have theirs in the next ones, before they are told of."""
_SAME_FACE = 0.5
"""Overlap (intersection over union) of two detectors' finds; of one detector's no two are so near."""
_UNKNOWN_LABEL = "unknown"


@dataclass(slots=True)
class _Seen:
    """A track in the picture at hand."""

    track: Track
    verdict: Verdict | None = None


class Pipeline:
    """Follows, recognises and tells. The inference thread uses it; properties and galleries any thread."""

    def __init__(
        self,
        context: DetectorContext,
        *,
        put: PutEvent,
        cover: FaceCover,
        clock: Callable[[], float],
    ) -> None:
        self.present: tuple[Present, ...] = ()
        self._put = put
        self._cover = cover
        self._clock = clock
        self._gallery = GalleryStore()
        self._tracker = Tracker()
        self._recognizer = Recognizer(context, self._gallery)
        self._appearances = Appearances()
        self._snapshots: dict[str, Snapshot] = {}
        """By event, until they are told."""
        self._unencoded = Unencoded()
        self._detectors: dict[str, str] = {}
        self._at = 0.0
        self._settings: Settings | None = None
        self._faceless_since: float | None = None
        """Since when faces are to be recognised and nobody looks for any, Unix seconds."""

    @property
    def reason(self) -> str:
        """See `Tracks`."""
        return self._recognizer.reason or ("NoFaceDetector" if self._faceless else "")

    @property
    def message(self) -> str:
        """See `Tracks`."""
        faceless = "faces are not recognised: no detector looks for them" if self._faceless else ""
        return self._recognizer.message or faceless

    @property
    def _faceless(self) -> bool:
        since = self._faceless_since
        return since is not None and self._at - since > _FACELESS_SECONDS

    @property
    def embedder(self) -> str:
        """See `Tracks`."""
        return self._recognizer.embedder

    @property
    def gallery_version(self) -> int:
        """See `Tracks`."""
        return self._recognizer.gallery_version

    def apply_gallery(self, update: GalleryUpdate) -> None:
        """See `Tracks`."""
        try:
            self._gallery.apply(update)
        except GalleryRefusedError as error:
            logger.warning("an update of the enrolled people is refused: %s (%s)", error, error.reason)

    def prepare(self, settings: Settings) -> None:
        """Load the face embedder that the settings ask for, which may take long, or let go of it."""
        self._prepare(settings)

    def observe(
        self, picture: Picture, fresh: Sequence[Detection], ran: Sequence[Ran], settings: Settings
    ) -> tuple[Detection, ...]:
        """Take in what was found in a picture; see `Tracking`."""
        at = picture.captured_ns / 1e9
        if at < self._at - _BACKWARDS_SECONDS:
            self._begin_anew()
        faces = any(one.kind == "face" for one in ran) or any(found.kind == "face" for found in fresh)
        if faces or not settings.recognition:
            self._faceless_since = None
        elif self._faceless_since is None:
            self._faceless_since = at
        self._at, self._settings = at, settings
        looked_for = frozenset(one.kind for one in ran if one.kind)
        self._detectors.update((one.kind, one.identity) for one in ran if one.kind and one.identity)
        twins = _twins(fresh) if sum(one.kind == "face" for one in ran) > 1 else {}
        indexes = [n for n, found in enumerate(fresh) if found.kind in TRACKED_KINDS and n not in twins]
        tracks = self._tracker.update(
            [fresh[index] for index in indexes],
            looked_for=looked_for,
            at=at,
            aspect=picture.width / picture.height,
        )
        seen = [_Seen(track) for track in tracks]
        self._recognize(picture, seen, settings, at)
        result = list(fresh)
        for index, one in zip(indexes, seen, strict=True):
            result[index] = _labelled(fresh[index], one)
        for index, twin in twins.items():
            result[index] = _labelled(fresh[index], seen[indexes.index(twin)])
        if "face" in looked_for:
            doubtful = [Face(found.box) for one in ran for found in one.doubtful]
            self._cover.saw(picture.captured_ns, _faces(result) + doubtful)
        live = {track.id for track in self._tracker.live(at)}
        self._recognizer.keep(live)
        sightings = [self._sighting(one, at) for one in seen if one.track.confirmed]
        best = self._appearances.observe(sightings, settings.inference.zones, at=at, live=live)
        self._photograph(picture, best, at)
        self._tell(at)
        return tuple(result)

    def tick(self, settings: Settings) -> None:
        """Let time pass, while there are no pictures."""
        self._settings = settings
        if not settings.recognition:
            self._faceless_since = None
            self._prepare(settings)
        now = self._clock()
        if now > self._at:
            self._tell(now)

    def end_all(self) -> None:
        """Nobody looks any more."""
        self._begin_anew()
        self._recognizer.let_go()

    def _begin_anew(self) -> None:
        for thing in self._appearances.end_all():
            self._report(thing)
        self._tracker.clear()
        self._recognizer.keep(())
        self._snapshots.clear()
        self._cover.forget()
        self._faceless_since = None
        self.present = ()

    def _recognize(self, picture: Picture, seen: Sequence[_Seen], settings: Settings, at: float) -> None:
        if not self._prepare(settings):
            return
        faces = [one for one in seen if one.track.kind == "face"]
        self._recognizer.reconsider(settings, at)
        self._recognizer.observe(picture, [one.track for one in faces if one.track.confirmed], settings, at)
        for one in faces:
            one.verdict = self._recognizer.verdict(one.track.id)

    def _prepare(self, settings: Settings) -> bool:
        before = self._recognizer.embedder
        ready = self._recognizer.prepare(settings, self._clock())
        if before and before != self._recognizer.embedder:
            self._end_names()
        return ready

    def _end_names(self) -> None:
        """Whose the faces are holds no more: who is still in view is somebody new, and has no vector."""
        self._snapshots = {key: replace(kept, embedding=b"") for key, kept in self._snapshots.items()}
        for thing in self._appearances:
            thing.best_rank = -1.0
            if thing.identified_by is not None and thing.key[1] == self._recognizer.generation(thing.key[0]):
                self._recognizer.renew(thing.key[0])
        for thing in self._appearances.end_identified():
            self._report(thing)

    def _sighting(self, one: _Seen, at: float) -> Sighting:
        track, verdict = one.track, one.verdict
        found = track.detection
        state = self._recognizer.state(track.id) if verdict is not None else None
        # A picture that was good enough to be compared is better than any that was not.
        rank = found.score * math.sqrt(found.box[3]) * 0.5 * _whole(found)
        if state is not None and state.best is not None and state.best_at == at:
            rank = 1.0 + state.best_quality
        person = verdict.person if verdict is not None else None
        return Sighting(
            key=(track.id, self._recognizer.generation(track.id)),
            kind=track.kind,
            label=track.label,
            box=found.box,
            score=found.score,
            first=track.first,
            identity=verdict.identity if verdict is not None else Identity.NONE,
            person=None
            if person is None or verdict is None
            else Match(
                id=person.id,
                name=person.name,
                group=person.group,
                similarity=person.similarity,
                runner_up=verdict.runner_up,
            ),
            rank=rank,
            quality=state.best_quality if state is not None else 0.0,
            detector=self._detectors.get(track.kind, ""),
            embedder=self._recognizer.embedder if verdict is not None else "",
            gallery_version=verdict.gallery_version if verdict is not None else 0,
            patience=track.patience,
            contested=verdict is not None and verdict.contested,
        )

    def _photograph(self, picture: Picture, best: Sequence[tuple[Thing, Sighting]], at: float) -> None:
        scene: Scene | None = None
        taken = 0
        for thing, sighting in sorted(best, key=lambda one: one[0].best_at is not None):
            if taken >= _MAX_PHOTOGRAPHS:
                break
            if thing.best_at is not None and sighting.rank < min(thing.best_rank * _BETTER, 1.0):
                continue
            if scene is None:
                scene = take_scene(picture, self._cover.faces(picture.captured_ns), self._unencoded)
            state = self._recognizer.state(sighting.key[0]) if sighting.rank >= 1 else None
            embedding = b""
            if state is not None and state.best is not None:
                embedding = state.best.astype("<f2").tobytes()
            taken += 1
            self._snapshots[thing.id] = take(
                picture, thing.kind, sighting.box, scene, self._unencoded, embedding
            )
            thing.best_rank, thing.best_at, thing.best_box = sighting.rank, at, sighting.box
            thing.quality = sighting.quality

    def _tell(self, at: float) -> None:
        for thing in self._appearances.due(at):
            self._report(thing)
        things = {thing.id for thing in self._appearances}
        for event_id in self._snapshots.keys() - things:
            del self._snapshots[event_id]
        self.present = self._appearances.present(at)

    def _report(self, thing: Thing) -> None:
        settings = self._settings
        mode = settings.privacy.blur_faces if settings is not None else BlurFaces.NEVER
        snapshot = self._snapshots.get(thing.id)
        crop = scene = embedding = b""
        if snapshot is not None:
            crop, scene = snapshot.rendered(self._hidden(mode, thing))
            embedding = snapshot.embedding
        if thing.ended or mode is BlurFaces.NEVER:
            # The outbox keeps what it was given; with faces hidden, a name that comes later uncovers one.
            self._snapshots.pop(thing.id, None)
        appearance = thing.appearance()
        self._put(
            thing.id,
            kind=APPEARANCE,
            severity=severity_of(appearance),
            message=message_of(appearance),
            data=appearance.model_dump(mode="json", exclude_none=True),
            time=appearance.started,
            crop=crop,
            scene=scene,
            embedding=embedding,
            embedder=thing.embedder if embedding else "",
        )

    def _hidden(self, mode: BlurFaces, thing: Thing) -> Callable[[Face], bool] | None:
        if mode is BlurFaces.NEVER:
            return None
        if mode is BlurFaces.ALWAYS:
            return lambda face: True

        def hidden(face: Face) -> bool:
            own = thing.kind == "face" and face.track == thing.track
            return not face.known and not (own and thing.identity is Identity.KNOWN)

        return hidden


def _labelled(found: Detection, one: _Seen) -> Detection:
    """The detection with its track, and the name of whose face it is."""
    if not one.track.confirmed:
        return found
    changes: dict[str, object] = {"track_id": one.track.id}
    verdict = one.verdict
    if verdict is not None and verdict.person is not None:
        changes["person"] = verdict.person.id
        changes["label"] = verdict.person.name[:64] or verdict.person.id
    elif verdict is not None and verdict.identity is Identity.UNKNOWN:
        changes["label"] = _UNKNOWN_LABEL
    return found.model_copy(update=changes)


def _twins(fresh: Sequence[Detection]) -> dict[int, int]:
    """Faces that another detector has found before, each with the place of that find."""
    faces: list[int] = []
    twins: dict[int, int] = {}
    for index, found in enumerate(fresh):
        if found.kind == "face":
            same = (n for n in faces if overlap(fresh[n].box, found.box) >= _SAME_FACE)
            twin = next(same, None)
            if twin is None:
                faces.append(index)
            else:
                twins[index] = twin
    return twins


def _faces(detections: Sequence[Detection]) -> list[Face]:
    return [
        Face(found.box, found.track_id, bool(found.person)) for found in detections if found.kind == "face"
    ]


def _whole(found: Detection) -> float:
    """Less for what the edge of the picture cuts off."""
    left, top, width, height = found.box
    cut = left <= 0.002 or top <= 0.002 or left + width >= 0.998 or top + height >= 0.998
    return 0.5 if cut else 1.0
