"""ONNX Runtime reports to its maker by default: with the worker's code it neither does so nor prepares it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.require import model_dir

KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""Little of the environment: it says nothing as well where a build service, say, seems to run."""
LOAD = """
from pathlib import Path
from camfleet_worker.detectors.base import DetectorContext
from camfleet_worker.recognition.embedder import load_embedder
print(load_embedder("mobilefacenet", DetectorContext(Path({folder!r}))).dimensions)
"""


def test_loading_a_model_leaves_no_id_of_the_machine(tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD.format(folder=str(model_dir()))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "128\n", done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
