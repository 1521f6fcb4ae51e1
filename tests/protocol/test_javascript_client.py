"""The page's protocol client passes the shared vectors and its own tests, under Node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.require import need


def test_javascript_client() -> None:
    node = shutil.which("node")
    need(node, "node (version 20 or newer) for the tests of the JavaScript client")
    assert node is not None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    need(int(version.lstrip("v").split(".")[0]) >= 20, f"node 20 or newer, this is {version.strip()}")
    tests = Path(__file__).with_name("camera_v1.test.mjs")
    done = subprocess.run([node, "--test", str(tests)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
