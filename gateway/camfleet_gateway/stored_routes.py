"""What routes over stored things have in common: filters of their queries, and how they refuse."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from camfleet_gateway.event_filter import MAX_CHARACTERS
from camfleet_gateway.models import ErrorView

Filter = Annotated[str | None, Query(max_length=MAX_CHARACTERS)]
Time = Annotated[str | None, Query(max_length=40, description="Unix seconds")]
REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorView, "description": "No valid token"},
    403: {"model": ErrorView, "description": "The role does not suffice"},
    503: {"model": ErrorView, "description": "The database is away"},
}
