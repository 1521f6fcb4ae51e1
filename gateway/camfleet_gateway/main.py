"""Runs a gateway until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading

import uvloop

from camfleet_gateway.apps import internal_app, viewer_app
from camfleet_gateway.auth import TokensFileError
from camfleet_gateway.directory import BackendError
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.servers import ListenError, Server, listen, port_of, quiet_library_logs, server_for
from camfleet_gateway.settings import GatewaySettings
from camfleet_gateway.store.errors import StoreError
from camfleet_gateway.webhooks.config import WebhooksFileError
from camfleet_protocol.local import write_atomic
from camfleet_protocol.logs import configure_logging
from camfleet_protocol.messages import MAX_VIEWER_CONTROL_BYTES
from camfleet_protocol.wire import MAX_FRAME_BYTES

logger = logging.getLogger(__name__)

GOODBYE_SECONDS = 0.2
"""Time for goodbyes to reach the kernel before connections are closed."""
MAX_WORKER_MESSAGE_BYTES = MAX_FRAME_BYTES + 64 * 1024


def run(settings: GatewaySettings) -> int:
    """Serve until SIGTERM, SIGINT or, if asked for, the end of standard input.

    Returns:
        The exit code: 0 after an orderly stop, 1 if a listener or a task broke, 2 if it could not start.
    """
    configure_logging(settings.log_level, settings.log_format)
    quiet_library_logs()
    sockets: list[socket.socket] = []
    try:
        sockets.append(listen(settings.internal_host, settings.internal_port))
        sockets.append(listen(settings.host, settings.port))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(settings, sockets[0], sockets[1]))
    except (ListenError, TokensFileError, WebhooksFileError, StoreError) as error:
        logger.error("%s", error)
        return 2
    finally:
        for listener in sockets:
            listener.close()


async def _serve(settings: GatewaySettings, internal: socket.socket, viewer: socket.socket) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.exit_with_parent:
        _stop_at_end_of_input(loop, stop)
    gateway = Gateway(settings)
    try:
        await gateway.start()
    except OSError as error:
        logger.error("the state folder cannot be used: %s", error)
        return 2
    except BackendError as error:
        logger.error("%s", error)
        return 2
    servers = (
        (server_for(internal_app(gateway), max_message_bytes=MAX_WORKER_MESSAGE_BYTES), internal),
        (server_for(viewer_app(gateway), max_message_bytes=MAX_VIEWER_CONTROL_BYTES), viewer),
    )
    tasks = [
        asyncio.create_task(server.serve(sockets=[listener]), name=f"server-{index}")
        for index, (server, listener) in enumerate(servers)
    ]
    ends = {
        asyncio.create_task(stop.wait(), name="stop"),
        asyncio.create_task(gateway.failed.wait(), name="failed"),
    }
    _announce(
        settings, viewer, internal
    )  # the sockets listen already: who connects now is served in a moment
    await asyncio.wait({*ends, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for end in ends:
        end.cancel()
    await _stop(gateway, [server for server, _ in servers], tasks)
    return 0 if stop.is_set() else 1


async def _stop(gateway: Gateway, servers: list[Server], tasks: list[asyncio.Task[None]]) -> None:
    logger.info("stopping")
    await gateway.stop()
    await asyncio.sleep(GOODBYE_SECONDS)
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)
    logger.info("stopped")


def _announce(settings: GatewaySettings, viewer: socket.socket, internal: socket.socket) -> None:
    ports = {"viewer_port": port_of(viewer), "internal_port": port_of(internal), "pid": os.getpid()}
    if settings.state_dir is not None:
        write_atomic(settings.state_dir / "gateway.json", json.dumps(ports).encode())
    logger.info(
        "listening: viewers %s:%d, internal %s:%d",
        settings.host,
        ports["viewer_port"],
        settings.internal_host,
        ports["internal_port"],
    )


def _stop_at_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    def wait() -> None:
        descriptor = sys.stdin.fileno()
        try:
            while os.read(descriptor, 4096):
                pass
        except OSError:
            logger.warning("standard input cannot be read: stopping, as if the parent had gone")
        try:
            loop.call_soon_threadsafe(stop.set)
        except RuntimeError:
            return  # the loop has ended before us

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()
