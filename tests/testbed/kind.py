"""The same cluster by kind, where there is a Docker engine: `make cluster` on most people's machines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.testbed import images
from tests.testbed.components import ComponentMissingError, find

NAME = "camfleet"
# The node's port that kind brings to this machine's loopback; the chart's Service of type NodePort has it.
NODE_PORT = 30080

Run = Callable[[Sequence[str]], object]


def missing() -> str | None:
    """Why kind cannot be used here, or None if it can."""
    if shutil.which("kind") is None:
        return "kind is not installed"
    if shutil.which("docker") is None:
        return "docker is not installed"
    asked = subprocess.run(["docker", "info", "--format={{.ID}}"], capture_output=True, check=False)
    return "no Docker engine answers" if asked.returncode != 0 else None


def tool(name: str) -> str:
    """Kubectl or helm: the one that is installed, or ours.

    Raises:
        ComponentMissingError: It is not installed, and cannot be built.
    """
    if found := shutil.which(name):
        return found
    try:
        return str(find(name))
    except ComponentMissingError as error:
        raise ComponentMissingError(f"install {name}, or Go to build it ({error})") from error


def configuration(port: int) -> str:
    """Kind's configuration (JSON is YAML): one node, whose gateway is reached at 127.0.0.1:`port`."""
    mapping = {"containerPort": NODE_PORT, "hostPort": port, "listenAddress": "127.0.0.1", "protocol": "TCP"}
    return json.dumps(
        {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [{"role": "control-plane", "extraPortMappings": [mapping]}],
        }
    )


def references() -> dict[str, str]:
    """The images' names, with a tag made of the working tree's content."""
    return {program: images.planned(program).reference for program in images.PROGRAMS}


def commands_up(folder: Path, kubeconfig: Path) -> list[list[str]]:
    """What makes the cluster and puts the images on it, in this order."""
    named = references()
    create = ["kind", "create", "cluster", f"--name={NAME}", f"--config={folder / 'kind.json'}"]
    root = images.ROOT
    builds = [
        [
            *("docker", "build", f"--file={root / images.PROGRAMS[program] / 'Dockerfile'}"),
            *(f"--tag={reference}", str(root)),
        ]
        for program, reference in named.items()
    ]
    return [
        *builds,
        [*create, f"--kubeconfig={kubeconfig}", "--wait=180s"],
        ["kind", "load", "docker-image", f"--name={NAME}", *named.values()],
    ]


def command_install(values: Path, kubeconfig: Path, chart: Path) -> list[str]:
    """What installs the chart."""
    return [
        *(tool("helm"), "upgrade", "camfleet", str(chart), "--install"),
        *(f"--kubeconfig={kubeconfig}", "--namespace=camfleet", "--create-namespace"),
        *(f"--values={values}", "--wait", "--timeout=300s"),
    ]


def command_down(kubeconfig: Path) -> list[str]:
    """What takes the cluster away."""
    return ["kind", "delete", "cluster", f"--name={NAME}", f"--kubeconfig={kubeconfig}"]


def run(command: Sequence[str]) -> None:
    """Run a command where its output is seen.

    Raises:
        subprocess.CalledProcessError: It fails.
    """
    subprocess.run(list(command), check=True, stdin=subprocess.DEVNULL, env=os.environ)
