"""On which nodes may a pod run at all? The scheduler's hard rules that a preference has to respect. Pure.

Only what does not change from one moment to the next: node selector, required node affinity, taints and
the kinds of extended resources. How full a node is, the scheduler knows better.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_BARRED = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a node."""

    key: str
    effect: str
    value: str = ""


class NodeTraits(Protocol):
    """What decides of a node; `nodes.NodeSeen` has it."""

    @property
    def name(self) -> str:
        """Name of the Node."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""

    @property
    def taints(self) -> Sequence[Taint]:
        """Its taints."""

    @property
    def resources(self) -> Mapping[str, int]:
        """Extended resources that it offers, such as `nvidia.com/gpu`, and how many."""

    @property
    def unschedulable(self) -> bool:
        """Whether it takes no new pods."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a pod demands of its node; two pods with the same demands are equal, and cheap to compare.

    Attributes:
        rules: Node selector, required node affinity and tolerations, as canonical JSON.
        devices: Extended resources and how many of each.
    """

    rules: str = "{}"
    devices: tuple[tuple[str, int], ...] = ()

    @property
    def gpu(self) -> str:
        """The extended resource that it takes first; empty if it takes none."""
        return self.devices[0][0] if self.devices else ""


UNBOUND = Constraints()


def read_constraints(spec: Mapping[str, Any], container: str) -> Constraints:
    """Read a pod spec's demands.

    Args:
        spec: The pod spec, as built or as the API server has it.
        container: Name of the container whose limits count.
    """
    node_affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    rules = {
        "selector": spec.get("nodeSelector") or {},
        "terms": (node_affinity.get(_REQUIRED) or {}).get("nodeSelectorTerms") or [],
        "tolerations": spec.get("tolerations") or [],
    }
    limits: Mapping[str, Any] = {}
    for one in spec.get("containers") or ():
        if one.get("name") == container:
            limits = (one.get("resources") or {}).get("limits") or {}
    devices = tuple(sorted((name, device_count(amount)) for name, amount in limits.items() if "/" in name))
    return _shared(json.dumps(rules, sort_keys=True, separators=(",", ":")), devices)


@lru_cache(maxsize=1024)
def _shared(rules: str, devices: tuple[tuple[str, int], ...]) -> Constraints:
    """One object for all the pods with the same demands."""
    return Constraints(rules, devices)


def allows(constraints: Constraints, node: NodeTraits) -> bool:
    """Whether such a pod may be scheduled to a node."""
    if node.unschedulable or any(node.resources.get(name, 0) < count for name, count in constraints.devices):
        return False
    rules = _rules(constraints.rules)
    if any(node.labels.get(key) != value for key, value in rules.get("selector", {}).items()):
        return False
    terms = rules.get("terms", [])
    if terms and not any(_matches(term, node) for term in terms):
        return False
    tolerations = rules.get("tolerations", [])
    return all(
        any(_tolerates(toleration, taint) for toleration in tolerations)
        for taint in node.taints
        if taint.effect in _BARRED
    )


@lru_cache(maxsize=256)
def _rules(text: str) -> dict[str, Any]:
    rules: dict[str, Any] = json.loads(text)
    return rules


def _matches(term: Mapping[str, Any], node: NodeTraits) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False  # an empty term matches nothing
    return all(_holds(expression, node.labels) for expression in expressions) and all(
        _holds(expression, {"metadata.name": node.name}) for expression in fields
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    found = labels.get(expression.get("key", ""))
    values = expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return found in values
        case "NotIn":
            return found not in values
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "Gt" | "Lt" as operator if found is not None and len(values) == 1:
            try:
                return int(found) > int(values[0]) if operator == "Gt" else int(found) < int(values[0])
            except ValueError:
                return False
    return False


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    key = toleration.get("key") or ""
    if key and key != taint.key:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == taint.value


def device_count(amount: object) -> int:
    """How many devices a quantity stands for: `4`, or `1k` for one shared a thousandfold; 0 if unreadable."""
    text = str(amount)
    scale = 1000 if text.endswith("k") else 1
    try:
        return int(text.removesuffix("k")) * scale
    except ValueError:
        return 0
