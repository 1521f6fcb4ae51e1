"""An archive is handed to the node without the layers it has, and kind is told what `make cluster` means."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from tests.testbed import kind
from tests.testbed.cluster import CHART, chart_values
from tests.testbed.images import PROGRAMS, planned
from tests.testbed.runtime import convert


def archive(path: Path, layers: list[bytes]) -> list[str]:
    """An archive as `docker save` writes it; returns the layers' digests."""
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    manifest = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": [f"{d}.tar" for d in digests]}]
    parts = {"manifest.json": json.dumps(manifest).encode(), "c.json": b"{}"}
    parts |= {f"{digest}.tar": layer for digest, layer in zip(digests, layers, strict=True)}
    with tarfile.open(path, "w") as tar:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return [f"sha256:{digest}" for digest in digests]


def test_layers_that_the_store_has_are_named_and_not_carried(tmp_path: Path) -> None:
    old, new = archive(tmp_path / "in.tar", [b"base", b"code"])
    output = io.BytesIO()
    convert(tmp_path / "in.tar", "registry.example/x:1", {old}, output)
    output.seek(0)
    with tarfile.open(fileobj=output) as tar:
        content = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    blobs = {name for name in content if name.startswith("blobs/")}
    assert f"blobs/{new.replace(':', '/')}" in blobs
    assert f"blobs/{old.replace(':', '/')}" not in blobs
    assert all(hashlib.sha256(content[name]).hexdigest() == name.rpartition("/")[2] for name in blobs)
    (described,) = json.loads(content["index.json"])["manifests"]
    assert described["annotations"]["io.containerd.image.name"] == "registry.example/x:1"
    manifest = json.loads(content[f"blobs/{described['digest'].replace(':', '/')}"])
    assert [layer["digest"] for layer in manifest["layers"]] == [old, new]


def test_an_image_is_named_by_what_goes_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {program: planned(program).reference for program in PROGRAMS}
    assert names == kind.references()
    assert all(name.startswith(f"ghcr.io/camfleet/{program}:dev-") for program, name in names.items())
    monkeypatch.setattr("tests.testbed.images.BASE", "another")
    assert all(planned(program).reference != name for program, name in names.items())


def test_what_kind_is_told(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    *builds, create, load = kind.commands_up(tmp_path, kubeconfig)
    assert [build[:2] for build in builds] == [["docker", "build"]] * 3
    for build, (program, folder) in zip(builds, PROGRAMS.items(), strict=True):
        (file,) = (word.removeprefix("--file=") for word in build if word.startswith("--file="))
        assert Path(file).parent.name == folder
        assert f"--tag={kind.references()[program]}" in build
    assert create[:3] == ["kind", "create", "cluster"]
    assert f"--kubeconfig={kubeconfig}" in create
    assert load == ["kind", "load", "docker-image", "--name=camfleet", *kind.references().values()]
    assert kind.command_down(kubeconfig)[:4] == ["kind", "delete", "cluster", "--name=camfleet"]
    (node,) = json.loads(kind.configuration(8080))["nodes"]
    assert node["extraPortMappings"][0] == {
        "containerPort": kind.NODE_PORT,
        "hostPort": 8080,
        "listenAddress": "127.0.0.1",
        "protocol": "TCP",
    }


def test_the_values_for_kind_fit_the_chart() -> None:
    content = chart_values(kind.references())
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]
    for program, values in content.items():
        assert set(values["image"]) <= set(
            schema[program]["properties"]["image"].get("properties", values["image"])
        )
    assert {"type", "nodePort"} <= set(schema["gateway"]["properties"]["service"]["properties"])
