"""The `camfleet` command.

A subcommand's program is imported only when that subcommand runs, so a worker never pays for the gateway and
`--help` pays for neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from camfleet.lazy import LazyGroup
from camfleet_protocol import __version__

# Name → (module, attribute, help for the list).
_COMMANDS = {
    "local": ("camfleet.local", "command", "Run all cameras of a folder on this machine."),
    "demo": ("camfleet.demo", "command", "Show Camfleet at work on generated and sample cameras."),
    "operator": ("camfleet.programs", "operator", "Run the operator of a Kubernetes cluster."),
    "gateway": ("camfleet.programs", "gateway", "Run a gateway."),
    "worker": ("camfleet.programs", "worker", "Run one camera's worker."),
    "validate": ("camfleet.local", "validate", "Check Camera and CameraProfile YAML files."),
    "models": ("camfleet.models", "command", "Download and check model weights."),
    "eval": ("camfleet.evaluation.command", "command", "Measure face recognition on your own pictures."),
    "token": ("camfleet.tokens", "command", "Make tokens for viewers and for workers run by hand."),
    "kubectl": ("camfleet.kubectl.main", "cli", "Look after a cluster's cameras; also `kubectl camfleet`."),
}


@click.group(
    cls=LazyGroup,
    table=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="camfleet")
def cli() -> None:
    """Run a fleet of cameras: capture, inference and live pictures, one worker per camera.

    Start with `camfleet demo`, or put Camera YAML files into a folder and run `camfleet local FOLDER`.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    try:
        cli(args=arguments, prog_name="camfleet")
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise SystemExit(
            f"camfleet: this command needs {error.name}; install it with: pip install 'camfleet[{extra}]'"
        ) from None


_EXTRAS = {
    "av": "worker",
    "cv2": "worker",
    "numpy": "worker",
    "onnxruntime": "worker",
    "fastapi": "gateway",
    "uvicorn": "gateway",
    "uvloop": "gateway",
    "prometheus_client": "gateway",
    "websockets": "worker",
    "aiohttp": "operator",
    "kopf": "operator",
    "kubernetes": "operator",
    "watchfiles": "operator",
    "yaml": "operator",
    "insightface": "insightface",
}
