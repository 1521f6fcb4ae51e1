"""What the gateways' pages say of one camera, read as one `Reading`. Pure; the clock is handed in.

Ages are differences between two times of the same gateway on the same page, so no two clocks are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from camfleet_operator.cluster.health.scrape import Scrape, labels_of, number
from camfleet_operator.cluster.health.verdicts import Reading

_RENDERING_SECONDS = 5.0
"""A page is written from top to bottom: a picture may be newer than the page's own time by so much."""
_FRESH_SECONDS = 1.0
"""Younger than any timeout that can be configured."""
_AUTH_FAILED = "auth_failed"


class Flow(NamedTuple):
    """Pictures come and are examined: how old the last one is in seconds, and `host:port` of the gateway."""

    frame_age: float
    gateway: str


class CameraReader:
    """Reads one camera off the pages, and remembers since when its worker and its pictures are there.

    Args:
        camera_id: The camera, `namespace.name`.
    """

    __slots__ = ("_error", "_errors", "_flowing_since", "_labels", "_worker_since")

    def __init__(self, camera_id: str) -> None:
        self._labels = labels_of(camera_id)
        self._worker_since: float | None = None
        self._flowing_since: float | None = None
        self._errors: dict[str, float] | None = None
        self._error = ""
        """The source's error that was counted last, if it has not been overcome."""

    def flow(self, now: float, scrapes: Sequence[Scrape]) -> Flow | None:
        """What there is to say where all is plainly well: the common case, at a fraction of the cost."""
        labels = self._labels
        holder: Scrape | None = None
        for scrape in scrapes:
            text = scrape.worker.get(labels)
            if text == b"1" and holder is None:
                holder = scrape
            elif text is not None and text != b"0":
                return None
        if holder is None or holder.source.get(labels) != b"1" or labels in holder.contradictory:
            return None
        if holder.frozen.get(labels, b"0") != b"0":
            return None
        try:
            age = holder.time - float(holder.frame[labels])
            inference_age = holder.time - float(holder.inference[labels])
        except (KeyError, ValueError):
            return None
        # Not so for a NaN, either.
        if not (-_RENDERING_SECONDS < age < _FRESH_SECONDS > inference_age > -_RENDERING_SECONDS):
            return None
        if self._flowing_since is None:
            self._flowing_since = now
            if self._worker_since is None:
                self._worker_since = now
        self._errors = holder.errors.get(labels) or {}
        self._error = ""
        return Flow(age if age > 0 else 0.0, holder.instance)

    def read(self, now: float, scrapes: Sequence[Scrape], *, complete: bool, trouble: str) -> Reading:
        """What the pages say, whatever it is.

        Args:
            now: When the first of the scrapes began; monotonic seconds.
            scrapes: What those gateways say that have answered.
            complete: Whether all have.
            trouble: Why there are no scrapes, as a reason.
        """
        labels, holder, reported = self._labels, None, False
        for scrape in scrapes:
            text = scrape.worker.get(labels)
            if text is None:
                continue
            reported = True
            value = number(text)
            if value not in (0.0, 1.0):
                return Reading(None, "InvalidMetrics")
            if labels in scrape.contradictory or (value and holder is not None):
                return Reading(None, "ContradictoryMetrics")
            if value:
                holder = scrape
        if holder is not None:
            return self._read_holder(now, holder)
        if not scrapes:
            return Reading(None, trouble, silent=True)
        if not complete:
            return Reading(None, "GatewayUnreachable", absent=reported)
        if not reported:
            return Reading(None, "NotReported")
        self._worker_since = self._flowing_since = None
        return Reading(False)

    def _read_holder(self, now: float, scrape: Scrape) -> Reading:
        """What the gateway says that has the worker."""
        labels = self._labels
        source = number(scrape.source.get(labels))
        frame = number(scrape.frame.get(labels))
        inference = number(scrape.inference.get(labels))
        frozen = number(scrape.frozen.get(labels, b"0"))
        if source not in (0.0, 1.0) or frozen not in (0.0, 1.0) or frame is None or inference is None:
            return Reading(None, "InvalidMetrics")
        if max(frame, inference) > scrape.time + _RENDERING_SECONDS:
            return Reading(None, "ContradictoryMetrics")
        if self._worker_since is None:
            self._worker_since = now
        if not frame or not source:
            self._flowing_since = None
        elif self._flowing_since is None:
            self._flowing_since = now
        self._note_errors(scrape.errors.get(labels) or {})
        if source and frame and scrape.time - frame < _FRESH_SECONDS:
            self._error = ""  # overcome: the next trouble has a reason of its own
        return Reading(
            True,
            source=source == 1.0,
            frame_age=max(0.0, scrape.time - frame) if frame else None,
            inference_age=max(0.0, scrape.time - inference) if inference else None,
            error=self._error,
            waited=now - self._worker_since,
            flowed=now - self._flowing_since if self._flowing_since is not None else 0.0,
            frozen=frozen == 1.0,
            gateway=scrape.instance,
        )

    def _note_errors(self, errors: dict[str, float]) -> None:
        """Remember which error was counted last."""
        before = self._errors
        if errors == before:
            return
        self._errors = errors
        if not errors:
            return
        if before is None:
            # Which of several came last is not known; but after a refusal nothing is tried for half an hour.
            grown = errors if _AUTH_FAILED not in errors else {_AUTH_FAILED: errors[_AUTH_FAILED]}
        else:
            # A count that has fallen is a new worker's.
            grown = {
                label: count - (old if (old := before.get(label, 0.0)) <= count else 0.0)
                for label, count in errors.items()
                if count != before.get(label, 0.0)
            }
        if grown:
            self._error = max(grown, key=lambda label: (grown[label], label))
