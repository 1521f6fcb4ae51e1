"""Who watches right now, in whatever way: limits, goodbyes, tokens taken back."""

from __future__ import annotations

from collections import Counter
from typing import Any, Protocol

from camfleet_gateway.auth import Authenticator, Principal
from camfleet_gateway.hub import TooManyError
from camfleet_gateway.pictures import ViewerKind

_CHECK_SECONDS = 1.0
UNAUTHENTICATED, GOING_AWAY = 4401, 1001


class Member(Protocol):
    """One viewer's connection."""

    kind: ViewerKind
    principal: Principal

    def leave(self, code: int, reason: str, *, retry_ms: int | None) -> None:
        """Say goodbye, if the connection can carry that, and close."""

    def check(self, now: float) -> None:
        """Close if something has taken too long. Called about once a second."""

    def debug(self, now: float) -> dict[str, Any]:
        """What one needs to see why a picture is late."""


class Roster:
    """All viewers' connections of a gateway."""

    def __init__(self, *, authenticator: Authenticator, max_viewers: int, refused: Counter[str]) -> None:
        self.members: dict[Member, None] = {}
        self._authenticator = authenticator
        self._max_viewers = max_viewers
        self._refused = refused
        self._checked_at = 0.0

    def add(self, member: Member) -> None:
        """Count a new connection.

        Raises:
            TooManyError: There are as many as there may be.
        """
        if len(self.members) >= self._max_viewers:
            self._refused["too_many_viewers"] += 1
            raise TooManyError(f"this gateway serves at most {self._max_viewers} viewers")
        self.members[member] = None

    def remove(self, member: Member) -> None:
        """Count a connection that has ended."""
        self.members.pop(member, None)

    def counts(self) -> Counter[ViewerKind]:
        """How many there are of each kind."""
        return Counter(member.kind for member in self.members)

    def tick(self, now: float) -> None:
        """Once a second: let each check itself; end those whose token is no longer good."""
        if now - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = now
        self._authenticator.refresh()
        for member in list(self.members):
            if self._authenticator.still_valid(member.principal):
                member.check(now)
            else:
                member.leave(UNAUTHENTICATED, "the token is no longer valid", retry_ms=None)

    def leave_all(self, reason: str) -> None:
        """The gateway stops: tell everybody to come back."""
        for member in list(self.members):
            member.leave(GOING_AWAY, reason, retry_ms=500)
