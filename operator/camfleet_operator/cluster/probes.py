"""The operator's own HTTP server: is it alive, is it ready, and what has it counted.

It runs in the operator's event loop on purpose: an answer proves that the loop turns. What else has to be
true is a list of named checks; each says what is wrong, so that a failed probe explains itself in
`kubectl describe pod`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from camfleet_operator.cluster.metrics import CONTENT_TYPE, OperatorMetrics

logger = logging.getLogger(__name__)


class ProbesError(Exception):
    """The address cannot be listened on; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to be so.

    Attributes:
        name: One word.
        problem: What is wrong, or None. Must be quick, for it runs on the event loop.
    """

    name: str
    problem: Callable[[], str | None]

    def run(self) -> str | None:
        """What is wrong, or None; a check that fails to run is a problem, not an error of the probe."""
        try:
            return self.problem()
        except Exception as error:  # whatever it is, the probe has to answer
            logger.exception("check %s failed to run", self.name)
            return f"the check itself failed: {type(error).__name__}"


class Probes:
    """Serves `/livez`, `/readyz`, `/metrics` and `/explain`.

    Args:
        host: Address to listen on.
        port: Port; 0 for any, see `port`.
        live: Restarting helps if one of these fails.
        ready: This replica is not to be counted on while one of these fails.
        metrics: What `/metrics` shows.
        explain: What `/explain` answers of a camera, or of the fleet if asked without one; None if there is
            no such camera.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        live: Sequence[Check] = (),
        ready: Sequence[Check] = (),
        metrics: OperatorMetrics,
        explain: Callable[[str | None], dict[str, Any] | None] = lambda _: None,
    ) -> None:
        self._explain = explain
        self._host = host
        self.port = port
        self._live = tuple(live)
        self._ready = tuple(ready)
        self._metrics = metrics
        self._runner: web.AppRunner | None = None
        self._failed: dict[str, frozenset[str]] = {}

    async def start(self) -> None:
        """Listen.

        Raises:
            ProbesError: The address is taken, or not ours.
        """
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._page)
        app.router.add_get("/explain", self._explanation)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self.port).start()
        except OSError as error:
            await runner.cleanup()
            where = f"{self._host}:{self.port}"
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ProbesError(f"probes cannot listen on {where}: {reason}") from error
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _livez(self, request: web.Request) -> web.Response:
        return self._answer("livez", self._live)

    async def _readyz(self, request: web.Request) -> web.Response:
        return self._answer("readyz", self._ready)

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.page(), headers={"Content-Type": CONTENT_TYPE})

    async def _explanation(self, request: web.Request) -> web.Response:
        camera = request.query.get("camera")
        found = self._explain(camera)
        if found is None:
            text = {"error": f"there is no camera {camera}" if camera else "there is nothing to explain yet"}
            return web.json_response(text, status=404)
        return web.json_response(found)

    def _answer(self, probe: str, checks: Sequence[Check]) -> web.Response:
        problems = {check.name: problem for check in checks if (problem := check.run()) is not None}
        lines = [
            f"[-]{check.name}: {problems[check.name]}" if check.name in problems else f"[+]{check.name} ok"
            for check in checks
        ]
        # The problems first: the kubelet shows only the beginning of the text.
        lines.sort(reverse=True)
        lines.append(f"{probe} {'failed' if problems else 'ok'}")
        failed = frozenset(problems)
        if failed != self._failed.get(probe, frozenset()):
            for name in sorted(failed):
                logger.warning("%s fails: %s: %s", probe, name, problems[name])
            if not failed:
                logger.info("%s is well again", probe)
            self._failed[probe] = failed
        return web.Response(text="\n".join(lines) + "\n", status=500 if problems else 200)
