"""Prometheus' own tool: what it says of rules, configurations, pages and series."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.require import need


def promtool(*arguments: str | Path) -> str:
    """Run it; what it prints.

    Raises:
        AssertionError: It complains.
    """
    done = _run(*arguments)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def check_metrics(page: str) -> str:
    """The complaints of `promtool check metrics` about a page of metrics; empty if there are none."""
    done = _run("check", "metrics", page=page)
    said = done.stdout + done.stderr
    return said or (f"promtool ended with {done.returncode}" if done.returncode else "")


def _run(*arguments: str | Path, page: str | None = None) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    need(program, "the program promtool (Debian: prometheus)")
    command = [str(program), *arguments]
    return subprocess.run(command, input=page, capture_output=True, text=True, timeout=200, check=False)
