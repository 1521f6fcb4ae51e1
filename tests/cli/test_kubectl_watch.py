"""`kubectl camfleet watch` with a real gateway: pictures as files, a browser signed in, no token told.

`kubectl port-forward` needs a kubelet with a container runtime, so a stand-in on the PATH relays to the
gateway and says what kubectl says.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import yaml
from kubectl_site import PluginSite
from playwright.sync_api import sync_playwright
from tests.page.page_publisher import Publishers

from camfleet.kubectl.evidence import Tools
from camfleet.kubectl.signin import SignIn
from camfleet_protocol.local import StateFolder
from support.chromium import FLAGS, chromium
from support.gateway_process import GatewayProcess, put_camera, test_pattern
from support.require import need

pytestmark = [pytest.mark.cluster, pytest.mark.e2e]

_KUBECTL = """#!{python}
import os, pathlib, socketserver, socket, sys, threading
pathlib.Path({pid!r}).write_text(str(os.getpid()))
pathlib.Path({arguments!r}).write_text("\\n".join(sys.argv[1:]))
class Relay(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.create_connection(("127.0.0.1", {port})) as up:
            def pump(a, b):
                try:
                    while data := a.recv(65536):
                        b.sendall(data)
                    b.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
            back = threading.Thread(target=pump, args=(up, self.request), daemon=True)
            back.start()
            pump(self.request, up)
            back.join()
server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay)
server.daemon_threads = True
print(f"Forwarding from 127.0.0.1:{{server.server_address[1]}} -> 8080", flush=True)
server.serve_forever(0.05)
"""


@dataclass
class Watched:
    """A camera that streams, and the token that shows it."""

    site: PluginSite
    gateway: GatewayProcess
    token: str
    folder: Path

    def stop_kubectl(self) -> None:
        os.kill(int((self.folder / "pid").read_text()), signal.SIGTERM)

    @property
    def kubectl_arguments(self) -> list[str]:
        return (self.folder / "arguments").read_text().splitlines()


@dataclass
class Running:
    """A gateway and workers for it."""

    state: StateFolder
    gateway: GatewayProcess
    publishers: Publishers
    token: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("gateway")
    token = "cft_" + secrets.token_urlsafe(32)
    entry = {"name": "admin", "role": "admin", "sha256": sha256(token.encode()).hexdigest()}
    (folder / "tokens.yaml").write_text(yaml.safe_dump({"tokens": [entry]}))
    state = StateFolder(folder / "state")
    gateway = GatewayProcess(state, tokens_file=str(folder / "tokens.yaml"))
    publishers = Publishers(state, gateway.internal_port)
    yield Running(state, gateway, publishers, token)
    publishers.close()
    gateway.kill()


@pytest.fixture
def watched(running: Running, site: PluginSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    site.installed()
    site.camera("gate")
    running.publishers.add(put_camera(running.state, test_pattern("gate", namespace=site.name)))
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    values = {"pid": str(tmp_path / "pid"), "arguments": str(tmp_path / "arguments")}
    program.write_text(_KUBECTL.format(python=sys.executable, port=running.gateway.viewer_port, **values))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return Watched(site, running.gateway, running.token, tmp_path)


def add_secret(watched: Watched) -> None:
    """The Secret that the chart makes."""
    encoded = base64.b64encode(watched.token.encode()).decode()
    watched.site.plane.post(
        f"/api/v1/namespaces/{watched.site.install}/secrets",
        {"metadata": {"name": "camfleet-viewer-tokens"}, "data": {"admin-token": encoded}},
    )


def test_pictures_become_files(watched: Watched) -> None:
    add_secret(watched)
    site, folder = watched.site, watched.folder / "pictures"
    result = site.run("watch", "gate", "--dump", str(folder), "--frames=3")
    assert result.exit_code == 0, result.output
    files = sorted(folder.iterdir())
    assert len(files) == 3
    assert all(file.read_bytes()[:3] == b"\xff\xd8\xff" for file in files)
    assert files[0].name.startswith(f"{site.name}.gate-")
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert re.search(r"640x360, \d+\.\d kB, \d+ ms old: face 91% at \d+,\d+ 18x27 %$", lines[0])
    assert f"--namespace={site.install}" in watched.kubectl_arguments
    assert watched.kubectl_arguments[-1] == ":8080"
    assert watched.token not in result.output + "".join(watched.kubectl_arguments)
    assert not psutil.pid_exists(int((watched.folder / "pid").read_text()))


def test_the_ways_to_a_token(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    site, folder = watched.site, str(watched.folder / "pictures")
    there = ("watch", "gate", "--dump", folder, "--frames=1", f"--gateway={watched.gateway.viewer_url}")
    result = site.run(*there)
    assert (
        result.exit_code,
        f"there is no Secret {site.install}/camfleet-viewer-tokens" in result.stderr,
    ) == (2, True)
    own = watched.folder / "token"
    own.write_text(watched.token + "\n")
    result = site.run(*there, f"--token-file={own}", "-o", "json")
    assert result.exit_code == 0, result.output
    entry = json.loads(result.stdout)
    assert (entry["width"], entry["detections"][0]["label"]) == (640, "face")
    monkeypatch.setenv("CAMFLEET_VIEWER_TOKEN", watched.token)
    assert site.run(*there).exit_code == 0
    monkeypatch.setenv("CAMFLEET_VIEWER_TOKEN", "cft_wrong")
    result = site.run(*there)
    assert (result.exit_code, "the gateway does not accept the token" in result.stderr) == (2, True)
    site.camera("other")
    monkeypatch.setenv("CAMFLEET_VIEWER_TOKEN", watched.token)
    result = site.run("watch", "other", *there[2:])
    assert (result.exit_code, "the gateway says unknown_camera" in result.stderr) == (2, True)


def test_only_the_address(site: PluginSite) -> None:
    site.camera("gate")
    result = site.run("watch", "gate", "--url", "--gateway=https://cams.example/")
    assert result.stdout == f"https://cams.example/#/camera/{site.name}.gate\n"


@pytest.mark.browser
def test_a_browser_is_signed_in_once_and_no_argument_has_the_token(watched: Watched) -> None:
    executable = chromium()
    need(executable, "Chromium: install it, or set CAMFLEET_CHROMIUM")
    add_secret(watched)
    seen: dict[str, object] = {}

    def browse(address: str) -> bool:
        seen["address"] = address
        seen["arguments"] = " ".join(
            a for p in psutil.Process().children(recursive=True) for a in p.cmdline()
        )
        file = Path(urlsplit(address).path)
        seen["mode"] = file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777
        page = threading.Thread(
            target=look, args=(address,)
        )  # Playwright wants a thread without an event loop
        page.start()
        page.join(120)
        seen["again"] = httpx.get(re.findall(r"url=([^\"]+)", file.read_text())[0], timeout=60).status_code
        watched.stop_kubectl()
        return True

    def look(address: str) -> None:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
            page = browser.new_page()
            page.goto(address)
            page.wait_for_url("**/#/camera/**")
            page.wait_for_function("document.title.includes('gate')")
            page.locator("canvas").first.wait_for()
            seen["url"] = page.url
            browser.close()

    result = watched.site.run("watch", "gate", tools=Tools(browse=browse))
    assert "the port-forward ended" in result.stderr  # for the test has ended it
    assert str(seen["url"]).endswith(f"/#/camera/{watched.site.name}.gate")
    assert seen["mode"] == (0o600, 0o700)
    assert seen["again"] == 410
    for text in (result.output, str(seen["address"]), str(seen["url"]), str(seen["arguments"])):
        assert watched.token not in text
    assert not Path(urlsplit(str(seen["address"])).path).exists()


def test_the_sign_in_page_stands_hostile_names_and_a_gone_gateway() -> None:
    with SignIn(("127.0.0.1", 1), "a.b</script>", "t</script>") as signin:
        (address,) = re.findall(r"url=([^\"]+)", signin.file.read_text())
        first = httpx.get(address, timeout=60)
        assert first.text.count("</script>") == 1
        assert (first.headers["cache-control"], "nonce-" in first.headers["content-security-policy"]) == (
            "no-store",
            True,
        )
        assert httpx.get(address, timeout=60).status_code == 410
        assert httpx.get(f"http://127.0.0.1:{signin.port}/", timeout=60).status_code == 502
