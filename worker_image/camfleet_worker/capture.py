"""The capture thread: opens the source, reads it, reconnects, and knows why there is no picture.

It never queues and never waits for a consumer. A call into FFmpeg that hangs beyond its own timeouts is ended
by the watchdog, together with the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from camfleet_protocol.camera import Source
from camfleet_protocol.messages import SourceState
from camfleet_worker.auth_stop import AuthStop
from camfleet_worker.counters import Counters
from camfleet_worker.dispatch import Dispatcher
from camfleet_worker.faults import Fault, Handling, SourceError
from camfleet_worker.freeze import FILE_MEMORY, NETWORK_MEMORY, Freeze
from camfleet_worker.ladder import Ladder
from camfleet_worker.live import Live
from camfleet_worker.log import get_logger
from camfleet_worker.picture import Picture
from camfleet_worker.sources.base import OPEN_TIMEOUT, READ_TIMEOUT, CaptureSource, SourceContext
from camfleet_worker.watchdog import Stage

logger = get_logger(__name__)

STABLE_SECONDS = 10.0
"""Pictures for so long put the ladder back to its start."""
GRACE_SECONDS = 20.0
OPEN_GRACE_SECONDS = 50.0
"""A name server may take its time, and nothing can interrupt it."""
_NAP_SECONDS = 1.0
_TELL_AGAIN_SECONDS = 600.0

Report = Callable[[str, str, str, dict[str, object]], None]
"""Takes an event: type, severity, message, data."""


@dataclass(frozen=True, slots=True)
class CaptureStatus:
    """Where the capture stands; replaced as a whole."""

    state: SourceState = SourceState.CONNECTING
    reason: str = ""
    message: str = ""
    width: int = 0
    height: int = 0
    codec: str = ""


class Capture:
    """Owns the capture thread."""

    def __init__(
        self,
        spec: Source,
        make_source: Callable[[Source, SourceContext], CaptureSource],
        context: SourceContext,
        *,
        live: Live,
        dispatcher: Dispatcher,
        counters: Counters,
        stage: Stage,
        auth_stop: AuthStop,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.status = CaptureStatus()
        self._spec = spec
        self._make_source = make_source
        self._context = replace(context, wait=self._wait)
        self._live = live
        self._dispatcher = dispatcher
        self._counters = counters
        self._stage = stage
        self._auth_stop = auth_stop
        self._report = report
        self._clock = clock
        self._ladder = Ladder()
        self._freeze = Freeze()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._reported_up: bool | None = None
        self._opened_before = False
        self._number = 0
        self._told: tuple[Fault | None, float] = (None, 0.0)
        self.thread = threading.Thread(target=self._run, name="capture", daemon=True)

    @property
    def frozen(self) -> bool:
        """Whether pictures come and are all the same."""
        return self._freeze.frozen and self.status.state is SourceState.CONNECTED

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it may be inside a call that takes a while."""
        self._stopping.set()
        self._wake.set()

    def reopen(self) -> None:
        """Close the source and open it again, now."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            if not self._stopping.is_set():
                self._one_connection()
        self._stage.rest()

    def _one_connection(self) -> None:
        if self._wait_for_auth():
            return
        if self._opened_before:
            self._counters.add("reconnects")
        self._opened_before = True
        if self.status.state is SourceState.CONNECTED:
            self.status = replace(self.status, state=SourceState.CONNECTING, reason="", message="")
        source: CaptureSource | None = None
        failure: SourceError | None = None
        try:
            read_timeout = min(READ_TIMEOUT, float(self._live.settings.health.stall_timeout_seconds))
            source = self._make_source(self._spec, replace(self._context, read_timeout=read_timeout))
            self._stage.expect(OPEN_TIMEOUT + OPEN_GRACE_SECONDS, "opening the source")
            source.open()
            self._read(source)
        except SourceError as error:
            failure = error
        except Exception as error:  # a decoder's bug must not end the other stages
            logger.exception("the source failed unexpectedly")
            failure = SourceError(Fault.ERROR, f"the source failed ({type(error).__name__})")
        finally:
            self._dispatcher.clear()
            if source is not None:
                self._stage.expect(GRACE_SECONDS, "closing the source")
                source.close()
        if failure is not None:
            self._failed(failure)

    def _read(self, source: CaptureSource) -> None:
        opened = last = self._clock()
        first: float | None = None
        while not self._wake.is_set():
            self._stage.expect(READ_TIMEOUT + GRACE_SECONDS, "reading the source")
            picture = source.read()
            now = self._clock()
            if picture is not None:
                last = now
                if first is None:
                    first = now
                    self._connected(source, picture)
                    self._freeze.opened(now, NETWORK_MEMORY if source.network else FILE_MEMORY)
                elif self._ladder.failures and now - first > STABLE_SECONDS:
                    self._ladder.reset()
                if picture.discontinuity or (picture.width, picture.height) != (
                    self.status.width,
                    self.status.height,
                ):
                    self.status = replace(self.status, width=picture.width, height=picture.height)
                self._number += 1
                picture.number = self._number
                self._dispatcher.offer(picture)
                if self._freeze.due(now) and self._stands_still(picture, now):
                    return
            elif source.network:
                self._check_silence(now, opened if first is None else last, first is None)

    def _stands_still(self, picture: Picture, now: float) -> bool:
        """Look whether the picture changes; returns whether the source must be opened anew for it."""
        timeout = self._live.settings.health.frozen_timeout_seconds
        frozen = self._freeze.frozen
        reopen = self._freeze.look(picture.fingerprint() if timeout else None, now, timeout)
        if reopen:
            self._counters.add_labelled("source_errors", Fault.FROZEN.label)
            logger.warning("all pictures of %d s are the same: opening the source anew", timeout)
        elif self._freeze.frozen and not frozen:
            logger.warning("the picture is frozen (%s): it does not change", Fault.FROZEN.reason)
            data: dict[str, object] = {"reason": Fault.FROZEN.reason}
            self._report("source.frozen", "warning", "Pictures come and are all the same.", data)
        elif frozen and not self._freeze.frozen:
            logger.info("the picture is not frozen any more")
            self._report("source.unfrozen", "info", "The picture changes again.", {})
        return reopen

    def _check_silence(self, now: float, since: float, first: bool) -> None:
        health = self._live.settings.health
        if first and now - since > health.first_frame_timeout_seconds:
            raise SourceError(Fault.NO_FRAME, "the source was opened but brought no picture")
        if not first and now - since > health.stall_timeout_seconds:
            raise SourceError(Fault.STALLED, "no pictures come any more")

    def _connected(self, source: CaptureSource, picture: Picture) -> None:
        self._auth_stop.end()
        self._told = (None, 0.0)
        self.status = CaptureStatus(
            SourceState.CONNECTED, "", "", picture.width, picture.height, source.codec
        )
        logger.info("source connected: %s %dx%d", source.codec, picture.width, picture.height)
        if self._reported_up is not True:
            self._reported_up = True
            self._report("source.connected", "info", "Pictures come from the source.", {})

    def _failed(self, error: SourceError) -> None:
        fault = error.fault
        handling = fault.handling
        if handling is not Handling.END:
            self._counters.add_labelled("source_errors", fault.label)
        data: dict[str, object] = {"reason": fault.reason}
        if handling is Handling.END:
            self.status = replace(
                self.status, state=SourceState.ENDED, reason=fault.reason, message=error.message
            )
            logger.info("%s", error.message)
            self._report("source.ended", "info", _sentence(error.message), data)
            self._nap(None)
            return
        if handling is Handling.AUTH_STOP:
            self._auth_stop.begin()
            logger.error("source: %s; no further try for 30 min unless they change", error.message)
            self._reported_up = False
            self._report("source.auth_failed", "critical", _sentence(error.message), data)
            return  # the next round waits
        self.status = replace(
            self.status, state=SourceState.BACKOFF, reason=fault.reason, message=error.message
        )
        if self._reported_up is not False:
            self._reported_up = False
            self._report("source.lost", "warning", _sentence(error.message), data)
        if handling is Handling.TERMINAL:
            logger.error("source: %s", error.message)
            self._nap(None)
            return
        delay = self._ladder.next()
        logger.log(
            logging.WARNING if self._worth_telling(fault) else logging.DEBUG,
            "source: %s (%s), %d times in a row; next try in %.1f s",
            error.message,
            fault.reason,
            self._ladder.failures,
            delay,
        )
        self._nap(delay)

    def _worth_telling(self, fault: Fault) -> bool:
        """A dead camera says so once, and again now and then: its log must not fill a disk."""
        told_fault, told_at = self._told
        now = self._clock()
        if fault is told_fault and now - told_at < _TELL_AGAIN_SECONDS:
            return False
        self._told = (fault, now)
        return True

    def _wait_for_auth(self) -> bool:
        """Wait while credentials that were refused have not changed; returns whether to look again."""
        if not self._auth_stop.remaining():
            return False
        self.status = replace(
            self.status,
            state=SourceState.AUTH_STOP,
            reason=Fault.AUTH_FAILED.reason,
            message="the camera refuses the user or password; waiting until they change",
        )
        while not self._wake.is_set() and self._auth_stop.remaining() > 0:
            self._nap(_NAP_SECONDS)
        if not self._wake.is_set():
            logger.info("trying the source again: the credentials have changed, or half an hour has passed")
        return self._wake.is_set()

    def _nap(self, seconds: float | None) -> None:
        """A declared wait, until woken if `seconds` is None."""
        end = None if seconds is None else self._clock() + seconds
        while not self._wake.is_set():
            left = _NAP_SECONDS if end is None else min(_NAP_SECONDS, end - self._clock())
            if left <= 0:
                return
            self._stage.expect(left + GRACE_SECONDS, "waiting for the source")
            self._wake.wait(left)

    def _wait(self, seconds: float) -> bool:
        """For sources: sleep, but no longer than until woken; False if woken."""
        self._nap(seconds)
        return not self._wake.is_set()


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
