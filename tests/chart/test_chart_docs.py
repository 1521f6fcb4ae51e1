"""docs/install.md on a real API server: its blocks marked `api` are run. Needs the API level and helm.

What needs Docker, nodes or a browser is marked `notest` alone; the node level covers that way.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helm_chart import CHART
from tests.testbed.components import find
from tests.testbed.control_plane import ControlPlane

from camfleet_gateway.auth import read_tokens

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(480)]

ROOT = CHART.parents[1]


@pytest.fixture
def own_cluster() -> Iterator[ControlPlane]:
    """One of its own: the page installs, and removes, what the whole cluster has once."""
    with ControlPlane() as plane:
        plane.start_controller_manager()
        yield plane


def test_the_installation_page_can_be_followed(own_cluster: ControlPlane, tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```sh notest api\n(.*?)^```$", (ROOT / "docs" / "install.md").read_text(), re.M | re.S
    )
    assert len(blocks) >= 10
    (tmp_path / "charts").symlink_to(ROOT / "charts")
    programs = {Path(sys.executable).parent, find("helm").parent, find("kubectl").parent}
    environment = {
        **os.environ,
        "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
        "KUBECONFIG": str(own_cluster.kubeconfig),
    }
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        if "name: mistake" in block:
            assert "camera.camfleet.io/hello created" in done.stdout
            assert 'Camera "mistake" is invalid' in done.stderr
            assert "credentialsSecretRef" in done.stderr, "the API server says what to do instead"
    assert {entry.name for entry in read_tokens(tmp_path / "tokens.yaml").values()} == {"ops", "wall"}
    assert own_cluster.get("/apis/camfleet.io/v1alpha1/cameras") is None, "everything was removed"
