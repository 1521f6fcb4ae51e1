"""The repository as a whole: examples are valid, one OpenCV is installed, nothing foreign is named."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

from camfleet_operator.local.folder import CameraFolder

ROOT = Path(__file__).resolve().parents[1]


def test_the_examples_are_valid() -> None:
    content = CameraFolder(ROOT / "examples").read()
    assert content.problems == ()
    assert len(content.cameras) >= 4
    assert content.profiles


def test_exactly_one_opencv_is_installed() -> None:
    names = {
        d.name.lower() for d in importlib.metadata.distributions() if d.name.lower().startswith("opencv")
    }
    assert names == {"opencv-python"}


def test_operator_folder_does_not_shadow_the_standard_library() -> None:
    assert not list((ROOT / "operator").glob("*.py"))


def test_no_weights_or_media_are_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    media = (".onnx", ".mp4", ".mkv", ".pt", ".engine")
    assert [name for name in listed.splitlines() if name.endswith(media)] == []
