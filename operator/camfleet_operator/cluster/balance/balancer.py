"""Keeps cameras where there is room: asks Prometheus for the load of nodes, now and then, and has it judged.

Where a new worker would rather run is asked for each one (`placement_for`); which camera should leave a
loaded node is worked out with each reading (`proposal`). Whoever moves cameras says so (`moved`). Without a
Prometheus server, without nodes or without news there are neither preferences nor proposals.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from statistics import median
from typing import Any, Protocol

from camfleet_operator.cluster.balance.eligibility import Constraints, allows, read_constraints
from camfleet_operator.cluster.balance.load import (
    HIGH,
    INTERVAL_SECONDS,
    LOW,
    LoadBook,
    NodeState,
    Resource,
    preferences,
)
from camfleet_operator.cluster.balance.node_load import (
    CAMERA_CPU,
    QUERIES,
    WINDOW_SECONDS,
    NodeNames,
    camera_cores,
    join,
    load_queries,
    node_shares,
)
from camfleet_operator.cluster.balance.placement import Placement
from camfleet_operator.cluster.balance.relief import Relief
from camfleet_operator.cluster.balance.relief_simulation import CameraLoad, ReliefNode, ReliefProposal
from camfleet_operator.cluster.health.prometheus import PrometheusError, Vector
from camfleet_operator.cluster.podspec import CONTAINER

logger = logging.getLogger(__name__)

CAMERA_CORES = 0.1
"""What a worker takes as long as that of no other is known."""
CAMERA_GPU = 0.05
PENDING_SECONDS = 120.0
"""A worker that was to be placed so long ago and is seen nowhere is not counted any more."""
CARRY_OUT_SECONDS = 120.0
"""A move so long after it was proposed is another one."""


class Server(Protocol):
    """A Prometheus server; `prometheus.Prometheus` is one."""

    def open(self) -> AbstractAsyncContextManager[object]:
        """Hold connections to it."""

    async def query(self, expression: str, time: float | None = None) -> Vector:
        """Evaluate an instant query."""


class Balancer:
    """Load of nodes, and what follows from it.

    Args:
        server: The Prometheus server; None if there is none.
        nodes: All nodes by name.
        cameras: Every camera with a worker; what it takes need not be filled in.
        queries: Queries that replace the built-in ones, and selectors.
        relief: Whether loaded nodes are to be relieved.
        high: Share from which on a node becomes loaded; `low`: below which it is not any more.
        interval: Seconds between two readings.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        server: Server | None,
        *,
        nodes: Callable[[], Mapping[str, ReliefNode]],
        cameras: Callable[[], Iterable[CameraLoad]],
        queries: Mapping[str, str] | None = None,
        relief: bool = True,
        high: float = HIGH,
        low: float = LOW,
        interval: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._nodes = nodes
        self._cameras = cameras
        self._queries = load_queries(queries or {})
        self._relieves = relief
        self._interval = interval
        self._clock = clock
        self._book = LoadBook(high=high, low=low, interval=interval)
        self._relief = Relief(high=high, low=low)
        self._proposal: ReliefProposal | None = None
        self._proposed: dict[str, tuple[ReliefProposal, float]] = {}
        """What was proposed for a camera last, and when: to carry it out takes a while."""
        self._cores: dict[str, float] = {}
        self._estimate = CAMERA_CORES
        self._pending: dict[str, tuple[str, float, bool]] = {}
        """Workers that were to be created, where they are thought to go, since when, and whether on a GPU."""
        self._foreseen: dict[str, NodeState] = {}
        """Loads with what will come of the newest workers."""
        self._measured: dict[str, NodeState] = {}
        self._possible: dict[Constraints, frozenset[str]] = {}
        self._failed: Collection[str] = ()
        self._problems: dict[str, str] = {}
        self._read_at: float | None = None

    # ── What others ask ─────────────────────────────────────────────────────────────────────────────

    def placement_for(
        self, camera: str, spec: Mapping[str, Any], *, failed: Mapping[str, str] | None = None
    ) -> Placement:
        """Say where the worker of a camera, which is about to be created, would rather run.

        Args:
            camera: `namespace.name`.
            spec: Its pod spec.
            failed: Nodes that failed, and in a few words how, such as `failed 3 min ago`; the worst first.
        """
        constraints = read_constraints(spec, CONTAINER)
        nodes, flight = self._nodes(), self._relief.in_flight(camera)
        states = self._states()
        failed = dict(failed or {})
        if flight is not None and flight.source in states:
            failed.pop(flight.source, None)  # it did not fail, it is loaded
        placement = preferences(
            nodes,
            states,
            gpu=bool(constraints.gpu),
            failed=failed,
            possible=self._where(constraints, nodes),
            target=flight.target if flight is not None else "",
            leaving=flight.source if flight is not None else "",
            shown=self._measured,
        )
        if states:
            self._foresee(camera, constraints, placement, nodes, failed)
        return placement

    def proposal(self) -> ReliefProposal | None:
        """The move that would relieve a node, as of the last reading; None if there is none."""
        return self._proposal

    def moved(self, camera: str) -> None:
        """A camera is being moved, for whatever reason; the proposal is taken up if it is about that one."""
        proposal, at = self._proposed.pop(camera, (None, 0.0))
        if proposal is not None and self._clock() - at <= CARRY_OUT_SECONDS:
            self._relief.moved(self._clock(), proposal)
            self._proposal = None

    def avoid(self, nodes: Collection[str]) -> None:
        """From now on no camera is moved to these nodes, nor off them, for the sake of load: they failed."""
        self._failed = frozenset(nodes)

    def loads(self) -> dict[str, dict[str, float | None]]:
        """The load of each node of which it is known, for people."""
        return {
            name: {"cpu": _short(state.load.cpu), "gpu": _short(state.load.of(Resource.GPU))}
            for name, state in self._book.states(self._clock()).items()
        }

    def describe(self) -> dict[str, Any]:
        """How it stands, for people."""
        now = self._clock()
        states = self._book.states(now)
        return {
            "enabled": self._server is not None,
            "relief": self._relieves,
            "readSecondsAgo": round(now - self._read_at, 1) if self._read_at is not None else None,
            "problems": dict(self._problems),
            "loaded": {name: sorted(state.loaded) for name, state in sorted(states.items()) if state.loaded},
            "proposal": self._proposal.message if self._proposal is not None else None,
            "why": self._why(),
        }

    def _why(self) -> str:
        if self._server is None:
            return "no Prometheus server is configured"
        if not self._nodes():
            return "nodes are not known"
        if not self._book.states(self._clock()):
            return "the load of no node is known"
        return self._relief.why if self._relieves else "relief is off"

    # ── Life ────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Read again and again, until cancelled; without a server, do nothing."""
        if self._server is None:
            await asyncio.Event().wait()
            return
        async with self._server.open():
            while True:
                started = self._clock()
                await self.tick()
                await asyncio.sleep(max(0.0, started + self._interval - self._clock()))

    async def tick(self) -> None:
        """Read once, and work out whether a node should be relieved."""
        if self._server is None:
            return
        answers = await asyncio.gather(*(self._ask(self._server, name) for name in QUERIES))
        samples = {
            name: answer.samples for name, answer in zip(QUERIES, answers, strict=True) if answer is not None
        }
        now, nodes = self._clock(), self._nodes()
        names = NodeNames(nodes)
        shares = {name: node_shares(found, names) for name, found in samples.items() if name != CAMERA_CPU}
        self._cores = camera_cores(samples.get(CAMERA_CPU, ()))
        self._estimate = median(self._cores.values()) if self._cores else CAMERA_CORES
        readings = join(shares)
        if readings:
            self._book.observe(now, readings)
            self._read_at = now
        self._judge(now, nodes, fresh=bool(readings))

    def _judge(self, now: float, nodes: Mapping[str, ReliefNode], *, fresh: bool) -> None:
        states = self._book.states(now)
        cameras = [
            replace(camera, cpu=self._cores.get(camera.key))
            if (state := states.get(camera.node)) is not None and state.loaded
            else camera
            for camera in self._cameras()
        ]
        extra = self._look_ahead(now, states, cameras, nodes)
        before, self._proposal = self._proposal, None
        if self._relieves and fresh:
            found = self._relief.relieve(now, nodes, states, cameras, extra=extra, avoid=self._failed)
            if found is not None:
                # While it is the same move, it says the same: loads change a little all the time.
                self._proposal = before if before is not None and before.same_as(found) else found
                self._proposed = {
                    key: made for key, made in self._proposed.items() if now - made[1] <= CARRY_OUT_SECONDS
                }
                self._proposed[found.camera] = (self._proposal, now)

    async def _ask(self, server: Server, name: str) -> Vector | None:
        try:
            answer = await server.query(self._queries[name])
        except PrometheusError as error:
            if name not in self._problems:
                logger.warning("the load of nodes is not known, query %s: %s", name, error)
            self._problems[name] = str(error)
            return None
        if self._problems.pop(name, None) is not None:
            logger.info("query %s is answered again", name)
        return answer

    # ── What will come of the newest workers ────────────────────────────────────────────────────────

    def _states(self) -> Mapping[str, NodeState]:
        """Loads with what will come; nothing if the last reading is too old."""
        fresh = self._read_at is not None and self._clock() - self._read_at <= self._book.stale
        return self._foreseen if fresh else {}

    def _look_ahead(
        self,
        now: float,
        states: Mapping[str, NodeState],
        cameras: Iterable[CameraLoad],
        nodes: Mapping[str, ReliefNode],
    ) -> dict[str, float]:
        """Add to each node's load what its newest workers will take and a rate does not show yet.

        Returns:
            What was added to the CPU of each node.
        """
        ramp = WINDOW_SECONDS + self._interval
        coming: defaultdict[str, float] = defaultdict(float)
        on_gpu: defaultdict[str, float] = defaultdict(float)
        for camera in cameras:
            if not camera.node or camera.age >= ramp:
                continue
            share = 1.0 - camera.age / ramp
            coming[camera.node] += share
            if camera.constraints.gpu:
                on_gpu[camera.node] += share
            pending = self._pending.get(camera.key)
            if pending is not None and camera.age <= now - pending[1] + 5.0:
                del self._pending[camera.key]  # the scheduler has decided
        for key, (name, at, gpu) in list(self._pending.items()):
            if now - at > PENDING_SECONDS:
                del self._pending[key]
                continue
            coming[name] += 1.0
            on_gpu[name] += gpu
        extra = {
            name: count * self._estimate / node.cpu_cores
            for name, count in coming.items()
            if (node := nodes.get(name)) is not None and node.cpu_cores > 0
        }
        self._measured = dict(states)
        self._foreseen = {
            name: _more(state, extra.get(name, 0.0), on_gpu[name] * CAMERA_GPU)
            for name, state in states.items()
        }
        self._possible.clear()
        return extra

    def _foresee(
        self,
        camera: str,
        constraints: Constraints,
        placement: Placement,
        nodes: Mapping[str, ReliefNode],
        failed: Mapping[str, str],
    ) -> None:
        """Count a worker where it will probably go, so that the next ones do not all prefer the same node."""
        gpu = bool(constraints.gpu)
        wanted = frozenset(placement.prefer)
        best: tuple[float, str] | None = None
        for name in self._where(constraints, nodes):
            node, state = nodes.get(name), self._foreseen.get(name)
            taken = state.room_taken(gpu) if state is not None else None
            if node is None or taken is None or name in failed:
                continue
            if wanted and node.hostname not in wanted:
                continue
            if best is None or (taken, name) < best:
                best = (taken, name)
        if best is None:
            return
        name = best[1]
        before = self._pending.get(camera)
        self._pending[camera] = (name, self._clock(), gpu)
        if before is None and nodes[name].cpu_cores > 0:
            share = self._estimate / nodes[name].cpu_cores
            self._foreseen[name] = _more(self._foreseen[name], share, CAMERA_GPU if gpu else 0.0)

    def _where(self, constraints: Constraints, nodes: Mapping[str, ReliefNode]) -> frozenset[str]:
        """Nodes on which such a worker may run; worked out once per reading."""
        known = self._possible.get(constraints)
        if known is None:
            known = frozenset(name for name, node in nodes.items() if allows(constraints, node))
            self._possible[constraints] = known
        return known


def _more(state: NodeState, cpu: float, gpu: float) -> NodeState:
    if not cpu and not gpu:
        return state
    load = state.load
    return replace(
        state,
        load=replace(
            load,
            cpu=load.cpu + cpu if load.cpu is not None else None,
            gpu=load.gpu + gpu if load.gpu is not None else None,
        ),
    )


def _short(share: float | None) -> float | None:
    return round(share, 3) if share is not None else None
