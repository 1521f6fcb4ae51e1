"""Loggers that name the camera. A worker serves one camera, so the context belongs to the process."""

from __future__ import annotations

import logging

from camfleet_protocol.logs import ContextAdapter
from camfleet_worker.settings import WorkerSettings

_context: dict[str, object] = {}


def get_logger(name: str) -> ContextAdapter:
    """A logger whose records carry namespace, camera, pod and attempt."""
    return ContextAdapter(logging.getLogger(name), _context)


def set_context(settings: WorkerSettings) -> None:
    """Name the camera in all further records."""
    namespace, _, name = settings.camera_id.partition(".")
    _context.update(namespace=namespace, camera=name, pod=settings.pod_name, attempt=settings.attempt)
