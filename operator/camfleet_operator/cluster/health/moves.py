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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from camfleet_operator.cluster.health.breaker import Breaker, Frozen
from camfleet_operator.cluster.health.camera_memory import CameraMemory
from camfleet_operator.cluster.health.faults import Attribution, Fault, NodeFacts, NodeState, attribute
from camfleet_operator.cluster.health.incidents import AVOID_SECONDS, Incidents
from camfleet_operator.cluster.health.move_budget import MoveBudget
from camfleet_operator.cluster.health.orders import (
    NOTHING,
    Act,
    Decision,
    MoveFacts,
    Order,
    Outcome,
    Policy,
    Reason,
    Relief,
)
from camfleet_operator.cluster.health.scopes import count_scopes, nowhere_to_move, scopes_of

_SOON_SECONDS = 10.0
_MAX_AVOIDED = 64
_WAIT_FOR_POD = (Fault.STARTING.value, Reason.REQUESTED.value)
"""Causes to wait for a pod, which may take minutes."""
_WAITS_FOR_BUDGET = Decision(Act.HELD, "Budget", "a move is due and waits for its turn")


@dataclass(frozen=True, slots=True)
class _Tick:
    """What is the same for all cameras of a tick; see `Mover.tick`."""

    now: float
    wall: float
    nodes: Mapping[str, NodeFacts]
    paused: str
    relief: Relief | None


