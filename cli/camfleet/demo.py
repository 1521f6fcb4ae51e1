"""`camfleet demo`: a handful of cameras on real input, with nothing to prepare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import click
import yaml

from camfleet.demo_media import PhotoMissingError, make_faces_clip
from camfleet.local import run_local
from camfleet.models import CATALOG, MOBILEFACENET, YOLOX, YUNET, ModelError, fetch
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        cameras = prepare(folder, weights=_weights())
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be used: {error.strerror}") from None
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


def _weights() -> frozenset[str]:
    """Names of the weights that are there; downloads them if need be."""
    there: set[str] = set()
    for model in CATALOG:
        try:
            fetch(model, model_folder())
        except ModelError as error:
            instead = ", motion detection instead" if model.file == YUNET else ""
            click.echo(f"No {model.job}{instead}: {error}", err=True)
            if not there:
                break  # without the first there is no network, or no point
        else:
            there.add(model.file)
    return frozenset(there)


def _samples() -> Path | None:
    named = os.environ.get("CAMFLEET_SAMPLE_DIR")
    return Path(named).resolve() if named and Path(named).is_dir() else None


def prepare(folder: Path, *, weights: frozenset[str]) -> Path:
    """Write clips and Camera files that are not there yet; files the user changed stay.

    Args:
        folder: The demo's folder.
        weights: Names of the weights that are there.

    Returns:
        The folder with the Camera files.
    """
    cameras = folder / "cameras"
    cameras.mkdir(parents=True, exist_ok=True)
    motion = {"inference": {"detectors": [_MOTION]}}
    faces = {"inference": {"detectors": [_FACES]}} if YUNET in weights else motion
    people = _recognised() if {YUNET, MOBILEFACENET} <= weights else faces
    persons = _persons() if YOLOX in weights else motion
    _camera(
        cameras, "loading-dock", "yard", {"testPattern": {"width": 1280, "height": 720, "fps": 15}}, motion
    )
    _camera(cameras, "car-park", "yard", {"testPattern": {"width": 640, "height": 480, "fps": 10}}, motion)
    clip = cameras / "media" / "lobby.mp4"
    try:
        if not clip.exists():
            click.echo("Making a clip with faces…")
            make_faces_clip(clip)
        _camera(cameras, "lobby", "front", {"file": {"path": "media/lobby.mp4"}}, people)
    except PhotoMissingError as error:
        click.echo(f"No camera with generated faces: {error}", err=True)
    if samples := _samples():
        for name, file, wanted in (
            ("street", "people_walking_1080p.mp4", faces),
            ("entrance", "one-by-one-person-detection.mp4", persons),
        ):
            if (samples / file).is_file():
                _camera(cameras, name, "front", {"file": {"path": str(samples / file)}}, wanted)
    return cameras


def _recognised() -> dict[str, Any]:
    """Faces compared with whoever is enrolled on the page."""
    return {
        "inference": {"detectors": [_FACES], "faceRecognition": {"enabled": True}},
        "privacy": {"retentionDays": 1},
    }


def _persons() -> dict[str, Any]:
    """Persons, and whether they stay at the door."""
    door = [[0.3, 0.2], [0.7, 0.2], [0.7, 1.0], [0.3, 1.0]]
    return {
        "inference": {
            "detectors": ["yolox"],
            "confidence": 0.4,
            "detectorOptions": [{"name": "yolox", "fps": 3.0, "classes": ["person"]}],
            "zones": [{"name": "door", "points": door, "dwellSeconds": 2}],
        },
        "alerts": [{"name": "somebody-at-the-door", "when": "InZone", "zone": "door"}],
    }


def _camera(folder: Path, name: str, site: str, source: dict[str, Any], wanted: dict[str, Any]) -> None:
    path = folder / f"{name}.yaml"
    document = {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {"name": name},
        "spec": {"source": source, "site": site, **wanted},
    }
    if not path.exists() or _was_ours(path, document):
        path.write_text(yaml.safe_dump(document, sort_keys=False))


def _was_ours(path: Path, document: dict[str, Any]) -> bool:
    """Whether the file differs from what we would write only in what follows the weights."""
    followers = ("inference", "privacy", "alerts")
    try:
        found = yaml.safe_load(path.read_bytes())
        kept = {name: value for name, value in found["spec"].items() if name not in followers}
        wanted = {name: value for name, value in document["spec"].items() if name in followers}
        found["spec"] = {**kept, **wanted}
    except (yaml.YAMLError, OSError, TypeError, KeyError):
        return False
    return bool(found == document)
