"""Which camera should leave a node that stays overloaded? Simulated before it is proposed. Pure.

A node has to be loaded for three minutes and still be above the high mark. Moves are then simulated,
one after another: each takes a camera to the node where most room remains, which has to stay below the
low mark and below what the source is left with. Only if the source comes below the high mark in the
end, the first of these moves is proposed.

What keeps it from going back and forth: one such move at a time in the whole fleet; source and target
rest until the load tells the truth again; a camera is left alone for half an hour after any move, and
does not return to the node that it was taken from for hours; a source that had its camera put back, or
was not helped, is let alone for longer and longer. Whatever is not known or late is neither a source
nor a target.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from camfleet_operator.cluster.balance.load import HIGH, LOW, NodeState, Resource
from camfleet_operator.cluster.balance.relief_simulation import (
    CameraLoad,
    ReliefNode,
    ReliefProposal,
    Simulation,
    percent,
)

LOADED_SECONDS = 180.0
COOLDOWN_SECONDS = 300.0
"""Rates look back three minutes, and two of three readings decide: only then a move shows in the load."""
FLIGHT_SECONDS = 300.0
"""A moved camera that does not run again in that time does not keep others from being moved."""
HOLD_SECONDS, LONGEST_HOLD_SECONDS = 1800.0, 6 * 3600.0
_SKEW_SECONDS = 5.0
"""Ages of pods are told by the API server's clock, in whole seconds."""
_SATURATED = 0.98
HELPED_SHARE = 0.25
"""Of what the simulation promised, so much has to have come true for a node to count as helped."""


