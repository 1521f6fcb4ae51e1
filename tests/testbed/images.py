"""The three images, built without Docker: the same Dockerfiles, read by buildah.

There is no registry: the base image is made by debootstrap and bears the name that the Dockerfiles ask for,
and Python packages come from a folder of wheels that this machine's own pip has filled (with whatever index,
proxy and certificates it is set up for) and checked against the lock files' hashes.

Everything is kept in the user's cache folder. An image is named by the content of the files that go into it,
so an unchanged tree is not built again, and a changed one gets a new tag that makes Kubernetes roll it out.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.components import cache_folder

ROOT = Path(__file__).resolve().parents[2]
BASE = "docker.io/library/debian:bookworm-slim"
SUITE = "bookworm"
PYTHON = "3.11"  # Debian bookworm's
# Folder of the Dockerfile and the lock file of each image; the image has the key's name.
PROGRAMS = {"operator": "operator", "gateway": "gateway", "worker": "worker_image"}
# What each Dockerfile copies for the wheel of Camfleet, besides its own folder.
_COMMON = ("pyproject.toml", "requirements-build.lock", "README.md", "LICENSE", "protocol", "cli")
_MORE = {"gateway": ("worker_image",)}
_NOT_COPIED = {"Dockerfile", "requirements.lock"}
# What a Debian image leaves out to be "slim".
_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian")
_SLIM_CLEAN = ("var/cache/apt", "var/lib/apt/lists", "var/log", "var/cache/debconf", "var/cache/ldconfig")
_DATE = 1577836800  # 2020
_KEEP_ARCHIVES = 3  # of each program

Report = Callable[[str], None]


class ImageError(Exception):
    """An image cannot be built here; the text says what would help, or how the build ended."""


@dataclass(frozen=True, slots=True)
class Image:
    """One built image.

    Attributes:
        program: `operator`, `gateway` or `worker`.
        reference: Its name with a tag made of its content.
        archive: A file that `docker load` and `ctr images import` read.
    """

    program: str
    reference: str
    archive: Path


def missing() -> str | None:
    """Why images cannot be built here, or None if they can."""
    if os.geteuid() != 0:
        return "building images without Docker needs root"
    absent = [name for name in ("buildah", "debootstrap", "unshare") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def build(programs: Sequence[str] = tuple(PROGRAMS), report: Report = print) -> dict[str, Image]:
    """Build what is not in the cache, and return the images by program.

    Raises:
        ImageError: A build fails, or a tool for it is missing.
    """
    with _snapshot(programs) as tree:
        images = {program: planned(program, tree) for program in programs}
        if all(image.archive.is_file() for image in images.values()):
            return images
        if why := missing():
            raise ImageError(why)
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock"):
            builder = _Builder(folder, tree, report)
            for image in images.values():
                if not image.archive.is_file():
                    builder.build(image)
                    _forget_old(image)
        return images


def planned(program: str, tree: Path = ROOT) -> Image:
    """The image that the working tree (or a copy of it) makes, whether it is built or not."""
    digest = hashlib.sha256(f"{PROGRAMS[program]} {BASE} {platform.machine()}".encode())
    for file in inputs(program, tree):
        digest.update(f"\0{file.relative_to(tree)}\0".encode())
        digest.update(file.read_bytes())
    key = digest.hexdigest()[:12]
    return Image(program, f"{repository(program)}:dev-{key}", _folder() / f"{program}-{key}.tar")


def repository(program: str) -> str:
    """The image's name without a tag."""
    return f"ghcr.io/camfleet/{program}"


def inputs(program: str, tree: Path = ROOT) -> list[Path]:
    """All files that go into an image, in a fixed order."""
    folder = tree / PROGRAMS[program]
    found = [tree / ".dockerignore", folder / "Dockerfile", folder / "requirements.lock"]
    for name in (*_COMMON, PROGRAMS[program], *_MORE.get(program, ())):
        path = tree / name
        found += [
            file
            for file in ([path] if path.is_file() else sorted(path.rglob("*")))
            if file.is_file() and "__pycache__" not in file.parts and file.name not in _NOT_COPIED
        ]
    return found


