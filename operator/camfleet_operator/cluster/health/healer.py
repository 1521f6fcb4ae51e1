"""Brings together what is known of cameras, pods and nodes, and has it decided what is moved.

It looks whenever the gateways have been heard, and every second while a worker or node is at fault: budgets
refill and Leases grow old in between. Only the replica that leads decides.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol

from camfleet_operator.cluster.balance.placement import Placement
from camfleet_operator.cluster.balance.relief_simulation import CameraLoad, ReliefProposal
from camfleet_operator.cluster.events import EventRecorder
from camfleet_operator.cluster.health.breaker import NODES, SIGNALS
from camfleet_operator.cluster.health.evaluator import UNKNOWN_AFTER_SECONDS
from camfleet_operator.cluster.health.faults import Fault, NodeFacts, count_faults, count_nodes
from camfleet_operator.cluster.health.moves import Mover
from camfleet_operator.cluster.health.orders import (
    Act,
    Decision,
    Moved,
    MoveFacts,
    Order,
    Policy,
    Reason,
    Relief,
)
from camfleet_operator.cluster.health.signals import Blind
from camfleet_operator.cluster.health.verdicts import Evidence, Verdict
from camfleet_operator.cluster.inforce import settings_block
from camfleet_operator.cluster.metrics import OperatorMetrics
from camfleet_operator.cluster.pods import CRASH_LOOP, PodSeen
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_operator.cluster.store import CameraEntry, Store
from camfleet_protocol.camera import Camera, CameraStatus, ConditionStatus, Reassignment

logger = logging.getLogger(__name__)

RESTLESS_SECONDS = 1.0
REST_SHARE = 4.0
MAX_COUNT = 1000
"""Moves in a row that are told apart."""
MAX_FREEZE_EVENTS = 20
"""Cameras that get an Event when a freeze holds them: thousands would say the same."""


class Hearing(Protocol):
    """What the gateways say; `signals.Signals` has it."""

    def evidence(self, camera_id: str) -> Evidence | None:
        """The last reading of a camera."""

    def blind(self) -> Blind | None:
        """Why nothing can be known of any camera, if that is so."""


class NodeView(Protocol):
    """What is known of nodes; `nodes.Nodes` has it."""

    def facts(self, placed: Iterable[str] = ()) -> dict[str, NodeFacts]:
        """What faults are judged by."""

    def late(self, name: str) -> bool | None:
        """Whether a node's kubelet is late."""


class Balance(Protocol):
    """What follows from the load of nodes; `balancer.Balancer` has it."""

    def placement_for(
        self, camera: str, spec: Mapping[str, Any], *, failed: Mapping[str, str] | None = None
    ) -> Placement:
        """Where a new worker would rather run."""

    def proposal(self) -> ReliefProposal | None:
        """The move that would relieve a node."""

    def moved(self, camera: str) -> None:
        """A camera is being moved."""

    def avoid(self, nodes: Collection[str]) -> None:
        """Nodes that are at fault for the moment."""