@dataclass(slots=True)
class _Hold:
    until: float = -math.inf
    length: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A move that was made: where it should end, and how it was with the source."""

    proposal: ReliefProposal
    at: float


class Relief:
    """Proposes at most one move at a time, and remembers what became of the last ones.

    Args:
        high: Share from which on a node is overloaded.
        low: Share that a target may have in the end.
    """

    def __init__(self, *, high: float = HIGH, low: float = LOW) -> None:
        self._high, self._low = high, low
        self._flight: _Flight | None = None
        self._landing: list[_Flight] = []
        self._rest: dict[str, float] = {}
        """Until when a node is neither source nor target."""
        self._holds: dict[str, _Hold] = {}
        self.why = "no node has been looked at yet"
        """Why there was a proposal, or none, at the last look."""

    def relieve(
        self,
        now: float,
        nodes: Mapping[str, ReliefNode],
        states: Mapping[str, NodeState],
        cameras: Iterable[CameraLoad],
        *,
        extra: Mapping[str, float] | None = None,
        avoid: Collection[str] = (),
    ) -> ReliefProposal | None:
        """Propose a move, if there is one that helps.

        Args:
            now: Monotonic seconds.
            nodes: All nodes by name.
            states: What is known of their load.
            cameras: Every camera with a worker.
            extra: Shares of CPU that a node's newest workers will take, and its load does not show yet.
            avoid: Nodes that failed of late.
        """
        by_key = {camera.key: camera for camera in cameras}
        self._follow(now, states, by_key)
        travelling = self._travelling(by_key)
        sources = [
            (state.load.of(resource) or 0.0, name, resource)
            for name, state in states.items()
            for resource in state.loaded
            if name in nodes and name not in avoid  # there, cameras are moved for a graver reason
        ]
        if not sources:
            self.why = "no node is loaded"
            return None
        if travelling:
            self.why = f"{travelling} is on its way"
            return None
        reasons = []
        for _, name, resource in sorted(sources, key=lambda item: (-item[0], item[1], item[2])):
            obstacle = self._obstacle(now, name, resource, states[name])
            if obstacle is None:
                resting = (other for other, until in self._rest.items() if until > now)
                simulation = Simulation(self._high, self._low, nodes, states, by_key, extra or {}, name)
                proposal = simulation.run(name, resource, {*avoid, *resting})
                if isinstance(proposal, ReliefProposal):
                    self.why = proposal.message
                    return proposal
                obstacle = proposal
            reasons.append(f"{name}: {obstacle}")
        self.why = "; ".join(reasons[:5])
        return None

    def moved(self, now: float, proposal: ReliefProposal) -> None:
        """A proposal is being carried out."""
        self._flight = _Flight(proposal, now)
        self._rest[proposal.source] = self._rest[proposal.target] = now + COOLDOWN_SECONDS

    def in_flight(self, camera: str) -> ReliefProposal | None:
        """The proposal that is being carried out, if it is this camera's."""
        flight = self._flight
        return flight.proposal if flight is not None and flight.proposal.camera == camera else None

    def _travelling(self, cameras: Mapping[str, CameraLoad]) -> str:
        """A camera that was moved a moment ago, if only by what its status says; empty if there is none."""
        if self._flight is not None:
            return self._flight.proposal.camera
        return min(
            (
                camera.key
                for camera in cameras.values()
                if camera.relieved and not camera.healthy and camera.since_move < FLIGHT_SECONDS
            ),
            default="",
        )

    # ── What became of it ───────────────────────────────────────────────────────────────────────────

    def _follow(self, now: float, states: Mapping[str, NodeState], cameras: Mapping[str, CameraLoad]) -> None:
        for name, until in list(self._rest.items()):
            if until <= now:
                del self._rest[name]
        for camera in cameras.values():
            if camera.since_move < COOLDOWN_SECONDS:  # whoever moved it, and for whatever reason
                until = now + COOLDOWN_SECONDS - camera.since_move
                for name in filter(None, (camera.node, camera.from_node)):
                    self._rest[name] = max(self._rest.get(name, -math.inf), until)
        for name, hold in list(self._holds.items()):
            if hold.until + LONGEST_HOLD_SECONDS <= now:
                del self._holds[name]
        self._land(now, cameras)
        for flight in list(self._landing):
            if now >= flight.at + COOLDOWN_SECONDS:
                self._landing.remove(flight)
                self._check(now, flight.proposal, states)

    def _land(self, now: float, cameras: Mapping[str, CameraLoad]) -> None:
        flight = self._flight
        if flight is None:
            return
        proposal, camera = flight.proposal, cameras.get(flight.proposal.camera)
        flying = now - flight.at
        if flying >= FLIGHT_SECONDS:
            self._flight = None
        elif camera is None or not camera.node:
            return  # its new pod has no node yet
        elif camera.node != proposal.source or camera.age <= flying + _SKEW_SECONDS:
            if camera.node == proposal.source:  # and that is a new pod
                self._flight = None
                self._hold(now, proposal.source, f"{camera.key} was put back on it")
            elif camera.healthy:
                self._flight = None
                self._landing.append(flight)

    def _check(self, now: float, proposal: ReliefProposal, states: Mapping[str, NodeState]) -> None:
        """Whether a move has helped."""
        state = states.get(proposal.source)
        share = state.load.of(proposal.resource) if state is not None else None
        if share is None or share < self._high:
            self._holds.pop(proposal.source, None)
        elif share >= _SATURATED:
            return  # more is wanted of it than it has, nobody can say how much: what has left may be missed
        elif proposal.source_before - share < HELPED_SHARE * (proposal.source_before - proposal.source_after):
            self._hold(now, proposal.source, f"that {proposal.camera} left did not help")

    def _hold(self, now: float, name: str, reason: str) -> None:
        hold = self._holds.setdefault(name, _Hold())
        hold.length = min(max(HOLD_SECONDS, 2 * hold.length), LONGEST_HOLD_SECONDS)
        hold.until, hold.reason = now + hold.length, reason

    def _obstacle(self, now: float, name: str, resource: Resource, state: NodeState) -> str | None:
        """Why a loaded node is not relieved now, before anything is simulated."""
        share = state.load.of(resource) or 0.0
        if share < self._high:
            return f"{resource.upper()} {percent(share)} is below the high mark again"
        if (since := now - state.loaded[resource]) < LOADED_SECONDS:
            return f"loaded for {since:.0f} s only"
        if self._rest.get(name, -math.inf) > now:
            return "rests after the last move"
        hold = self._holds.get(name)
        if hold is not None and hold.until > now:
            return f"left alone for {(hold.until - now) / 60:.0f} min: {hold.reason}"
        return None
