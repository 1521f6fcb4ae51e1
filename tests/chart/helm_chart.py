"""The chart and Helm, as the tests of this folder use them."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.testbed.components import KUBERNETES_VERSION

CHART = Path(__file__).resolve().parents[2] / "charts" / "camfleet"
VALUES_FILES = sorted((CHART / "ci").glob("*-values.yaml"))

Object = dict[str, Any]


class HelmError(Exception):
    """Helm refused; the text is what a user sees."""


@dataclass(frozen=True)
class Helm:
    """Helm, towards a cluster or towards none."""

    program: Path
    kubeconfig: Path | None = None

    def __call__(self, *arguments: str | Path) -> str:
        """Run it and return its output."""
        cluster = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        done = subprocess.run(
            [self.program, *cluster, *arguments], capture_output=True, text=True, timeout=110, check=False
        )
        if done.returncode != 0:
            raise HelmError(done.stderr + done.stdout)
        assert done.stderr == "", done.stderr
        return done.stdout

    def template(
        self, *arguments: str | Path, values: Mapping[str, Any] | None = None, release: str = "camfleet"
    ) -> list[Object]:
        """The objects that the chart renders to, in namespace `cameras`."""
        given = [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
        text = self(
            "template",
            release,
            CHART,
            "--namespace=cameras",
            f"--kube-version={KUBERNETES_VERSION}",
            *given,
            *arguments,
        )
        return [document for document in yaml.safe_load_all(text) if document]


def find_object(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of this kind and name."""
    (found,) = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def decode(data: str) -> str:
    """A value of a Secret."""
    return base64.b64decode(data).decode()
