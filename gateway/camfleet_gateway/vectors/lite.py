"""milvus-lite in this process: its files in a folder, its socket where nobody else can reach it. Blocks."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_MAX_SOCKET_PATH = 100


class Lite:
    """A milvus-lite that runs until `close`."""

    def __init__(self, data: Path) -> None:
        """Start it.

        Args:
            data: Its folder; made, if it is not there.

        Raises:
            BlockingIOError: Another process uses the folder.
            OSError: The folder, or a temporary one, cannot be used.
            ImportError: It is not installed.
            Exception: Whatever it thinks of its files.
        """
        from milvus_lite.adapter.grpc.server import (  # type: ignore[import-untyped]
            start_server_in_thread,
        )
        from milvus_lite.exceptions import DataDirLockedError  # type: ignore[import-untyped]

        silence()
        data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not beside the files: some volumes take no sockets, and its path must be short.
        where = tempfile.gettempdir()
        self._scratch = tempfile.mkdtemp(
            prefix="camfleet-", dir=where if len(where.encode()) < _MAX_SOCKET_PATH // 2 else "/tmp"
        )
        path = Path(self._scratch) / "milvus.sock"
        self.uri = f"unix:{path}"
        started: Callable[..., tuple[Any, Any, int]] = start_server_in_thread
        try:
            self._server, self._database, _ = started(str(data), host="unix", port=str(path))
        except DataDirLockedError as error:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise BlockingIOError("another process uses it") from error
        except BaseException:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise

    def close(self) -> None:
        """End it."""
        try:
            self._server.stop(1).wait()
            self._database.close()
        except Exception as error:  # it writes to its folder, which may be gone or full
            logger.warning("milvus-lite did not end well: %s", type(error).__name__)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)


def silence() -> None:
    """Have the libraries log nothing: what matters is raised, and told by us. They undo it when imported."""
    for name in ("faiss", "grpc", "milvus_lite", "pymilvus"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
