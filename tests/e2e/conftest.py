"""One fleet for the tests that only look, a fresh one for those that break things."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fleet import Fleet, running_fleet

PATTERN = {
    "source": {"testPattern": {"width": 640, "height": 360, "fps": 15}},
    "inference": {"detectors": ["motion"]},
}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Three test patterns, streaming."""
    with running_fleet(tmp_path, cameras={name: PATTERN for name in ("one", "two", "three")}) as fleet:
        for name in ("one", "two", "three"):
            fleet.wait_state(name, "live")
        yield fleet
