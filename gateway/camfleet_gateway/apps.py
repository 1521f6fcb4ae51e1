"""The two ASGI applications: one for viewers, one for workers and Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from camfleet_gateway.alerts.routes import add_alerts
from camfleet_gateway.api_docs import render_docs
from camfleet_gateway.auth import Role, bearer_token, subprotocol_token
from camfleet_gateway.event_routes import add_events
from camfleet_gateway.failures import add_failures
from camfleet_gateway.gateway import Gateway
from camfleet_gateway.guard import Guard
from camfleet_gateway.head import HeadAsGet
from camfleet_gateway.metrics import CONTENT_TYPE, MetricsPage
from camfleet_gateway.people.routes import add_people
from camfleet_gateway.picture_routes import add_pictures
from camfleet_gateway.rest import add_rest
from camfleet_gateway.sockets import add_sockets
from camfleet_gateway.transport import LINK_EXTENSION
from camfleet_gateway.vectors.routes import add_search
from camfleet_gateway.webhooks.routes import add_webhooks
from camfleet_protocol import __version__
from camfleet_protocol.wire import SUBPROTOCOL

STATIC = Path(__file__).parent / "static"
_DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def _probes(gateway: Gateway) -> list[Route]:
    async def live(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        if gateway.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("the cameras are not known yet, or the gateway stops\n", status_code=503)

    return [Route("/livez", live), Route("/readyz", ready)]


def _asked(metrics: MetricsPage, request: Request) -> AsyncIterator[bytes]:
    """The families of `?name[]=…&name[]=…`, or all."""
    return metrics.chunks(request.query_params.getlist("name[]"))


def viewer_app(gateway: Gateway) -> ASGIApp:
    """Everything that people and programs use."""
    app = FastAPI(
        title="Camfleet gateway",
        version=__version__,
        description="Live pictures and control of a fleet of cameras. WebSockets: `/ws` (camera.v1, many "
        "cameras on one socket), `/ws/stream` and `/ws/stream/{camera_id}` (JSON, base64), `/ws/events`. "
        "Tokens go into the header `Authorization: Bearer …`, for browsers' WebSockets into the subprotocol "
        "`base64url.bearer.authorization.camfleet.io.…`. Page: `/`; metrics: `/metrics`.",
        docs_url=None,
        redoc_url=None,
    )
    add_failures(app)
    app.router.routes.extend(_probes(gateway))
    add_rest(app, gateway)
    add_pictures(app, gateway)
    add_events(app, gateway)
    add_people(app, gateway)
    add_alerts(app, gateway)
    add_webhooks(app, gateway)
    add_search(app, gateway)
    add_sockets(app, gateway)
    metrics = MetricsPage(gateway)
    may_watch = gateway.identity.require(Role.VIEWER)

    async def scrape(request: Request) -> Response:
        may_watch(request)
        return StreamingResponse(_asked(metrics, request), media_type=CONTENT_TYPE)

    async def docs(_: Request) -> Response:
        return HTMLResponse(render_docs(app.openapi()), headers={"Content-Security-Policy": _DOCS_POLICY})

    async def page(_: Request) -> Response:
        index = STATIC / "index.html"
        if not index.is_file():
            return PlainTextResponse("The page is not installed; the API is described at /docs.\n")
        return FileResponse(index, headers={"Cache-Control": "no-cache"})

    app.router.routes.extend([Route("/metrics", scrape), Route("/docs", docs), Route("/", page)])
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False))
    settings = gateway.settings
    return Guard(
        HeadAsGet(app),
        loopback_only=not settings.authentication,
        allowed_hosts=settings.allowed_host,
        allowed_origins=settings.allowed_origin,
        refused=gateway.refused,
    )


def internal_app(gateway: Gateway) -> ASGIApp:
    """Workers, Prometheus and probes."""
    metrics = MetricsPage(gateway)

    async def worker(websocket: WebSocket) -> None:
        offered: list[str] = websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        link = websocket.scope["extensions"][LINK_EXTENSION]
        if SUBPROTOCOL not in offered:
            link.close(1002, f"the subprotocol {SUBPROTOCOL} is needed")
            return
        token = bearer_token(websocket.headers.get("authorization")) or subprotocol_token(offered)
        await gateway.workers.serve(link, token)

    async def scrape(request: Request) -> Response:
        return StreamingResponse(_asked(metrics, request), media_type=CONTENT_TYPE)

    return Starlette(
        routes=[WebSocketRoute("/ws/worker", worker), Route("/metrics", scrape), *_probes(gateway)]
    )
