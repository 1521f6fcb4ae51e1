"""Every command in the README and the docs is run.

A fenced block marked `sh` is run by bash in an empty folder, block after block of one document.
`sh background` starts and is left running until the document ends; it must print a ready line
(`ready=WORD` names another word to wait for). `sh notest` is for what a test cannot do, such as `make demo`
itself, which tests/e2e/test_demo.py covers. `sh samples` needs the weights and the sample media.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.fleet import eventually
from support.require import model_dir, sample

ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^```sh([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
    if _FENCE.search(path.read_text())
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@dataclass
class Background:
    process: subprocess.Popen[str]
    text: str = ""

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [int(item.getsockname()[1]) for item in sockets]
    for item in sockets:
        item.close()
    return ports


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_work(document: str, tmp_path: Path) -> None:
    viewer, internal, nothing = free_ports(3)
    ports = {"8080": str(viewer), "8081": str(internal), "5554": str(nothing)}
    environment = {
        **{name: value for name, value in os.environ.items() if name != "CAMFLEET_PORT"},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "https_proxy": "http://127.0.0.1:9",  # no test downloads weights
        "no_proxy": "127.0.0.1",
    }
    running: list[Background] = []
    try:
        for options, block in _FENCE.findall((ROOT / document).read_text()):
            if "notest" in options:
                continue
            if "samples" in options:
                environment["CAMFLEET_SAMPLE_DIR"] = str(sample("people").parent)
                environment["CAMFLEET_MODEL_DIR"] = str(model_dir())
            script = re.sub(r"\b(8080|8081|5554)\b", lambda match: ports[match.group()], block)
            if "background" in options:
                ready = re.search(r"ready=(\S+)", options)
                running.append(start(script, environment, tmp_path, ready.group(1) if ready else "is ready"))
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
            logs = "\n".join(item.text[-3000:] for item in running)
            assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}\n{logs}"
    finally:
        for item in reversed(running):
            item.stop()


def start(script: str, environment: dict[str, str], folder: Path, ready: str) -> Background:
    item = Background(
        subprocess.Popen(
            ["bash", "-c", f"exec {script.strip()}"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    )
    threading.Thread(target=item.read, daemon=True).start()
    eventually(
        lambda: ready in item.text or item.process.poll() is not None, f"{ready!r} from {script}", within=150
    )
    assert item.process.poll() is None, item.text
    return item
