"""Where a worker would rather run: a preference that the scheduler weighs, never a demand. Pure.

A worker without any node that pleases is scheduled all the same. Nodes that failed it weigh most, then
nodes that are loaded, then those with the most room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_AVOIDED = 64
"""Host names in one term: a pod must stay small in a fleet where half of the nodes are loaded."""
MAX_PREFERRED = 16
FAILED_WEIGHT, LOADED_WEIGHT, ROOMY_WEIGHT = 100, 60, 30
SPREAD_SKEW = 1000
"""The scheduler counts a difference in workers less, the greater the skew that a constraint allows. With a
skew of 1 an avoided node that has few workers would be taken before a good one that has many."""

_HOSTNAME = "kubernetes.io/hostname"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class Placement:
    """Host names (of the label `kubernetes.io/hostname`) to avoid and to prefer.

    Attributes:
        avoid_failed: Nodes that failed this camera, or others, of late.
        avoid_loaded: Nodes with little room.
        prefer: Nodes with much more room than others.
        reason: The same for people, in one line; empty if there is no preference.
    """

    avoid_failed: tuple[str, ...] = ()
    avoid_loaded: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    reason: str = ""

    def __bool__(self) -> bool:
        """Whether there is any preference."""
        return bool(self.avoid_failed or self.avoid_loaded or self.prefer)

    def applied(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A pod spec with these preferences beside those that it has."""
        terms = [
            _term(weight, operator, names)
            for weight, operator, names in (
                (FAILED_WEIGHT, "NotIn", self.avoid_failed[:MAX_AVOIDED]),
                (LOADED_WEIGHT, "NotIn", self.avoid_loaded[:MAX_AVOIDED]),
                (ROOMY_WEIGHT, "In", self.prefer[:MAX_PREFERRED]),
            )
            if names
        ]
        if not terms:
            return dict(spec)
        affinity = dict(spec.get("affinity", {}))
        node_affinity = dict(affinity.get("nodeAffinity", {}))
        node_affinity[_PREFERRED] = [*node_affinity.get(_PREFERRED, []), *terms]
        affinity["nodeAffinity"] = node_affinity
        made = {**spec, "affinity": affinity}
        if self.avoid_failed or self.avoid_loaded:
            made["topologySpreadConstraints"] = [
                {**constraint, "maxSkew": SPREAD_SKEW} if _is_soft(constraint) else constraint
                for constraint in spec.get("topologySpreadConstraints", ())
            ]
        return made


ANYWHERE = Placement()
"""No preference."""


def list_nodes(words: Sequence[str]) -> str:
    """`a, b and c`, and how many more; for a placement's reason."""
    shown = list(words[:_MAX_NAMED])
    if len(words) > _MAX_NAMED:
        shown.append(f"{len(words) - _MAX_NAMED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _term(weight: int, operator: str, names: Sequence[str]) -> dict[str, Any]:
    expression = {"key": _HOSTNAME, "operator": operator, "values": sorted(names)}
    return {"weight": weight, "preference": {"matchExpressions": [expression]}}


def _is_soft(constraint: Mapping[str, Any]) -> bool:
    return constraint.get("whenUnsatisfiable") == "ScheduleAnyway"
