"""Events that tests put into an outbox."""

from __future__ import annotations

from typing import Any

from camfleet_worker.outbox import Outbox


def put(outbox: Outbox, event_id: str, **changes: Any) -> None:
    """Put an appearance in."""
    values: dict[str, Any] = {
        "kind": "appearance",
        "severity": "info",
        "message": "",
        "data": {},
        "time": 1000.0,
    }
    outbox.put(event_id, **(values | changes))
