"""How much of each node is in use: smoothed, with two marks, and forgotten when it is old. Pure.

A reading may jump; the median of the last three does not. A node is loaded once it has been at or above
the high mark for three readings in a row, and until it is below the low mark. Of a node that no reading
names any more nothing is known after two and a half intervals, and what is not known is neither
avoided, preferred nor relieved.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Protocol

from camfleet_operator.cluster.balance.placement import ANYWHERE, MAX_PREFERRED, Placement, list_nodes

HIGH, LOW = 0.9, 0.7
INTERVAL_SECONDS = 30.0
STALE_INTERVALS = 2.5
READINGS = 3
"""Readings of which the median counts, and readings in a row that make a node loaded."""
BAND = 0.1
"""Nodes so close to the one with the most room have as much room as that."""
WORTH = 0.2
"""Between the fullest and the emptiest node there must be so much for a preference."""


class NodeInfo(Protocol):
    """What has to be known of a node; `nodes.NodeSeen` has it."""

    @property
    def name(self) -> str:
        """Name of the Node."""

    @property
    def hostname(self) -> str:
        """Its label `kubernetes.io/hostname`, by which pods can avoid or prefer it; empty if it has none."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses and host names, from its status."""

    @property
    def cpu_cores(self) -> float:
        """Its cores; 0 if that is not known."""

    @property
    def unschedulable(self) -> bool:
        """Whether it takes no new pods."""


class Resource(StrEnum):
    """What a node can be short of."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """Shares of a node that are in use, 0 to 1; None where that is not known."""

    cpu: float | None = None
    gpu: float | None = None
    gpu_memory: float | None = None

    def of(self, resource: Resource) -> float | None:
        """The share of one resource; a GPU's is that of its time or its memory, whichever is greater."""
        if resource is Resource.CPU:
            return self.cpu
        return max((share for share in (self.gpu, self.gpu_memory) if share is not None), default=None)


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node's smoothed load, and since when (monotonic seconds) it is loaded with what."""

    load: NodeLoad
    loaded: Mapping[Resource, float] = field(default_factory=dict)

    def is_loaded(self, gpu: bool) -> bool:
        """Whether it should be spared new workers, those on a GPU or those on none."""
        return Resource.CPU in self.loaded or (gpu and Resource.GPU in self.loaded)

    def room_taken(self, gpu: bool) -> float | None:
        """What of it is taken, as such a worker sees it; None if that is not known."""
        if not gpu:
            return self.load.cpu
        gpu_share = self.load.of(Resource.GPU)
        return None if gpu_share is None else max(gpu_share, self.load.cpu or 0.0)


@dataclass(slots=True)
class _Series:
    """One share of one node over the last readings."""

    values: deque[float] = field(default_factory=lambda: deque(maxlen=READINGS))
    at: float = -math.inf

    def put(self, now: float, value: float) -> None:
        self.values.append(value)
        self.at = now


@dataclass(slots=True)
class _Mark:
    """Whether one resource of one node is loaded."""

    streak: int = 0
    since: float | None = None


class LoadBook:
    """Keeps the readings of all nodes.

    Args:
        high: Share from which on a node becomes loaded.
        low: Share below which it is not any more.
        interval: Seconds between two readings.
    """

    def __init__(self, *, high: float = HIGH, low: float = LOW, interval: float = INTERVAL_SECONDS) -> None:
        self.high, self.low = high, low
        self.stale = interval * STALE_INTERVALS
        """Seconds after which a reading is not worth anything any more."""
        self._series: dict[tuple[str, str], _Series] = {}
        self._marks: dict[tuple[str, Resource], _Mark] = {}

    def observe(self, now: float, readings: Mapping[str, NodeLoad]) -> None:
        """Take in one reading of all nodes; those that it does not name are not known by it.

        Args:
            now: Monotonic seconds.
            readings: Loads by node name.
        """
        for name, load in readings.items():
            for share in _SHARES:
                value = getattr(load, share)
                if value is None:
                    continue
                series = self._series.setdefault((name, share), _Series())
                if now - series.at > self.stale:
                    series.values.clear()
                series.put(now, value)
        self._forget(now)
        names = {name for name, _ in self._series}
        for name in names:
            for resource in Resource:
                self._judge(now, name, resource, named=_names(readings.get(name), resource))

    def states(self, now: float) -> dict[str, NodeState]:
        """What is known of each node at this time; nodes of which nothing is known are left out."""
        found: dict[str, dict[str, float]] = {}
        for (name, share), series in self._series.items():
            if now - series.at <= self.stale:
                found.setdefault(name, {})[share] = median(series.values)
        return {
            name: NodeState(
                NodeLoad(**shares),
                {
                    resource: mark.since
                    for resource in Resource
                    if (mark := self._marks.get((name, resource))) is not None and mark.since is not None
                },
            )
            for name, shares in found.items()
        }

    def _forget(self, now: float) -> None:
        for key, series in list(self._series.items()):
            if now - series.at > self.stale:
                del self._series[key]
        for name, resource in list(self._marks):
            if not any((name, share) in self._series for share in _PARTS[resource]):
                del self._marks[name, resource]

    def _judge(self, now: float, name: str, resource: Resource, *, named: bool) -> None:
        shares = {
            share: median(series.values)
            for share in _PARTS[resource]
            if (series := self._series.get((name, share))) is not None
        }
        value = NodeLoad(**shares).of(resource)
        if value is None:
            return
        mark = self._marks.setdefault((name, resource), _Mark())
        if not named:
            mark.streak = 0  # three in a row are three that were read
        elif value >= self.high:
            mark.streak += 1
            if mark.streak >= READINGS and mark.since is None:
                mark.since = now
        else:
            mark.streak = 0
            if value < self.low:
                mark.since = None


