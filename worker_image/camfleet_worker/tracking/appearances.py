"""One appearance per thing, from sightings that come and go. Pure; the clock is the time of capture.

A thing is told of when it is sure to be there, and, for a face, when it is known whose it is or that this
will take long; again when something important has changed; and a last time when it has gone. The same person
within `RETURN_SECONDS`, or something at the same place within `LEFT_SECONDS`, has not gone.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from camfleet_protocol.appearance import Appearance, Identity, Match
from camfleet_protocol.detections import MAX_DETECTIONS
from camfleet_protocol.messages import Present
from camfleet_protocol.vision import ZoneSpec
from camfleet_worker.boxes import Box, overlap
from camfleet_worker.tracking.zones import ZoneWatch

RETURN_SECONDS = 10.0
"""A known person who was unseen for longer has gone."""
LEFT_SECONDS = 5.0
"""Anything else that was unseen for longer has gone, for another may be at its place."""
AWAY_SECONDS = 2.0
"""Unseen for longer, it has left, though it may return."""
PRESENT_SECONDS = 3.0
"""Seen within so long it counts as being in view; longer where pictures are rarer."""
IDENTITY_SECONDS = 3.0
"""A face is told of without knowing whose it is after so long."""
MAX_THINGS = MAX_DETECTIONS
_HITS = 3
_SLOW_HITS = 2
_SLOW_SECONDS = 1.0
_TOKENS = 4.0
_TOKEN_SECONDS = 15.0
"""Besides the first and the last, at most four revisions at once and one every so many seconds."""
_SAME_PLACE = 0.3
"""Overlap (intersection over union) of two boxes at the same place."""

Key = tuple[int, int]
"""Number of the track, and how often it passed to another face."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A followed thing in one picture.

    Attributes:
        key: Which one it is.
        kind: `face` or `object`.
        label: Its class.
        box: Where.
        score: Of the detection.
        first: When its track began, Unix seconds.
        identity: What is known of whose face it is.
        person: Who; only if known.
        rank: How good a picture of it this is; larger is better.
        quality: Of the face, 0 to 1.
        detector: Model that found it.
        embedder: Model that compared it.
        gallery_version: Of the people that it was compared with.
        patience: Seconds that its track may be unseen.
        contested: Whether somebody else in the picture is more like the person that it was taken for.
    """

    key: Key
    kind: str
    label: str
    box: Box
    score: float
    first: float
    identity: Identity = Identity.NONE
    person: Match | None = None
    rank: float = 0.0
    quality: float = 0.0
    detector: str = ""
    embedder: str = ""
    gallery_version: int = 0
    patience: float = AWAY_SECONDS
    contested: bool = False


@dataclass(slots=True)
class Thing:
    """One appearance, as far as it has come."""

    id: str
    kind: str
    label: str
    key: Key
    track: int
    started: float
    seen: float
    box: Box
    pictures: int = 0
    score: float = 0.0
    best_rank: float = -1.0
    best_box: Box | None = None
    best_at: float | None = None
    quality: float = 0.0
    zones: ZoneWatch = field(default_factory=ZoneWatch)
    identity: Identity = Identity.NONE
    person: Match | None = None
    identified_by: Key | None = None
    returns: int = 0
    detector: str = ""
    embedder: str = ""
    gallery_version: int = 0
    ended: bool = False
    told: int = 0
    """So many revisions."""
    told_facts: tuple[object, ...] = ()
    tokens: float = _TOKENS
    filled_at: float = 0.0
    patience: float = AWAY_SECONDS

    @property
    def within(self) -> float:
        """Seconds within which it may return."""
        return RETURN_SECONDS if self.identity is Identity.KNOWN else max(LEFT_SECONDS, self.patience)

    @property
    def facts(self) -> tuple[object, ...]:
        """What is worth another revision."""
        person = self.person.id if self.person is not None else ""
        return self.identity, person, tuple(stay.name for stay in self.zones.stays)

    def appearance(self) -> Appearance:
        """What is told."""
        return Appearance(
            kind=self.kind,
            label=self.label,
            track=self.track,
            started=self.started,
            seen=self.seen,
            ended=self.seen if self.ended else None,
            pictures=self.pictures,
            score=self.score,
            box=self.best_box,
            best=self.best_at,
            quality=self.quality,
            zones=self.zones.stays,
            identity=self.identity,
            person=self.person,
            returns=self.returns,
            detector=self.detector,
            embedder=self.embedder,
            gallery_version=self.gallery_version,
        )


class Appearances:
    """All that is in view, or has just left it. One thread uses it."""

    def __init__(self, new_id: Callable[[], str] = lambda: uuid.uuid4().hex) -> None:
        self._new_id = new_id
        self._things: dict[Key, Thing] = {}
        """By the newest key of each."""
        self._strays = itertools.count(-1, -1)

    def __iter__(self) -> Iterator[Thing]:
        return iter(list(self._things.values()))

    def of(self, key: Key) -> Thing | None:
        """The thing that has this key now."""
        return self._things.get(key)

    def observe(
        self, sightings: Sequence[Sighting], zones: Sequence[ZoneSpec], *, at: float, live: Collection[int]
    ) -> list[tuple[Thing, Sighting]]:
        """Take in a picture.

        Args:
            sightings: What is in it.
            zones: Those of the settings in force.
            at: Unix seconds of its capture.
            live: Tracks that are still followed, seen in this picture or not.

        Returns:
            The things of which this is the best picture so far, each with its sighting.
        """
        keys = {sighting.key for sighting in sightings}
        best: list[tuple[Thing, Sighting]] = []
        for sighting in sightings:
            thing = self._thing(sighting, at, keys, live)
            if thing is None:
                continue
            self._see(thing, sighting, at)
            thing.zones.update(
                zones,
                kind=thing.kind,
                label=thing.label,
                box=sighting.box,
                at=at,
                patience=max(AWAY_SECONDS, sighting.patience),
            )
            # A track that took over may be of somebody else until its own pictures say who it is.
            if sighting.rank > thing.best_rank and thing.identified_by in (None, sighting.key):
                best.append((thing, sighting))
        return best

    def due(self, at: float) -> list[Thing]:
        """Things to be told of now; those that have gone are told of a last time, and forgotten."""
        due: list[Thing] = []
        for key, thing in list(self._things.items()):
            # Whoever is back already may not be recognised yet.
            late = IDENTITY_SECONDS if thing.identity is Identity.KNOWN else 0.0
            if at - thing.seen > thing.within + late:
                due += self._end(key)
            elif not thing.told:
                if _sure(thing, at):
                    due.append(thing)
                    thing.filled_at = at
            elif thing.facts != thing.told_facts and self._may_tell(thing, at):
                due.append(thing)
        for thing in due:
            thing.told, thing.told_facts = thing.told + 1, thing.facts
        return due

    def end_all(self) -> list[Thing]:
        """Nobody looks any more; returns what there is to tell."""
        due = [thing for key in list(self._things) for thing in self._end(key)]
        for thing in due:
            thing.told += 1
        return due

    def end_identified(self) -> list[Thing]:
        """Whose faces these are holds no more; returns what there is to tell of them."""
        known = [key for key, thing in self._things.items() if thing.identified_by is not None]
        due = [thing for key in known for thing in self._end(key)]
        for thing in due:
            thing.told += 1
        return due

    def present(self, at: float) -> tuple[Present, ...]:
        """How many of a class are in view, and in each zone."""
        counts: dict[tuple[str, str], int] = {}
        for thing in self._things.values():
            if at - thing.seen <= max(PRESENT_SECONDS, thing.patience) and _there(thing):
                for zone in ("", *thing.zones.now):
                    key = (thing.label[:32], zone)
                    counts[key] = counts.get(key, 0) + 1
        found = sorted(counts.items())[:128]
        return tuple(
            Present(label=label, zone=zone, count=min(count, MAX_DETECTIONS))
            for (label, zone), count in found
        )

    def _thing(self, sighting: Sighting, at: float, keys: set[Key], live: Collection[int]) -> Thing | None:
        thing = self._things.get(sighting.key)
        if thing is not None and _somebody_else(thing, sighting):
            # It was taken for somebody who had just been there, and is not.
            thing.key = (next(self._strays), 0)
            self._things[thing.key] = self._things.pop(sighting.key)
            thing = None
        if thing is None or not thing.told:
            earlier = self._earlier(sighting, at, keys, live, new=thing is None)
            if earlier is not None:
                return self._continue(earlier, thing, sighting, at)
        if thing is None:
            if len(self._things) >= MAX_THINGS:
                return None
            thing = Thing(
                self._new_id(),
                sighting.kind,
                sighting.label,
                sighting.key,
                sighting.key[0],
                min(sighting.first, at),
                at,
                sighting.box,
            )
            if sighting.key[1]:
                thing.started = at
            self._things[sighting.key] = thing
        return thing

    def _earlier(
        self, sighting: Sighting, at: float, keys: set[Key], live: Collection[int], *, new: bool
    ) -> Thing | None:
        """Who it is that has come back, if anybody."""
        waiting = sighting.identity is Identity.UNSURE and at - sighting.first < IDENTITY_SECONDS
        if sighting.person is None and (waiting or (sighting.identity is Identity.NONE and not new)):
            return None
        others = [
            thing
            for key, thing in self._things.items()
            if key != sighting.key
            and key not in keys
            and (thing.kind, thing.label) == (sighting.kind, sighting.label)
            and min(at, sighting.first) - thing.seen <= thing.within
        ]
        if sighting.person is not None:
            for thing in others:
                if thing.person is not None and thing.person.id == sighting.person.id:
                    return thing
            return None
        for thing in sorted(others, key=lambda thing: thing.seen, reverse=True):
            known = thing.identity is Identity.KNOWN and sighting.identity is Identity.UNKNOWN
            # A track that is still followed may yet be seen again.
            if not known and thing.key[0] not in live and (overlap(thing.box, sighting.box) >= _SAME_PLACE):
                return thing
        return None

    def _continue(self, earlier: Thing, thing: Thing | None, sighting: Sighting, at: float) -> Thing:
        self._things.pop(earlier.key, None)
        if thing is not None:
            earlier.pictures += thing.pictures
            earlier.score = max(earlier.score, thing.score)
        if at - earlier.seen > AWAY_SECONDS:
            earlier.returns += 1
        earlier.key, earlier.track = sighting.key, sighting.key[0]
        self._things[sighting.key] = earlier
        return earlier

    def _see(self, thing: Thing, sighting: Sighting, at: float) -> None:
        thing.seen, thing.box, thing.patience = at, sighting.box, sighting.patience
        thing.pictures += 1
        thing.score = max(thing.score, sighting.score)
        thing.detector = sighting.detector or thing.detector
        thing.embedder = sighting.embedder or thing.embedder
        undecided = sighting.identity in (Identity.NONE, Identity.UNSURE)
        same_people = sighting.gallery_version in (0, thing.gallery_version)
        if (
            undecided
            and not sighting.contested
            and thing.identified_by is not None
            and (same_people or thing.identified_by != sighting.key)
        ):
            return  # what better pictures said still holds
        thing.identity, thing.person = sighting.identity, sighting.person
        thing.gallery_version = sighting.gallery_version
        thing.identified_by = None if undecided else sighting.key

    def _may_tell(self, thing: Thing, at: float) -> bool:
        thing.tokens = min(_TOKENS, thing.tokens + max(0.0, at - thing.filled_at) / _TOKEN_SECONDS)
        thing.filled_at = at
        if thing.tokens < 1:
            return False
        thing.tokens -= 1
        return True

    def _end(self, key: Key) -> list[Thing]:
        thing = self._things.pop(key)
        if not thing.told and not _there(thing):
            return []
        thing.ended = True
        return [thing]


def _there(thing: Thing) -> bool:
    """Whether it was seen often enough to be something."""
    return thing.pictures >= _HITS or (
        thing.pictures >= _SLOW_HITS and thing.seen - thing.started >= _SLOW_SECONDS
    )


def _sure(thing: Thing, at: float) -> bool:
    """Whether it is time to tell of it."""
    if not _there(thing):
        return False
    return thing.identity is not Identity.UNSURE or at - thing.started >= IDENTITY_SECONDS


def _somebody_else(thing: Thing, sighting: Sighting) -> bool:
    return (
        sighting.person is not None
        and thing.person is not None
        and thing.person.id != sighting.person.id
        and thing.identified_by is not None
        and thing.identified_by != sighting.key
    )
