"""Kubernetes Events about cameras: what `kubectl describe camera` shows at its end.

Core/v1 Events, because those carry a count that every version of kubectl prints. Events are a service to
readers and nothing else: they wait behind every other write, are dropped when there are too many, and their
failure is nobody's failure.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from camfleet_operator.cluster.api import Api
from camfleet_operator.cluster.api_errors import ApiError, NotFound, TooManyRequests, Unavailable
from camfleet_operator.cluster.writes import Priority, WriteBudget
from camfleet_protocol.redaction import redact

logger = logging.getLogger(__name__)

QUIET_SECONDS = 600.0
"""Between two writes about the same thing."""
MAX_REMEMBERED = 10_000
MAX_WAITING = 1_000
MAX_NOTE_BYTES = 1024
MAX_REASON = 128
_MAX_NAME = 200

_Key = tuple[str, str, bytes]
"""UID, reason, digest of the note."""


@dataclass(slots=True)
class _Happening:
    """One thing that has happened to an object, once or many times."""

    reference: dict[str, str]
    kind: str
    reason: str
    note: str
    first: float
    """Unix seconds, as `last`."""
    last: float
    count: int
    name: str = ""
    """Of the Event object; empty before it is written."""
    written_at: float = float("-inf")
    """Monotonic seconds."""


class EventRecorder:
    """Writes Events in the background.

    Args:
        api: The API server.
        budget: Events are its lowest priority.
        component: Who says so.
        leading: Whether this replica leads. One that does not drops what it has recorded: it is now another's
            turn to speak.
        clock: Monotonic seconds.
        wall: Unix seconds.
    """

    def __init__(
        self,
        api: Api,
        budget: WriteBudget,
        component: str = "camfleet-operator",
        *,
        leading: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._budget = budget
        self._component = component
        self._leading = leading
        self._instance = socket.gethostname()[:_MAX_NAME]
        self._clock = clock
        self._wall = wall
        self._known: OrderedDict[_Key, _Happening] = OrderedDict()
        self._waiting: OrderedDict[_Key, _Happening] = OrderedDict()
        self._filled = asyncio.Event()
        self._complained: set[str] = set()
        self.dropped = 0
        """How many were given up, for lack of a turn or the lead, or because the API server refused them."""

    def record(self, camera_ref: Mapping[str, str], type: str, reason: str, note: str) -> None:
        """Say that something has happened. Returns at once and never raises.

        Args:
            camera_ref: `apiVersion`, `kind`, `namespace`, `name` and `uid` of the object.
            type: `Normal` or `Warning`.
            reason: CamelCase.
            note: A sentence; credentials are taken out of it.
        """
        text = _shorten(redact(note))
        key = (camera_ref.get("uid", ""), reason, hashlib.sha256(text.encode()).digest()[:12])
        now = self._wall()
        happening = self._known.get(key)
        if happening is None:
            happening = _Happening(dict(camera_ref), type, reason[:MAX_REASON], text, now, now, 0)
            self._known[key] = happening
            if len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        happening.count += 1
        happening.last = now
        if key not in self._waiting and self._clock() - happening.written_at >= QUIET_SECONDS:
            self._waiting[key] = happening
            if len(self._waiting) > MAX_WAITING:
                self._forget(*self._waiting.popitem(last=False))
                self.dropped += 1
            self._filled.set()

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        while True:
            await self._filled.wait()
            async with self._budget.take(Priority.EVENT):
                # Chosen when its turn has come: what has been dropped meanwhile is not written, and a replica
                # that led when it recorded this may no longer do so.
                if not self._leading():
                    self._drop_all()
                elif self._waiting:
                    key, happening = self._waiting.popitem(last=False)
                    await self._write(key, happening)
            if not self._waiting:
                self._filled.clear()

    def _drop_all(self) -> None:
        self.dropped += len(self._waiting)
        for key, happening in self._waiting.items():
            self._forget(key, happening)
        self._waiting.clear()

    async def _write(self, key: _Key, happening: _Happening) -> None:
        happening.written_at = self._clock()
        collection = f"/api/v1/namespaces/{happening.reference.get('namespace') or 'default'}/events"
        try:
            if happening.name:
                try:
                    await self._api.patch_merge(f"{collection}/{happening.name}", self._again(happening))
                    return
                except NotFound:  # an Event lives an hour
                    happening.first, happening.count = happening.last, 1
            body = self._first(happening)
            await self._api.create(collection, body, metadata_only=True)
            happening.name = body["metadata"]["name"]
        except ApiError as error:
            if isinstance(error, Unavailable | TooManyRequests):
                self._forget(key, happening)
            self.dropped += 1
            if error.reason not in self._complained:
                self._complained.add(error.reason)
                logger.warning("an Event could not be written, and more like it may follow: %s", error)

    def _forget(self, key: _Key, happening: _Happening) -> None:
        """Let it be tried again the next time it happens, rather than in ten minutes."""
        happening.written_at = float("-inf")
        if not happening.name:
            self._known.pop(key, None)

    def _first(self, happening: _Happening) -> dict[str, Any]:
        reference = happening.reference
        # As client-go names them: no two at the same nanosecond.
        stamp = f"{time.time_ns():x}"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{reference.get('name', '')[:_MAX_NAME]}.{stamp}"},
            "involvedObject": reference,
            "type": happening.kind,
            "reason": happening.reason,
            "message": happening.note,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
            "firstTimestamp": _time(happening.first),
            "lastTimestamp": _time(happening.last),
            "count": happening.count,
        }

    def _again(self, happening: _Happening) -> dict[str, Any]:
        return {"count": happening.count, "lastTimestamp": _time(happening.last)}


def _shorten(text: str) -> str:
    """At most `MAX_NOTE_BYTES` of UTF-8, cut between characters."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= MAX_NOTE_BYTES:
        return encoded.decode()
    return encoded[: MAX_NOTE_BYTES - 3].decode(errors="ignore") + "…"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
