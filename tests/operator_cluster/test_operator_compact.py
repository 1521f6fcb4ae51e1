"""Parsed cameras share what is the same in them, and are none the worse for it."""

from __future__ import annotations

from typing import Any

from camfleet_operator.cluster.compact import compact
from camfleet_protocol.camera import Camera

TIME = "2026-11-21T10:00:00Z"


def camera(name: str, fps: float = 5) -> Camera:
    condition = {"type": "Ready", "status": "True", "reason": "Streaming", "lastTransitionTime": TIME}
    document: dict[str, Any] = {
        "metadata": {"name": name},
        "spec": {"source": {"testPattern": {}}, "profileRef": {"name": "indoor"}},
        "status": {
            "conditions": [condition],
            "settings": {"hash": f"hash-of-{fps}", "values": {"inference": {"fps": fps}}},
        },
    }
    return Camera.model_validate(document)


def test_a_compact_camera_is_the_same_camera() -> None:
    plain, small = camera("a"), camera("a")
    compact(small)
    assert small == plain
    assert small.model_fields_set == plain.model_fields_set
    assert small.model_dump(exclude_unset=True) == plain.model_dump(exclude_unset=True)


def test_equal_settings_are_held_once_and_others_are_not_mixed_up() -> None:
    first, second, other = camera("a"), camera("b"), camera("c", fps=9)
    for item in (first, second, other):
        compact(item)
    assert first.status.settings is second.status.settings
    assert other.status.settings is not None
    assert other.status.settings.values == {"inference": {"fps": 9}}


def test_a_changed_copy_leaves_the_others_alone() -> None:
    first, second = camera("a"), camera("b")
    compact(first)
    compact(second)
    before = set(second.status.model_fields_set)
    copy = first.status.model_copy(update={"worker": None})
    assert "worker" in copy.model_fields_set
    assert second.status.model_fields_set == first.status.model_fields_set == before
