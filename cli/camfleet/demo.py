"""`camfleet demo`: a handful of cameras on real input, with nothing to prepare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import click
import yaml

from camfleet.demo_media import PhotoMissingError, make_faces_clip
from camfleet.local import run_local
from camfleet.models import CATALOG, ModelError, fetch
from camfleet.paths import cache_folder, model_folder
from camfleet_operator.local.settings import LocalSettings
from camfleet_protocol.camera import API_VERSION
from camfleet_protocol.logs import LogLevel

_FACES = "yunet"
_MOTION = "motion"


@click.command(name="demo")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where cameras, clips and state go. [default: demo in Camfleet's cache folder]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that viewers connect to.")
@click.option("--port", default=8080, show_default=True, envvar="CAMFLEET_PORT", help="Port of the page.")
@click.option(
    "--log-level",
    type=click.Choice(get_args(LogLevel)),
    default="WARNING",
    show_default=True,
    envvar="CAMFLEET_LOG_LEVEL",
)
@click.option("--tokens-file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def command(
    folder: Path | None,
    host: str,
    port: int,
    log_level: LogLevel,
    tokens_file: Path | None,
) -> None:
    """Show Camfleet at work: faces found in a moving picture, motion in a test pattern, live on a page.

    The cameras are ordinary YAML files in DIR/cameras: change them while it runs, or add your own.
    """
    folder = (folder or cache_folder() / "demo").resolve()
    faces = _weights()
    cameras = prepare(folder, face_detector=faces)
    click.echo(f"Cameras: {cameras}")
    settings = LocalSettings(
        folder=cameras,
        state_dir=folder / "state",
        host=host,
        port=port,
        tokens_file=tokens_file.resolve() if tokens_file else None,
        model_dir=model_folder(),
        media_root=tuple(root for root in (_samples(),) if root),
        log_level=log_level,
    )
    click.get_current_context().exit(run_local(settings))


def _weights() -> bool:
    """Whether face detection can run; downloads its weights if need be."""
    for model in CATALOG:
        try:
            fetch(model, model_folder())
        except ModelError as error:
            click.echo(f"No face detection, motion detection instead: {error}", err=True)
            return False
    return True


def _samples() -> Path | None:
    named = os.environ.get("CAMFLEET_SAMPLE_DIR")
    return Path(named).resolve() if named and Path(named).is_dir() else None


def prepare(folder: Path, *, face_detector: bool) -> Path:
    """Write clips and Camera files that are not there yet; files the user changed stay.

    Args:
        folder: The demo's folder.
        face_detector: Whether the weights for faces are there.

    Returns:
        The folder with the Camera files.
    """
    cameras = folder / "cameras"
    cameras.mkdir(parents=True, exist_ok=True)
    detector = _FACES if face_detector else _MOTION
    _camera(
        cameras, "loading-dock", "yard", {"testPattern": {"width": 1280, "height": 720, "fps": 15}}, _MOTION
    )
    _camera(cameras, "car-park", "yard", {"testPattern": {"width": 640, "height": 480, "fps": 10}}, _MOTION)
    clip = cameras / "media" / "lobby.mp4"
    try:
        if not clip.exists():
            click.echo("Making a clip with faces…")
            make_faces_clip(clip)
        _camera(cameras, "lobby", "front", {"file": {"path": "media/lobby.mp4"}}, detector)
    except PhotoMissingError as error:
        click.echo(f"No camera with generated faces: {error}", err=True)
    if samples := _samples():
        for name, file, wanted in (
            ("street", "people_walking_1080p.mp4", detector),
            ("entrance", "one-by-one-person-detection.mp4", _MOTION),
        ):
            if (samples / file).is_file():
                _camera(cameras, name, "front", {"file": {"path": str(samples / file)}}, wanted)
    return cameras


def _camera(folder: Path, name: str, site: str, source: dict[str, Any], detector: str) -> None:
    path = folder / f"{name}.yaml"
    document = {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {"name": name},
        "spec": {"source": source, "site": site, "inference": {"detectors": [detector]}},
    }
    if not path.exists() or _was_ours(path, document):
        path.write_text(yaml.safe_dump(document, sort_keys=False))


def _was_ours(path: Path, document: dict[str, Any]) -> bool:
    """Whether the file differs from what we would write only in the detector, which follows the weights."""
    try:
        found = yaml.safe_load(path.read_bytes())
        found["spec"]["inference"] = document["spec"]["inference"]
    except (yaml.YAMLError, OSError, TypeError, KeyError):
        return False
    return bool(found == document)
