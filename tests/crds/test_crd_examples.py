"""The examples for Kubernetes are taken by a real API server, and by `camfleet validate`.

Needs an API server.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.testbed.control_plane import ControlPlane

from camfleet_operator.local.folder import CameraFolder

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "kubernetes"
FILES = sorted(path.name for path in EXAMPLES.glob("*.yaml"))
EXPECTED = {
    "file-on-a-volume.yaml",
    "mig-slice.yaml",
    "rtsp-with-secret.yaml",
    "site-profile.yaml",
    "specialised-worker.yaml",
    "suspended.yaml",
    "test-pattern.yaml",
}


@pytest.mark.cluster
@pytest.mark.parametrize("arguments", [(), ("--server-side",)], ids=["apply", "server-side"])
@pytest.mark.parametrize("name", FILES)
def test_the_api_server_takes_it(plane: ControlPlane, name: str, arguments: tuple[str, ...]) -> None:
    documents = list(yaml.safe_load_all((EXAMPLES / name).read_text()))
    printed = plane.kubectl(
        "apply", "--dry-run=server", "--validate=strict", *arguments, "-f", str(EXAMPLES / name)
    )
    for document in documents:
        assert f"/{document['metadata']['name']} " in printed
    assert len(printed.splitlines()) == len(documents) and "Warning" not in printed


def test_all_are_there_and_valid() -> None:
    assert EXPECTED <= set(FILES)
    content = CameraFolder(EXAMPLES).read()
    assert content.problems == ()
    assert len(content.cameras) >= len(FILES)
    assert content.foreign >= 2, "a Secret and a claim"


@pytest.mark.parametrize("name", FILES)
def test_it_begins_with_what_it_is_for(name: str) -> None:
    assert (EXAMPLES / name).read_text().startswith("# ")
