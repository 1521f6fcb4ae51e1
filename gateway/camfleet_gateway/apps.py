"""The two ASGI applications: one for viewers, one for workers and Prometheus."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from camfleet_gateway.auth import bearer_token, subprotocol_token
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.guard import Guard
from camfleet_gateway.rest import add_rest
from camfleet_gateway.sockets import add_sockets
from camfleet_gateway.transport import LINK_EXTENSION
from camfleet_protocol import __version__
from camfleet_protocol.wire import SUBPROTOCOL

STATIC = Path(__file__).parent / "static"


def _live(_: Request) -> Response:
    return PlainTextResponse("ok\n")


def _readiness(gateway: Gateway) -> Route:
    async def ready(_: Request) -> Response:
        if gateway.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("the cameras are not known yet, or the gateway stops\n", status_code=503)

    return Route("/readyz", ready)


def viewer_app(gateway: Gateway) -> ASGIApp:
    """Everything that people and programs use."""
    app = FastAPI(
        title="Camfleet gateway",
        version=__version__,
        description="Live pictures and control of a fleet of cameras. WebSockets: `/ws` (camera.v1), "
        "`/ws/stream`, `/ws/stream/{camera_id}`, `/ws/events`; see docs/protocol.md.",
        docs_url=None,
        redoc_url=None,
    )
    app.router.routes.append(Route("/livez", _live))
    app.router.routes.append(_readiness(gateway))
    add_rest(app, gateway)
    add_sockets(app, gateway)

    async def page(_: Request) -> Response:
        index = STATIC / "index.html"
        if not index.is_file():
            return PlainTextResponse("The page is not installed; the API is described at /docs.\n")
        return FileResponse(index, headers={"Cache-Control": "no-cache"})

    app.router.routes.append(Route("/", page))
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False))
    settings = gateway.settings
    return Guard(
        app,
        loopback_only=not settings.authentication,
        allowed_hosts=settings.allowed_host,
        allowed_origins=settings.allowed_origin,
        refused=gateway.hub.refused,
    )


def internal_app(gateway: Gateway) -> ASGIApp:
    """Workers, Prometheus and probes."""

    async def worker(websocket: WebSocket) -> None:
        offered: list[str] = websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        link = websocket.scope["extensions"][LINK_EXTENSION]
        if SUBPROTOCOL not in offered:
            link.close(1002, f"the subprotocol {SUBPROTOCOL} is needed")
            return
        token = bearer_token(websocket.headers.get("authorization")) or subprotocol_token(offered)
        await gateway.workers.serve(link, token)

    return Starlette(
        routes=[
            WebSocketRoute("/ws/worker", worker),
            Route("/livez", _live),
            _readiness(gateway),
        ]
    )
