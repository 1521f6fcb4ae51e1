"""Where a pod may run at all: the scheduler's rules, in a table."""

from __future__ import annotations

from typing import Any

import pytest
from tests.operator_cluster.load_cluster import Node

from camfleet_operator.cluster.balance.eligibility import UNBOUND, Taint, allows, read_constraints
from camfleet_operator.cluster.health.nodes import read_node
from camfleet_operator.cluster.pods import read_pod

NODE = Node("a", labels={"zone": "north", "cores": "16"}, resources={"nvidia.com/gpu": 2})
GPUS = {"containers": [{"name": "worker", "resources": {"limits": {"nvidia.com/gpu": "2"}}}]}


def wants(*expressions: dict[str, Any], fields: bool = False) -> dict[str, Any]:
    """A required node affinity with one term."""
    term = {"matchFields" if fields else "matchExpressions": list(expressions)}
    return affinity(term)


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return {"affinity": {"nodeAffinity": required}}


def rule(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


@pytest.mark.parametrize(
    ("spec", "node", "expected"),
    [
        ({}, NODE, True),
        ({}, Node("a", unschedulable=True), False),
        ({"nodeSelector": {"zone": "north"}}, NODE, True),
        ({"nodeSelector": {"zone": "south"}}, NODE, False),
        (wants(rule("zone", "In", "north", "east")), NODE, True),
        (wants(rule("zone", "NotIn", "north")), NODE, False),
        (wants(rule("disk", "NotIn", "slow")), NODE, True),
        (wants(rule("zone", "Exists")), NODE, True),
        (wants(rule("zone", "DoesNotExist")), NODE, False),
        (wants(rule("cores", "Gt", "8"), rule("cores", "Lt", "32")), NODE, True),
        (wants(rule("cores", "Gt", "16")), NODE, False),
        (wants(rule("zone", "Gt", "16")), NODE, False),
        (wants(rule("zone", "Exists"), rule("disk", "Exists")), NODE, False),
        (wants(rule("metadata.name", "In", "a"), fields=True), NODE, True),
        (wants(rule("metadata.name", "In", "b"), fields=True), NODE, False),
        (affinity(*({"matchExpressions": [rule(key, "Exists")]} for key in ("disk", "zone"))), NODE, True),
        (affinity({}), NODE, False),
        (GPUS, NODE, True),
        (GPUS, Node("a", resources={"nvidia.com/gpu": 1}), False),
        ({"containers": [{**GPUS["containers"][0], "name": "sidecar"}]}, Node("a"), True),
    ],
)  # fmt: skip
def test_selectors_affinity_and_devices(spec: dict[str, Any], node: Node, expected: bool) -> None:
    assert allows(read_constraints(spec, "worker"), node) is expected


@pytest.mark.parametrize(
    ("toleration", "taint", "expected"),
    [
        (None, Taint("gpu", "NoSchedule"), False),
        (None, Taint("gpu", "NoExecute"), False),
        (None, Taint("gpu", "PreferNoSchedule"), True),
        ({"operator": "Exists"}, Taint("gpu", "NoSchedule"), True),
        ({"key": "gpu", "operator": "Exists"}, Taint("gpu", "NoSchedule", "yes"), True),
        ({"key": "gpu", "value": "yes"}, Taint("gpu", "NoSchedule", "yes"), True),
        ({"key": "gpu", "operator": "Equal", "value": "no"}, Taint("gpu", "NoSchedule", "yes"), False),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, Taint("gpu", "NoSchedule"), False),
        ({"key": "disk", "operator": "Exists"}, Taint("gpu", "NoSchedule"), False),
    ],
)
def test_taints(toleration: dict[str, Any] | None, taint: Taint, expected: bool) -> None:
    constraints = read_constraints({"tolerations": [toleration] if toleration else []}, "worker")
    assert allows(constraints, Node("a", taints=(taint,))) is expected


def test_pods_with_the_same_demands_share_them() -> None:
    one, other = (read_constraints({"nodeSelector": {"a": "b"}, **GPUS}, "worker") for _ in range(2))
    assert one is other
    assert one.gpu == "nvidia.com/gpu"
    assert UNBOUND.gpu == ""


def test_pods_and_nodes_are_read_from_their_json() -> None:
    node = read_node(
        {
            "metadata": {"name": "a", "labels": {"kubernetes.io/hostname": "host-a"}},
            "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "7910m", "nvidia.com/gpu": "2", "pods": "110"}},
        }
    )
    assert (node.hostname, node.cpu_cores, node.resources) == ("host-a", 7.91, {"nvidia.com/gpu": 2})
    spec = {**GPUS, "tolerations": [{"key": "gpu", "operator": "Exists"}]}
    pod = read_pod({"metadata": {"namespace": "n", "name": "p", "uid": "u"}, "spec": spec})
    assert allows(pod.constraints, node)
    assert not allows(UNBOUND, node)
