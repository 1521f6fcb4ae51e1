"""Which workers are moved, and when: bad ones, within budgets, and none where acting would not help. Pure.

Every tick each camera's fault is known (`faults`). Here it is decided what follows. A source's fault is never
cured by a move, so none follows. A worker's or node's fault leads to a move after enough bad readings; a dead
node's at once. What is due may be held: by the user (Never, paused, dry run), because most of the fleet is
bad (`breaker`), because the camera was moved lately (each move in a row makes the pause longer), or because
the budget is spent for the moment. The reason is kept, to be told.

What has to survive a restart is in each camera's `status.lastReassignment`: from these, counts, budgets and
the nodes to avoid are made anew.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from camfleet_operator.cluster.health.breaker import FLEET, LEAST_NODES, Breaker, Count, Frozen, zone_scope
from camfleet_operator.cluster.health.budget import TokenBucket
from camfleet_operator.cluster.health.faults import (
    Attribution,
    CameraFacts,
    Fault,
    NodeFacts,
    NodeState,
    attribute,
)
from camfleet_operator.cluster.health.orders import (
    NOTHING,
    Act,
    Decision,
    Moved,
    MoveFacts,
    Order,
    Outcome,
    Policy,
    Reason,
    Relief,
)
from camfleet_operator.cluster.health.verdicts import Evidence, Health, Verdict

NODE_CAMERAS_PER_SECOND = 5.0
"""Cameras of lost nodes moved per second: each is four writes."""
AVOID_SECONDS = 300.0
"""For so long a node is avoided after its first fault; twice as long after each further one."""
LONGEST_AVOID_SECONDS = 3600.0
STALE_ORDER_SECONDS = 60.0
"""An order that was not carried out in this time is given up: what it rested on is old."""
ABSENT_SECONDS = 12.0
"""A worker whose gateway has gone needs some of these to come to another one."""
_JITTER = 0.2
_SOON_SECONDS = 10.0
_STALE = Health(Verdict.UNKNOWN, None, None, None, None, "SignalsStale")
_MAX_AVOIDED = 64


@dataclass(slots=True)
class _Camera:
    """What is remembered of a camera from tick to tick."""

    pod_uid: str = ""
    seen_at: float = 0.0
    ran: bool = False
    connected: bool = False
    healthy_since: float | None = None
    absent_since: float | None = None
    crashing_since: float | None = None
    count: int = 0
    moved_at: float = float("-inf")
    """Unix seconds."""
    last: Moved | None = None
    left: str = ""
    """Node that it was moved away from last, to be avoided until `left_until`, Unix seconds."""
    left_until: float = float("-inf")
    order: Order | None = None
    ordered_at: float = 0.0
    decision: Decision = NOTHING


@dataclass(slots=True)
class _Node:
    """What is remembered of a node."""

    incidents: int = 0
    since: float = float("-inf")
    """When the present incident, or the last one, began; Unix seconds."""
    avoid_until: float = float("-inf")
    """Unix seconds."""
    paid: bool = False
    """Whether the present incident has had its token."""


class Mover:
    """Decides about all cameras, tick by tick. `now` is monotonic, `wall` Unix seconds."""

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy = policy
        self._cameras: dict[str, _Camera] = {}
        self._nodes: dict[str, _Node] = {}
        self._breaker = Breaker(policy.freeze_share)
        self._camera_budget = TokenBucket(policy.cameras_per_second, policy.cameras_burst, now)
        self._node_budget = TokenBucket(policy.nodes_per_second, 1.0, now)
        self._pace = TokenBucket(NODE_CAMERAS_PER_SECOND, NODE_CAMERAS_PER_SECOND, now)
        self._restored = False
        self.attribution = Attribution({}, {})
        self.restless = False
        """Whether something may be due before the cameras are judged again."""

    # ── What others ask ─────────────────────────────────────────────────────────────────────────────

    def order(self, key: str) -> Order | None:
        """What is to be carried out now, if anything is."""
        camera = self._cameras.get(key)
        return camera.order if camera is not None else None

    def decision(self, key: str) -> Decision:
        """What was decided last."""
        camera = self._cameras.get(key)
        return camera.decision if camera is not None else NOTHING

    def avoid(self, key: str, wall: float) -> dict[str, str]:
        """Nodes that a new worker of this camera should avoid, and why in a few words; the gravest first."""
        until = self.avoided(wall)
        words = {name: f"failed {_ago(wall - self._nodes[name].since)}" for name in until}
        camera = self._cameras.get(key)
        if camera is not None and camera.left and camera.left_until > wall:
            until.setdefault(camera.left, camera.left_until)
            words.setdefault(camera.left, f"left {_ago(wall - camera.left_until + AVOID_SECONDS)}")
        names = sorted(until, key=lambda name: (-until[name], name))
        return {name: words[name] for name in names[:_MAX_AVOIDED]}

    def avoided(self, wall: float) -> dict[str, float]:
        """Nodes that every new worker should avoid, and until when."""
        return {name: node.avoid_until for name, node in self._nodes.items() if node.avoid_until > wall}

    def frozen(self) -> list[Frozen]:
        """Scopes in which nothing is moved."""
        return self._breaker.all()

    def tokens(self, now: float) -> tuple[float, float]:
        """What is left of the budgets: cameras, nodes."""
        return self._camera_budget.tokens(now), self._node_budget.tokens(now)

    def carried_out(self, key: str, order: Order) -> None:
        """An order is in the camera's status, and its pod is being deleted."""
        camera = self._cameras.get(key)
        if camera is not None and camera.order == order:
            camera.order = None

    def reset(self) -> None:
        """Another replica acts from now on: whatever is remembered will be out of date."""
        self._cameras.clear()
        self._nodes.clear()
        self._breaker = Breaker(self._policy.freeze_share)
        self._restored = False
        self.attribution = Attribution({}, {})

    # ── One tick ────────────────────────────────────────────────────────────────────────────────────

    def tick(
        self,
        now: float,
        wall: float,
        cameras: Sequence[MoveFacts],
        nodes: Mapping[str, NodeFacts],
        *,
        blind: tuple[str, str] | None = None,
        paused: str = "",
        relief: Relief | None = None,
    ) -> Outcome:
        """Decide about every camera that should run.

        Args:
            now: Monotonic seconds.
            wall: Unix seconds.
            cameras: Every camera that has, or should have, a worker.
            nodes: What the API server says of nodes, by name.
            blind: Reason and message, if nothing can be known of any camera.
            paused: What pauses all moves, if something does.
            relief: A move that would relieve a loaded node.
        """
        if not self._restored:
            self._restore(now, wall, cameras)
        self._follow(now, wall, cameras)
        facts = [self._camera_facts(camera, now, wall) for camera in cameras]
        policy = self._policy
        self.attribution = attribute(facts, nodes, readings=policy.readings, bad_for=policy.bad_for)
        self._breaker.tick(now, self._counts(facts, nodes), blind=blind, nowhere=_nowhere(nodes))
        self._note_nodes(wall, nodes)
        # A node whose workers are gone is lost as soon as its Lease is late; the other way round, we hear.
        reports = self.attribution.nodes.values()
        self.restless = any(report.state is NodeState.SUSPECT and report.bad for report in reports)
        orders: list[Order] = []
        changed: dict[str, Decision] = {}
        for camera in self._by_urgency(cameras):
            state = self._cameras[camera.key]
            decision, order = self._decide(camera, state, now, wall, nodes, paused, relief)
            if order is not None:
                state.order, state.ordered_at = order, now
                orders.append(order)
            self.restless = self.restless or _is_due(decision, wall)
            if decision != state.decision:
                state.decision = changed[camera.key] = decision
        return Outcome(orders, changed)

    def _restore(self, now: float, wall: float, cameras: Sequence[MoveFacts]) -> None:
        """Make up the memory of a process that has just begun from what the statuses tell."""
        self._restored = True
        singles: list[float] = []
        at_node: defaultdict[str, float] = defaultdict(float)
        for camera in cameras:
            last = camera.last
            if last is None:
                continue
            age = max(0.0, wall - last.at)
            if last.reason in (Reason.NODE_LOST.value, Reason.NODE_FAULT.value):
                at_node[last.from_node] = max(at_node[last.from_node], wall - age)
            else:
                singles.append(now - age)
        self._camera_budget.replay(singles, now)
        self._node_budget.replay((now - (wall - at) for at in at_node.values()), now)
        for name, at in at_node.items():
            if name and at + AVOID_SECONDS > wall:
                self._nodes[name] = _Node(1, at, at + AVOID_SECONDS, paid=True)

    def _follow(self, now: float, wall: float, cameras: Sequence[MoveFacts]) -> None:
        """Keep what is remembered of each camera."""
        if gone := self._cameras.keys() - {camera.key for camera in cameras}:
            for key in gone:
                del self._cameras[key]
        for camera in cameras:
            state = self._cameras.get(camera.key)
            if state is None:
                state = self._cameras[camera.key] = _Camera(seen_at=now)
                # Its worker had this time to start, though we have only just begun to look.
                state.pod_uid, state.seen_at = camera.pod_uid, now - max(0.0, wall - camera.created_at)
                if camera.ready_since:
                    state.healthy_since = now - max(0.0, wall - camera.ready_since)
                    state.connected = True
            if state.pod_uid != camera.pod_uid:
                state.pod_uid, state.seen_at = camera.pod_uid, now
                state.ran = state.connected = False
                state.crashing_since = None
                if state.order is not None and state.order.pod_uid != camera.pod_uid:
                    state.order = None
            state.ran = state.ran or camera.running
            if not state.ran and not state.connected:
                state.seen_at = now  # its time to come begins when it runs
            if state.order is not None and now - state.ordered_at > STALE_ORDER_SECONDS:
                state.count, state.order = max(0, state.count - state.order.reason.is_failure), None
            if camera.last is not None and camera.last != state.last:
                state.last = camera.last
                if camera.last.at > state.moved_at:
                    state.count, state.moved_at = self._count_of(camera.last, wall), camera.last.at
                    state.left, state.left_until = camera.last.from_node, camera.last.at + AVOID_SECONDS
            # A clock that was set back, or another replica's that is fast, must not stop moves for hours.
            state.moved_at = min(state.moved_at, wall)
            state.left_until = min(state.left_until, wall + AVOID_SECONDS)
            evidence = camera.evidence
            if camera.crashing and state.crashing_since is None:
                state.crashing_since = now
            if evidence is None or not evidence.absent:
                state.absent_since = None
            elif state.absent_since is None:
                state.absent_since = now
            if evidence is None or evidence.health.verdict is Verdict.UNKNOWN:
                continue
            state.connected = state.connected or bool(evidence.health.worker_connected)
            if evidence.health.verdict is Verdict.HEALTHY:
                state.crashing_since = None
                if state.healthy_since is None:
                    state.healthy_since = now
                if now - state.healthy_since >= self._policy.backoff.healthy_after:
                    state.count = 0
            elif evidence.readings >= self._policy.readings:
                state.healthy_since = None

    def _count_of(self, last: Moved, wall: float) -> int:
        """How many moves in a row a status tells of; none after so long that it was well in between."""
        backoff = self._policy.backoff
        return last.count if wall - last.at < backoff.max_delay + backoff.healthy_after else 0

    def _camera_facts(self, camera: MoveFacts, now: float, wall: float) -> CameraFacts:
        state, grace = self._cameras[camera.key], self._policy.start_grace
        evidence = camera.evidence if camera.pod_uid else None
        if evidence is not None and now - evidence.at > self._policy.stale_after:
            evidence = replace(evidence, health=_STALE, readings=0, absent=False)
        return CameraFacts(
            camera.key,
            camera.node,
            evidence,
            established=state.connected or now - state.seen_at >= grace,
            running=camera.running,
            crashing=camera.crashing,
            absent=state.absent_since is not None and now - state.absent_since >= ABSENT_SECONDS,
        )

    def _counts(self, facts: Iterable[CameraFacts], nodes: Mapping[str, NodeFacts]) -> dict[str, Count]:
        """How many cameras of each scope can be judged, and how many of them are bad."""
        total: Counter[str] = Counter()
        bad: Counter[str] = Counter()
        on: defaultdict[str, set[str]] = defaultdict(set)
        bad_on: defaultdict[str, set[str]] = defaultdict(set)
        faults = self.attribution.faults
        hung = {c.node for c in facts if faults[c.key] is Fault.NODE and _is_connected(c.evidence)}
        for camera in facts:
            fault = faults[camera.key]
            if fault is Fault.STARTING or self._is_dead(camera.node):
                continue
            if len(hung) == 1 and fault is Fault.NODE and _is_connected(camera.evidence):
                continue  # neither the network nor a gateway can make the workers of a single node hang
            scopes = [FLEET]
            if (node := nodes.get(camera.node)) is not None and node.zone:
                scopes.append(zone_scope(node.zone))
            for scope in scopes:
                total[scope] += 1
                on[scope].add(camera.node)
                if fault not in (Fault.NONE, Fault.SOURCE):
                    bad[scope] += 1
                    bad_on[scope].add(camera.node)
        zones = {node.zone for node in nodes.values() if node.zone}
        return {
            scope: Count(count, bad[scope], len(on[scope]), len(bad_on[scope]))
            for scope, count in total.items()
            # One zone is the fleet, and a small one may be bad as a whole.
            if scope == FLEET or (len(zones) > 1 and len(on[scope]) >= LEAST_NODES)
        }

    def _is_dead(self, node: str) -> bool:
        report = self.attribution.nodes.get(node)
        return report is not None and report.state is NodeState.DEAD

    def _note_nodes(self, wall: float, nodes: Mapping[str, NodeFacts]) -> None:
        """Begin and end incidents of nodes. A frozen fleet or zone says nothing about any one of them."""
        for name, report in self.attribution.nodes.items():
            node = self._nodes.get(name)
            if node is not None and report.state is NodeState.HEALTHY:
                node.paid = False
            frozen = self._breaker.frozen(_scopes(nodes, name)) is not None
            if report.state in (NodeState.DEAD, NodeState.FAULTY) and not frozen:
                node = node or self._nodes.setdefault(name, _Node())
                if wall >= node.avoid_until:
                    node.incidents, node.since = node.incidents + 1, wall
                    node.paid = False
                    pause = AVOID_SECONDS * 2.0 ** min(node.incidents - 1, 8)
                    node.avoid_until = wall + min(pause, LONGEST_AVOID_SECONDS)
        for name, node in list(self._nodes.items()):
            node.avoid_until = min(node.avoid_until, wall + LONGEST_AVOID_SECONDS)
            node.since = min(node.since, wall)
            if wall > node.avoid_until + 2 * LONGEST_AVOID_SECONDS:
                del self._nodes[name]

    def _by_urgency(self, cameras: Sequence[MoveFacts]) -> list[MoveFacts]:
        """Cameras of dead nodes first; a node that has its token is finished before the next."""

        def rank(camera: MoveFacts) -> tuple[object, ...]:
            fault = self.attribution.faults[camera.key]
            if fault is not Fault.NODE:
                return (3 if fault is Fault.NONE else 2, False, "", camera.key)
            node = self._nodes.get(camera.node)
            paid = node is not None and node.paid
            return (0 if paid else 1, not self._is_dead(camera.node), camera.node, camera.key)

        return sorted(cameras, key=rank)

    # ── One camera ──────────────────────────────────────────────────────────────────────────────────

    def _decide(
        self,
        camera: MoveFacts,
        state: _Camera,
        now: float,
        wall: float,
        nodes: Mapping[str, NodeFacts],
        paused: str,
        relief: Relief | None,
    ) -> tuple[Decision, Order | None]:
        if state.order is not None:
            return state.decision, None
        fault = self.attribution.faults[camera.key]
        if camera.obstructed:
            return Decision(Act.NONE, "Obstructed", "no worker could be started in its place"), None
        if camera.request and camera.request != (camera.last.request if camera.last else ""):
            return self._on_request(camera, state, now, wall)
        if relief is not None and relief.key == camera.key and fault is Fault.NONE:
            return self._on_relief(camera, state, now, wall, nodes, paused, relief)
        if fault not in (Fault.WORKER, Fault.NODE) or not camera.pod_uid:
            return _explain_quiet(fault, camera.evidence), None
        reason = Reason.WORKER_FAULT
        if fault is Fault.NODE:
            reason = Reason.NODE_LOST if self._is_dead(camera.node) else Reason.NODE_FAULT
        message = self._evidence_of(camera, reason)
        scopes = _scopes(nodes, camera.node)
        if (wait := self._not_yet(camera, state.crashing_since, now, reason, scopes)) is not None:
            return wait, None
        if (held := self._held(camera, reason, message, scopes, paused)) is not None:
            return held, None
        return self._within_budget(camera, state, now, wall, reason, message)

    def _not_yet(
        self,
        camera: MoveFacts,
        crashing_since: float | None,
        now: float,
        reason: Reason,
        scopes: Sequence[str],
    ) -> Decision | None:
        """Whether it has not been bad for long enough."""
        if reason is Reason.NODE_LOST:
            return None
        evidence, thawed = camera.evidence, self._breaker.thawed_at(scopes)
        if crashing_since is not None and now - max(crashing_since, thawed) >= self._policy.bad_for:
            return None
        if evidence is None:
            return NOTHING
        since = max(evidence.since, thawed)
        if evidence.readings >= self._policy.readings and evidence.at - since >= self._policy.bad_for:
            return None
        return Decision(
            Act.WAIT, reason.value, f"a move follows after {self._policy.readings} bad readings in a row"
        )

    def _held(
        self, camera: MoveFacts, reason: Reason, message: str, scopes: Sequence[str], paused: str
    ) -> Decision | None:
        """Whether the user or a freeze forbids it."""
        if not camera.automatic:
            return Decision(Act.HELD, "Never", "not moved: health.reassignment is Never")
        if why := paused or camera.paused:
            return Decision(Act.HELD, "Paused", f"not moved: paused by {why}")
        if (frozen := self._breaker.frozen(scopes)) is not None:
            return Decision(Act.HELD, "Frozen", f"nothing is moved: {frozen.message}")
        if self._policy.dry_run:
            return Decision(Act.WOULD_MOVE, "DryRun", f"would be moved ({reason.value}): {message}")
        return None

    def _within_budget(
        self, camera: MoveFacts, state: _Camera, now: float, wall: float, reason: Reason, message: str
    ) -> tuple[Decision, Order | None]:
        pause = _jittered(self._policy.backoff.delay(state.count + 1), camera.key, state.count)
        if wall < state.moved_at + pause:
            message = f"moved {state.count} times in a row; the next move waits {pause:.0f} s after the last"
            return Decision(Act.HELD, "Backoff", message, state.moved_at + pause), None
        if not self._pay(camera, now, reason):
            return Decision(Act.HELD, "Budget", "a move is due and waits for its turn"), None
        return self._ordered(camera, state, wall, reason, message)

    def _pay(self, camera: MoveFacts, now: float, reason: Reason) -> bool:
        if reason not in (Reason.NODE_LOST, Reason.NODE_FAULT):
            return self._camera_budget.take(now)
        node = self._nodes.setdefault(camera.node, _Node())
        if self._pace.tokens(now) < 1:
            return False
        if not node.paid:
            if not self._node_budget.take(now):
                return False
            node.paid = True
        return self._pace.take(now)

    def _ordered(
        self, camera: MoveFacts, state: _Camera, wall: float, reason: Reason, message: str
    ) -> tuple[Decision, Order]:
        if reason.is_failure:
            state.count, state.healthy_since = state.count + 1, None
        state.moved_at = wall
        state.left, state.left_until = camera.node, wall + AVOID_SECONDS
        last = camera.last.request if camera.last is not None else ""
        order = Order(
            camera.key,
            camera.pod_uid,
            reason,
            message,
            camera.node,
            state.count,
            wall,
            request=camera.request if reason is Reason.REQUESTED else last,
            graceful=not reason.is_failure,
        )
        return Decision(Act.MOVE, reason.value, message), order

    def _on_request(
        self, camera: MoveFacts, state: _Camera, now: float, wall: float
    ) -> tuple[Decision, Order | None]:
        if not camera.pod_uid or not camera.node:
            return Decision(Act.WAIT, "Requested", "asked to move; it has no worker on a node yet"), None
        if not self._camera_budget.take(now):
            return Decision(Act.HELD, "Budget", "a move is due and waits for its turn"), None
        text = f"asked for by the annotation, value {camera.request}"
        return self._ordered(camera, state, wall, Reason.REQUESTED, text)

    def _on_relief(
        self,
        camera: MoveFacts,
        state: _Camera,
        now: float,
        wall: float,
        nodes: Mapping[str, NodeFacts],
        paused: str,
        relief: Relief,
    ) -> tuple[Decision, Order | None]:
        if held := self._held(camera, Reason.RELIEF, relief.message, _scopes(nodes, camera.node), paused):
            return held, None
        if wall < state.moved_at + AVOID_SECONDS or not self._camera_budget.take(now):
            return NOTHING, None
        return self._ordered(camera, state, wall, Reason.RELIEF, relief.message)

    def _evidence_of(self, camera: MoveFacts, reason: Reason) -> str:
        """The grounds of a move, in a sentence."""
        report = self.attribution.nodes.get(camera.node)
        if reason in (Reason.NODE_LOST, Reason.NODE_FAULT) and report is not None:
            return f"node {camera.node}: {report.reason}"
        if camera.crashing:
            return "the worker keeps ending"
        health = camera.evidence.health if camera.evidence is not None else None
        return health.message if health is not None else ""


