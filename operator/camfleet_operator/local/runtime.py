"""Workers (and the gateway) as child processes: the local counterpart of pods."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from camfleet_operator.local.processes import Child, Command
from camfleet_operator.plan import RunPhase, WorkerRun

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    seen: WorkerRun
    child: Child


class LocalRuntime:
    """Starts, stops and observes child processes, several runs under one key.

    Args:
        changed: Called with the key of a run that ended.
        clock: Monotonic seconds, the same that the planner gets.
    """

    def __init__(self, changed: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = changed
        self._clock = clock
        self._runs: dict[str, dict[str, _Run]] = {}

    def observe(self, key: str) -> Sequence[WorkerRun]:
        """All runs of this key, ended ones included until they are forgotten."""
        return [run.seen for run in self._runs.get(key, {}).values()]

    def keys(self) -> set[str]:
        """Keys that have runs."""
        return set(self._runs)

    def pid(self, key: str) -> int | None:
        """Process id of the newest live run."""
        for run in reversed(self._runs.get(key, {}).values()):
            if run.seen.phase is not RunPhase.ENDED:
                return run.child.pid
        return None

    async def ensure_worker(
        self, key: str, *, attempt: int, fingerprint: str, command: Callable[[str], Command]
    ) -> str:
        """Start a run and return its uid; `command` gets that uid.

        Raises:
            OSError: The process cannot be started.
        """
        uid = uuid.uuid4().hex
        child = await Child.spawn(command(uid), lambda code: self._ended(key, uid, code))
        seen = WorkerRun(uid, attempt, fingerprint, RunPhase.RUNNING, started_at=self._clock())
        self._runs.setdefault(key, {})[uid] = _Run(seen, child)
        logger.info("started, process %d, attempt %d", child.pid, attempt, extra={"camera": key})
        if child.exit_code is not None:
            self._ended(key, uid, child.exit_code)
        return uid

    def stop_worker(self, key: str, uid: str) -> None:
        """Ask a run to stop; it is ended after a grace time if it does not."""
        if (run := self._runs.get(key, {}).get(uid)) and run.seen.phase is RunPhase.RUNNING:
            run.seen = replace(run.seen, phase=RunPhase.STOPPING)
            run.child.terminate()

    def forget(self, key: str, uid: str) -> None:
        """Drop an ended run."""
        runs = self._runs.get(key, {})
        if (run := runs.get(uid)) and run.seen.phase is RunPhase.ENDED:
            del runs[uid]
        if not runs:
            self._runs.pop(key, None)

    async def stop_all(self, *, except_key: str | None = None) -> None:
        """Stop every run, all at once, and wait until the last one is gone."""
        children: list[Child] = []
        for key, runs in self._runs.items():
            for uid, run in runs.items():
                if key != except_key and run.child.exit_code is None:
                    self.stop_worker(key, uid)
                    children.append(run.child)
        await asyncio.gather(*(child.wait() for child in children))

    def kill_all(self) -> None:
        """End every run now."""
        for runs in self._runs.values():
            for run in runs.values():
                run.child.kill()

    def _ended(self, key: str, uid: str, code: int) -> None:
        run = self._runs.get(key, {}).get(uid)
        if run is None or run.seen.phase is RunPhase.ENDED:
            return
        asked = run.seen.phase is RunPhase.STOPPING
        run.seen = replace(run.seen, phase=RunPhase.ENDED, ended_at=self._clock(), exit_code=code)
        logger.log(
            logging.INFO if asked else logging.WARNING,
            "process %d ended with %s",
            run.child.pid,
            f"signal {-code}" if code < 0 else f"code {code}",
            extra={"camera": key},
        )
        self._changed(key)
