"""Which cameras may take on a change that many get at once: a profile, new defaults, a new worker image.

The first few go ahead; every camera that is Ready with the change for a while (the soak) lets more follow,
so each wave is about twice the one before. A camera that was Ready and is not any more keeps its place, and
holds up those behind it: a bad profile reaches a few cameras and stops. Single sources fail at any time, so
a camera whose source is at fault gives its place back in the end, but only as long as more cameras have
come through well. Where nothing can be known of a camera, nothing goes on. What a user changes on one
camera itself never waits here.

Every profile has waves of its own; all together they may not outgrow a bound either, for a change of the
installation itself comes through many profiles at once.

Nothing is stored: after a restart of the operator, cameras that already have the change do not ask again,
and the waves begin anew with what is left. Pure but for the clock that callers pass in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

ALL_SCOPES = 4
"""All scopes together begin with so many first waves."""


@dataclass(slots=True)
class _Grant:
    was_ready: bool
    converged_at: float | None = None
    ready_since: float | None = None


@dataclass(slots=True)
class _Scope:
    granted: dict[str, _Grant] = field(default_factory=dict)
    waiting: OrderedDict[str, bool] = field(default_factory=OrderedDict)
    settled: int = 0
    well: int = 0
    excused: int = 0


def _first_known(one: float | None, other: float) -> float:
    return other if one is None else one


class Rollout:
    """Grants changes in growing waves, each scope (a profile, or the installation's defaults) by itself.

    Args:
        wake: Called with a camera that may go ahead now, or should be looked at again.
        first: Size of the first wave.
        soak: Seconds that a camera must stay Ready with the change.
        patience: Seconds after which a camera whose source is at fault gives its place back.
    """

    def __init__(
        self, wake: Callable[[str], None], *, first: int = 5, soak: float = 10.0, patience: float = 60.0
    ) -> None:
        self._wake = wake
        self._first = first
        self._soak = soak
        self._patience = patience
        self._scopes: dict[str, _Scope] = {}
        self._scope_of: dict[str, str] = {}
        self._granted = 0
        self._settled = 0

    def granted(self, camera: str) -> bool:
        """Whether a camera may take on the change that it has asked for."""
        scope = self._scope_of.get(camera)
        return scope is not None and camera in self._scopes[scope].granted

    def request(self, scope: str, camera: str, *, was_ready: bool) -> bool:
        """Ask for a change; True grants it now, else the camera is woken when its turn comes."""
        if self._scope_of.get(camera, scope) != scope:
            self.forget(camera)
        self._scope_of[camera] = scope
        state = self._scopes.setdefault(scope, _Scope())
        if camera in state.granted:
            return True
        state.waiting[camera] = was_ready
        self._advance(state)
        return camera in state.granted

    def observe(
        self, camera: str, *, converged: bool, ready: bool | None, now: float, excused: bool = False
    ) -> float | None:
        """Say how a camera that was granted a change is doing.

        Args:
            camera: Which one.
            converged: Whether it has what it should have.
            ready: Whether it is Ready; None if that cannot be known.
            now: Monotonic seconds.
            excused: Whether it is its source that keeps it from being Ready.

        Returns:
            Seconds after which to say so again, or None if it need not be said.
        """
        scope = self._scope_of.get(camera)
        if scope is None or (grant := self._scopes[scope].granted.get(camera)) is None:
            return None
        if not converged:
            grant.converged_at = grant.ready_since = None
            return None
        if grant.converged_at is None:
            grant.converged_at = now
        if not ready:
            grant.ready_since = None
        elif grant.ready_since is None:
            grant.ready_since = now
        if ready or not grant.was_ready:
            since, needed = _first_known(grant.ready_since, grant.converged_at), self._soak
        elif ready is not None and excused:
            since, needed = grant.converged_at, self._patience
        else:
            return None  # it was well before, or nothing is known: whoever follows has to wait
        if now - since < needed:
            return needed - (now - since)
        state = self._scopes[scope]
        if not ready and grant.was_ready and state.excused >= state.well:
            return self._patience  # so many sources do not fail by chance
        self._settle(scope, camera, well=bool(ready))
        return None

    def forget(self, camera: str) -> None:
        """Drop a camera that is gone, suspended, or cannot have a worker at all."""
        if (scope := self._scope_of.pop(camera, None)) is None:
            return
        state = self._scopes[scope]
        state.waiting.pop(camera, None)
        if state.granted.pop(camera, None) is not None:
            self._granted -= 1
        self._close(scope)
        self._advance_all()

    def reset(self) -> None:
        """Forget everything."""
        self._scopes.clear()
        self._scope_of.clear()
        self._granted = self._settled = 0

    def waiting(self) -> int:
        """How many cameras wait for their turn."""
        return len(self._scope_of) - self._granted

    def _settle(self, scope: str, camera: str, *, well: bool) -> None:
        state = self._scopes[scope]
        grant = state.granted.pop(camera)
        del self._scope_of[camera]
        self._granted -= 1
        self._settled += 1
        state.settled += 1
        if well:
            state.well += 1
        elif grant.was_ready:
            state.excused += 1
        self._close(scope)
        self._advance_all()

    def _advance_all(self) -> None:
        for state in list(self._scopes.values()):
            if state.waiting:
                self._advance(state)

    def _advance(self, state: _Scope) -> None:
        limit = max(self._first, state.settled)
        in_all = max(self._first * ALL_SCOPES, self._settled)
        while state.waiting and len(state.granted) < limit and self._granted < in_all:
            camera, was_ready = state.waiting.popitem(last=False)
            state.granted[camera] = _Grant(was_ready)
            self._granted += 1
            self._wake(camera)

    def _close(self, scope: str) -> None:
        state = self._scopes[scope]
        if not state.granted and not state.waiting:
            del self._scopes[scope]
        if not self._scopes:
            self._settled = 0