def _explain_quiet(fault: Fault, evidence: Evidence | None) -> Decision:
    """Why nothing follows."""
    match fault:
        case Fault.SOURCE:
            return Decision(Act.NONE, fault.value, "the source is at fault: another node would not help")
        case Fault.BLIND:
            return Decision(Act.NONE, fault.value, "nothing is known of it, so nothing is done")
        case Fault.STARTING:
            return Decision(Act.WAIT, fault.value, "its worker is starting")
    return NOTHING


def _is_due(decision: Decision, wall: float) -> bool:
    """Whether to look again within seconds: it may be acted on before the next reading."""
    if decision.cause == "Backoff":
        return decision.not_before - wall <= _SOON_SECONDS
    return decision.cause == "Budget" or (decision.act is Act.WAIT and decision.cause != Fault.STARTING.value)


def _is_connected(evidence: Evidence | None) -> bool:
    return evidence is not None and bool(evidence.health.worker_connected)


def _scopes(nodes: Mapping[str, NodeFacts], node: str) -> tuple[str, ...]:
    """The scopes that a camera on a node is in, beside the fleet."""
    zone = nodes[node].zone if node in nodes else ""
    return (zone_scope(zone),) if zone else ()


def _nowhere(nodes: Mapping[str, NodeFacts]) -> tuple[str, str] | None:
    """Why there is no node to move to: a fleet without any live node rather means that we are cut off."""
    late = [node.lease_late for node in nodes.values() if node.lease_late is not None]
    if not late or not all(late):
        return None
    return "AllNodesLost", "no node's kubelet renews its Lease, so there is none to move to"


def _ago(seconds: float) -> str:
    return f"{seconds / 60:.0f} min ago" if seconds >= 60 else "just now"


def _jittered(pause: float, key: str, count: int) -> float:
    """Up to a fifth longer, the same each time it is asked."""
    return pause * (1 + _JITTER * (zlib.crc32(f"{key}/{count}".encode()) % 1000) / 1000)
