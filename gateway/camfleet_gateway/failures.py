"""Every failure in one form: `{"error": {"code", "message", "problems"}}`, redacted, quoting no input."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from camfleet_gateway.identity import Problem
from camfleet_gateway.store.errors import UnavailableError
from camfleet_protocol.redaction import redact

logger = logging.getLogger(__name__)

_CODES = {404: "not_found", 405: "method_not_allowed"}


def failure(status: int, code: str, message: str, problems: tuple[str, ...] = ()) -> Response:
    """The answer."""
    error: dict[str, object] = {"code": code, "message": redact(message)}
    if problems:
        error["problems"] = [redact(problem) for problem in problems]
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def add_failures(app: FastAPI) -> None:
    """Install the handlers."""

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return failure(error.status_code, error.code, str(error.detail), error.problems)

    @app.exception_handler(UnavailableError)
    async def unavailable(_: Request, error: UnavailableError) -> Response:
        logger.debug("answered 503: %s", error)
        return failure(503, "store_unavailable", "events and people cannot be read or stored now")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        answer = failure(error.status_code, _CODES.get(error.status_code, "http_error"), str(error.detail))
        answer.headers.update(error.headers or {})  # Allow, with 405
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        problems = tuple(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        return failure(422, "invalid", "the request is not valid", problems)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        return failure(500, "internal", "something went wrong here; the log of the gateway says what")
