"""Plays a gateway's metrics page: every camera whose pod runs has a worker, a source and fresh pictures."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from aiohttp import web
from bench.scale.audit import Write

_TYPE = "# TYPE {} gauge\n"
_NOW = (
    "camfleet_camera_last_frame_timestamp_seconds",
    "camfleet_camera_last_inference_timestamp_seconds",
)
_ONE = ("camfleet_camera_worker_connected", "camfleet_camera_source_connected")


class Gateway:
    """Give `saw` to the trail; `url` to the operator."""

    def __init__(self) -> None:
        self._labels: dict[str, str] = {}
        self.url = ""
        self.scrapes = 0

    @classmethod
    @asynccontextmanager
    async def serve(cls) -> AsyncIterator[Self]:
        """Listen on loopback."""
        gateway = cls()
        app = web.Application()
        app.router.add_get("/metrics", gateway._page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
            yield gateway
        finally:
            await runner.cleanup()

    def saw(self, write: Write) -> None:
        """Learn from kwok's status that a pod runs."""
        if write.who == "kwok" and write.resource == "pods/status":
            namespace, _, pod = write.object.partition(".")
            camera = pod.rpartition("-")[0]
            self._labels[pod] = f'{{namespace="{namespace}",camera="{camera}"}}'

    async def _page(self, request: web.Request) -> web.Response:
        self.scrapes += 1
        asked = request.query.getall("name[]", [*_ONE, *_NOW, "camfleet_gateway_time_seconds"])
        now = f"{time.time():.3f}"
        parts: list[str] = []
        for family in asked:
            if family == "camfleet_gateway_time_seconds":
                parts.append(f"{_TYPE.format(family)}{family} {now}\n")
            elif family in (*_ONE, *_NOW):
                value = now if family in _NOW else "1"
                parts.append(_TYPE.format(family))
                parts.extend(f"{family}{labels} {value}\n" for labels in self._labels.values())
        return web.Response(
            text="".join(parts), content_type="text/plain", headers={"Cache-Control": "no-store"}
        )
