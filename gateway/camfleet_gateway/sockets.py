"""The WebSocket endpoints of the viewer listener."""

from __future__ import annotations

import logging

from fastapi import FastAPI, WebSocket

from camfleet_gateway.auth import Principal
from camfleet_gateway.event_filter import event_filter
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.hub import TooManyError
from camfleet_gateway.query import flag, rate
from camfleet_gateway.transport import LINK_EXTENSION, Link
from camfleet_gateway.ws_text import EventListener, LegacyViewer, serve_events, serve_legacy
from camfleet_gateway.ws_v1 import Viewer, serve_v1
from camfleet_protocol.wire import SUBPROTOCOL

logger = logging.getLogger(__name__)

PROTOCOL_ERROR, POLICY, TRY_LATER, UNAUTHENTICATED, UNKNOWN_CAMERA = 1002, 1008, 1013, 4401, 4404


async def _enter(gateway: Gateway, websocket: WebSocket, *, versioned: bool) -> tuple[Link, Principal] | None:
    """Accept a viewer, or close with the code that says why not. Browsers cannot read an HTTP status."""
    offered = SUBPROTOCOL in websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=SUBPROTOCOL if offered else None)
    link: Link = websocket.scope["extensions"][LINK_EXTENSION]
    principal = gateway.identity.of_websocket(websocket)
    if principal is None:
        gateway.refused["unauthenticated"] += 1
        link.close(UNAUTHENTICATED, "a valid token is needed")
        return None
    if versioned and not offered:
        gateway.refused["subprotocol"] += 1
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
        viewer = Viewer(link, principal, hub=gateway.hub, clock=gateway.clock)
        try:
            await serve_v1(viewer, hub=gateway.hub, roster=gateway.roster)
        except TooManyError as error:
            link.close(TRY_LATER, str(error))

    @app.websocket("/ws/stream")
    async def legacy_first(websocket: WebSocket) -> None:
        await legacy(websocket, websocket.query_params.get("camera_id"))

    @app.websocket("/ws/stream/{camera_id}")
    async def legacy_named(websocket: WebSocket, camera_id: str) -> None:
        await legacy(websocket, camera_id)

    async def legacy(websocket: WebSocket, name: str | None) -> None:
        entered = await _enter(gateway, websocket, versioned=False)
        if entered is None:
            return
        link, principal = entered
        channel = gateway.hub.first() if name is None else gateway.hub.find(name)
        if channel is None:
            link.close(UNKNOWN_CAMERA, "there is no camera" if name is None else "there is no such camera")
            return
        query = websocket.query_params
        try:
            viewer = LegacyViewer(
                link,
                principal,
                channel,
                hub=gateway.hub,
                clock=gateway.clock,
                annotated=flag(query.get("annotated"), default=True),
                max_fps=rate(query.get("fps")),
            )
        except ValueError as error:
            link.close(POLICY, str(error))
            return
        try:
            await serve_legacy(viewer, hub=gateway.hub, roster=gateway.roster)
        except TooManyError as error:
            link.close(TRY_LATER, str(error))

    @app.websocket("/ws/events")
    async def events(websocket: WebSocket) -> None:
        entered = await _enter(gateway, websocket, versioned=False)
        if entered is None:
            return
        link, principal = entered
        query = websocket.query_params
        if (name := query.get("camera")) and gateway.hub.find(name) is None:
            link.close(UNKNOWN_CAMERA, "there is no such camera")
            return
        try:
            wanted = event_filter(query, gateway.hub)
        except ValueError as error:
            link.close(POLICY, str(error))
            return
        listener = EventListener(link, principal, clock=gateway.clock, wanted=wanted)
        try:
            await serve_events(listener, events=gateway.events, roster=gateway.roster)
        except TooManyError as error:
            link.close(TRY_LATER, str(error))
