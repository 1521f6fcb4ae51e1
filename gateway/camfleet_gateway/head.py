"""HEAD, which FastAPI's routes do not know: the answer of GET without its body."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_ENDLESS = "/stream/feed"


class HeadAsGet:
    """Lets the app see GET; the server knows what was asked, and sends the head only.

    The feed stays what it is, so that its route refuses HEAD with 405: its GET would begin a stream.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and not scope["path"].endswith(_ENDLESS):
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
