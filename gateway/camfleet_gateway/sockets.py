"""The WebSocket endpoints of the viewer listener."""

from __future__ import annotations

import logging

from fastapi import FastAPI, WebSocket

from camfleet_gateway.auth import Principal
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.hub import TooManyError
from camfleet_gateway.transport import LINK_EXTENSION, Link
from camfleet_protocol.wire import SUBPROTOCOL

logger = logging.getLogger(__name__)

UNAUTHENTICATED, TRY_LATER, PROTOCOL_ERROR = 4401, 1013, 1002


async def _enter(gateway: Gateway, websocket: WebSocket, *, versioned: bool) -> tuple[Link, Principal] | None:
    """Accept a viewer, or close with the code that says why not. Browsers cannot read an HTTP status."""
    offered = SUBPROTOCOL in websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=SUBPROTOCOL if offered else None)
    link: Link = websocket.scope["extensions"][LINK_EXTENSION]
    principal = gateway.identity.of_websocket(websocket)
    if principal is None:
        gateway.hub.refused["unauthenticated"] += 1
        link.close(UNAUTHENTICATED, "a valid token is needed")
        return None
    if versioned and not offered:
        gateway.hub.refused["subprotocol"] += 1
        link.close(PROTOCOL_ERROR, f"the subprotocol {SUBPROTOCOL} is needed")
        return None
    return link, principal


def add_sockets(app: FastAPI, gateway: Gateway) -> None:
    """Add the endpoints."""

    @app.websocket("/ws")
    async def version_1(websocket: WebSocket) -> None:
        entered = await _enter(gateway, websocket, versioned=True)
        if entered is None:
            return
        link, principal = entered
        try:
            await gateway.viewers.serve(link, principal)
        except TooManyError as error:
            link.close(TRY_LATER, str(error))
