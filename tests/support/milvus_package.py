"""Milvus' server for the tests: a pinned package, unpacked once into the user's cache folder.

`python -m tests.support.milvus_package` fetches it with pip, unless it is there, and prints its folder. The
package starts its server from the user's home and for everybody to reach, so only its binaries and its
configuration are used: see `milvus_server`.
"""

from __future__ import annotations

import fcntl
import lzma
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from tests.testbed.components import cache_folder

VERSION = "2.3.5"
_SHA256 = "69515a0630ce29fd10e101fa442afea8ca1387b93a456cd9bd41fdf3deb93d04"
_REQUIREMENT = f"milvus=={VERSION} --hash=sha256:{_SHA256}\n"


def installed() -> Path | None:
    """The folder with `bin/` and `config.yaml.template`; None if it was not fetched yet."""
    folder = _folder()
    return folder if folder.is_dir() else None


def install() -> Path:
    """Fetch it, if it is not there; returns its folder."""
    target = _folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            print(f"Fetching Milvus {VERSION} (once; kept in {target}) …", file=sys.stderr, flush=True)
            _fetch(partial / "package")
            _unpack(partial / "package" / "milvus" / "data", partial)
            shutil.rmtree(partial / "package")
            partial.rename(target)
    return target


def _folder() -> Path:
    return cache_folder() / "milvus-server" / f"{VERSION}-{_SHA256[:12]}"


def _fetch(target: Path) -> None:
    requirements = target.with_suffix(".txt")
    requirements.write_text(_REQUIREMENT)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--no-compile", "--require-hashes"),
            *("--requirement", str(requirements), "--target", str(target)),
        ],
        check=True,
    )


def _unpack(data: Path, target: Path) -> None:
    for name in ("config.yaml.template", "glog.conf"):
        shutil.copy(data / name, target / name)
    (target / "bin").mkdir()
    for packed in sorted((data / "bin").glob("*.lzma")):
        program = target / "bin" / packed.stem
        with lzma.open(packed) as source, program.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        program.chmod(0o755)


if __name__ == "__main__":
    if platform.machine() != "x86_64" or sys.platform != "linux":
        sys.exit("Milvus' server is there for Linux on x86_64 only")
    print(install())
