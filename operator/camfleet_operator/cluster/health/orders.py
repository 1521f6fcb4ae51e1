"""What decisions about moves are made of: facts in, decisions and orders out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from camfleet_operator.backoff import RestartPolicy
from camfleet_operator.cluster.health.verdicts import Evidence


class Reason(Enum):
    """Why a worker is moved."""

    NODE_LOST = "NodeLost"
    NODE_FAULT = "NodeFault"
    WORKER_FAULT = "WorkerFault"
    RELIEF = "Relief"
    REQUESTED = "Requested"

    @property
    def is_failure(self) -> bool:
        """Whether something has failed, so that the next move waits longer."""
        return self not in (Reason.RELIEF, Reason.REQUESTED)

    @property
    def is_node(self) -> bool:
        """Whether a node is left, with all cameras that are bad there."""
        return self in (Reason.NODE_LOST, Reason.NODE_FAULT)


class Act(Enum):
    """What is decided about a camera."""

    NONE = "None"
    WAIT = "Wait"
    MOVE = "Move"
    WOULD_MOVE = "WouldMove"
    HELD = "Held"


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds of what is moved; times in seconds.

    Attributes:
        readings: Bad readings in a row before a move.
        bad_for: And for at least so long, for readings may come faster than usual.
        stale_after: A reading that is older says nothing any more.
    """

    dry_run: bool = False
    readings: int = 3
    bad_for: float = 16.0
    stale_after: float = 60.0
    cameras_per_second: float = 1.0
    cameras_burst: int = 10
    nodes_per_second: float = 0.1
    freeze_share: float = 0.55
    start_grace: float = 60.0
    backoff: RestartPolicy = field(default_factory=RestartPolicy)


@dataclass(frozen=True, slots=True)
class Moved:
    """A camera's last move, as its status tells; times in Unix seconds."""

    at: float
    reason: str
    from_node: str
    count: int
    request: str = ""

    @property
    def with_node(self) -> bool:
        """Whether it was moved because a node was at fault."""
        return any(self.reason == reason.value for reason in Reason if reason.is_node)


@dataclass(frozen=True, slots=True)
class MoveFacts:
    """What decides about a camera beside its fault.

    Attributes:
        node: Node of its newest pod; empty before that is scheduled.
        pod_uid: That pod; empty if there is none, or if it is going.
        running: Whether the kubelet says that it runs.
        crashing: Whether the kubelet says that it keeps ending.
        obstructed: Whether no worker could be started in the place of this one.
        evidence: The last reading of this pod.
        automatic: Whether the user lets the operator move it.
        paused: Whether somebody has paused that, with the name of what says so; empty if not.
        last: Its last move.
        request: What its annotation asks for; empty if nothing.
        ready_since: Since when its status says that it is Ready; Unix seconds, 0 if it does not.
        created_at: When that pod was made; Unix seconds.
        placement: Why its pod is where it is, as far as we had a wish.
    """

    key: str
    node: str
    pod_uid: str
    running: bool
    evidence: Evidence | None
    automatic: bool = True
    paused: str = ""
    last: Moved | None = None
    request: str = ""
    ready_since: float = 0.0
    created_at: float = 0.0
    placement: str = ""
    crashing: bool = False
    obstructed: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """Move this very pod's camera.

    Attributes:
        graceful: Whether its worker may be listening to a request to end.
        count: Which move in a row it is.
    """

    key: str
    pod_uid: str
    reason: Reason
    message: str
    from_node: str
    count: int
    at: float
    request: str = ""
    graceful: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided, and why; `message` stays the same while nothing changes.

    Attributes:
        cause: Of a move that is held: DryRun, Paused, Never, Frozen, Budget or Backoff; else the fault.
        not_before: Unix seconds before which nothing will follow; 0 if that is not known.
    """

    act: Act = Act.NONE
    cause: str = ""
    message: str = ""
    not_before: float = 0.0


NOTHING = Decision()


@dataclass(frozen=True, slots=True)
class Relief:
    """A move that would relieve a loaded node, and why."""

    key: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one tick has brought.

    Attributes:
        orders: New orders.
        changed: Cameras whose decision is another than before.
    """

    orders: Sequence[Order]
    changed: Mapping[str, Decision]
