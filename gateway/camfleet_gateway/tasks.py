"""Long-lived tasks: none of them may end unnoticed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)


def start_task(
    coroutine: Coroutine[Any, Any, None], *, name: str, failed: Callable[[], None]
) -> asyncio.Task[None]:
    """Start a task that should run until it is cancelled; `failed` is called if it raises."""

    def done(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.critical("the task %s has failed, the gateway stops", name, exc_info=error)
            failed()

    task = asyncio.create_task(coroutine, name=name)
    task.add_done_callback(done)
    return task
