"""A proxy in front of a real Prometheus server that can refuse, delay, forget and lie."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

import httpx

SLOW_SECONDS = 30.0
NO_ANSWER = 0
"""Instead of a status: the server is not there, so the connection ends."""
Result = list[dict[str, Any]]


class LyingPrometheus:
    """Passes the query API on to `upstream`, unless `lie` names one of `LIES`; a context manager."""

    def __init__(self, upstream: str) -> None:
        self.queries = 0
        """How many queries came; whatever was answered."""
        self._upstream = upstream
        self._lie = ""
        self._since = 0.0
        self._changed = threading.Event()
        self._client = httpx.Client(timeout=30)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                self._answer(*proxy.answer(path, query))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                self._answer(*proxy.answer(self.path.partition("?")[0], body))

            def _answer(self, status: int, body: bytes) -> None:
                if status == NO_ANSWER:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def handle(self) -> None:
                try:
                    super().handle()
                except (ConnectionError, TimeoutError):
                    """Who asked has not waited."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lie("")
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._client.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def lie(self, name: str) -> None:
        """Tell this lie from now on; the empty name stands for the truth."""
        assert not name or name in LIES, name
        self._lie, self._since = name, time.time()
        self._changed.set()
        self._changed = threading.Event()

    def answer(self, path: str, form: str) -> tuple[int, bytes]:
        """What is said to a query."""
        self.queries += 1
        lie = self._lie
        if lie == "slow":
            self._changed.wait(SLOW_SECONDS)
        if lie == "503":
            return 503, b'{"status":"error","errorType":"unavailable","error":"overloaded"}'
        if lie == "garbage":
            return 200, b"<html><body>Please log in</body></html>"
        fields = parse_qsl(form)
        if lie == "stale":
            fields = [*((k, v) for k, v in fields if k != "time"), ("time", f"{self._since:.3f}")]
        try:
            real = self._client.post(
                self._upstream + path,
                content=urlencode(fields),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )
        except httpx.HTTPError:
            return NO_ANSWER, b""
        change = _CHANGES.get(lie)
        if change is None or real.status_code != 200:
            return real.status_code, real.content
        document = real.json()
        data = document.get("data", {})
        if isinstance(data, dict) and data.get("resultType") == "vector":
            data["result"] = change(data["result"])
        if lie == "warnings":
            document["warnings"] = ["a store could not be asked: context deadline exceeded"]
        return 200, json.dumps(document).encode()


def _nan(result: Result) -> Result:
    return [{**series, "value": [series["value"][0], "NaN"]} for series in result]


def _contradictory(result: Result) -> Result:
    """A second source with the same series, that sees each 1 as a 0 and each 0 as a 1."""
    other = {"0": "1", "1": "0"}
    return [
        said
        for series in result
        for said in (
            series,
            {
                "metric": series["metric"],
                "value": [series["value"][0], other.get(series["value"][1], series["value"][1])],
            },
        )
    ]


def _half(result: Result) -> Result:
    return result[: len(result) // 2]


_CHANGES: dict[str, Callable[[Result], Result]] = {
    "empty": lambda _: [],
    "nan": _nan,
    "contradictory": _contradictory,
    "partial": _half,
    "warnings": lambda result: result,
}
LIES = ("slow", "503", "garbage", "stale", *_CHANGES)
