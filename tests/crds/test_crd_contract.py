"""The models and the CustomResourceDefinitions agree: what one takes the other takes, in both directions.

Needs an API server. Every generated object is validated by the pydantic models and created, dry, at the real
API server with strict field validation. Where they differ on purpose is the second half of this file.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
from crd_api import CrdApi, camera, profile
from crd_documents import JUNK, damaged, objects
from hypothesis import HealthCheck, Phase, given, settings

from camfleet_protocol.camera import Camera, InvalidObjectError, parse_object
from camfleet_protocol.documents import MAX_DEPTH

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

_GENERATED = settings(
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    print_blob=True,
)


def refusal(document: dict[str, Any]) -> str:
    """What the models have against an object; empty if nothing."""
    try:
        parse_object(copy.deepcopy(document))
    except InvalidObjectError as error:
        return str(error)
    return ""


def compare(api: CrdApi, document: dict[str, Any]) -> bool:
    """Whether both take it; fails if only one does."""
    answer, ours = api.create(document), refusal(document)
    assert answer.accepted == (not ours), (
        f"the models say: {ours or 'good'}\nthe API server says: {answer.message or 'good'}\n{document!r}"
    )
    return answer.accepted


def test_generated_objects(api: CrdApi) -> None:
    seen: Counter[bool] = Counter()

    @settings(_GENERATED, max_examples=200)
    @given(objects)
    def check(document: dict[str, Any]) -> None:
        seen[compare(api, document)] += 1

    check()
    assert seen[True] >= 50, "hardly any of the objects was good"


def test_damaged_objects(api: CrdApi) -> None:
    seen: Counter[bool] = Counter()

    @settings(_GENERATED, max_examples=400)
    @given(damaged())
    def check(document: dict[str, Any]) -> None:
        seen[compare(api, document)] += 1

    check()
    assert seen[True] >= 30 and seen[False] >= 150, seen


EVERYTHING: dict[str, Any] = {
    "source": {"file": {"path": "a.mp4", "claimName": "clips", "loop": True}},
    "profileRef": {"name": "site"},
    "suspend": False,
    "site": "north",
    "image": "registry.example/worker:1",
    "inference": {
        "enabled": True,
        "detectors": ["yunet"],
        "fps": 5,
        "confidence": 0.5,
        "faceRecognition": {"enabled": False},
        "backend": "auto",
        "engine": "mine",
    },
    "stream": {"fps": 10, "width": 640, "quality": 80},
    "gpu": {"mode": "Required", "resourceName": "nvidia.com/gpu", "count": 1},
    "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}},
    "placement": {
        "nodeSelector": {"zone": "a"},
        "tolerations": [
            {"key": "gpu", "operator": "Equal", "value": "x", "effect": "NoExecute", "tolerationSeconds": 5}
        ],
        "affinity": {"nodeAffinity": {}, "podAffinity": {}, "podAntiAffinity": {}},
        "priorityClassName": "cameras",
    },
    "health": {
        "firstFrameTimeoutSeconds": 60,
        "stallTimeoutSeconds": 20,
        "frozenTimeoutSeconds": 0,
        "reassignment": "Never",
    },
}
SOURCES: tuple[dict[str, Any], ...] = (
    {
        "rtsp": {
            "url": "rtsp://h/a",
            "detectUrl": "rtsp://h/b",
            "transport": "udp",
            "credentialsSecretRef": {"name": "login"},
        }
    },
    {"http": {"url": "http://h/a", "credentialsSecretRef": {"name": "login"}}},
    {"device": {"path": "/dev/video0", "resourceName": "example.com/video"}},
    {"testPattern": {"width": 640, "height": 480, "fps": 10}},
)


def _leaves(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else []
    return [path, *(inner for key in keys for inner in _leaves(node[key], (*path, key)))]


@pytest.mark.parametrize("spec", [EVERYTHING, *({"source": source} for source in SOURCES)])
def test_every_field_with_every_kind_of_junk(api: CrdApi, spec: dict[str, Any]) -> None:
    assert compare(api, camera(spec))
    for path in _leaves(spec)[1:]:
        for junk in JUNK:
            changed = copy.deepcopy(spec)
            node: Any = changed
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = junk
            compare(api, camera(changed))


# ── Where they differ, on purpose ───────────────────────────────────────────────────────────────────────


def test_without_strict_validation_unknown_fields_are_pruned(api: CrdApi) -> None:
    document = camera({"source": {"testPattern": {"sauce": 1}}, "sauce": {}})
    answer = api.create(document, strict=False)
    assert answer.accepted and answer.body["spec"] == {"source": {"testPattern": {}}}
    assert refusal(document) == (
        "Camera gate: spec.source.testPattern.sauce: no such field; spec.sauce: no such field"
    )


def test_a_status_from_a_user_is_dropped(api: CrdApi) -> None:
    document = camera(status={"worker": {"attempt": 7}})
    answer = api.create(document)
    assert answer.accepted and "status" not in answer.body
    parsed = parse_object(document)
    assert isinstance(parsed, Camera) and parsed.status.worker is not None  # read, never from a user


def test_a_name_that_kubernetes_shall_invent_is_for_kubernetes_only(api: CrdApi) -> None:
    document = camera()
    document["metadata"] = {"generateName": "gate-"}
    assert api.create(document).accepted
    assert refusal(document) == "Camera ?: metadata.name: is missing"
    document["metadata"] = {"generateName": "gate."}
    assert not api.create(document).accepted, "the invented name is held to the same rule"


@pytest.mark.parametrize(
    ("what", "affinity", "ours"),
    [
        ("an integer that no reader keeps", {"x": 2**70}, "a number that is too large"),
        ("half a character", {"x": "\ud800"}, "a text with characters that are none"),
        ("great depth", None, f"nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_what_is_only_passed_on_is_bounded_by_the_models_alone(
    api: CrdApi, what: str, affinity: Any, ours: str
) -> None:
    if affinity is None:
        affinity = {}
        for _ in range(MAX_DEPTH):
            affinity = {"x": affinity}
    document = profile({"placement": {"affinity": {"nodeAffinity": affinity}}})
    assert api.create(document).accepted, what
    assert refusal(document) == f"site: {ours}"


def test_integers_as_quantities_stay_integers_at_the_api_server(api: CrdApi) -> None:
    document = camera({"source": {"testPattern": {}}, "resources": {"requests": {"cpu": 2}}})
    assert api.create(document).body["spec"]["resources"] == {"requests": {"cpu": 2}}
    parsed = parse_object(document)
    assert parsed.spec.resources is not None and parsed.spec.resources.requests == {"cpu": "2"}
