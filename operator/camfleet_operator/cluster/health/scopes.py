"""Which cameras count for which scope, and how many of them are bad: what the breaker trips on. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from camfleet_operator.cluster.health.breaker import FLEET, LEAST_NODES, Count, zone_scope
from camfleet_operator.cluster.health.faults import Attribution, CameraFacts, Fault, NodeFacts


def scopes_of(nodes: Mapping[str, NodeFacts], node: str) -> tuple[str, ...]:
    """The scopes that a camera on a node is in, beside the fleet."""
    zone = nodes[node].zone if node in nodes else ""
    return (zone_scope(zone),) if zone else ()


def count_scopes(
    cameras: Iterable[CameraFacts], nodes: Mapping[str, NodeFacts], found: Attribution
) -> dict[str, Count]:
    """How many cameras of each scope can be judged, and how many of them are bad."""
    total: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    on: defaultdict[str, set[str]] = defaultdict(set)
    bad_on: defaultdict[str, set[str]] = defaultdict(set)
    cameras = list(cameras)
    hung = {camera.node for camera in cameras if _hangs(camera, found)}
    for camera in cameras:
        fault = found.faults[camera.key]
        if fault is Fault.STARTING or found.is_dead(camera.node):
            continue
        if len(hung) == 1 and _hangs(camera, found):
            continue  # neither the network nor a gateway can make the workers of a single node hang
        for scope in (FLEET, *scopes_of(nodes, camera.node)):
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


def nowhere_to_move(nodes: Mapping[str, NodeFacts]) -> tuple[str, str] | None:
    """Why there is no node to move to: a fleet without any live node rather means that we are cut off."""
    late = [node.lease_late for node in nodes.values() if node.lease_late is not None]
    if not late or not all(late):
        return None
    return "AllNodesLost", "no node's kubelet renews its Lease, so there is none to move to"


def _hangs(camera: CameraFacts, found: Attribution) -> bool:
    """Whether a worker is bad with its node, and connected all the same."""
    return found.faults[camera.key] is Fault.NODE and camera.is_connected
