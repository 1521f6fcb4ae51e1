"""Documents that are no plain, bounded JSON are refused before any model sees them, and in no time."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from camfleet_protocol.camera import Camera, InvalidObjectError, parse_object


def nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(depth):
        document = {"a": document}
    return document


def itself() -> dict[str, Any]:
    document: dict[str, Any] = {}
    document["b"] = document
    return document


def bomb() -> object:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    return yaml.safe_load("\n".join(lines))


def camera(affinity: object) -> dict[str, Any]:
    return {
        "apiVersion": "camfleet.io/v1alpha1",
        "kind": "Camera",
        "metadata": {"name": "door"},
        "spec": {"source": {"testPattern": {}}, "placement": {"affinity": affinity}},
    }


@pytest.mark.parametrize(
    ("affinity", "told"),
    [
        (nested(300), "nested deeper than 32 levels"),
        (itself(), "nested deeper than 32 levels"),
        (bomb(), "more than 10000 values"),
        ({"a": ["x"] * 20_000}, "more than 10000 values"),
        ({"a": "x" * 2_000_000}, "more than 1048576 characters"),
        (yaml.safe_load("a: !!binary gICA"), "a value of the type bytes; put it in quotes"),
        (yaml.safe_load("a: 2026-01-01"), "a value of the type date; put it in quotes"),
        (yaml.safe_load("1: a"), "a key that is not a text; put it in quotes"),
        ({"a": "\ud800"}, "a text with characters that are none"),
        ({"a": 10**400}, "a number that is too large"),
    ],
)
def test_refused(affinity: object, told: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidObjectError) as caught:
        parse_object(camera(affinity))
    assert caught.value.problems == (told,)
    assert time.process_time() - began < 5


def test_what_a_real_affinity_looks_like_is_taken() -> None:
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a", "b"]}]}
                ]
            }
        }
    }
    assert isinstance(parse_object(camera(affinity)), Camera)
