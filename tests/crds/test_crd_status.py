"""The status of a Camera: what it may say, and that it never takes a worker's fence down.

Needs an API server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from crd_api import GROUP_PATH, CrdApi, camera

from camfleet_protocol.camera import Camera, parse_object

pytestmark = pytest.mark.cluster

NAME = "fenced"
WORKER = {"attempt": 3, "podName": "fenced-abc", "podUID": "u-3", "nodeName": "node-1"}
READY = {
    "type": "Ready",
    "status": "True",
    "reason": "Streaming",
    "message": "pictures arrive",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-02T03:04:05Z",
}
FULL: dict[str, Any] = {
    "conditions": [READY],
    "worker": WORKER,
    "settings": {"hash": "0123456789abcdef", "values": {"stream": {"fps": 10.0}, "new": [None]}},
    "lastReassignment": {
        "time": "2026-01-02T03:04:05Z",
        "reason": "NodeLost",
        "fromNode": "node-0",
        "toNode": "node-1",
    },
}


@pytest.fixture(autouse=True)
def _camera(api: CrdApi) -> Iterator[None]:
    assert api.create(camera(name=NAME), dry=False).accepted
    yield
    api.plane.delete(f"{GROUP_PATH}/cameras/{NAME}")


def put(api: CrdApi, status: dict[str, Any] | None) -> str:
    """Replace the status; what the API server has against it, empty if nothing."""
    document = camera(name=NAME) if status is None else camera(name=NAME, status=status)
    answer = api.put_status(document)
    return "" if answer.accepted else answer.message


def test_a_full_status_is_kept_whole(api: CrdApi) -> None:
    assert put(api, FULL) == ""
    found = api.plane.get(f"{GROUP_PATH}/cameras/{NAME}")
    assert found is not None and found["status"] == FULL
    parsed = parse_object(found)
    assert isinstance(parsed, Camera) and parsed.status.last_reassignment is not None
    written = parsed.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert put(api, written) == "", "what the models write the API server takes"


ATTEMPT = 'status.worker.attempt: Invalid value: "object": status.worker.attempt never decreases'
POD_UID = (
    'status.worker.podUID: Invalid value: "object": '
    "within an attempt status.worker.podUID, once set, does not change"
)
DROPPED = (
    'status.worker: Invalid value: "object": '
    "status.worker cannot be removed: it fences off workers of earlier attempts"
)
TRANSITIONS: dict[str, tuple[dict[str, Any] | None, str]] = {
    "the same again": ({"worker": WORKER}, ""),
    "another node": ({"worker": {**WORKER, "nodeName": ""}}, ""),
    "next attempt without a pod": ({"worker": {"attempt": 4}}, ""),
    "next attempt with a pod": ({"worker": {**WORKER, "attempt": 4, "podUID": "u-4"}}, ""),
    "a far attempt": ({"worker": {"attempt": 2**31 - 1}}, ""),
    "attempt decreases": ({"worker": {**WORKER, "attempt": 2}}, ATTEMPT),
    "attempt back to nothing": ({"worker": {"attempt": 0}}, ATTEMPT),
    "attempt is lost": ({"worker": {"podUID": "u-3"}}, "status.worker.attempt: Required value"),
    "another pod within the attempt": ({"worker": {**WORKER, "podUID": "u-9"}}, POD_UID),
    "pod emptied within the attempt": ({"worker": {**WORKER, "podUID": ""}}, POD_UID),
    "pod dropped within the attempt": ({"worker": {"attempt": 3}}, POD_UID),
    "worker dropped": ({"conditions": []}, DROPPED),
    "worker null": ({"worker": None}, DROPPED),
    "status dropped": (None, DROPPED),
    "status empty": ({}, DROPPED),
}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_transition(api: CrdApi, name: str) -> None:
    status, refused = TRANSITIONS[name]
    assert put(api, FULL) == ""
    message = put(api, status)
    assert message == "" if not refused else refused in message


def test_the_first_pod_of_an_attempt_may_come_later(api: CrdApi) -> None:
    assert put(api, {"worker": {"attempt": 1}}) == ""
    assert put(api, {"worker": {"attempt": 1, "podUID": ""}}) == ""
    assert put(api, {"worker": {"attempt": 1, "podUID": "u-1"}}) == ""
    assert POD_UID in put(api, {"worker": {"attempt": 1}})


def test_a_user_s_edit_leaves_the_status_alone(api: CrdApi) -> None:
    assert put(api, FULL) == ""
    live = api.plane.get(f"{GROUP_PATH}/cameras/{NAME}")
    assert live is not None
    live.pop("status")
    live["spec"]["suspend"] = True
    answer = api.plane.client.put(f"{GROUP_PATH}/cameras/{NAME}", json=live)
    assert answer.status_code == 200 and answer.json()["status"] == FULL


BAD_STATUS: dict[str, tuple[dict[str, Any], str]] = {
    "two of one condition": ({"conditions": [READY, READY]}, "Duplicate value"),
    "unknown value": ({"conditions": [{**READY, "status": "true"}]}, "Unsupported value"),
    "reason with spaces": ({"conditions": [{**READY, "reason": "no GPU"}]}, "should match"),
    "no reason": ({"conditions": [{"type": "Ready", "status": "True"}]}, "reason: Required value"),
    "endless message": ({"conditions": [{**READY, "message": "x" * 40_000}]}, "Too long"),
    "no time": ({"conditions": [{**READY, "lastTransitionTime": "now"}]}, "must be of type date-time"),
    "negative attempt": ({"worker": {"attempt": -1}}, "greater than or equal to 0"),
    "attempt as text": ({"worker": {"attempt": "1"}}, "must be of type integer"),
    "rates": ({"fps": 10}, 'unknown field "status.fps"'),
}


@pytest.mark.parametrize("name", BAD_STATUS)
def test_bad_status(api: CrdApi, name: str) -> None:
    status, expected = BAD_STATUS[name]
    assert expected in put(api, status)
