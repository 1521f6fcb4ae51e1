"""What a preference for nodes makes of a pod."""

from __future__ import annotations

from typing import Any

import pytest

from camfleet_operator.cluster.balance.placement import (
    ANYWHERE,
    MAX_AVOIDED,
    MAX_PREFERRED,
    SPREAD_SKEW,
    Placement,
    list_nodes,
)
from camfleet_operator.cluster.podspec import (
    FINGERPRINT_ANNOTATION,
    PLACEMENT_ANNOTATION,
    Variant,
    build_pod,
    shape_worker,
)
from camfleet_operator.cluster.settings import OperatorSettings
from camfleet_protocol.camera import Camera, parse_object
from camfleet_protocol.settings import effective_settings

UID = "11111111-2222-3333-4444-555555555555"
OWN = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}
        ]
    },
    "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
}


def made(wish: Placement = ANYWHERE, **spec: Any) -> dict[str, Any]:
    camera = parse_object(
        {
            "apiVersion": "camfleet.io/v1alpha1",
            "kind": "Camera",
            "metadata": {"name": "door", "namespace": "north"},
            "spec": {"source": {"testPattern": {}}, "gpu": {"mode": "Disabled"}, **spec},
        }
    )
    assert isinstance(camera, Camera)
    shape = shape_worker(camera, None, None, OperatorSettings())
    settings = effective_settings(camera)
    return build_pod(camera, UID, shape, Variant.CPU, attempt=1, settings=settings, placement=wish)


def terms(pod: dict[str, Any]) -> list[tuple[int, str, list[str]]]:
    """Weight, operator and values of each preferred term."""
    node_affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    return [
        (term["weight"], expression["operator"], expression.get("values", []))
        for term in node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        for expression in term["preference"]["matchExpressions"]
    ]


def test_preferences_stand_beside_the_users_own() -> None:
    wish = Placement(avoid_failed=("n2", "n1"), avoid_loaded=("n3",), prefer=("n9", "n8"))
    pod = made(wish, placement={"affinity": OWN})
    assert terms(pod) == [
        (1, "Exists", []),
        (100, "NotIn", ["n1", "n2"]),
        (60, "NotIn", ["n3"]),
        (30, "In", ["n8", "n9"]),
    ]
    assert "podAntiAffinity" in pod["spec"]["affinity"]
    assert "requiredDuringSchedulingIgnoredDuringExecution" not in pod["spec"]["affinity"]["nodeAffinity"]


def test_no_preference_changes_nothing() -> None:
    pod = made()
    assert "affinity" not in pod["spec"]
    assert PLACEMENT_ANNOTATION not in pod["metadata"]["annotations"]


def test_the_reason_is_an_annotation_and_the_fingerprint_does_not_change() -> None:
    preferred = made(Placement(avoid_failed=("n1",), reason="avoids n1 (failed 3 min ago)"))
    annotations = preferred["metadata"]["annotations"]
    assert annotations[PLACEMENT_ANNOTATION] == "avoids n1 (failed 3 min ago)"
    assert annotations[FINGERPRINT_ANNOTATION] == made()["metadata"]["annotations"][FINGERPRINT_ANNOTATION]


@pytest.mark.parametrize(
    ("placement", "skew"),
    [
        (ANYWHERE, 1),
        (Placement(prefer=("n1",)), 1),
        (Placement(avoid_loaded=("n1",)), SPREAD_SKEW),
        (Placement(avoid_failed=("n1",)), SPREAD_SKEW),
    ],
)
def test_even_spread_gives_way_where_a_node_is_avoided(placement: Placement, skew: int) -> None:
    (constraint,) = made(placement)["spec"]["topologySpreadConstraints"]
    assert constraint["maxSkew"] == skew
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"


def test_lists_are_bounded() -> None:
    names = tuple(f"node-{number:03d}" for number in range(200))
    found = terms(made(Placement(avoid_failed=names, avoid_loaded=names, prefer=names)))
    assert [len(values) for _, _, values in found] == [MAX_AVOIDED, MAX_AVOIDED, MAX_PREFERRED]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
    ],
)
def test_nodes_are_listed_for_people(words: list[str], text: str) -> None:
    assert list_nodes(words) == text
