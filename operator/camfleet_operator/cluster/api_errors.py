"""What the API server refuses, and how: one class for each answer that somebody acts upon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from camfleet_protocol.redaction import redact

MAX_MESSAGE = 1000
_DEFAULT_RETRY_AFTER = 1.0
_LONGEST_RETRY_AFTER = 300.0


class ApiError(Exception):
    """A request did not succeed.

    Attributes:
        status: HTTP status; 0 where there was no answer.
        reason: The API server's word for it, such as `AlreadyExists`.
        message: Its sentence, without credentials.
        details: Its `details`, such as the field that is wrong.
    """

    def __init__(
        self, status: int, reason: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(f"{reason or status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}

    @property
    def causes(self) -> frozenset[str]:
        """Reasons of the single causes, such as `NamespaceTerminating` or `FieldManagerConflict`."""
        return frozenset(str(cause.get("reason", "")) for cause in self.details.get("causes") or ())


class Conflict(ApiError):
    """The object has changed since it was read, or another manager owns a field."""


class AlreadyExists(Conflict):
    """There is an object of this name."""


class NotFound(ApiError):
    """There is no such object, namespace or kind."""


class Forbidden(ApiError):
    """Not allowed: RBAC, Pod Security, a quota, or a namespace that is being deleted."""


class Invalid(ApiError):
    """The object breaks its schema or a rule."""


class Expired(ApiError):
    """A continuation or version is too old."""


class TooManyRequests(ApiError):
    """The API server asks for a pause of `retry_after` seconds."""

    retry_after: float = _DEFAULT_RETRY_AFTER


class Unavailable(ApiError):
    """The API server could not be reached, did not answer in time, or has trouble of its own."""

    retry_after: float = _DEFAULT_RETRY_AFTER
    asks_for_pause: bool = False
    """Whether `retry_after` is the API server's own word: it is there, and overloaded or about to end."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Expired,
    422: Invalid,
    429: TooManyRequests,
}


def error_of(status: int, headers: Mapping[str, str], answer: Mapping[str, Any], request: str) -> ApiError:
    """The error that an answer is: by its status, with what the API server says of it.

    Args:
        status: HTTP status.
        headers: Of the answer.
        answer: A `Status` object, as far as there is one.
        request: What was asked, for the message.
    """
    reason = str(answer.get("reason") or "")
    details = answer.get("details")
    details = details if isinstance(details, dict) else {}
    kind = _BY_STATUS.get(status, Unavailable if status >= 500 else ApiError)
    if status == 409 and reason == "AlreadyExists":
        kind = AlreadyExists
    message = redact(f"{request}: {answer.get('message') or f'HTTP {status}'}")[:MAX_MESSAGE]
    error = kind(status, reason, message, details)
    if isinstance(error, TooManyRequests | Unavailable):
        said = headers.get("Retry-After") or details.get("retryAfterSeconds")
        error.retry_after = _seconds(said)
        if isinstance(error, Unavailable):
            error.asks_for_pause = status == 503 and bool(said)
    return error


def _seconds(value: object) -> float:
    try:
        return min(_LONGEST_RETRY_AFTER, max(0.0, float(str(value))))
    except ValueError:
        return _DEFAULT_RETRY_AFTER
