"""Start of a worker."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import sys

from camfleet_protocol.logs import configure_logging
from camfleet_worker.heap import keep_heap_small
from camfleet_worker.log import get_logger, set_context
from camfleet_worker.settings import WorkerSettings

logger = get_logger(__name__)

USAGE = 2


def run(settings: WorkerSettings) -> int:
    """Run a worker until it is told to stop.

    Returns:
        0 after SIGTERM, SIGINT or the end of the parent; 2 if it cannot start; 3 if the gateway has fenced
        it; 70 if a thread crashed (or, by the watchdog, hung). With `check_ports`: 0 if nothing is listened
        on, else 1.
    """
    # One thread each, before the libraries are loaded: a worker has a fraction of a core.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(settings.threads))
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    keep_heap_small()
    configure_logging(settings.log_level, settings.log_format)
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    set_context(settings)

    from camfleet_worker.work_folder import WorkFolder
    from camfleet_worker.worker import Worker

    try:
        folder = WorkFolder.make(settings.work_dir)
        worker = Worker(settings, folder.path)
    except (OSError, sqlite3.Error) as error:
        logger.critical("the work folder cannot be used: %s", error)
        return USAGE
    code = asyncio.run(worker.run())
    hangs = worker.hangs
    folder.close()
    if hangs:
        # Leaving in order would wait for, or crash in, a native call that does not return.
        logger.warning("leaving without waiting for: %s", ", ".join(hangs))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
