"""`camfleet operator`, `camfleet gateway` and `camfleet worker`."""

from __future__ import annotations

from typing import Any

import click

from camfleet.options import settings_command
from camfleet.paths import model_folder


def _gateway() -> click.Command:
    from camfleet_gateway.main import run
    from camfleet_gateway.settings import GatewaySettings

    return settings_command(
        "gateway",
        GatewaySettings,
        run,
        help="Run a gateway: workers connect to its internal listener, viewers to the other one.",
    )


def _operator() -> click.Command:
    from camfleet_operator.cluster.main import run
    from camfleet_operator.cluster.settings import OperatorSettings

    return settings_command(
        "operator",
        OperatorSettings,
        run,
        help="Run the operator of a Kubernetes cluster: one worker pod for each Camera.",
    )


def _worker() -> click.Command:
    from camfleet_worker.main import run
    from camfleet_worker.settings import WorkerSettings

    def prepare(given: dict[str, Any]) -> None:
        given.setdefault("model_dir", model_folder())

    return settings_command(
        "worker",
        WorkerSettings,
        run,
        prepare=prepare,
        help="Run one camera's worker: capture, infer, and stream to a gateway. It binds no port.",
    )


def __getattr__(name: str) -> click.Command:
    """Build only the command that is asked for: its program is imported on the way."""
    builders = {"operator": _operator, "gateway": _gateway, "worker": _worker}
    if name not in builders:
        raise AttributeError(name)
    return builders[name]()
