"""Camera over profile over installation over built-in defaults; lists replace."""

from __future__ import annotations

from typing import Any

import pytest

from camfleet_protocol.camera import Camera, CameraProfile, SharedSpec
from camfleet_protocol.settings import Settings, effective_settings, merge

Shared = dict[str, Any]


def _camera(shared: Shared) -> Camera:
    return Camera.model_validate(
        {"metadata": {"name": "lobby"}, "spec": {"source": {"testPattern": {}}, **shared}}
    )


def _profile(shared: Shared) -> CameraProfile:
    return CameraProfile.model_validate({"metadata": {"name": "doors"}, "spec": shared})


# camera, profile, defaults, path, expected
TABLE: dict[str, tuple[Shared, Shared | None, Shared | None, str, Any]] = {
    "built in": ({}, None, None, "stream.fps", 10.0),
    "defaults": ({}, None, {"stream": {"fps": 3}}, "stream.fps", 3.0),
    "profile over defaults": ({}, {"stream": {"fps": 4}}, {"stream": {"fps": 3}}, "stream.fps", 4.0),
    "camera over profile": (
        {"stream": {"fps": 5}},
        {"stream": {"fps": 4}},
        {"stream": {"fps": 3}},
        "stream.fps",
        5.0,
    ),
    "fields of one block from different layers": (
        {"stream": {"fps": 5}},
        {"stream": {"width": 320}},
        {"stream": {"quality": 60}},
        "stream",
        {"fps": 5.0, "width": 320, "quality": 60},
    ),
    "false is a value": (
        {"inference": {"enabled": False}},
        {"inference": {"enabled": True}},
        None,
        "inference.enabled",
        False,
    ),
    "zero is a value": ({"stream": {"width": 0}}, {"stream": {"width": 640}}, None, "stream.width", 0),
    "lists replace": (
        {"inference": {"detectors": ["motion"]}},
        {"inference": {"detectors": ["yunet", "mock"]}},
        None,
        "inference.detectors",
        ["motion"],
    ),
    "an empty list replaces": (
        {"inference": {"detectors": []}},
        {"inference": {"detectors": ["yunet"]}},
        None,
        "inference.detectors",
        [],
    ),
    "three levels": (
        {"inference": {"faceRecognition": {}}},
        {"inference": {"faceRecognition": {"enabled": True}}},
        None,
        "inference.faceRecognition.enabled",
        True,
    ),
    "site": ({}, {"site": "yard"}, {"site": "all"}, "site", "yard"),
    "health": ({}, {"health": {"stallTimeoutSeconds": 7}}, None, "health.stallTimeoutSeconds", 7),
}


@pytest.mark.parametrize("name", TABLE)
def test_layers(name: str) -> None:
    camera, profile, defaults, path, expected = TABLE[name]
    settings = effective_settings(
        _camera(camera),
        None if profile is None else _profile(profile),
        None if defaults is None else SharedSpec.model_validate(defaults),
    )
    value: Any = settings.values()
    for part in path.split("."):
        value = value[part]
    assert value == expected


def test_blocks_that_need_a_new_pod_are_left_out() -> None:
    plain = effective_settings(_camera({}))
    assert effective_settings(_camera({"gpu": {"count": 2}, "image": "x"})) == plain


def test_values_round_trip_and_hash() -> None:
    settings = effective_settings(_camera({"stream": {"fps": 5}}))
    assert Settings.model_validate(settings.values()) == settings
    same = effective_settings(_camera({}), _profile({"stream": {"fps": 5}}))
    other = effective_settings(_camera({"stream": {"fps": 6}}))
    assert settings.hash == same.hash != other.hash
    assert len(settings.hash) == 16


def test_merge_changes_neither_side() -> None:
    base, over = {"a": {"b": [1], "c": 1}}, {"a": {"b": [2]}, "d": None}
    assert merge(base, over) == {"a": {"b": [2], "c": 1}, "d": None}
    assert (base, over) == ({"a": {"b": [1], "c": 1}}, {"a": {"b": [2]}, "d": None})
