"""A gateway with simulated workers, pages of a browser, and patience: parts of the page's tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from page_publisher import Publishers, SimulatedWorker
from playwright.sync_api import Browser, BrowserContext, Page

from camfleet_protocol.camera import Camera
from camfleet_protocol.local import StateFolder
from support.gateway_process import GatewayProcess, LocalRuntimeDouble, put_camera, test_pattern

DEADLINE_MS = 60_000
EXPECTED_ERRORS = ("Failed to load resource", "WebSocket connection to", "using getImageData")
"""What Chromium itself writes when a gateway is away, an answer is no success, or a test reads pixels."""


class Pages:
    """Opens pages and remembers what they complain about."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []
        self.sockets: list[str] = []

    def open(self, url: str, **options: Any) -> Page:
        """A new page in a context of its own."""
        context = self._browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(DEADLINE_MS)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("websocket", lambda socket: self.sockets.append(socket.url))
        page.goto(url)
        return page

    def _complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    @property
    def unexpected(self) -> list[str]:
        """Complaints other than those about a gateway that is away."""
        return [text for text in self.complaints if not any(known in text for known in EXPECTED_ERRORS)]

    def close(self) -> None:
        for context in self._contexts:
            context.close()


class Site:
    """A gateway with simulated workers."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.state = StateFolder(folder / "state")
        self.gateway = GatewayProcess(self.state, **settings)
        self.publishers = Publishers(self.state, self.gateway.internal_port)
        self.runtime: LocalRuntimeDouble | None = None

    @property
    def url(self) -> str:
        return self.gateway.viewer_url

    def add(self, name: str, *, fps: float = 10.0, **spec: Any) -> SimulatedWorker:
        """A camera with a worker."""
        return self.publishers.add(self.declare(name, **spec), fps)

    def declare(self, name: str, **spec: Any) -> Camera:
        """A camera, for now without a worker."""
        camera = test_pattern(name, **spec)
        if self.runtime is None:
            return put_camera(self.state, camera)
        self.runtime.add_file(camera)
        path = self.state.objects / f"{camera.id}.json"
        eventually(path.exists, f"{camera.id} written")
        return Camera.model_validate_json(path.read_bytes())

    def with_runtime(self) -> None:
        """Let changes through the API take effect."""
        self.runtime = LocalRuntimeDouble(self.state)
        self.runtime.__enter__()

    def close(self) -> None:
        self.publishers.close()
        if self.runtime is not None:
            self.runtime.__exit__(None, None, None)
        self.gateway.kill()


def eventually(check: Callable[[], Any], what: str, within: float = 60.0) -> Any:
    """Poll until `check` gives something true, and return that."""
    deadline = time.monotonic() + within
    while not (value := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(0.02)
    return value