class Mover:
    """Decides about all cameras, tick by tick. `now` is monotonic, `wall` Unix seconds."""

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy = policy
        self._memories: dict[str, CameraMemory] = {}
        self._incidents = Incidents()
        self._budget = MoveBudget(policy, self._incidents, now)
        self._breaker = Breaker(policy.freeze_share)
        self._restored = False
        self.attribution = Attribution({}, {})
        self.restless = False
        """Whether something may be due before the cameras are judged again."""

    # ── What others ask ─────────────────────────────────────────────────────────────────────────────

    def order(self, key: str) -> Order | None:
        """What is to be carried out now, if anything is."""
        memory = self._memories.get(key)
        return memory.order if memory is not None else None

    def decision(self, key: str) -> Decision:
        """What was decided last."""
        memory = self._memories.get(key)
        return memory.decision if memory is not None else NOTHING

    def avoid(self, key: str, wall: float) -> dict[str, str]:
        """Nodes that a new worker of this camera should avoid, and why in a few words; the gravest first."""
        until = self.avoided(wall)
        words = {name: f"failed {_ago(wall - self._incidents.since(name))}" for name in until}
        memory = self._memories.get(key)
        if memory is not None and memory.left and memory.left_until > wall:
            until.setdefault(memory.left, memory.left_until)
            words.setdefault(memory.left, f"left {_ago(wall - memory.left_until + AVOID_SECONDS)}")
        names = sorted(until, key=lambda name: (-until[name], name))
        return {name: words[name] for name in names[:_MAX_AVOIDED]}

    def avoided(self, wall: float) -> dict[str, float]:
        """Nodes that every new worker should avoid, and until when."""
        return self._incidents.avoided(wall)

    def frozen(self) -> list[Frozen]:
        """Scopes in which nothing is moved."""
        return self._breaker.all()

    def tokens(self, now: float) -> tuple[float, float]:
        """What is left of the budgets: cameras, nodes."""
        return self._budget.tokens(now)

    def carried_out(self, key: str, order: Order) -> None:
        """An order is in the camera's status, and its pod is being deleted."""
        memory = self._memories.get(key)
        if memory is not None and memory.order == order:
            memory.order = None

    def reset(self) -> None:
        """Another replica acts from now on: whatever is remembered will be out of date."""
        self._memories.clear()
        self._incidents.clear()
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
            self._restored = True
            self._budget.restore((camera.last for camera in cameras if camera.last), now, wall)
        self._follow(now, wall, cameras)
        self._judge(now, wall, cameras, nodes, blind)
        tick = _Tick(now, wall, nodes, paused, relief)
        orders: list[Order] = []
        changed: dict[str, Decision] = {}
        for camera in self._by_urgency(cameras):
            memory = self._memories[camera.key]
            if memory.order is None:
                decision = self._decide(camera, memory, tick)
                if isinstance(decision, Order):
                    memory.note_order(decision, now)
                    orders.append(decision)
                    decision = Decision(Act.MOVE, decision.reason.value, decision.message)
                if decision != memory.decision:
                    memory.decision = changed[camera.key] = decision
            self.restless = self.restless or _is_due(memory.decision, wall)
        return Outcome(orders, changed)

    def _follow(self, now: float, wall: float, cameras: Sequence[MoveFacts]) -> None:
        """Keep what is remembered of each camera."""
        for gone in self._memories.keys() - {camera.key for camera in cameras}:
            del self._memories[gone]
        for camera in cameras:
            memory = self._memories.get(camera.key)
            if memory is None:
                memory = self._memories[camera.key] = CameraMemory.first_seen(camera, now, wall)
            memory.follow(camera, now, wall, self._policy)

    def _judge(
        self,
        now: float,
        wall: float,
        cameras: Sequence[MoveFacts],
        nodes: Mapping[str, NodeFacts],
        blind: tuple[str, str] | None,
    ) -> None:
        """Find out whose fault it is, whether that freezes anything, and which nodes are to be avoided."""
        policy = self._policy
        facts = [self._memories[camera.key].facts(camera, now, policy) for camera in cameras]
        found = attribute(facts, nodes, readings=policy.readings, bad_for=policy.bad_for)
        self.attribution = found
        counts = count_scopes(facts, nodes, found)
        self._breaker.tick(now, counts, blind=blind, nowhere=nowhere_to_move(nodes))
        self._incidents.note(
            wall, found.nodes, lambda node: self._breaker.frozen(scopes_of(nodes, node)) is not None
        )
        # A node whose workers are gone is lost as soon as its Lease is late; the other way round, we hear.
        self.restless = any(
            report.state is NodeState.SUSPECT and report.bad for report in found.nodes.values()
        )

    def _by_urgency(self, cameras: Sequence[MoveFacts]) -> list[MoveFacts]:
        """Cameras of dead nodes first; a node that has its token is finished before the next."""
        found = self.attribution

        def rank(camera: MoveFacts) -> tuple[object, ...]:
            fault = found.faults[camera.key]
            if fault is not Fault.NODE:
                return (3 if fault is Fault.NONE else 2, False, "", camera.key)
            paid = self._incidents.is_paid(camera.node)
            return (0 if paid else 1, not found.is_dead(camera.node), camera.node, camera.key)

        return sorted(cameras, key=rank)

    # ── One camera ──────────────────────────────────────────────────────────────────────────────────

    def _decide(self, camera: MoveFacts, memory: CameraMemory, tick: _Tick) -> Decision | Order:
        fault, relief = self.attribution.faults[camera.key], tick.relief
        if camera.obstructed:
            return Decision(Act.NONE, "Obstructed", "no worker could be started in its place")
        if camera.request and camera.request != (camera.last.request if camera.last else ""):
            return self._on_request(camera, memory, tick)
        if relief is not None and relief.key == camera.key and fault is Fault.NONE:
            return self._on_relief(camera, memory, tick, relief.message)
        if fault not in (Fault.WORKER, Fault.NODE) or not camera.pod_uid:
            return _explain_quiet(fault)
        return self._on_fault(camera, memory, tick, fault)

    def _on_fault(
        self, camera: MoveFacts, memory: CameraMemory, tick: _Tick, fault: Fault
    ) -> Decision | Order:
        reason = Reason.WORKER_FAULT
        if fault is Fault.NODE:
            reason = Reason.NODE_LOST if self.attribution.is_dead(camera.node) else Reason.NODE_FAULT
        if reason is not Reason.NODE_LOST and (wait := self._not_yet(camera, memory, tick, reason)):
            return wait
        message = self._grounds(camera, reason)
        if held := self._held(camera, tick, reason, message):
            return held
        pause = memory.pause(camera.key, self._policy.backoff)
        if tick.wall < memory.moved_at + pause:
            row = f"moved {memory.count} times in a row; the next move waits {pause:.0f} s after the last"
            return Decision(Act.HELD, "Backoff", row, memory.moved_at + pause)
        paid = (
            self._budget.take_from_node(camera.node, tick.now)
            if reason.is_node
            else self._budget.take_camera(tick.now)
        )
        return _order(camera, memory, tick, reason, message) if paid else _WAITS_FOR_BUDGET

    def _on_request(self, camera: MoveFacts, memory: CameraMemory, tick: _Tick) -> Decision | Order:
        if not camera.pod_uid or not camera.node:
            return Decision(Act.WAIT, "Requested", "asked to move; it has no worker on a node yet")
        if not self._budget.take_camera(tick.now):
            return _WAITS_FOR_BUDGET
        message = f"asked for by the annotation, value {camera.request}"
        return _order(camera, memory, tick, Reason.REQUESTED, message)

    def _on_relief(
        self, camera: MoveFacts, memory: CameraMemory, tick: _Tick, message: str
    ) -> Decision | Order:
        if held := self._held(camera, tick, Reason.RELIEF, message):
            return held
        if tick.wall < memory.moved_at + AVOID_SECONDS or not self._budget.take_camera(tick.now):
            return NOTHING
        return _order(camera, memory, tick, Reason.RELIEF, message)

    def _not_yet(
        self, camera: MoveFacts, memory: CameraMemory, tick: _Tick, reason: Reason
    ) -> Decision | None:
        """What is said while it has not been bad for long enough."""
        thawed_at = self._breaker.thawed_at(scopes_of(tick.nodes, camera.node))
        due = memory.bad_long_enough(camera.evidence, tick.now, thawed_at, self._policy)
        if due is None:
            return NOTHING
        if due:
            return None
        message = f"a move follows after {self._policy.readings} bad readings in a row"
        return Decision(Act.WAIT, reason.value, message)

    def _held(self, camera: MoveFacts, tick: _Tick, reason: Reason, message: str) -> Decision | None:
        """Whether the user or a freeze forbids it."""
        if not camera.automatic:
            return Decision(Act.HELD, "Never", "not moved: health.reassignment is Never")
        if why := tick.paused or camera.paused:
            return Decision(Act.HELD, "Paused", f"not moved: paused by {why}")
        if (frozen := self._breaker.frozen(scopes_of(tick.nodes, camera.node))) is not None:
            return Decision(Act.HELD, "Frozen", f"nothing is moved: {frozen.message}")
        if self._policy.dry_run:
            return Decision(Act.WOULD_MOVE, "DryRun", f"would be moved ({reason.value}): {message}")
        return None

    def _grounds(self, camera: MoveFacts, reason: Reason) -> str:
        """The grounds of a move, in a sentence."""
        report = self.attribution.nodes.get(camera.node)
        if reason.is_node and report is not None:
            return f"node {camera.node}: {report.reason}"
        if camera.crashing:
            return "the worker keeps ending"
        return camera.evidence.health.message if camera.evidence is not None else ""


def _order(camera: MoveFacts, memory: CameraMemory, tick: _Tick, reason: Reason, message: str) -> Order:
    asked = camera.last.request if camera.last is not None else ""
    return Order(
        camera.key,
        camera.pod_uid,
        reason,
        message,
        camera.node,
        memory.count + reason.is_failure,
        tick.wall,
        request=camera.request if reason is Reason.REQUESTED else asked,
        graceful=not reason.is_failure,
    )


def _explain_quiet(fault: Fault) -> Decision:
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
    return decision.cause == "Budget" or (decision.act is Act.WAIT and decision.cause not in _WAIT_FOR_POD)


def _ago(seconds: float) -> str:
    return f"{seconds / 60:.0f} min ago" if seconds >= 60 else "just now"
