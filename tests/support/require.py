"""What a test needs of the machine: absent parts skip with their reason, or fail where all is required."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_REQUIRE_ALL = "all"


def need(condition: object, what: str) -> None:
    """Skip the test unless `condition`; with `CAMFLEET_REQUIRE=all` fail it instead.

    Args:
        condition: Whether the component is there.
        what: What is missing, and how to get it.
    """
    if condition:
        return
    if os.environ.get("CAMFLEET_REQUIRE") == _REQUIRE_ALL:
        pytest.fail(f"required but missing: {what}", pytrace=False)
    pytest.skip(what)


def model_dir() -> Path:
    """Folder with weights."""
    folder = _folder("CAMFLEET_MODEL_DIR")
    need(folder, "model weights: set CAMFLEET_MODEL_DIR")
    assert folder is not None
    return folder


def sample(name: str) -> Path:
    """A sample clip or picture by its name."""
    folder = _folder("CAMFLEET_SAMPLE_DIR")
    need(folder and (folder / name).exists(), f"sample {name}: set CAMFLEET_SAMPLE_DIR")
    assert folder is not None
    return folder / name


def _folder(variable: str) -> Path | None:
    named = os.environ.get(variable)
    return Path(named).resolve() if named and Path(named).is_dir() else None
