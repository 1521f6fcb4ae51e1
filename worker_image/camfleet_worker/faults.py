"""Why a source brings no picture, as a closed set: fit for conditions, metric labels and decisions."""

from __future__ import annotations

import errno
import re
from enum import Enum, auto

from camfleet_protocol.redaction import redact

MAX_MESSAGE = 300


class Handling(Enum):
    """What the capture does about a fault."""

    RETRY = auto()
    """Reconnect, by the ladder."""
    AUTH_STOP = auto()
    """One try per half hour until the credentials change: cameras lock accounts out."""
    TERMINAL = auto()
    """Only another specification helps; wait for a `reopen`."""
    END = auto()
    """The source is finished."""


class Fault(Enum):
    """Reasons in CamelCase. At most 16, the bound of `SourceStats.errors`."""

    AUTH_FAILED = "AuthFailed"
    CREDENTIALS_MISSING = "CredentialsMissing"
    MEDIA_NOT_ALLOWED = "MediaNotAllowed"
    ENDED = "SourceEnded"
    ERROR = "SourceError"
    INVALID = "SourceInvalid"
    LOST = "SourceLost"
    NOT_FOUND = "SourceNotFound"
    FROZEN = "PictureFrozen"
    NO_FRAME = "NoFirstFrame"
    REFUSED = "SourceRefused"
    STALLED = "SourceStalled"
    TIMEOUT = "SourceTimeout"
    UNREACHABLE = "SourceUnreachable"
    UNSUPPORTED = "SourceUnsupported"

    @property
    def reason(self) -> str:
        """CamelCase, for conditions."""
        return self.value

    @property
    def label(self) -> str:
        """snake_case, for metrics."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.value).lower()

    @property
    def handling(self) -> Handling:
        """What to do about it."""
        return _HANDLING.get(self, Handling.RETRY)


_HANDLING = {
    Fault.AUTH_FAILED: Handling.AUTH_STOP,
    Fault.UNSUPPORTED: Handling.TERMINAL,
    Fault.ENDED: Handling.END,
}


class SourceError(Exception):
    """A source that cannot be opened or read; the message is redacted and fit for people."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(redact(message)[:MAX_MESSAGE])
        self.fault = fault

    @property
    def message(self) -> str:
        """For people."""
        return str(self)


_BY_ERRNO = {
    errno.ENOENT: Fault.NOT_FOUND,
    errno.ENOTDIR: Fault.NOT_FOUND,
    errno.EISDIR: Fault.INVALID,
    errno.EACCES: Fault.MEDIA_NOT_ALLOWED,
    errno.EPERM: Fault.MEDIA_NOT_ALLOWED,
    errno.ECONNREFUSED: Fault.REFUSED,
    errno.ETIMEDOUT: Fault.TIMEOUT,
    errno.EHOSTUNREACH: Fault.UNREACHABLE,
    errno.ENETUNREACH: Fault.UNREACHABLE,
    errno.ENETDOWN: Fault.UNREACHABLE,
    errno.ECONNRESET: Fault.LOST,
    errno.EPIPE: Fault.LOST,
    errno.EINVAL: Fault.INVALID,
}

_BY_NAME = {
    "HTTPUnauthorizedError": Fault.AUTH_FAILED,
    "HTTPForbiddenError": Fault.AUTH_FAILED,
    "HTTPNotFoundError": Fault.NOT_FOUND,
    "InvalidDataError": Fault.INVALID,
    "DemuxerNotFoundError": Fault.INVALID,
    "DecoderNotFoundError": Fault.INVALID,
    "PatchWelcomeError": Fault.INVALID,
    "ExitError": Fault.TIMEOUT,
    "TimeoutError": Fault.TIMEOUT,
    "EOFError": Fault.LOST,
}

_TEXT = {
    Fault.AUTH_FAILED: "the camera refuses the user or password",
    Fault.NOT_FOUND: "there is no such file or stream",
    Fault.INVALID: "this is not a video that can be decoded",
    Fault.MEDIA_NOT_ALLOWED: "the file may not be read",
    Fault.REFUSED: "the connection was refused",
    Fault.TIMEOUT: "the source did not answer in time",
    Fault.UNREACHABLE: "the source's address cannot be reached",
    Fault.LOST: "the connection was lost",
    Fault.STALLED: "no pictures come any more",
}


def classify(error: BaseException, *, opening: bool, network: bool, timed_out: bool = False) -> SourceError:
    """Turn an exception of PyAV or the operating system into a `SourceError`.

    The exception's own text is not used: FFmpeg puts the URL with its password there.

    Args:
        error: What was raised.
        opening: Whether it was raised before the first picture.
        network: Whether the source is on the network.
        timed_out: Whether it took as long as the timeout; FFmpeg may call that invalid data.
    """
    name = type(error).__name__
    number = getattr(error, "errno", None)
    fault = _BY_NAME.get(name) or _BY_ERRNO.get(number or 0) or Fault.ERROR
    if network and number == errno.EIO:
        # FFmpeg's answer to a host name that does not resolve, and to a broken RTSP exchange.
        fault = Fault.UNREACHABLE if opening else Fault.LOST
    if timed_out and fault in (Fault.INVALID, Fault.ERROR, Fault.LOST, Fault.UNREACHABLE):
        fault = Fault.TIMEOUT
    if not opening and fault is Fault.TIMEOUT:
        fault = Fault.STALLED
    text = _TEXT.get(fault)
    return SourceError(fault, text if text else f"the source failed ({name})")
