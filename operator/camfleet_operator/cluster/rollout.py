"""Which cameras may take on a change that many get at once: a profile, new defaults, a new worker image.

The first few go ahead; every camera that is Ready with the change for a while (the soak) lets more follow,
so each wave is about twice the one before. A camera that was Ready and is not any more keeps its place, and
holds up those behind it: a bad profile reaches a few cameras and stops. What a user changes on one camera
itself never waits here.

Nothing is stored: after a restart of the operator, cameras that already have the change do not ask again,
and the waves begin anew with what is left. Pure but for the clock that callers pass in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field


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


class Rollout:
    """Grants changes in growing waves, each scope (a profile, or the installation's defaults) by itself.

    Args:
        wake: Called with a camera that may go ahead now, or should be looked at again.
        first: Size of the first wave.
        soak: Seconds that a camera must stay Ready with the change.
        blind: Seconds after which a camera of which nothing can be known counts as settled.
    """

    def __init__(
        self, wake: Callable[[str], None], *, first: int = 5, soak: float = 10.0, blind: float = 60.0
    ) -> None:
        self._wake = wake
        self._first = first
        self._soak = soak
        self._blind = blind
        self._scopes: dict[str, _Scope] = {}
        self._scope_of: dict[str, str] = {}

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

    def observe(self, camera: str, *, converged: bool, ready: bool | None, now: float) -> float | None:
        """Say how a camera that was granted a change is doing.

        Args:
            camera: Which one.
            converged: Whether it has what it should have.
            ready: Whether it is Ready; None if that cannot be known.
            now: Monotonic seconds.

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
        grant.ready_since = (grant.ready_since or now) if ready else None
        if ready or not grant.was_ready:
            since, needed = grant.ready_since or grant.converged_at, self._soak
        elif ready is None:
            since, needed = grant.converged_at, self._blind
        else:
            return None  # it was well before: whoever follows has to wait
        if now - since < needed:
            return needed - (now - since)
        self._settle(scope, camera)
        return None

    def forget(self, camera: str) -> None:
        """Drop a camera that is gone, suspended or has been edited by its user."""
        if (scope := self._scope_of.pop(camera, None)) is None:
            return
        state = self._scopes[scope]
        state.waiting.pop(camera, None)
        if state.granted.pop(camera, None) is not None:
            self._advance(state)
        self._close(scope)

    def waiting(self) -> int:
        """How many cameras wait for their turn."""
        return sum(len(state.waiting) for state in self._scopes.values())

    def _settle(self, scope: str, camera: str) -> None:
        state = self._scopes[scope]
        del state.granted[camera]
        del self._scope_of[camera]
        state.settled += 1
        self._advance(state)
        self._close(scope)

    def _advance(self, state: _Scope) -> None:
        limit = max(self._first, state.settled)
        while state.waiting and len(state.granted) < limit:
            camera, was_ready = state.waiting.popitem(last=False)
            state.granted[camera] = _Grant(was_ready)
            self._wake(camera)

    def _close(self, scope: str) -> None:
        state = self._scopes[scope]
        if not state.granted and not state.waiting:
            del self._scopes[scope]