_SHARES = ("cpu", "gpu", "gpu_memory")
_PARTS = {Resource.CPU: ("cpu",), Resource.GPU: ("gpu", "gpu_memory")}


def _names(load: NodeLoad | None, resource: Resource) -> bool:
    return load is not None and load.of(resource) is not None


def preferences(
    nodes: Mapping[str, NodeInfo],
    states: Mapping[str, NodeState],
    *,
    gpu: bool = False,
    failed: Mapping[str, str] | None = None,
    possible: Collection[str] | None = None,
    target: str = "",
    leaving: str = "",
    shown: Mapping[str, NodeState] | None = None,
) -> Placement:
    """Say where one worker would rather run.

    Args:
        nodes: All nodes by name.
        states: What is known of their load, with what was placed since taken into account.
        gpu: Whether the worker takes a GPU.
        failed: Nodes that failed, and in a few words how, such as `failed 3 min ago`; the worst first.
        possible: Names of the nodes where it may run at all; all, if None.
        target: A node that is preferred to all others: the worker is being moved there.
        leaving: The node that it is being moved off.
        shown: Loads for people to read, as they were measured; `states`, if None.
    """
    failed, shown = failed or {}, shown or states
    loaded = {
        name: states[name].room_taken(gpu) or 0.0
        for name in nodes
        if name not in failed and (name == leaving or _loaded(states.get(name), gpu)) and name in states
    }
    worst_first = sorted(loaded, key=lambda name: (name != leaving, -loaded[name], name))
    room = {
        name: taken
        for name, node in nodes.items()
        if name not in failed
        and name not in loaded
        and not node.unschedulable
        and (possible is None or name in possible)
        and (state := states.get(name)) is not None
        and (taken := state.room_taken(gpu)) is not None
    }
    best = [target] if target in room else _roomiest(room, loaded.values())
    clauses = []
    if avoided := [f"{name} ({how})" for name, how in failed.items() if name in nodes]:
        clauses.append(avoided)
    if worst_first:
        clauses.append([f"{name} ({_words(shown[name].load, gpu)})" for name in worst_first])
    reason = ""
    if clauses:
        reason = f"avoids {list_nodes([word for clause in clauses for word in clause])}"
    if best:
        wish = list_nodes([f"{name} ({_words(shown[name].load, gpu)})" for name in best])
        reason = f"{reason}; prefers {wish}" if reason else f"prefers {wish}"
    if not reason:
        return ANYWHERE
    return Placement(
        avoid_failed=_hostnames(nodes, failed),
        avoid_loaded=_hostnames(nodes, worst_first),
        prefer=_hostnames(nodes, best),
        reason=reason,
    )


def _loaded(state: NodeState | None, gpu: bool) -> bool:
    return state is not None and state.is_loaded(gpu)


def _roomiest(room: Mapping[str, float], loaded: Iterable[float]) -> list[str]:
    """The nodes with the most room, if others have considerably less."""
    if not room:
        return []
    least = min(room.values())
    if max((*room.values(), *loaded)) - least < WORTH:
        return []
    near = sorted((taken, name) for name, taken in room.items() if taken <= least + BAND)
    if len(near) == len(room) > MAX_PREFERRED:
        return []  # they are all alike: to avoid the others is enough, and to name a few would crowd those
    return [name for _, name in near[:MAX_PREFERRED]]


def _hostnames(nodes: Mapping[str, NodeInfo], names: Iterable[str]) -> tuple[str, ...]:
    """What affinity knows nodes by; where no node can be read, their names, which are mostly the same."""
    if not nodes:
        return tuple(names)
    return tuple(nodes[name].hostname for name in names if name in nodes and nodes[name].hostname)


def _words(load: NodeLoad, gpu: bool) -> str:
    """`CPU 93 %, GPU 40 %`: what matters to such a worker."""
    shares = [("CPU", load.cpu)]
    if gpu:
        shares += [("GPU", load.gpu), ("GPU memory", load.gpu_memory)]
    return ", ".join(f"{what} {share * 100:.0f} %" for what, share in shares if share is not None)
