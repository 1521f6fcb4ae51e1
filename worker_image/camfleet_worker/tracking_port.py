"""What inference hands to tracking and recognition: the port between the two.

The inference thread is the only one that calls a `Tracking`, so what it does there counts as inference time
and delays the picture's boxes. What it raises ends the process: a failure that it can live with, a missing
model say, it tells by `reason` and `message` and goes on without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from camfleet_protocol.detections import Detection
from camfleet_protocol.settings import Settings
from camfleet_worker.picture import Picture

TRACKED_KINDS = frozenset({"face", "object"})
"""Kinds that are tracked: they make events of appearances, and none of `Presence`."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A detector that ran on a picture, whether or not it found anything.

    Attributes:
        name: Its name, as in the settings.
        kind: Kind of what it looks for, `face` or `object`; empty if it does not say.
        identity: Its model, NAME@FIRST12HEX; empty if it has none.
        doubtful: Faces that it found and that do not count, by score, size or mask, but may be some; only
            where faces are blurred.
    """

    name: str
    kind: str = ""
    identity: str = ""
    doubtful: tuple[Detection, ...] = ()


class Tracking(Protocol):
    """Follows what was found from picture to picture, and recognises it."""

    @property
    def reason(self) -> str:
        """CamelCase reason why it does not do all that the settings ask for; empty if it does."""

    @property
    def message(self) -> str:
        """The same for people, without a name or a credential in it."""

    def prepare(self, settings: Settings) -> None:
        """Load what the settings ask for, which may take long: called before each picture is looked at.

        Args:
            settings: Those in force.
        """

    def observe(
        self, picture: Picture, fresh: Sequence[Detection], ran: Sequence[Ran], settings: Settings
    ) -> tuple[Detection, ...]:
        """Take in what was found in a picture.

        Args:
            picture: Its pixels come from `bgr(width)`, converted once per width and shared: not to be
                written into.
            fresh: What the detectors that ran found, filtered by confidence, class, size and masks, in the
                order of `ran`; of any kind, also one that is not tracked. Boxes that are merely still shown
                since another detector's last turn are not among them.
            ran: The detectors that ran, at least one. A kind that none of them looks for was not looked for:
                its absence from `fresh` says nothing.
            settings: Those in force.

        Returns:
            The same detections, as many and in the same order, with `track_id`, `label` and `person` set
            where they are known.
        """

    def tick(self, settings: Settings) -> None:
        """Let time pass: called about once a second while no picture comes, or when nothing can run.

        Args:
            settings: Those in force.
        """

    def end_all(self) -> None:
        """Nobody looks any more: inference was switched off, an engine took over, or the worker ends.

        Of faces and people nothing stays. May be called repeatedly.
        """
