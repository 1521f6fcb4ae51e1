"""When so much is bad at once that it cannot be the cameras', nothing is moved. Pure; the clock is handed in.

A scope (the whole fleet, a zone) is frozen while most of its cameras are bad together. Sources that fail do
not count, nor do cameras of a node that is known to be dead: those have an explanation. A scope thaws when
clearly fewer are bad, and what was bad before that has to be found bad anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FLEET = "fleet"
SIGNALS = "signals"
NODES = "nodes"
LEAST_BAD, LEAST_NODES = 3, 3
"""Fewer bad cameras are no disaster, whatever share they are; of fewer nodes a single one is most."""
_THAW = 0.7
"""Of the share that freezes."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """A scope in which nothing is moved."""

    scope: str
    reason: str
    message: str
    since: float


@dataclass(frozen=True, slots=True)
class Count:
    """A scope's cameras: those that count, and those of them that are bad; and on how many nodes they are."""

    cameras: int = 0
    bad: int = 0
    nodes: int = LEAST_NODES
    bad_nodes: int = LEAST_NODES

    def is_disrupted(self, share: float) -> bool:
        """Whether so much is bad that it is not the cameras' fault, nor one node's."""
        if self.bad < LEAST_BAD or self.bad < share * self.cameras:
            return False
        return self.nodes >= LEAST_NODES or self.bad_nodes > 1 or self.nodes == 1


class Breaker:
    """Remembers which scopes are frozen.

    Args:
        share: Of a scope's cameras that must be bad to freeze it.
    """

    def __init__(self, share: float = 0.55) -> None:
        self._share = share
        self._frozen: dict[str, Frozen] = {}
        self._thawed: dict[str, float] = {}

    def tick(
        self,
        now: float,
        counts: Mapping[str, Count],
        *,
        blind: tuple[str, str] | None = None,
        nowhere: tuple[str, str] | None = None,
    ) -> None:
        """Take in how things stand.

        Args:
            now: Monotonic seconds.
            counts: How many are bad, by scope.
            blind: Why nothing can be known at all, if that is so: reason and message.
            nowhere: Why there is no node to move to, if that is so.
        """
        for scope, count in counts.items():
            if count.is_disrupted(self._share):
                self._freeze(
                    scope,
                    "FleetDisrupted" if scope == FLEET else "ZoneDisrupted",
                    f"at least {self._share:.0%} of the cameras{_of(scope)} are bad or unknown at once",
                    now,
                )
            elif not count.is_disrupted(self._share * _THAW):
                self._thaw(scope, now)
        for scope in self._frozen.keys() - counts.keys() - {SIGNALS, NODES}:
            self._thaw(scope, now)
        for scope, why in ((SIGNALS, blind), (NODES, nowhere)):
            if why is not None:
                self._freeze(scope, *why, now)
            else:
                self._thaw(scope, now)

    def frozen(self, scopes: Iterable[str] = ()) -> Frozen | None:
        """What holds a camera of these scopes, if anything does; the fleet is always one of them."""
        for scope in (SIGNALS, NODES, FLEET, *scopes):
            if (found := self._frozen.get(scope)) is not None:
                return found
        return None

    def all(self) -> list[Frozen]:
        """Every frozen scope."""
        return [self._frozen[scope] for scope in sorted(self._frozen)]

    def thawed_at(self, scopes: Iterable[str] = ()) -> float:
        """When the last of these scopes thawed; minus infinity if none was frozen."""
        never = float("-inf")
        return max(self._thawed.get(scope, never) for scope in (SIGNALS, NODES, FLEET, *scopes))

    def _freeze(self, scope: str, reason: str, message: str, now: float) -> None:
        before = self._frozen.get(scope)
        since = before.since if before is not None else now
        self._frozen[scope] = Frozen(scope, reason, message, since)

    def _thaw(self, scope: str, now: float) -> None:
        if self._frozen.pop(scope, None) is not None:
            self._thawed[scope] = now


def zone_scope(zone: str) -> str:
    """The scope of a zone."""
    return f"zone {zone}"


def _of(scope: str) -> str:
    return "" if scope == FLEET else f" of {scope}"
