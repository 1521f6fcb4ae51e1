"""Weights are downloaded once, from a local server here, and only the pinned bytes are kept."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from camfleet import models
from camfleet.main import cli
from support.require import model_dir

CONTENT = bytes(range(256)) * 1000
MODEL = replace(models.CATALOG[0], file="tiny.onnx", sha256=hashlib.sha256(CONTENT).hexdigest())


class Server(http.server.ThreadingHTTPServer):
    requests = 0
    cut = False


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path != "/tiny.onnx":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.server.cut else CONTENT)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_the_pinned_weights_are_those_that_the_tests_run_with() -> None:
    folder = model_dir()
    for model in models.CATALOG:
        assert models.is_present(model, folder), f"{model.file} in {folder} is another file"


def test_a_file_is_downloaded_checked_and_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    path = models.fetch(MODEL, tmp_path / "models", mirror=address(server))
    assert path.read_bytes() == CONTENT
    models.fetch(MODEL, tmp_path / "models", mirror=address(server))
    assert server.requests == 1


def test_other_bytes_are_refused_and_leave_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(models.ModelError, match="not the pinned file"):
        models.fetch(replace(MODEL, sha256="0" * 64), tmp_path, mirror=address(server))
    assert list(tmp_path.iterdir()) == []


def test_a_cut_download_is_refused_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.cut = True
    with pytest.raises(models.ModelError, match="ended after 1000"):
        models.fetch(MODEL, tmp_path, mirror=address(server))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_damaged_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"damaged")
    assert models.fetch(MODEL, tmp_path, mirror=address(server)).read_bytes() == CONTENT


def test_the_command_draws_progress_and_says_what_is_wrong(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "CATALOG", (replace(MODEL, note="Trained on what was withdrawn."),))
    arguments = ["models", "fetch", "--dir", str(tmp_path), "--mirror", address(server)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "tiny.onnx" in done.output
    assert "Trained on what was withdrawn." in done.output
    listed = CliRunner().invoke(cli, ["models", "list", "--dir", str(tmp_path)])
    assert listed.output.startswith("present")
    assert "Trained on what was withdrawn." in listed.output
    lost = CliRunner().invoke(
        cli, ["models", "fetch", "--dir", str(tmp_path / "x"), "--mirror", "http://127.0.0.1:9"]
    )
    assert lost.exit_code == 1
    assert "cannot be reached" in lost.output
