"""Where the cluster's programs come from: an assets folder, the cache, or a build by Go.

``KUBEBUILDER_ASSETS`` (a folder with ``kube-apiserver``, ``etcd``, ``kubectl``) is honoured first, program by
program. What it lacks is built once from the pinned modules in ``go/`` and kept in the user's cache folder,
named by the content of the module's files, so that a changed pin is built anew.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).with_name("go")
# As it was when this was imported: tests move the variable away from the user's own folder.
_USER_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
KUBERNETES_VERSION = "v1.34.4"
_VERSION_PACKAGE = "k8s.io/component-base/version"


class ComponentMissingError(Exception):
    """A program of the cluster is not here and cannot be built; the text says what would help."""


@dataclass(frozen=True, slots=True)
class Component:
    """One program: the module in ``go/`` that pins it, and its package."""

    name: str
    module: str
    package: str


def _kubernetes(name: str) -> Component:
    return Component(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}")


# In the order of use: what the API level needs comes first.
COMPONENTS = {
    c.name: c
    for c in (
        _kubernetes("kube-apiserver"),
        Component("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
        _kubernetes("kubectl"),
        _kubernetes("kube-controller-manager"),
        _kubernetes("kube-scheduler"),
        Component("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok"),
        Component("helm", "helm", "helm.sh/helm/v3/cmd/helm"),
        _kubernetes("kubelet"),
        _kubernetes("kube-proxy"),
        Component("coredns", "coredns", "github.com/coredns/coredns"),
        Component("pause", "pause", "."),
    )
}
API_LEVEL = ("kube-apiserver", "etcd", "kubectl", "kube-controller-manager", "kube-scheduler", "kwok")
NODE_LEVEL = (*API_LEVEL, "helm", "kubelet", "kube-proxy", "coredns", "pause")


def find(name: str) -> Path:
    """Return the path of a program, built now if need be (minutes, the first time).

    Raises:
        ComponentMissingError: It is nowhere, and there is no Go to build it or the build fails.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (given := Path(assets) / name).is_file():
        return given
    component = COMPONENTS[name]
    built = cached(component)
    if not built.is_file():
        _build(component, built)
    return built


def cached(component: Component) -> Path:
    """Return where a built component is, or would be."""
    digest = hashlib.sha256()
    for file in sorted((MODULES / component.module).iterdir()):
        digest.update(file.read_bytes())
    return cache_folder() / "testbed" / f"{component.module}-{digest.hexdigest()[:12]}" / component.name


def cache_folder() -> Path:
    """The folder of this user in which built things are kept."""
    return _USER_CACHE / "camfleet"


def available(names: tuple[str, ...]) -> str | None:
    """Return why some of the programs cannot be had here, or None if all can."""
    for name in names:
        assets = os.environ.get("KUBEBUILDER_ASSETS")
        here = (assets and (Path(assets) / name).is_file()) or cached(COMPONENTS[name]).is_file()
        if not here and shutil.which("go") is None:
            return f"{name} is neither in KUBEBUILDER_ASSETS nor built, and there is no Go to build it"
    return None


def _build(component: Component, target: Path) -> None:
    if shutil.which("go") is None:
        raise ComponentMissingError(
            f"{component.name}: install Go, or name a folder with it in KUBEBUILDER_ASSETS"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{component.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Two test runs build once.
        if target.is_file():
            return
        print(f"Building {component.name} (once; kept in {target.parent}) …", file=sys.stderr, flush=True)
        started = time.monotonic()
        major, minor, _ = KUBERNETES_VERSION.lstrip("v").split(".")
        values = {
            "gitVersion": KUBERNETES_VERSION,
            "gitMajor": major,
            "gitMinor": minor,
            "gitTreeState": "clean",
        }
        flags = "-s -w " + " ".join(f"-X {_VERSION_PACKAGE}.{key}={value}" for key, value in values.items())
        partial = target.with_suffix(".partial")
        done = subprocess.run(
            ["go", "build", "-trimpath", "-ldflags", flags, "-o", partial, component.package],
            cwd=MODULES / component.module,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ComponentMissingError(f"{component.name} does not build: {done.stderr[-2000:]}")
        partial.replace(target)
        print(f"  {component.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def main() -> None:
    """Build what is named (or everything) and print the paths."""
    parser = argparse.ArgumentParser(description="Build the programs of the tests' Kubernetes cluster.")
    parser.add_argument("names", nargs="*", choices=[*COMPONENTS, []], metavar="NAME")
    for name in parser.parse_args().names or COMPONENTS:
        print(find(name))


if __name__ == "__main__":
    main()
