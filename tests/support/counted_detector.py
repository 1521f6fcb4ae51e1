"""A detector that shows one thing after the other and writes down each that it has shown.

A plug-in of the worker, found by its entry point like anybody's. Every thing has a class of its own, so every
one is an appearance of its own; what stands in the file was in view long enough to have been told before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from camfleet_protocol.detections import Detection

FILE = "CAMFLEET_TEST_SHOWN"
_SHOWN, _BREAK = 5, 1
"""Pictures with a thing, and without one."""


class CountedDetector:
    """Finds what it has thought of."""

    kind = "object"
    input_width = 320

    def __init__(self, context: object) -> None:
        self._file = Path(os.environ[FILE])
        self._series = f"{time.time_ns():x}"
        self._calls = 0

    def detect(self, image: Any, *, confidence: float) -> Sequence[Detection]:
        """One thing, or none between two."""
        number, phase = divmod(self._calls, _SHOWN + _BREAK)
        self._calls += 1
        label = f"{self._series}-{number}"
        if phase >= _SHOWN:
            with self._file.open("a") as file:
                file.write(f"{label}\n")
            return []
        return [Detection(kind="object", label=label, score=0.9, box=(0.3, 0.3, 0.2, 0.2))]


def install(folder: Path, shown: Path) -> dict[str, str]:
    """Make it a plug-in called `counted`; returns the worker's environment."""
    info = folder / "counted-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counted\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[camfleet.detectors]\ncounted = counted_detector:CountedDetector\n"
    )
    (folder / "counted_detector.py").write_bytes(Path(__file__).read_bytes())
    shown.touch()
    return {"PYTHONPATH": str(folder), FILE: str(shown)}
