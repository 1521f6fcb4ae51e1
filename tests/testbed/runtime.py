"""The node's container runtime, and its store of images, which outlives the node.

The store is in the user's cache folder, so that a second start finds the images there, and a changed image
brings its changed layers only. It holds only images: what the containers of an earlier node have left is
removed before a new node starts. A second cluster at the same time gets a store of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import platform
import shutil
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from tests.testbed.components import cache_folder, find
from tests.testbed.control_plane import ControlPlane
from tests.testbed.images import Image, overlay_works
from tests.testbed.machine import plugins
from tests.testbed.namespaces import Namespaces
from tests.testbed.processes import wait_until

SOCKET = "/run/containerd/containerd.sock"  # in the node's own /run
PAUSE_IMAGE = "camfleet.io/testbed/pause:1"
_CRI = "io.containerd.grpc.v1.cri"
_LEFT_OUT = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
)
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


class Runtime:
    """containerd on the node."""

    def __init__(self, folder: Path, inside: Namespaces, plane: ControlPlane) -> None:
        self.folder = folder
        self._inside = inside
        self._plane = plane
        shared = cache_folder() / "node"
        self._store = folder / "containerd" if _busy(shared) else shared

    def start(self, images: Iterable[Image]) -> None:
        """Put the images into the store, and start containerd for the kubelet."""
        self.folder.mkdir(exist_ok=True)
        self._store.mkdir(parents=True, exist_ok=True)
        pause = self.folder / "pause.tar"
        _save_static(find("pause"), PAUSE_IMAGE, pause)
        wanted = {PAUSE_IMAGE: pause, **{image.reference: image.archive for image in images}}
        # Without the kubelet's interface at first: that would remember the containers of the node before.
        self._run(_CRI, *_LEFT_OUT)
        for container in self.ctr("containers", "ls", "--quiet").split():
            self.ctr("containers", "rm", container)
        for reference, archive in wanted.items():
            self._load(reference, archive)
        # Last, for then the layers that old and new images share are still here.
        for reference in set(self.ctr("images", "ls", "--quiet").split()) - set(wanted):
            self.ctr("images", "rm", reference)
        self._plane.processes["containerd"].stop()
        self._run(*_LEFT_OUT)

    def ctr(self, *arguments: str) -> str:
        """Run containerd's own client."""
        return self._inside.run("ctr", f"--address={SOCKET}", "--namespace=k8s.io", *arguments)

    def _run(self, *disabled: str) -> None:
        configuration = self.folder / "containerd.toml"
        configuration.write_text(self._configuration(disabled))
        process = self._plane.run(
            "containerd", f"--config={configuration}", program=shutil.which("containerd")
        )
        wait_until(self._answers, "containerd", process=process)

    def _answers(self) -> bool:
        try:
            self.ctr("version")
        except RuntimeError:
            return False
        return True

    def _load(self, reference: str, archive: Path) -> None:
        if reference in self.ctr("images", "ls", "--quiet").split():
            return
        present = set(self.ctr("content", "ls", "--quiet").split())
        partial = self.folder / "import.tar"
        with partial.open("wb") as output:
            convert(archive, reference, present, output)
        self.ctr("images", "import", str(partial))
        partial.unlink()

    def _configuration(self, disabled: tuple[str, ...]) -> str:
        snapshotter = "overlayfs" if overlay_works(self._store) else "native"
        return f"""version = 2
root = "{self._store}"
state = "/run/containerd"
disabled_plugins = {json.dumps(disabled)}
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd-opt"
[plugins."{_CRI}"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE runc could not lower the score.
  restrict_oom_score_adj = true
  [plugins."{_CRI}".cni]
    bin_dir = "{plugins()}"
    conf_dir = "{self.folder / "cni"}"
  [plugins."{_CRI}".containerd]
    snapshotter = "{snapshotter}"
    [plugins."{_CRI}".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."{_CRI}".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def convert(archive: Path, reference: str, present: set[str], output: IO[bytes]) -> None:
    """Write an image of `docker save`'s form in OCI's form, without the layers that are `present`.

    Args:
        archive: As buildah writes a `docker-archive`: layers not compressed, each named by its digest.
        reference: The image's name.
        present: Digests (`sha256:…`) of what the store has.
        output: Where to write the new archive.
    """
    with tarfile.open(archive) as source, tarfile.open(fileobj=output, mode="w") as target:
        (entry,) = json.load(_member(source, "manifest.json"))
        layers = []
        for name in entry["Layers"]:
            member = source.getmember(name)
            digest = f"sha256:{name.removesuffix('.tar')}"
            layers.append({"mediaType": _LAYER, "digest": digest, "size": member.size})
            if digest not in present:
                _add(target, digest, _member(source, name), member.size)
        config = _member(source, entry["Config"]).read()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _blob(target, _CONFIG, config),
            "layers": layers,
        }
        described = _blob(target, _MANIFEST, json.dumps(manifest).encode())
        described["annotations"] = {"io.containerd.image.name": reference}
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [described]}
        for name, content in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
            data = json.dumps(content).encode()
            _add(target, name, io.BytesIO(data), len(data))


def _member(source: tarfile.TarFile, name: str) -> IO[bytes]:
    found = source.extractfile(name)
    assert found is not None
    return found


def _blob(target: tarfile.TarFile, kind: str, data: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    _add(target, digest, io.BytesIO(data), len(data))
    return {"mediaType": kind, "digest": digest, "size": len(data)}


def _add(target: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(f"blobs/{name.replace(':', '/')}" if name.startswith("sha256:") else name)
    member.size = size
    target.addfile(member, content)


def _save_static(program: Path, reference: str, archive: Path) -> None:
    """An image of one static program, in the form of `docker save`."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tar.gettarinfo(program, arcname="pause")
        member.uid = member.gid = 0
        member.mtime = 0
        with program.open("rb") as file:
            tar.addfile(member, file)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    machine = platform.machine()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": [f"{digest}.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for name, data in (
            ("manifest.json", json.dumps(manifest).encode()),
            ("config.json", json.dumps(config).encode()),
            (f"{digest}.tar", layer.getvalue()),
        ):
            _add(tar, name, io.BytesIO(data), len(data))


def _busy(store: Path) -> bool:
    """Whether another containerd has the store open; it locks its database."""
    database = store / "io.containerd.metadata.v1.bolt" / "meta.db"
    if not database.exists():
        return False
    deadline = time.monotonic() + 1  # the one before may be about to end
    with database.open("rb") as file:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
            time.sleep(0.05)
    return True
