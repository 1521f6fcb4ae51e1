"""YAML folders: what is wrong is told and changes nothing, what is right is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from camfleet_operator.local.desired import DesiredState
from camfleet_operator.local.folder import CameraFolder
from camfleet_protocol.local import Controls, Overlay, StateFolder, spec_digest

GOOD = """
apiVersion: camfleet.io/v1alpha1
kind: Camera
metadata: {name: door}
spec:
  source: {testPattern: {fps: 5}}
"""


def test_cameras_and_profiles_of_several_documents_are_taken(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        GOOD
        + """---
apiVersion: camfleet.io/v1alpha1
kind: CameraProfile
metadata: {name: night}
spec: {stream: {fps: 2}}
---
"""
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yml").write_text(GOOD.replace("door", "gate"))
    content = CameraFolder(tmp_path).read()
    assert sorted(content.cameras) == ["default.door", "default.gate"]
    assert sorted(content.profiles) == ["default.night"]
    assert content.problems == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.replace("fps: 5", "fps: 5, colour: red"), "spec.source.testPattern.colour: no such field"),
        (GOOD.replace("source", "sauce"), "spec.source: is missing"),
        ("a: [1, 2", "line 2, column 1: this is not YAML"),
        ("just text", "this is not an object"),
        (GOOD.replace("kind: Camera", "kind: Toaster"), "kind must be Camera or CameraProfile"),
        (GOOD.replace("name: door", "name: Front_Door"), "metadata.name"),
        (GOOD + "---\n" + GOOD, "Camera default.door is defined twice"),
    ],
)
def test_a_mistake_is_named_with_file_and_place(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "cam.yaml").write_text(text)
    problems = CameraFolder(tmp_path).read().problems
    assert {problem.file for problem in problems} == {"cam.yaml"}
    assert told in problems[-1].message or told in problems[0].message


def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "cam.yaml").write_text(
        GOOD.replace("{testPattern: {fps: 5}}", '{rtsp: {url: "rtsp://admin:sesame-7@10.0.0.9/live"}}')
    )
    (problem,) = CameraFolder(tmp_path).read().problems
    assert "credentialsSecretRef" in problem.message
    assert "sesame" not in str(problem)


def test_broken_yaml_does_not_quote_the_file(tmp_path: Path) -> None:
    (tmp_path / "cam.yaml").write_text('password: "sesame-7\nother: [')
    (problem,) = CameraFolder(tmp_path).read().problems
    assert "sesame" not in str(problem)


def test_kubernetes_objects_beside_a_camera_are_left_alone(tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n---\n"
    (tmp_path / "cam.yaml").write_text(secret + GOOD)
    content = CameraFolder(tmp_path).read()
    assert (list(content.cameras), content.problems, content.foreign) == (["default.door"], (), 1)


@pytest.mark.parametrize("version", ["v1", "camflet.io/v1alpha1", "camfleet.io/v9"])
def test_a_camera_of_a_wrong_api_version_is_a_mistake(tmp_path: Path, version: str) -> None:
    (tmp_path / "cam.yaml").write_text(GOOD.replace("camfleet.io/v1alpha1", version))
    (problem,) = CameraFolder(tmp_path).read().problems
    assert "apiVersion" in problem.message


def test_a_broken_edit_keeps_the_camera_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "cam.yaml"
    path.write_text(GOOD)
    folder = CameraFolder(tmp_path)
    before = folder.read().cameras
    for broken in (GOOD.replace("fps: 5", "fps: -5"), "a: [", GOOD + "extra: 1\n"):
        path.write_text(broken)
        content = folder.read()
        assert content.cameras == before
        assert len(content.problems) == 1
    path.write_text(GOOD.replace("fps: 5", "fps: 6"))
    content = folder.read()
    assert content.problems == ()
    assert content.cameras["default.door"].spec.source.test_pattern.fps == 6  # type: ignore[union-attr]


def test_hidden_files_and_secrets_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "x.yaml").write_text("nonsense: [")
    (tmp_path / ".hidden.yaml").write_text("nonsense: [")
    assert CameraFolder(tmp_path).read().problems == ()


def overlaid(state: StateFolder, overlay: Overlay) -> None:
    (state.overlay / "default.door.json").write_text(
        overlay.model_dump_json(by_alias=True, exclude_none=True)
    )


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    (tmp_path / "cameras").mkdir()
    return folder


def test_controls_lie_over_the_file_and_go_with_it(tmp_path: Path, state: StateFolder) -> None:
    path = tmp_path / "cameras" / "door.yaml"
    path.write_text(GOOD)
    desired = DesiredState(tmp_path / "cameras", state)
    overlaid(state, Overlay(controls=Controls.model_validate({"suspend": True, "stream": {"width": 320}})))
    camera = desired.read().cameras["default.door"]
    assert camera.spec.suspend is True
    assert camera.spec.stream is not None
    assert camera.spec.stream.width == 320
    assert path.read_text() == GOOD
    path.unlink()
    assert desired.read().cameras == {}
    assert list(state.overlay.iterdir()) == []


def test_a_deleted_camera_stays_away_until_its_file_changes(tmp_path: Path, state: StateFolder) -> None:
    path = tmp_path / "cameras" / "door.yaml"
    path.write_text(GOOD)
    desired = DesiredState(tmp_path / "cameras", state)
    digest = spec_digest(CameraFolder(tmp_path / "cameras").read().cameras["default.door"])
    overlaid(state, Overlay(deleted_digest=digest))
    assert desired.read().cameras == {}
    path.write_text(GOOD.replace("fps: 5", "fps: 7"))
    assert list(desired.read().cameras) == ["default.door"]
    path.write_text(GOOD)
    assert list(desired.read().cameras) == ["default.door"], "the old delete must not come back"


def test_a_profile_change_touches_only_its_cameras(tmp_path: Path, state: StateFolder) -> None:
    cameras = tmp_path / "cameras"
    (cameras / "a.yaml").write_text(GOOD.replace("spec:", "spec:\n  profileRef: {name: night}"))
    (cameras / "b.yaml").write_text(GOOD.replace("door", "gate"))
    profile = GOOD.replace("kind: Camera", "kind: CameraProfile").replace("door", "night")
    profile = profile.replace("source: {testPattern: {fps: 5}}", "stream: {fps: 2}")
    (cameras / "p.yaml").write_text(profile)
    reader = DesiredState(cameras, state)
    before = reader.read()
    assert before.settings_of(before.cameras["default.door"]).stream.fps == 2
    (cameras / "p.yaml").write_text(profile.replace("fps: 2", "fps: 3"))
    after = reader.read()
    assert after.changed_since(before) == {"default.door"}
    assert after.settings_of(after.cameras["default.door"]).stream.fps == 3
