"""Long-lived tasks: none of them may end unnoticed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)


def start_task(
    coroutine: Coroutine[Any, Any, None],
    *,
    name: str,
    failed: Callable[[], None],
    may_end: Callable[[], bool] = lambda: False,
) -> asyncio.Task[None]:
    """Start a task that runs until it is cancelled or `may_end`; `failed` is called if it ends otherwise."""

    def done(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None or not may_end():
            logger.critical("the task %s has ended, the gateway stops", name, exc_info=error)
            failed()

    task = asyncio.create_task(coroutine, name=name)
    task.add_done_callback(done)
    return task
