"""The command `kubectl camfleet`, and `camfleet kubectl` where kubectl is not at hand.

kubectl finds `kubectl-camfleet` on the PATH. Help imports neither the Kubernetes client nor pydantic.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from camfleet.kubectl.target import Target, cluster_options
from camfleet.lazy import LazyGroup
from camfleet_protocol import __version__

_COMMANDS = {
    "status": ("camfleet.kubectl.status", "command", "Who is not ready, why, and what is done about it."),
    "explain": ("camfleet.kubectl.explain", "command", "The evidence behind a camera's verdict and move."),
    "move": ("camfleet.kubectl.move", "command", "Ask for a worker on another node."),
    "pause": ("camfleet.kubectl.pause", "pause", "Let nothing be moved for the sake of health."),
    "resume": ("camfleet.kubectl.pause", "resume", "End a pause."),
    "logs": ("camfleet.kubectl.logs", "command", "The worker's log, or the operator's about a camera."),
    "watch": ("camfleet.kubectl.watch", "command", "The live picture, in a browser or as files."),
    "report": ("camfleet.kubectl.report", "command", "A support bundle without secrets."),
}


@click.group(
    cls=LazyGroup,
    table=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="kubectl camfleet")
@cluster_options
def cli(target: Target) -> None:
    """Look after a fleet of cameras in a Kubernetes cluster.

    A CAMERA is NAME, in the namespace of -n or of the context, or NAMESPACE/NAME.

    Exit codes: 0 all is well, 1 something is not (a camera is not ready, a move did not happen), 2 the
    cluster could not be asked.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    name = "kubectl camfleet"
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Without arguments: help, on standard output, as kubectl does it.
        cli(args=given or ["--help"], prog_name=name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("kubernetes", "yaml", "websockets", "urllib3"):
            raise
        raise SystemExit(
            f"{name}: this needs {error.name}; install it with: pip install 'camfleet[kubectl]'"
        ) from None