class Healer:
    """Decides, and remembers what is to be carried out; the reconciler asks it.

    Args:
        again: Has a camera reconciled.
        leading: Whether this replica acts.
        paused: What pauses all moves; empty if nothing does.
        wall: Unix seconds; `clock`: monotonic seconds.
    """

    def __init__(
        self,
        *,
        settings: OperatorSettings,
        store: Store,
        hearing: Hearing,
        nodes: NodeView,
        balance: Balance,
        events: EventRecorder,
        metrics: OperatorMetrics,
        again: Callable[[str], None],
        leading: Callable[[], bool],
        paused: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._hearing = hearing
        self._nodes = nodes
        self._balance = balance
        self._events = events
        self._metrics = metrics
        self._again = again
        self._leading = leading
        self._paused = paused
        self._clock = clock
        self._wall = wall
        self.mover = Mover(policy_of(settings), clock())
        self._frozen: frozenset[str] = frozenset()
        self._freeze_events = 0
        self._restless = asyncio.Event()
        self._seen: dict[str, MoveFacts] = {}

    # ── What the reconciler asks ────────────────────────────────────────────────────────────────────

    def order(self, camera_id: str) -> Order | None:
        """The move that is to be carried out now, if any."""
        return self.mover.order(camera_id)

    def carried_out(self, camera_id: str, order: Order) -> None:
        """It has been."""
        self.mover.carried_out(camera_id, order)
        self._balance.moved(camera_id)
        self._metrics.moved(order.reason.value)
        logger.info(
            "moved away from node %s, %s: %s",
            order.from_node,
            order.reason.value,
            order.message,
            extra={"camera": camera_id},
        )

    def held(self, camera_id: str) -> str:
        """Why a bad worker is not moved, in a sentence that stays; empty if there is nothing to say."""
        decision = self.mover.decision(camera_id)
        tells = decision.act in (Act.HELD, Act.WOULD_MOVE) and decision.cause != "Budget"
        return decision.message if tells else ""

    def silent(self, node: str) -> bool:
        """Whether a node's kubelet does not answer."""
        return self._nodes.late(node) is True

    def placement(self, camera_id: str, spec: Mapping[str, Any]) -> Placement:
        """Where a new worker of a camera would rather run."""
        failed = self.mover.avoid(camera_id, self._wall())
        return self._balance.placement_for(camera_id, spec, failed=failed)

    def loads(self) -> list[CameraLoad]:
        """Every camera with a worker, as the balance of load sees it."""
        wall = self._wall()
        found: list[CameraLoad] = []
        for entry, pod in self._cameras():
            if pod is None or not pod.node:
                continue
            facts = self._facts_of(entry, pod)
            last = facts.last
            found.append(
                CameraLoad(
                    key=entry.key,
                    node=pod.node,
                    constraints=pod.constraints,
                    healthy=facts.evidence is not None and facts.evidence.health.verdict is Verdict.HEALTHY,
                    movable=facts.automatic and not facts.paused and not facts.obstructed,
                    age=wall - pod.created_at,
                    since_move=wall - last.at if last is not None else math.inf,
                    from_node=last.from_node if last is not None else "",
                    relieved=last is not None and last.reason == Reason.RELIEF.value,
                )
            )
        return found

    # ── Life ────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Look every second while something is at fault, until cancelled."""
        spent = 0.0
        while True:
            await self._restless.wait()
            # Of thousands of cameras a look takes a while, and others need the loop most of the time.
            await asyncio.sleep(max(RESTLESS_SECONDS, REST_SHARE * spent))
            started = self._clock()
            self.tick(again=True)
            spent = self._clock() - started

    def reset(self) -> None:
        """Another replica acts now, or this one acts anew."""
        self.mover.reset()
        for scope in self._frozen:
            self._metrics.frozen(scope, False)
        self._metrics.attributed(count_faults({}), count_nodes({}))
        self._frozen = frozenset()
        self._restless.clear()

    def tick(self, *, again: bool = False) -> None:
        """Look once.

        Args:
            again: The gateways have said nothing new since the last time, so only cameras that were not well
                are looked at closely.
        """
        if not self._leading():
            return
        now, wall = self._clock(), self._wall()
        cameras = self._facts_again() if again else self.facts()
        self._seen = {camera.key: camera for camera in cameras}
        nodes = self._nodes.facts({camera.node for camera in cameras if camera.node})
        blind = self._hearing.blind()
        outcome = self.mover.tick(
            now,
            wall,
            cameras,
            nodes,
            blind=(blind.reason, f"nothing is known of any camera, {blind.message}") if blind else None,
            paused=self._paused(),
            relief=self._relief(),
        )
        self._balance.avoid(self.mover.avoided(wall).keys())
        found = self.mover.attribution
        self._metrics.attributed(count_faults(found.faults), count_nodes(found.nodes))
        self._tell_frozen()
        for key, decision in outcome.changed.items():
            self._tell(key, decision)
            self._again(key)
        for order in outcome.orders:
            self._again(order.key)
        if self.mover.restless:
            self._restless.set()
        else:
            self._restless.clear()

    def _relief(self) -> Relief | None:
        proposal = self._balance.proposal()
        return Relief(proposal.camera, proposal.message) if proposal is not None else None

    def facts(self) -> list[MoveFacts]:
        """Every camera that should have a worker, as it is now."""
        return [self._facts_of(entry, pod) for entry, pod in self._cameras()]

    def _facts_again(self) -> list[MoveFacts]:
        """As `facts`; what was well at the last look is taken to be as it was."""
        faults = self.mover.attribution.faults
        found: list[MoveFacts] = []
        for entry, pod in self._cameras():
            seen = self._seen.get(entry.key)
            same = seen is not None and pod is not None and seen.pod_uid == pod.uid and not pod.deleting
            well = faults.get(entry.key) is Fault.NONE and not entry.move_request
            found.append(seen if seen is not None and same and well else self._facts_of(entry, pod))
        return found

    def _cameras(self) -> Iterator[tuple[CameraEntry, PodSeen | None]]:
        for key in self._store.keys():
            entry = self._store.camera(key)
            if entry is None or entry.deleting or entry.camera is None or entry.camera.spec.suspend:
                continue
            yield entry, _newest(self._store.pods_of(entry.uid), entry.camera.status)

    def facts_of(self, camera_id: str) -> MoveFacts | None:
        """One camera as it is now; None if it should not have a worker."""
        entry = self._store.camera(camera_id)
        if entry is None or entry.deleting or entry.camera is None or entry.camera.spec.suspend:
            return None
        return self._facts_of(entry, _newest(self._store.pods_of(entry.uid), entry.camera.status))

    def _facts_of(self, entry: CameraEntry, pod: PodSeen | None) -> MoveFacts:
        camera = entry.camera
        assert camera is not None
        status = camera.status
        going = pod is None or pod.deleting
        return MoveFacts(
            key=entry.key,
            node=pod.node if pod is not None else "",
            pod_uid=pod.uid if pod is not None and not going else "",
            running=pod is not None and pod.running,
            crashing=pod is not None and pod.waiting == CRASH_LOOP,
            obstructed=self._is_obstructed(camera),
            evidence=self._hearing.evidence(entry.key) if not going else None,
            automatic=_is_automatic(status),
            paused=self._store.paused_by(entry),
            last=_moved(status.last_reassignment),
            request=entry.move_request,
            ready_since=_ready_since(status),
            created_at=pod.created_at if pod is not None else self._wall(),
            placement=pod.placement if pod is not None else "",
        )

    def _is_obstructed(self, camera: Camera) -> bool:
        """Whether the planner would start no worker for it, so that one that runs had better stay."""
        spec = camera.spec
        if spec.profile_ref is not None and self._store.profile_of(camera) is None:
            return True
        return spec.source.device is not None and not spec.source.device.resource_name

    # ── Telling ─────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, key: str, decision: Decision) -> None:
        if decision.act not in (Act.HELD, Act.WOULD_MOVE):
            return
        self._metrics.held(decision.cause)
        entry = self._store.camera(key)
        if decision.cause == "Budget" or entry is None:
            return
        if decision.cause == "Frozen":
            self._freeze_events += 1
            if self._freeze_events > MAX_FREEZE_EVENTS:
                return
        would = decision.act is Act.WOULD_MOVE
        reason = "WouldMove" if would else "MoveHeld"
        logger.info("%s: %s", reason, decision.message, extra={"camera": key})
        self._events.record(entry.reference(), "Normal" if would else "Warning", reason, decision.message)

    def _tell_some(self, message: str) -> None:
        """Tell a few cameras why none is moved: of these freezes no single camera hears otherwise."""
        for key in sorted(self._store.keys())[:MAX_FREEZE_EVENTS]:
            if (entry := self._store.camera(key)) is not None:
                self._events.record(entry.reference(), "Warning", "MoveHeld", f"nothing is moved: {message}")

    def _tell_frozen(self) -> None:
        frozen = {found.scope: found for found in self.mover.frozen()}
        for scope in frozen.keys() - self._frozen:
            logger.warning("nothing is moved in scope %s: %s", scope, frozen[scope].message)
            self._metrics.frozen(scope, True)
            if scope in (SIGNALS, NODES):
                self._tell_some(frozen[scope].message)
        for scope in self._frozen - frozen.keys():
            logger.info("scope %s may be moved again", scope)
            self._metrics.frozen(scope, False)
            self._freeze_events = 0
        self._frozen = frozenset(frozen)


def policy_of(settings: OperatorSettings) -> Policy:
    """The bounds that the settings set."""
    look = settings.scrape_seconds if settings.prometheus_url is not None else settings.health_seconds
    return Policy(
        dry_run=settings.dry_run,
        readings=settings.unhealthy_readings,
        # Readings may come twice as fast as usual, or a moment early.
        bad_for=0.8 * look * (settings.unhealthy_readings - 1),
        stale_after=UNKNOWN_AFTER_SECONDS + 3 * look,
        cameras_per_second=settings.moves_per_second,
        cameras_burst=settings.moves_burst,
        nodes_per_second=settings.node_moves_per_second,
        freeze_share=settings.freeze_share,
    )


def _newest(pods: list[PodSeen], status: CameraStatus) -> PodSeen | None:
    """The pod that the status names; before it names any, the one of the highest attempt."""
    alive = [pod for pod in pods if pod.alive]
    name = status.worker.pod_name if status.worker is not None else ""
    named = next((pod for pod in alive if pod.name == name), None)
    return named or max(alive, key=lambda pod: pod.attempt, default=None)


def _is_automatic(status: CameraStatus) -> bool:
    """Whether the settings in force let the operator move the camera."""
    return settings_block(status, "health").get("reassignment") != "Never"


def _moved(last: Reassignment | None) -> Moved | None:
    if last is None:
        return None
    at = last.time.timestamp() if last.time is not None else 0.0
    return Moved(at, last.reason, last.from_node, min(last.count, MAX_COUNT), last.request)


def _ready_since(status: CameraStatus) -> float:
    for condition in status.conditions:
        if condition.type == "Ready" and condition.status is ConditionStatus.TRUE:
            return condition.last_transition_time.timestamp() if condition.last_transition_time else 0.0
    return 0.0
