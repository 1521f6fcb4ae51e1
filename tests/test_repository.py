"""The repository as a whole: examples are valid, one OpenCV is installed, nothing foreign is named."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from pathlib import Path

import yaml

from camfleet_operator.local.folder import CameraFolder
from camfleet_protocol.camera import Camera, parse_object
from camfleet_protocol.settings import Settings, effective_settings
from support.parallel import UNITS, unit_of

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


def test_the_objects_in_the_docs_are_valid() -> None:
    blocks = [
        block
        for path in (ROOT / "docs").glob("*.md")
        for block in re.findall(r"^```yaml\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
        if "camfleet.io/v1alpha1" in block
    ]
    assert blocks
    for block in blocks:
        parse_object(yaml.safe_load(block))


def test_the_defaults_in_the_docs_are_the_defaults() -> None:
    text = (ROOT / "docs" / "cameras.md").read_text()
    block = next(
        b for b in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if "gate-login" in b
    )
    camera = parse_object(yaml.safe_load(block))
    assert isinstance(camera, Camera)
    resolved, default = effective_settings(camera), Settings()
    assert (resolved.inference, resolved.stream, resolved.health) == (
        default.inference,
        default.stream,
        default.health,
    )


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.md")]
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in documents
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text())
        if "://" not in target
        and not target.startswith("#")
        and not (path.parent / target.partition("#")[0]).exists()
    ]
    assert broken == []


def test_headings_that_links_name_exist() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    missing = []
    for path in documents:
        for target in re.findall(r"\]\(([^)\s]*#[^)\s]+)\)", path.read_text()):
            if "://" in target:
                continue
            file, _, anchor = target.partition("#")
            text = (path.parent / file if file else path).read_text()
            headings = {
                re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in text.splitlines()
                if line.startswith("#")
            }
            if anchor not in headings:
                missing.append(f"{path.name}: {target}")
    assert missing == []


def test_tests_that_files_name_exist() -> None:
    """`tests/chart/test_x.py` in a comment or a document sends its reader there."""
    named = subprocess.run(
        ["git", "grep", "-IhoE", r"\btests/[a-z0-9_/]+\.(py|mjs|json)\b"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert len(named) > 5
    # The example of this test's own is none.
    assert {name for name in named if not (ROOT / name).exists()} == {"tests/chart/test_x.py"}


def test_what_is_said_of_tests_in_parallel_is_said_of_tests_that_exist() -> None:
    starts = [start for unit in UNITS.values() for start in unit]
    assert [start for start in starts if not [*ROOT.glob(f"{start.partition('::')[0]}*")]] == []
    assert len({unit_of(f"{start}::test_x") for start in starts}) == len(UNITS)
