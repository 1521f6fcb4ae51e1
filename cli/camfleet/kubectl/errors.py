"""What ends a command: one line that says what is wrong, one that says what helps, and an exit code."""

from __future__ import annotations

from typing import IO, Any

import click

FAILED = 1
"""It was asked and the answer is no: cameras that are not ready, a move that did not happen."""
COULD_NOT_ASK = 2
"""The cluster or the camera could not be asked."""


class Problem(click.ClickException):
    """Ends the command with `error: MESSAGE` and, where there is one, `hint: …`."""

    exit_code = COULD_NOT_ASK

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def show(self, file: IO[Any] | None = None) -> None:
        """Write it to standard error."""
        click.echo(f"error: {self.message}", file=file, err=True)
        if self.hint:
            click.echo(f"hint: {self.hint}", file=file, err=True)


class Declined(Problem):
    """It was asked, and cannot be done as things are."""

    exit_code = FAILED


class Unreachable(Problem):
    """The API server does not answer, or not to us."""


class Refused(Problem):
    """The API server says no; `status` is its HTTP status."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status

    @property
    def forbidden(self) -> bool:
        """Whether it is a matter of rights."""
        return self.status == 403


class Missing(Refused):
    """There is no such object or resource."""
