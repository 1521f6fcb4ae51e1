"""`camfleet local` and `camfleet validate`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from pathlib import Path
from typing import Any

import click

from camfleet.options import settings_command
from camfleet.paths import model_folder, state_folder
from camfleet_operator.local.folder import CameraFolder
from camfleet_operator.local.readiness import GatewayAddress, streaming_cameras
from camfleet_operator.local.settings import LocalSettings
from camfleet_operator.local.supervisor import LocalRuntimeError, Supervisor
from camfleet_protocol.logs import configure_logging

logger = logging.getLogger(__name__)

_FIRST_PICTURES_SECONDS = 10.0


def run_local(settings: LocalSettings) -> int:
    """Run a folder of cameras until Ctrl-C or SIGTERM. Returns the exit code."""
    configure_logging(settings.log_level, settings.log_format)
    try:
        asyncio.run(_run(settings))
    except LocalRuntimeError as error:
        click.echo(f"camfleet: {error}", err=True)
        return 1
    return 0


async def _run(settings: LocalSettings) -> None:
    supervisor = Supervisor(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if stop.is_set():
            supervisor.kill()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    announcements: list[asyncio.Task[None]] = []

    def ready(address: GatewayAddress, cameras: int) -> None:
        announcements.append(loop.create_task(_announce(address, cameras), name="announce"))

    try:
        await supervisor.run(stop, ready)
    finally:
        for task in announcements:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _announce(address: GatewayAddress, cameras: int) -> None:
    """Say the address once the cameras stream, or after a while with how many do."""
    deadline = time.monotonic() + _FIRST_PICTURES_SECONDS
    streaming = 0
    while time.monotonic() < deadline:
        streaming = await asyncio.to_thread(streaming_cameras, address)
        if streaming >= cameras:
            break
        await asyncio.sleep(0.25)
    click.echo(f"Camfleet is ready: {address.viewer_url}")
    click.echo(f"  {streaming} of {cameras} cameras are streaming; Ctrl-C stops everything")


def _prepare(given: dict[str, Any]) -> None:
    folder = Path(given["folder"])
    if not folder.is_dir():
        raise click.UsageError(f"{folder} is not a folder")
    given["folder"] = folder.resolve()
    if given.get("state_dir") is None:
        given["state_dir"] = state_folder(folder)
    given["state_dir"] = Path(given["state_dir"]).resolve()
    if given.get("model_dir") is None:
        given["model_dir"] = model_folder()


command = settings_command(
    "local",
    LocalSettings,
    run_local,
    arguments=("folder",),
    prepare=_prepare,
    help=(
        "Run all cameras of FOLDER on this machine: a gateway, and one worker process per Camera.\n\n"
        "Files may be added, changed and removed at any time. Credentials are read from "
        "FOLDER/secrets/NAME/username and …/password, where NAME is the camera's credentialsSecretRef."
    ),
)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def validate(folder: Path) -> None:
    """Check the Camera and CameraProfile YAML files of FOLDER; exits with 1 if any is wrong."""
    content = CameraFolder(folder).read()
    for problem in content.problems:
        click.echo(str(problem), err=True)
    others = f"; {content.foreign} objects of other kinds left alone" if content.foreign else ""
    click.echo(f"{len(content.cameras)} cameras, {len(content.profiles)} profiles{others}")
    click.get_current_context().exit(1 if content.problems else 0)
