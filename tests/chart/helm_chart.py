"""The chart and Helm, as the tests of this folder use them."""

from __future__ import annotations

import base64
import functools
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml
from click.testing import CliRunner
from tests.testbed.components import KUBERNETES_VERSION

from camfleet.options import settings_command

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
            [self.program, *cluster, *arguments], capture_output=True, text=True, timeout=200, check=False
        )
        if done.returncode != 0:
            raise HelmError(done.stderr + done.stdout)
        assert done.stderr == "", done.stderr
        return done.stdout

    def template(
        self,
        *arguments: str | Path,
        values: Mapping[str, Any] | None = None,
        release: str = "camfleet",
        again: bool = False,
    ) -> list[Object]:
        """The objects that the chart renders to, in namespace `cameras`; rendered once, unless `again`."""
        given = [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
        version = f"--kube-version={KUBERNETES_VERSION}"
        line = ("template", release, CHART, "--namespace=cameras", version, *given, *arguments)
        text = self(*line) if again else _once(self, *line)
        return [document for document in yaml.load_all(text, _Loader) if document]


@functools.cache
def _once(helm: Helm, *line: str | Path) -> str:
    return helm(*line)


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def find_object(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of this kind and name."""
    (found,) = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def decode(data: str) -> str:
    """A value of a Secret."""
    return base64.b64decode(data).decode()


def pod_of(objects: list[Object], kind: str) -> Object:
    """The pod template of a program's Deployment."""
    (found,) = [
        o
        for o in objects
        if o["kind"] == "Deployment" and o["metadata"]["labels"]["app.kubernetes.io/component"] == kind
    ]
    template: Object = found["spec"]["template"]
    return template


def container_of(objects: list[Object], kind: str) -> Object:
    """The one container of a program's pod."""
    (container,) = pod_of(objects, kind)["spec"]["containers"]
    return dict(container)


def parse(model: Any, arguments: list[str]) -> Any:
    """What the program would make of its arguments."""
    seen: list[Any] = []

    def run(settings: Any) -> int:
        seen.append(settings)
        return 0

    command: click.Command = settings_command("program", model, run)
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return seen[0]
