"""What promtool says."""

from __future__ import annotations

import shutil
import subprocess

from support.require import need


def check_metrics(page: str) -> str:
    """The complaints of `promtool check metrics` about a page of metrics; empty if there are none."""
    promtool = shutil.which("promtool")
    need(promtool, "promtool: the package prometheus")
    assert promtool is not None
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    return said or (f"promtool ended with {done.returncode}" if done.returncode else "")
