"""What the images install: each program's packages and no others, at the versions that the tests ran with."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.testbed.images import PROGRAMS, inputs

ROOT = Path(__file__).resolve().parents[2]
# The images have the OpenCV without windows: the same code, without X11 and OpenGL libraries.
HEADLESS = {"opencv-python-headless": "opencv-python"}


def pins(path: Path) -> set[str]:
    """Each `name==version ; marker` of a lock file."""
    found = re.findall(r"^(\S+==\S+(?: ; [^\\\n]+?)?)(?: \\)?$", path.read_text(), re.MULTILINE)
    assert found
    assert path.read_text().count("--hash=sha256:") >= len(found)
    return {str(Requirement(line)) for line in found}


def names(lines: set[str]) -> set[str]:
    return {HEADLESS.get(Requirement(line).name, Requirement(line).name) for line in lines}


def needed(extra: str) -> set[str]:
    """The packages that an extra pulls in on the images' platform, by what is installed here."""
    todo = [Requirement(f"camfleet[{extra}]")]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for wanted in ("", *sorted(requirement.extras)):
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            for text in importlib.metadata.requires(name) or ():
                child = Requirement(text)
                environment = {"extra": wanted, "python_version": "3.11", "python_full_version": "3.11.2"}
                if child.marker is None or child.marker.evaluate(environment):
                    todo.append(child)
    return {name for name, _ in seen} - {"camfleet"}


@pytest.mark.parametrize("folder", [*PROGRAMS.values(), None])
def test_versions_are_those_of_the_whole_lock_file(folder: str | None) -> None:
    path = ROOT / folder / "requirements.lock" if folder else ROOT / "requirements-build.lock"
    everything = pins(ROOT / "requirements.lock")
    renamed = {line.replace("opencv-python-headless==", "opencv-python==") for line in pins(path)}
    assert renamed - everything == set(), "run `make lock`"


@pytest.mark.parametrize(("program", "folder"), PROGRAMS.items())
def test_an_image_installs_what_its_program_needs(program: str, folder: str) -> None:
    assert names(pins(ROOT / folder / "requirements.lock")) == needed(program), "run `make lock`"


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_goes_into_an_image_is_allowed_by_dockerignore(program: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {file.relative_to(ROOT).parts[0] for file in inputs(program)} - {".dockerignore"}
    assert copied <= allowed


def test_the_dockerfiles_differ_only_in_the_program() -> None:
    faces = re.compile("^# Faces in pictures .*\nCOPY worker_image worker_image\n", re.MULTILINE)
    texts = {}
    for program, folder in PROGRAMS.items():
        text = (ROOT / folder / "Dockerfile").read_text()
        shared = text[: text.index("LABEL ")]
        if program == "gateway":
            shared, count = faces.subn("", shared)
            assert count == 1
        for word in (
            f"COPY {folder}/requirements.lock",
            f"COPY {folder} {folder}\n",
            f"AS {program}\n",
            f'CMD ["{program}"]',
        ):
            assert word in shared
            shared = shared.replace(word, word.replace(folder, "X").replace(program, "X"))
        texts[program] = shared[shared.index("ARG BASE") :]
    assert texts["operator"] == texts["gateway"] == texts["worker"]