@contextlib.contextmanager
def _snapshot(programs: Sequence[str]) -> Iterator[Path]:
    """A copy of what goes into the images: the tree may be edited meanwhile.

    All of it bears one date, so that the copy of an unchanged file is the same to the builder.
    """
    with tempfile.TemporaryDirectory(prefix="camfleet-tree-") as temporary:
        tree = Path(temporary)
        for file in {file for program in programs for file in inputs(program)}:
            copy = tree / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        for path in tree.rglob("*"):
            os.utime(path, (_DATE, _DATE))
        yield tree


class _Builder:
    """buildah with storage of its own; one at a time."""

    def __init__(self, folder: Path, tree: Path, report: Report) -> None:
        self._folder = folder
        self._tree = tree
        self._report = report
        self._wheels = folder / "wheels"

    def build(self, image: Image) -> None:
        """Build, and write the archive."""
        started = time.monotonic()
        self._ensure_base()
        self._ensure_wheels(PROGRAMS[image.program])
        self._report(f"Building the {image.program} image …")
        with tempfile.TemporaryDirectory(prefix="camfleet-images-") as temporary:
            pip = Path(temporary) / "pip.conf"
            pip.write_text(
                "[global]\nno-index = true\nfind-links = /wheels\ndisable-pip-version-check = true\n"
            )
            apt = Path(temporary) / "apt.conf"
            apt.write_text(_apt_configuration())
            self._buildah(
                "build",
                "--isolation=chroot",
                "--network=host",
                "--pull=never",
                "--layers",
                "--format=docker",
                f"--volume={pip}:/etc/pip.conf:ro",
                f"--volume={apt}:/etc/apt/apt.conf.d/99testbed:ro",
                f"--volume={self._wheels}:/wheels:ro",
                f"--file={self._tree / PROGRAMS[image.program] / 'Dockerfile'}",
                f"--tag={image.reference}",
                str(self._tree),
            )
        partial = image.archive.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        self._buildah("push", image.reference, f"docker-archive:{partial}:{image.reference}")
        partial.replace(image.archive)
        size = image.archive.stat().st_size / 1e6
        self._report(f"  {image.program}: {time.monotonic() - started:.0f} s, {size:.0f} MB")

    def _ensure_base(self) -> None:
        if self._buildah("images", "--quiet", BASE, check=False).strip():
            return
        self._report("Making the base image with debootstrap (once) …")
        with tempfile.TemporaryDirectory(prefix="camfleet-base-", dir=self._folder) as temporary:
            root = Path(temporary) / "root"
            _run("debootstrap", "--variant=minbase", SUITE, str(root), *_mirror())
            _slim(root)
            container = self._buildah("from", "scratch").strip()
            try:
                self._buildah("add", "--quiet", container, str(root), "/")
                self._buildah("config", "--cmd=bash", container)
                self._buildah("commit", "--quiet", container, BASE)
            finally:
                self._buildah("rm", container)

    def _ensure_wheels(self, folder: str) -> None:
        """Fill the folder of wheels from the lock files; pip asks no index for what is there already."""
        for lock in (self._tree / "requirements-build.lock", self._tree / folder / "requirements.lock"):
            done = self._wheels / f"{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}.complete"
            if done.exists():
                continue
            self._report(f"Fetching the wheels of {lock.relative_to(self._tree)} …")
            self._wheels.mkdir(exist_ok=True)
            _run(
                *(*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"),
                f"--python-version={PYTHON}",
                *(f"--platform={name}" for name in _platforms()),
                f"--find-links={self._wheels}",
                f"--dest={self._wheels}",
                f"--requirement={lock}",
            )
            done.touch()

    def _buildah(self, *arguments: str, check: bool = True) -> str:
        # In a mount namespace of its own: the storage driver leaves a mount behind.
        with tempfile.TemporaryDirectory(prefix="camfleet-buildah-") as run:
            return _run(
                *("unshare", "--mount", "--propagation=private", "buildah"),
                f"--root={self._folder / 'storage'}",
                f"--runroot={run}",
                f"--storage-driver={'overlay' if overlay_works(self._folder) else 'vfs'}",
                *arguments,
                check=check,
            )


def _folder() -> Path:
    return cache_folder() / "images"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if check and done.returncode != 0:
        raise ImageError(f"{' '.join(command)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def _slim(root: Path) -> None:
    """Take out what Debian's slim images lack, now and for packages that are installed later."""
    for folder in _SLIM:
        shutil.rmtree(root / folder, ignore_errors=True)
    for folder in _SLIM_CLEAN:
        for path in (root / folder).rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.unlink()
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text("".join(f"path-exclude /{name}/*\n" for name in _SLIM))
    sources = _sources()
    if sources:
        (root / "etc/apt/sources.list").write_text(sources)
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/resolv.conf").unlink(missing_ok=True)


def _index_targets() -> list[tuple[str, str, str]]:
    """Site, suite and component of each Debian source of this machine, if it is of the images' release."""
    if shutil.which("apt-get") is None:
        return []
    columns = "$(SITE) $(RELEASE) $(COMPONENT) $(ORIGIN)"
    text = _run("apt-get", "indextargets", "--format", columns, "Created-By: Packages", check=False)
    rows = [line.split() for line in text.splitlines()]
    return [
        (row[0], row[1], row[2])
        for row in rows
        if len(row) == 4 and row[3] == "Debian" and row[1].startswith(SUITE) and row[2] == "main"
    ]


def _mirror() -> list[str]:
    return next(([site] for site, suite, _ in _index_targets() if suite == SUITE), [])


def _sources() -> str:
    return "".join(f"deb {site} {suite} {component}\n" for site, suite, component in _index_targets())


def _apt_configuration() -> str:
    """This machine's ways to the archive (proxies and the like), for the builds."""
    if shutil.which("apt-config") is None:
        return ""
    lines = _run("apt-config", "dump", check=False).splitlines()
    return "".join(f"{line}\n" for line in lines if line.startswith("Acquire::"))


def _pip() -> list[str]:
    """This machine's pip: the virtual environment's, or the system's where that has none."""
    for python in (sys.executable, "python3", "/usr/bin/python3"):
        tried = subprocess.run([python, "-m", "pip", "--version"], cwd="/", capture_output=True, check=False)
        if tried.returncode == 0:
            return [python, "-m", "pip"]
    raise ImageError("pip is needed to fetch the images' packages")


def _platforms() -> list[str]:
    machine = platform.machine()
    return [f"manylinux_2_{minor}_{machine}" for minor in range(36, 16, -1)] + [
        f"manylinux2014_{machine}",
        "any",
    ]


def overlay_works(folder: Path) -> bool:
    """Whether the file system of `folder` can carry an overlay."""
    with tempfile.TemporaryDirectory(prefix=".overlay-", dir=folder) as temporary:
        paths = {name: Path(temporary) / name for name in ("lower", "upper", "work", "merged")}
        for path in paths.values():
            path.mkdir()
        options = f"lowerdir={paths['lower']},upperdir={paths['upper']},workdir={paths['work']}"
        mount = ("mount", "-t", "overlay", "overlay", "-o", options, str(paths["merged"]))
        tried = subprocess.run(
            ["unshare", "--mount", "--propagation=private", *mount], capture_output=True, check=False
        )
        return tried.returncode == 0


def _forget_old(image: Image) -> None:
    archives = sorted(_folder().glob(f"{image.program}-*.tar"), key=lambda path: path.stat().st_mtime)
    for path in archives[:-_KEEP_ARCHIVES]:
        path.unlink(missing_ok=True)


def main() -> None:
    """Build the images and print their names."""
    parser = argparse.ArgumentParser(description="Build Camfleet's images without Docker.")
    parser.add_argument("programs", nargs="*", choices=[*PROGRAMS, []], metavar="PROGRAM")
    try:
        images = build(
            parser.parse_args().programs or tuple(PROGRAMS), lambda line: print(line, file=sys.stderr)
        )
    except ImageError as error:
        sys.exit(str(error))
    for image in images.values():
        print(f"{image.reference}  {image.archive}")


if __name__ == "__main__":
    main()
