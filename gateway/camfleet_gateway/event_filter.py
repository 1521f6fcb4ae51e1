"""The filters of `/api/events` and `/ws/events`, read from a query string."""

from __future__ import annotations

import math
from collections.abc import Mapping

from camfleet_gateway.hub import Hub
from camfleet_gateway.store.query import EventFilter

TEXTS = ("camera", "type", "kind", "label", "person", "identity", "zone", "severity")
TIMES = ("since", "until")
MAX_CHARACTERS = 256


def event_filter(query: Mapping[str, str], hub: Hub) -> EventFilter:
    """Read the filters; an empty value is no filter, unknown names are passed over.

    Raises:
        ValueError: A value can be none of its kind; the text says which.
    """
    texts = {name: query[name] for name in TEXTS if query.get(name)}
    for name, text in texts.items():
        if len(text) > MAX_CHARACTERS or not text.isprintable():
            raise ValueError(f"{name}: at most {MAX_CHARACTERS} printable characters")
    if "camera" in texts and (channel := hub.find(texts["camera"])) is not None:
        texts["camera"] = channel.id
    return EventFilter(**texts, since=_time(query, "since"), until=_time(query, "until"))


def _time(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name}: must be Unix seconds")
    return value
