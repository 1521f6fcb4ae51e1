"""What a worker follows: `Tracks` is the `Tracking` that inference hands its findings to.

It is light: the libraries that do the work are loaded by the inference thread, with the first picture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from camfleet_protocol.detections import Detection
from camfleet_protocol.gallery import GalleryUpdate
from camfleet_protocol.messages import Present
from camfleet_protocol.settings import Settings
from camfleet_worker.detectors.base import DetectorContext
from camfleet_worker.picture import Picture
from camfleet_worker.privacy import FaceCover
from camfleet_worker.tracking_port import Ran

if TYPE_CHECKING:
    from camfleet_worker.tracking.pipeline import Pipeline


class PutEvent(Protocol):
    """`Outbox.put`: the same id again is the same event, told anew."""

    def __call__(
        self,
        event_id: str,
        *,
        kind: str,
        severity: str,
        message: str,
        data: dict[str, object],
        time: float,
        crop: bytes = b"",
        scene: bytes = b"",
        embedding: bytes = b"",
        embedder: str = "",
    ) -> None:
        """Put an event, or the next revision of one, into the outbox."""


class Tracks:
    """The `Tracking` of a worker. The inference thread uses it; properties and `apply_gallery` any thread."""

    def __init__(
        self, context: DetectorContext, *, put: PutEvent, clock: Callable[[], float] = time.time
    ) -> None:
        """Make one.

        Args:
            context: Where the embedding models are, and how they run.
            put: Takes events.
            clock: Unix seconds, as in the pictures' capture times.
        """
        self.cover = FaceCover()
        """Where the faces are, for those who make pictures."""
        self._context = context
        self._put = put
        self._clock = clock
        self._pipeline: Pipeline | None = None

    @property
    def reason(self) -> str:
        """CamelCase reason why it does not do all that the settings ask for; empty if it does."""
        if self.cover.blind:
            return "FacesNotFound"
        return self._pipeline.reason if self._pipeline is not None else ""

    @property
    def message(self) -> str:
        """The same for people."""
        if self.cover.blind:
            return "faces are to be blurred and cannot be looked for: all of the picture is blurred"
        return self._pipeline.message if self._pipeline is not None else ""

    @property
    def embedder(self) -> str:
        """The embedding model that runs, NAME@hash; empty while faces are not recognised."""
        return self._pipeline.embedder if self._pipeline is not None else ""

    @property
    def gallery_version(self) -> int:
        """Version of the people that faces are compared with; 0 if there are none of this model yet."""
        return self._pipeline.gallery_version if self._pipeline is not None else 0

    @property
    def present(self) -> tuple[Present, ...]:
        """What is in view now."""
        return self._pipeline.present if self._pipeline is not None else ()

    def apply_gallery(self, update: GalleryUpdate) -> None:
        """Take a part of the enrolled people; one that does not fit is refused, and comes again."""
        if self._pipeline is not None:
            self._pipeline.apply_gallery(update)

    def prepare(self, settings: Settings) -> None:
        """Load what the settings ask for, which may take long."""
        self._loaded().prepare(settings)

    def observe(
        self, picture: Picture, fresh: Sequence[Detection], ran: Sequence[Ran], settings: Settings
    ) -> tuple[Detection, ...]:
        """Take in what was found in a picture; see `Tracking`."""
        return self._loaded().observe(picture, fresh, ran, settings)

    def tick(self, settings: Settings) -> None:
        """Let time pass, while there are no pictures."""
        if self._pipeline is not None:
            self._pipeline.tick(settings)

    def end_all(self) -> None:
        """Nobody looks any more."""
        if self._pipeline is not None:
            self._pipeline.end_all()

    def _loaded(self) -> Pipeline:
        if self._pipeline is None:
            from camfleet_worker.tracking.pipeline import Pipeline

            self._pipeline = Pipeline(self._context, put=self._put, cover=self.cover, clock=self._clock)
        return self._pipeline
