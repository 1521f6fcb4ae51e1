"""`camfleet models`: weights, downloaded once from their upstream and checked by SHA-256."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import click

from camfleet.paths import model_folder

_CHUNK = 64 * 1024
_TIMEOUT_SECONDS = 15.0
_MAX_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Model:
    """One file of weights, pinned to a commit of its upstream repository."""

    file: str
    job: str
    repository: str
    path: str
    commit: str
    sha256: str
    license: str
    note: str = ""
    """What whoever downloads it must know."""

    @property
    def url(self) -> str:
        """Address of the file at the pinned commit."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


YUNET, MOBILEFACENET, YOLOX = "yunet_n_dynamic.onnx", "mobilefacenet.onnx", "yolox_nano.onnx"
"""Names of the files."""

_YUNET = Model(
    file=YUNET,
    job="face detection",
    repository="ShiqiYu/libfacedetection.train",
    path="onnx/yunet_n_dynamic.onnx",
    commit="0047ac24afb1a50a0c6105001c89d1b5b805dbf1",
    sha256="104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
    license="Apache-2.0",
)
_MOBILEFACENET = Model(
    file=MOBILEFACENET,
    job="face embedding",
    repository="foamliu/MobileFaceNet",
    path="weights/MobileFaceNet.onnx",
    commit="a6cc9032a659b615f477833e1a70b5e7931bcccc",
    sha256="b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
    license="Apache-2.0",
    note=(
        "mobilefacenet.onnx was trained on MS-Celeb-1M, pictures of people who were not asked; its publisher "
        "has withdrawn that set. Whether you may use what was learnt from it is for you to decide."
    ),
)
_YOLOX = Model(
    file=YOLOX,
    job="object detection",
    repository="Kazuhito00/YOLOX-ONNX-TFLite-Sample",
    path="model/yolox_nano.onnx",
    commit="3d4f1119d0694200671c08069ecb847aa0d8495a",
    sha256="695e750a5d5754bb5a8d5325643b59282191a7e7a564e435a415fd3c578eab14",
    license="Apache-2.0",
)
CATALOG = (_YUNET, _MOBILEFACENET, _YOLOX)


class ModelError(RuntimeError):
    """Weights that could not be had; the text says why."""


def is_present(model: Model, folder: Path) -> bool:
    """Whether the file is there and is the very one that is pinned."""
    path = folder / model.file
    return path.is_file() and _digest(path) == model.sha256


def fetch(model: Model, folder: Path, *, mirror: str | None = None, progress: bool = True) -> Path:
    """Download one file unless it is there, check it, and put it in place whole.

    Args:
        model: What to fetch.
        folder: Where to; made if it is missing.
        mirror: Base address that holds the files by name, instead of the upstream.
        progress: Whether to draw a progress bar on standard error.

    Raises:
        ModelError: Not reachable, or not the file that is pinned. Nothing is left behind.
    """
    target = folder / model.file
    if is_present(model, folder):
        return target
    url = f"{mirror.rstrip('/')}/{model.file}" if mirror else model.url
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{model.file}.")
    except OSError as error:
        raise ModelError(f"{folder} cannot be written: {error.strerror}") from None
    os.close(descriptor)
    part = Path(temporary)
    try:
        _download(url, part, label=model.file, progress=progress)
        found = _digest(part)
        if found != model.sha256:
            raise ModelError(f"{url} is not the pinned file: SHA-256 {found}, expected {model.sha256}")
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _download(url: str, target: Path, *, label: str, progress: bool) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer, target.open("wb") as file:
            size = int(answer.headers.get("Content-Length") or 0)
            if size > _MAX_BYTES:
                raise ModelError(f"{url} announces {size} bytes, at most {_MAX_BYTES} are taken")
            taken = 0
            with click.progressbar(  # type: ignore[var-annotated]
                length=size or None, label=label, file=sys.stderr, hidden=not progress
            ) as bar:
                while chunk := answer.read(_CHUNK):
                    taken += len(chunk)
                    if taken > _MAX_BYTES:
                        raise ModelError(f"{url} is larger than {_MAX_BYTES} bytes")
                    file.write(chunk)
                    bar.update(len(chunk))
            if size and taken != size:
                raise ModelError(f"{url} ended after {taken} of {size} bytes")
    except urllib.error.HTTPError as error:
        raise ModelError(f"{url} answered {error.code}") from None
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ModelError(f"{url} cannot be reached: {reason}") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@click.group()
def command() -> None:
    """Download and check model weights."""


@command.command(name="fetch")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Where to put them.")
@click.option("--mirror", metavar="URL", help="Take the files from here, by name, instead of the upstream.")
def fetch_command(folder: Path | None, mirror: str | None) -> None:
    """Download all weights that Camfleet uses, once, and check them."""
    folder = folder or model_folder()
    for model in CATALOG:
        try:
            path = fetch(model, folder, mirror=mirror)
        except ModelError as error:
            raise click.ClickException(str(error)) from None
        click.echo(f"{path}  ({model.job}, {model.license})")
        if model.note:
            click.echo(f"  {model.note}")


@command.command(name="list")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Where they are.")
def list_command(folder: Path | None) -> None:
    """List the weights that Camfleet knows, and whether they are here."""
    folder = folder or model_folder()
    for model in CATALOG:
        state = "present" if is_present(model, folder) else "missing"
        click.echo(f"{state}  {model.file}  {model.job}  {model.license}  {model.url}")
        if model.note:
            click.echo(f"         {model.note}")
