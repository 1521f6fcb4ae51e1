"""`kubectl camfleet watch`: the live picture of one camera, in a browser or as files.

The way there is a port-forward to a gateway pod, so it takes no Ingress. The token is one that the person
has, or the one that the chart made; it is never printed, and in no process's arguments.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO

import click

from camfleet.kubectl.cluster import Cluster, Json
from camfleet.kubectl.errors import Missing, Problem, Refused, Unreachable
from camfleet.kubectl.evidence import Tools
from camfleet.kubectl.fleet import CameraView, find_cameras
from camfleet.kubectl.forward import PortForward
from camfleet.kubectl.installation import (
    VIEWER_PORT,
    Installation,
    container_port,
    find_installation,
    running,
)
from camfleet.kubectl.signin import SignIn, camera_url
from camfleet.kubectl.target import Target, cluster_options, output_option
from camfleet_protocol.redaction import redact

TOKEN_VARIABLE = "CAMFLEET_VIEWER_TOKEN"
_TOKENS_VOLUME = "tokens"
_TOKEN_KEY = "admin-token"
_FRAMES = 10


@click.command()
@click.argument("camera")
@click.option("--url", "only_url", is_flag=True, help="Print the page's address, and keep it reachable.")
@click.option(
    "--dump", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Write JPEGs to DIR."
)
@click.option(
    "--frames", type=click.IntRange(1), default=_FRAMES, show_default=True, help="With --dump: so many."
)
@click.option("--annotated", is_flag=True, help="With --dump: boxes drawn into the pictures.")
@click.option(
    "--gateway", "address", metavar="URL", help="Its address, if it is to be reached without a port-forward."
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.File("r"),
    help=f"A viewer's token; - is standard input. Else ${TOKEN_VARIABLE}, else the Secret of the chart.",
)
@output_option
@cluster_options
@click.pass_context
def command(
    context: click.Context,
    camera: str,
    only_url: bool,
    dump: Path | None,
    frames: int,
    annotated: bool,
    address: str | None,
    token_file: IO[str] | None,
    output: str,
    target: Target,
) -> None:
    """Open the live picture of CAMERA in a browser, or write pictures to files and print what was found.

    The browser is signed in through a page on this machine that can be used once; --url prints the address
    and leaves signing in to you. Ctrl-C ends it.

    Exit codes: 0 done; 1 no picture came; 2 cluster or gateway could not be asked.
    """
    if only_url and dump:
        raise click.UsageError("--url and --dump exclude each other")
    cluster = Cluster.connect(target)
    (view,) = find_cameras(cluster, target, [camera])
    installation = None if address else find_installation(cluster, target)
    token = "" if only_url else _token(cluster, target, installation, token_file)
    tools = context.find_object(Tools) or Tools()
    with _ending_in_order(), _gateway(target, installation, address) as (base, forward):
        if dump is not None:
            _dump(base, view, token, dump, frames, annotated, output)
        elif only_url:
            click.echo(camera_url(base, view.key))
            if forward is not None:
                click.echo("sign in with a token of the gateway; Ctrl-C ends the port-forward", err=True)
                _stay(forward)
        else:
            _browse(base, view, token, forward, tools)


def _browse(base: str, view: CameraView, token: str, forward: PortForward | None, tools: Tools) -> None:
    browse = tools.browse or webbrowser.open
    if forward is None:
        # Another origin: nothing of ours can sign the browser in there.
        url = camera_url(base, view.key)
        click.echo(f"{url}\nsign in with a token of the gateway", err=True)
        if not browse(url):
            raise Problem("no browser could be opened", "open the address above yourself")
        return
    with SignIn(("127.0.0.1", forward.port), view.key, token) as signin:
        if browse(signin.file.as_uri()):
            click.echo(f"watching {view.id} at {signin.url}, signed in; Ctrl-C ends it", err=True)
        else:
            click.echo(f"no browser could be opened; open {signin.file} in one, it signs in, once", err=True)
        _stay(forward)


def _stay(forward: PortForward) -> None:
    forward.ended.wait()
    raise Unreachable(f"the port-forward ended: {forward.problem}")


def _dump(
    base: str, view: CameraView, token: str, folder: Path, frames: int, annotated: bool, output: str
) -> None:
    from camfleet.kubectl.frames import pictures

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number, picture in enumerate(pictures(base, view.key, token, annotated=annotated), 1):
            file = folder / f"{view.key}-{picture.seq}.jpg"
            file.write_bytes(picture.jpeg)
            found = [d.model_dump(mode="json", exclude_none=True) for d in picture.meta.detections]
            when = datetime.fromtimestamp(picture.captured, UTC).isoformat(timespec="milliseconds")
            if output == "json":
                entry = {
                    "file": str(file),
                    "seq": picture.seq,
                    "captured": when.replace("+00:00", "Z"),
                    "width": picture.meta.width,
                    "height": picture.meta.height,
                    "detections": found,
                }
                click.echo(json.dumps(entry))
            else:
                said = ", ".join(f"{d.label} {d.score:.0%} at {_box(d.box)}" for d in picture.meta.detections)
                size = f"{picture.meta.width}x{picture.meta.height}, {len(picture.jpeg) / 1000:.1f} kB"
                click.echo(f"{file}: {size}, {picture.age * 1000:.0f} ms old: {said or 'nothing found'}")
            if number >= frames:
                return
    except OSError as error:
        raise Problem(f"{folder} cannot be written to: {error.strerror}") from None


def _box(box: tuple[float, float, float, float]) -> str:
    left, top, width, height = (round(value * 100) for value in box)
    return f"{left},{top} {width}x{height} %"


@contextmanager
def _gateway(
    target: Target, installation: Installation | None, address: str | None
) -> Iterator[tuple[str, PortForward | None]]:
    if address or installation is None:
        if not (address or "").startswith(("http://", "https://")):
            raise click.UsageError("--gateway is an address with http:// or https://")
        yield str(address), None
        return
    pods = running(installation.gateways)
    if not pods:
        raise Problem(f"no gateway runs in namespace {installation.namespace}")
    pod = pods[0]
    port = container_port(pod, "http", VIEWER_PORT)
    with PortForward(target, installation.namespace, str(pod["metadata"]["name"]), port) as forward:
        yield f"http://127.0.0.1:{forward.port}", forward


def _token(cluster: Cluster, target: Target, installation: Installation | None, file: IO[str] | None) -> str:
    """A viewer's token: one's own, or that of the chart's Secret."""
    if file is not None:
        token = file.read().strip()
    elif own := os.environ.get(TOKEN_VARIABLE):
        token = own.strip()
    else:
        token = _secret_token(cluster, installation or find_installation(cluster, target))
    if not token or not token.isprintable() or not token.isascii():
        raise Problem("what was given is no token", "a token is one line, cft_…")
    redact.add_secret(token)
    return token


def _secret_token(cluster: Cluster, installation: Installation) -> str:
    own = f"give a token of your own with --token-file or ${TOKEN_VARIABLE}"
    name = next((n for pod in installation.gateways if (n := _secret_of(pod))), "")
    if not name:
        raise Problem("no gateway pod says which Secret has the tokens", own)
    try:
        secret = cluster.get(f"/api/v1/namespaces/{installation.namespace}/secrets/{name}")
        encoded = (secret.get("data") or {})[_TOKEN_KEY]
        return base64.b64decode(encoded).decode().strip()
    except Missing:
        raise Problem(f"there is no Secret {installation.namespace}/{name}", own) from None
    except Refused as error:
        raise Problem(f"the gateway's token cannot be read: {error.message}", own) from None
    except (KeyError, binascii.Error, UnicodeDecodeError):
        raise Problem(f"Secret {installation.namespace}/{name} has no {_TOKEN_KEY}", own) from None


def _secret_of(pod: Json) -> str:
    for volume in pod["spec"].get("volumes") or ():
        if volume.get("name") == _TOKENS_VOLUME:
            return str((volume.get("secret") or {}).get("secretName") or "")
    return ""


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the port-forward as well, and are no error of ours."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
