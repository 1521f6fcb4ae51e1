"""What the operator knows and would do, as JSON for `GET /explain`: evidence behind verdicts and moves.

Nothing in it is secret: names of cameras, nodes and pods, reasons, times. Bounded, whatever the size of the
fleet.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from camfleet_operator.cluster.health.faults import Fault
from camfleet_operator.cluster.health.moves import Mover
from camfleet_operator.cluster.health.orders import MoveFacts
from camfleet_operator.cluster.health.times import rfc3339
from camfleet_operator.cluster.health.verdicts import Evidence, Health, Verdict
from camfleet_operator.cluster.store import CameraEntry, Store

MAX_CAMERAS = 500
HISTORY = 20


class Hearing(Protocol):
    """What the gateways say; `signals.Signals` has it."""

    def evidence(self, camera_id: str) -> Evidence | None:
        """The last reading of a camera."""

    def health(self, camera_id: str) -> Health | None:
        """The published verdict."""

    def counts(self) -> dict[str, int]:
        """Cameras by published verdict."""

    def describe(self) -> dict[str, Any]:
        """What is asked, and how it answers."""


class NodeAges(Protocol):
    """What is known of nodes; `nodes.Nodes` has it."""

    def lease_age(self, name: str) -> float | None:
        """Seconds since a node's Lease has changed."""


class History:
    """The last published verdicts of each camera."""

    def __init__(self) -> None:
        self._of: defaultdict[str, deque[dict[str, Any]]] = defaultdict(lambda: deque(maxlen=HISTORY))

    def note(self, camera_id: str, health: Health | None, wall: float) -> None:
        """A verdict was published."""
        if health is not None:
            entry = {"time": rfc3339(wall), "verdict": health.verdict.value, "reason": health.reason}
            self._of[camera_id].append(entry)

    def of(self, camera_id: str) -> list[dict[str, Any]]:
        """The oldest first."""
        return list(self._of.get(camera_id, ()))

    def keep(self, cameras: set[str]) -> None:
        """Forget all other cameras."""
        for gone in self._of.keys() - cameras:
            del self._of[gone]


class Explainer:
    """Renders what is known.

    Args:
        facts: Every camera that should run, as it is now.
        facts_of: One of them; None if it should not run.
        general: What is said of the operator itself.
        loads: Loads of nodes, by name.
        clock: Monotonic seconds; `wall`: Unix seconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        hearing: Hearing,
        nodes: NodeAges,
        mover: Mover,
        facts: Callable[[], list[MoveFacts]],
        facts_of: Callable[[str], MoveFacts | None],
        general: Callable[[], dict[str, Any]],
        loads: Callable[[], Mapping[str, Any]],
        needed: int,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.history = History()
        self._store = store
        self._hearing = hearing
        self._nodes = nodes
        self._mover = mover
        self._facts = facts
        self._facts_of = facts_of
        self._fleet: tuple[float, dict[str, Any]] | None = None
        self._general = general
        self._loads = loads
        self._needed = needed
        self._clock = clock
        self._wall = wall

    def fleet(self) -> dict[str, Any]:
        """The whole fleet; of its cameras those that are not well, as far as there is room.

        Worked out once a second at most: of thousands of cameras it takes a while.
        """
        now = self._clock()
        if self._fleet is None or now - self._fleet[0] >= 1.0:
            self._fleet = (now, self._look())
        return self._fleet[1]

    def _look(self) -> dict[str, Any]:
        cameras, nodes = self._budget()
        facts = {found.key: found for found in self._facts()}
        unwell = [key for key in facts if not self._is_well(key)]
        return {
            "time": rfc3339(self._wall()),
            **self._general(),
            "evaluator": self._hearing.describe(),
            "frozen": [
                {
                    "scope": frozen.scope,
                    "reason": frozen.reason,
                    "message": frozen.message,
                    "since": self._at(frozen.since),
                }
                for frozen in self._mover.frozen()
            ],
            "budget": {"cameras": round(cameras, 2), "nodes": round(nodes, 2)},
            "verdicts": self._hearing.counts(),
            "nodes": self._all_nodes(),
            "cameras": [self._camera(key, facts[key]) for key in sorted(unwell)[:MAX_CAMERAS]],
        }

    def camera(self, camera_id: str) -> dict[str, Any] | None:
        """One camera with its history; None if there is none."""
        entry = self._store.camera(camera_id)
        if entry is None:
            return None
        return {
            "leader": self._general()["leader"],
            **self._camera(camera_id, self._facts_of(camera_id)),
            "history": self.history.of(camera_id),
        }

    def _is_well(self, key: str) -> bool:
        evidence = self._hearing.evidence(key)
        return evidence is not None and evidence.health.verdict is Verdict.HEALTHY

    def _budget(self) -> tuple[float, float]:
        return self._mover.tokens(self._clock())

    def _all_nodes(self) -> list[dict[str, Any]]:
        loads, avoided = self._loads(), self._mover.avoided(self._wall())
        found = []
        for name, report in sorted(self._mover.attribution.nodes.items()):
            age = self._nodes.lease_age(name)
            found.append(
                {
                    "name": name,
                    "state": report.state.value,
                    "reason": report.reason,
                    "leaseAge": round(age, 1) if age is not None else None,
                    "cameras": report.cameras,
                    "bad": report.bad,
                    "avoidedUntil": rfc3339(avoided[name]) if name in avoided else None,
                    "load": loads.get(name),
                }
            )
        return found

    def _camera(self, key: str, facts: MoveFacts | None) -> dict[str, Any]:
        entry = self._store.camera(key)
        evidence, decision = self._hearing.evidence(key), self._mover.decision(key)
        health = evidence.health if evidence is not None else None
        fault = self._mover.attribution.faults.get(key, Fault.STARTING if facts is not None else Fault.NONE)
        bad = evidence is not None and evidence.readings > 0
        return {
            "camera": key,
            "verdict": health.verdict.value if health is not None else Verdict.UNKNOWN.value,
            "reason": health.reason if health is not None else "NotReported",
            "message": health.message if health is not None else "",
            "fault": fault.value,
            "readings": evidence.readings if evidence is not None else 0,
            "needed": self._needed,
            "badSince": self._at(evidence.since) if evidence is not None and bad else None,
            "gateway": evidence.gateway if evidence is not None else "",
            **_where(entry, facts),
            "decision": {
                "action": decision.act.value,
                "reason": decision.cause,
                "message": decision.message,
                "notBefore": rfc3339(decision.not_before) if decision.not_before else None,
            },
        }

    def _at(self, moment: float) -> str:
        """A monotonic moment as a time."""
        return rfc3339(self._wall() - (self._clock() - moment))


def _where(entry: CameraEntry | None, facts: MoveFacts | None) -> dict[str, Any]:
    status = entry.camera.status if entry is not None and entry.camera is not None else None
    worker = status.worker if status is not None else None
    last = status.last_reassignment if status is not None else None
    return {
        "node": facts.node if facts is not None else "",
        "pod": worker.pod_name if worker is not None else "",
        "attempt": worker.attempt if worker is not None else 0,
        "placement": facts.placement if facts is not None else "",
        "lastReassignment": last.model_dump(mode="json", by_alias=True) if last is not None else None,
    }
