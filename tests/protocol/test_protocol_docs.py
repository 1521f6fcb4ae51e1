"""docs/protocol.md says what the code does, and its example script works against a real gateway."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from camfleet_protocol import messages, wire
from camfleet_protocol.detections import Detection, FrameMeta
from support.fleet import running_fleet
from support.require import ROOT

TEXT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The one fenced block of this language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def test_worked_example_is_the_vector() -> None:
    vectors = json.loads((ROOT / "tests" / "vectors" / "camera_v1.json").read_text(encoding="utf-8"))
    (vector,) = (case for case in vectors["frames"] if case["name"] == "smallest picture meta")
    digits = [re.split(" {2,}", line)[0] for line in block("hex").splitlines()]
    assert bytes.fromhex(" ".join(digits)).hex() == vector["whole"]
    assert f"camera {vector['camera_id']}, seq {vector['seq']}" in TEXT


@pytest.mark.parametrize(
    "model",
    [
        model
        for _, model in inspect.getmembers(messages, inspect.isclass)
        if issubclass(model, messages.Message) and model is not messages.Message
    ]
    + [Detection, FrameMeta],
    ids=lambda model: model.__name__,
)
def test_every_op_and_field_is_described(model: type[messages.Message]) -> None:
    for name, field in model.model_fields.items():
        word = field.default if name == "op" else name
        assert f"`{word}`" in TEXT, f"{model.__name__}.{name}"


def test_every_fault_and_number_is_described() -> None:
    for fault in [*wire.WireFault, *messages.ControlFault]:
        assert f"`{fault.value}`" in TEXT
    for state in [*messages.CameraState, *messages.SourceState]:
        assert f"`{state.value}`" in TEXT
    assert f"`{wire.HEADER.format}`" in TEXT and wire.SUBPROTOCOL in TEXT


@pytest.mark.e2e
def test_minimal_viewer_sees_pictures(tmp_path: Path) -> None:
    script = tmp_path / "viewer.py"
    script.write_text(block("python"), encoding="utf-8")
    camera = {
        "source": {"testPattern": {"width": 640, "height": 360, "fps": 10}},
        "inference": {"detectors": ["motion"]},
    }
    with running_fleet(tmp_path, cameras={"lobby": camera}) as fleet:
        done = subprocess.run(
            [sys.executable, str(script), fleet.url.replace("http", "ws", 1), "default.lobby", "5"],
            capture_output=True,
            text=True,
            timeout=150,
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    pictures = [re.fullmatch(r"#(\d+): 640 x 360, (\d+) bytes, (\d+) ms old: .*", line) for line in lines]
    numbers = [int(found[1]) for found in pictures if found]
    assert len(numbers) == 5 and numbers == sorted(set(numbers))
