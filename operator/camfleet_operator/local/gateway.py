"""Keeps the gateway of one box running, on the same ports from the first start to the last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from camfleet_operator.backoff import RestartPolicy
from camfleet_operator.local.commands import gateway_command
from camfleet_operator.local.readiness import GatewayAddress, gateway_ready, read_gateway_address
from camfleet_operator.local.runtime import LocalRuntime
from camfleet_operator.local.settings import LocalSettings
from camfleet_operator.plan import DesiredWorker, ForgetRun, Observed, StartWorker, StopWorker, plan_worker
from camfleet_protocol.local import StateFolder

GATEWAY_KEY = "gateway"
"""Its key in queue and runtime; no camera id, for those have a dot."""

_POLICY = RestartPolicy(first_delay=0.5, max_delay=10.0, healthy_after=30.0)
_POLL_SECONDS = 0.05


class GatewayKeeper:
    """Reconciles one child process: the gateway.

    Attributes:
        address: Where it listens, once it was ready for the first time.
        up: Set when it was ready for the first time.
        failed: Set when it ended before that: a wrong option or a taken port, which no restart mends.
    """

    def __init__(self, settings: LocalSettings, runtime: LocalRuntime, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._state = StateFolder(settings.state_dir)
        self._runtime = runtime
        self._clock = clock
        self._last_attempt = 0
        self._failures = 0
        self.address: GatewayAddress | None = None
        self.up = asyncio.Event()
        self.failed = asyncio.Event()

    async def reconcile(self) -> float | None:
        """Start it if it does not run; returns in how many seconds to look again, if that is known."""
        runs = self._runtime.observe(GATEWAY_KEY)
        if runs and not self.up.is_set() and all(run.exit_code is not None for run in runs):
            self.failed.set()
            return None
        observed = Observed(
            DesiredWorker(GATEWAY_KEY), runs=runs, last_attempt=self._last_attempt, failures=self._failures
        )
        plan = plan_worker(observed, self._clock(), _POLICY)
        for action in plan.actions:
            match action:
                case ForgetRun(uid, failures):
                    self._runtime.forget(GATEWAY_KEY, uid)
                    self._failures = failures
                case StopWorker(uid):
                    self._runtime.stop_worker(GATEWAY_KEY, uid)
                case StartWorker(attempt, fingerprint):
                    self._last_attempt = attempt
                    await self._start(attempt, fingerprint)
        return plan.requeue_after

    async def _start(self, attempt: int, fingerprint: str) -> None:
        known = self.address
        command = gateway_command(
            self._settings,
            viewer_port=known.viewer_port if known else self._settings.port,
            internal_port=known.internal_port if known else 0,
        )
        await self._runtime.ensure_worker(
            GATEWAY_KEY, attempt=attempt, fingerprint=fingerprint, command=lambda _: command
        )
        pid = self._runtime.pid(GATEWAY_KEY)
        while pid is not None and self._runtime.pid(GATEWAY_KEY) == pid:
            address = read_gateway_address(self._state, pid, self._settings.host)
            if address is not None and await asyncio.to_thread(gateway_ready, address):
                self.address = address
                self.up.set()
                return
            await asyncio.sleep(_POLL_SECONDS)
