"""From a request to a principal, and what each role may do."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import HTTPException, Request, WebSocket

from camfleet_gateway.auth import (
    Action,
    Authenticator,
    Principal,
    Role,
    Tickets,
    bearer_token,
    subprotocol_token,
)


class Problem(HTTPException):
    """An answer of the form `{"error": {"code", "message", "problems"}}`."""

    def __init__(self, status: int, code: str, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(status, message)
        self.code = code
        self.problems = problems


class Identity:
    """Recognises requests."""

    def __init__(self, authenticator: Authenticator, tickets: Tickets) -> None:
        self.authenticator = authenticator
        self.tickets = tickets

    def of_request(self, request: Request) -> Principal | None:
        """Who sent a request, by its Authorization header."""
        return self.authenticator.viewer(bearer_token(request.headers.get("authorization")))

    def of_websocket(self, websocket: WebSocket) -> Principal | None:
        """Who opened a WebSocket, by header (programs) or subprotocol (browsers)."""
        token = bearer_token(websocket.headers.get("authorization")) or subprotocol_token(
            websocket.scope["subprotocols"]
        )
        return self.authenticator.viewer(token)

    def require(self, role: Role) -> Callable[[Request], Principal]:
        """A dependency that lets through whoever has at least `role`."""

        def check(request: Request) -> Principal:
            principal = self.of_request(request)
            if principal is None:
                raise Problem(401, "unauthenticated", "a valid token is needed: Authorization: Bearer cft_…")
            if principal.role < role:
                raise Problem(
                    403, "forbidden", f"this needs the role {role.label}, yours is {principal.role.label}"
                )
            return principal

        return check

    def allow_picture(self, request: Request, camera: str, action: Action) -> Principal:
        """Let through a viewer, or whoever has a ticket for this very picture.

        Raises:
            Problem: With 401 for neither.
        """
        principal = self.of_request(request)
        if principal is not None:
            return principal
        ticket = request.query_params.get("ticket")
        issuer = self.tickets.issuer(ticket, camera, action) if ticket is not None else None
        if issuer is not None and (principal := self.authenticator.issuer(issuer)) is not None:
            return principal
        raise Problem(401, "unauthenticated", "a valid token or a ticket for this picture is needed")
