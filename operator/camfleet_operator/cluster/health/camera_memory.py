"""What is remembered of a camera from tick to tick, for the sake of moves. Pure.

A camera may be moved when it has been bad for long enough, its worker had time to start, and its last move is
long enough ago: all of that is a matter of what was before. What has to survive a restart is read off the
camera's status and its pod again.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Self

from camfleet_operator.backoff import RestartPolicy
from camfleet_operator.cluster.health.faults import CameraFacts
from camfleet_operator.cluster.health.incidents import AVOID_SECONDS
from camfleet_operator.cluster.health.orders import NOTHING, Decision, Moved, MoveFacts, Order, Policy
from camfleet_operator.cluster.health.verdicts import Evidence, Health, Verdict

STALE_ORDER_SECONDS = 60.0
"""An order that was not carried out in this time is given up: what it rested on is old."""
ABSENT_SECONDS = 12.0
"""A worker whose gateway has gone needs some of these to come to another one."""
_JITTER = 0.2
_STALE = Health(Verdict.UNKNOWN, None, None, None, None, "SignalsStale")


@dataclass(slots=True)
class CameraMemory:
    """One camera. `now` is monotonic, `wall` Unix seconds.

    Attributes:
        decision: What was decided last.
        order: The move that is to be carried out, if one is.
        count: Moves in a row without ten good minutes in between.
        moved_at: When the last move was decided; Unix seconds.
        left: The node that it was moved away from last, to be avoided until `left_until`, Unix seconds.
        crashing_since: Since when its worker keeps ending, if it does.
        healthy_since: Since when it has been well, short trouble aside.
    """

    pod_uid: str
    seen_at: float
    """When its worker began to have time to come."""
    ran: bool = False
    connected: bool = False
    """Whether its worker has been at a gateway."""
    healthy_since: float | None = None
    absent_since: float | None = None
    crashing_since: float | None = None
    count: int = 0
    moved_at: float = float("-inf")
    last: Moved | None = None
    left: str = ""
    left_until: float = float("-inf")
    order: Order | None = None
    ordered_at: float = 0.0
    decision: Decision = NOTHING

    @classmethod
    def first_seen(cls, camera: MoveFacts, now: float, wall: float) -> Self:
        """Begin to remember. Its worker had its time to start, though we have only just begun to look."""
        memory = cls(camera.pod_uid, now - max(0.0, wall - camera.created_at))
        if camera.ready_since:
            memory.healthy_since = now - max(0.0, wall - camera.ready_since)
            memory.connected = camera.running  # else the status still speaks of the worker before it
        return memory

    # ── What has happened ───────────────────────────────────────────────────────────────────────────

    def follow(self, camera: MoveFacts, now: float, wall: float, policy: Policy) -> None:
        """Take in how the camera is at this tick."""
        self._follow_pod(camera, now)
        if self.order is not None and now - self.ordered_at > STALE_ORDER_SECONDS:
            self.count, self.order = max(0, self.count - self.order.reason.is_failure), None
        self._follow_moves(camera.last, wall, policy.backoff)
        self._follow_health(camera, now, policy)

    def note_order(self, order: Order, now: float) -> None:
        """A move was decided."""
        if order.reason.is_failure:
            self.healthy_since = None
        self.count, self.moved_at = order.count, order.at
        self.left, self.left_until = order.from_node, order.at + AVOID_SECONDS
        self.order, self.ordered_at = order, now

    def _follow_pod(self, camera: MoveFacts, now: float) -> None:
        if self.pod_uid != camera.pod_uid:
            self.pod_uid, self.seen_at = camera.pod_uid, now
            self.ran = self.connected = False
            self.crashing_since = None
            if self.order is not None and self.order.pod_uid != camera.pod_uid:
                self.order = None
        self.ran = self.ran or camera.running
        if not self.ran and not self.connected:
            self.seen_at = now  # its time to come begins when it runs
        if camera.crashing and self.crashing_since is None:
            self.crashing_since = now

    def _follow_moves(self, last: Moved | None, wall: float, backoff: RestartPolicy) -> None:
        """Take over from the status what another process, or this one, has done."""
        if last is not None and last != self.last:
            self.last = last
            if last.at > self.moved_at:
                # None in a row after so long that it was well in between.
                recent = wall - last.at < backoff.max_delay + backoff.healthy_after
                self.count, self.moved_at = last.count if recent else 0, last.at
                self.left, self.left_until = last.from_node, last.at + AVOID_SECONDS
        # A clock that was set back, or another replica's that is fast, must not stop moves for hours.
        self.moved_at = min(self.moved_at, wall)
        self.left_until = min(self.left_until, wall + AVOID_SECONDS)

    def _follow_health(self, camera: MoveFacts, now: float, policy: Policy) -> None:
        evidence = camera.evidence
        if evidence is None or not evidence.absent:
            self.absent_since = None
        elif self.absent_since is None:
            self.absent_since = now
        if evidence is None or evidence.health.verdict is Verdict.UNKNOWN:
            return
        # Before its container runs, whoever was read to be connected is the worker before it.
        self.connected = self.connected or (self.ran and bool(evidence.health.worker_connected))
        if evidence.health.verdict is Verdict.HEALTHY:
            self.crashing_since = None
            if self.healthy_since is None:
                self.healthy_since = now
            if now - self.healthy_since >= policy.backoff.healthy_after:
                self.count = 0
        elif evidence.readings >= policy.readings:
            self.healthy_since = None

    # ── What follows ────────────────────────────────────────────────────────────────────────────────

    def facts(self, camera: MoveFacts, now: float, policy: Policy) -> CameraFacts:
        """The camera as faults are judged by; an old reading is none."""
        evidence = camera.evidence if camera.pod_uid else None
        if evidence is not None and now - evidence.at > policy.stale_after:
            evidence = replace(evidence, health=_STALE, readings=0, absent=False)
        return CameraFacts(
            camera.key,
            camera.node,
            evidence,
            established=self.connected or now - self.seen_at >= policy.start_grace,
            running=camera.running,
            crashing=camera.crashing,
            absent=self.absent_since is not None and now - self.absent_since >= ABSENT_SECONDS,
        )

    def bad_long_enough(
        self, evidence: Evidence | None, now: float, thawed_at: float, policy: Policy
    ) -> bool | None:
        """Whether it has been bad for so long that a move is due; None if nothing says that it is bad.

        Args:
            evidence: The last reading.
            now: The moment.
            thawed_at: When a freeze ended: what was bad before that has to be found bad anew.
            policy: How long is enough.
        """
        if self.crashing_since is not None and now - max(self.crashing_since, thawed_at) >= policy.bad_for:
            return True
        if evidence is None:
            return None
        since = max(evidence.since, thawed_at)
        return evidence.readings >= policy.readings and evidence.at - since >= policy.bad_for

    def pause(self, key: str, backoff: RestartPolicy) -> float:
        """Seconds that the next move waits after the last one; each time it is asked the same."""
        pause = backoff.delay(self.count + 1)
        return pause * (1 + _JITTER * (zlib.crc32(f"{key}/{self.count}".encode()) % 1000) / 1000)
