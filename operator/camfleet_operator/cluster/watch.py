"""kopf as the source of events: each event of a camera or profile goes to the store.

Only `on.event` is used. Such a handler is level-triggered, kopf writes nothing to the objects for it, and
what it raises would be swallowed: so it only stores and enqueues. kopf tells nothing of what disappeared
while a watch was broken; `Resync` finds that. Pods are followed by `PodWatch`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf

from camfleet_operator.cluster.connection import ConnectionInfo
from camfleet_operator.cluster.store import Kind, Store
from camfleet_protocol.cluster import CAMERAS, GROUP, PROFILES, VERSION

_RELOGIN = timedelta(minutes=5)
_SERVER_TIMEOUT = 300
_PAGE = 500


class Watch:
    """Follows the cluster until told to stop.

    Args:
        store: Where news goes.
        changed: Called with a camera that something was heard of.
        connection: Gives the way to the API server, with a token that is still good.
        namespaces: Which to follow; all if empty.
    """

    def __init__(
        self,
        store: Store,
        changed: Callable[[str], None],
        connection: Callable[[], ConnectionInfo],
        namespaces: tuple[str, ...] = (),
    ) -> None:
        self._store = store
        self._changed = changed
        self._connection = connection
        self._namespaces = namespaces

    async def run(self, stop: asyncio.Event, started: Callable[[], None] = lambda: None) -> None:
        """Follow until `stop` is set.

        Args:
            stop: Ends it.
            started: Called when kopf has set itself up, its signal handlers included.
        """
        quiet_kopf()
        ours = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=self._registry(),
            settings=_settings(),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=stop,
        )
        started()
        await kopf.run_tasks(tasks, ignored=ours)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        resources: tuple[tuple[Kind, tuple[str, ...]], ...] = (
            (Kind.CAMERA, (GROUP, VERSION, CAMERAS)),
            (Kind.PROFILE, (GROUP, VERSION, PROFILES)),
        )
        for kind, resource in resources:
            kopf.on.event(*resource, registry=registry, id=f"see-{resource[-1]}")(self._handler(kind))
        return registry

    def _handler(self, kind: Kind) -> Callable[..., Any]:
        async def see(event: kopf.RawEvent, **_: Any) -> None:
            body = event["object"]
            gone = event["type"] == "DELETED"
            for key in self._store.remove(kind, body) if gone else self._store.apply(kind, body):
                self._changed(key)

        return see

    async def _login(self, **_: Any) -> kopf.ConnectionInfo:
        info = self._connection()
        scheme, _separator, token = info.authorization.partition(" ")
        return kopf.ConnectionInfo(
            server=info.server,
            ca_path=info.ca_path,
            insecure=info.insecure or None,
            scheme=scheme or None,
            token=token or None,
            certificate_path=info.certificate_path,
            private_key_path=info.private_key_path,
            proxy_url=info.proxy,
            expiration=datetime.now(UTC) + _RELOGIN,
        )


class _NoDiffBase(kopf.DiffBaseStorage):
    """Nothing is compared: kopf would copy every object of every event for handlers that we do not have."""

    def build(
        self, *, body: kopf.Body, extra_fields: Iterable[kopf.FieldSpec] | None = None
    ) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nowhere."""


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffBase()
    # What is served does not change under us, and looking would need rights on CRDs and namespaces.
    settings.scanning.disabled = True
    settings.watching.server_timeout = _SERVER_TIMEOUT
    settings.watching.client_timeout = _SERVER_TIMEOUT + 10
    settings.watching.chunk_size = _PAGE
    settings.networking.request_timeout = 30
    # An object's own task in kopf ends soon after its last event: thousands of idle ones are memory.
    settings.queueing.idle_timeout = 0.5
    return settings


def quiet_kopf() -> None:
    """Keep kopf's chatter about each object out of the log."""
    for name in ("kopf", "kopf.objects"):
        logging.getLogger(name).setLevel(logging.WARNING)
