"""The Kubernetes API through one raw HTTP session: paths and dicts in, dicts and typed errors out.

Nothing is retried here but what the HTTP client repeats by itself (idempotent requests on a connection that
the server had closed), a rejected token and a list whose continuation has expired: the work queue retries
reconciles, and it looks at the world again before it does.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from camfleet_operator.cluster.api_errors import (
    MAX_MESSAGE,
    Conflict,
    Expired,
    NotFound,
    TooManyRequests,
    Unavailable,
    error_of,
)
from camfleet_operator.cluster.connection import Connection, ConnectionInfo
from camfleet_protocol.redaction import redact

TIMEOUT_SECONDS = 30.0
CONNECT_SECONDS = 10.0
MAX_CONNECTIONS = 100
WATCH_SECONDS = 240
SILENT_SECONDS = 75.0
"""Without a byte for so long a watch is dead: bookmarks come every minute."""
_LONGEST_EVENT = 4 * 1024 * 1024
_LIST_RESTARTS = 3

_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

Object = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """All objects of a collection at one version of it."""

    items: list[T]
    resource_version: str


class Api:
    """A client of one API server; an async context manager.

    Args:
        kubeconfig: A kubeconfig file; None for the ServiceAccount of the pod that this process runs in.
        on_write: Called with `verb_resource` (`create_pods`, `apply_cameras_status`) for each write sent.
        on_throttled: Called with seconds when the API server asks for a pause: a 429, or a 503 that says for
            how long.
        timeout: Seconds for one request; a list has as many requests as pages.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        kubeconfig: Path | None,
        *,
        on_write: Callable[[str], None] | None = None,
        on_throttled: Callable[[float], None] | None = None,
        timeout: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = Connection(kubeconfig, clock=clock)
        self.on_write = on_write
        self.on_throttled = on_throttled
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._server = ""
        self._authorization = ""
        self._extra: dict[str, Any] = {}

    @classmethod
    def connect(cls, kubeconfig: Path | None, **options: Any) -> Self:
        """`async with Api.connect(path) as api`."""
        return cls(kubeconfig, **options)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Read the configuration. No request is made yet.

        Raises:
            ConnectionConfigError: There is no configuration, or it is not usable.
        """
        info = await self._connection.load()
        self._server, self._authorization = info.server, info.authorization
        self._extra = {}
        if info.server_name:
            self._extra["server_hostname"] = info.server_name
        if info.proxy:
            self._extra["proxy"] = info.proxy
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=info.ssl_context(), limit=MAX_CONNECTIONS, keepalive_timeout=75.0
            ),
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Uncompressed: unpacking costs more CPU than a cluster's network saves.
            headers={"Accept-Encoding": "identity", "User-Agent": "camfleet-operator"},
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
            await asyncio.sleep(0.01)  # a TLS connection is closed by the loop's next rounds

    def connection_info(self) -> ConnectionInfo:
        """How to reach the API server, with the current token."""
        return self._connection.info

    async def refresh_connection(self) -> ConnectionInfo:
        """Read token and certificates again and return them."""
        self._authorization = await self._connection.refresh()
        return self._connection.info

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────────

    async def list(
        self, path: str, *, label_selector: str | None = None, limit: int = 500
    ) -> Listing[Object]:
        """All objects of a collection; see `list_as`."""
        return await self.list_as(path, lambda item: item, label_selector=label_selector, limit=limit)

    async def list_as(
        self,
        path: str,
        convert: Callable[[Object], T],
        *,
        label_selector: str | None = None,
        limit: int = 500,
    ) -> Listing[T]:
        """All objects of a collection, in pages, each object converted as its page arrives.

        Only one page is in memory in its raw form, which is many times the size of what `convert` keeps.
        Items of a list carry no `kind` and no `apiVersion`.
        """
        for _ in range(_LIST_RESTARTS):
            try:
                return await self._list(path, convert, label_selector, limit)
            except Expired:
                continue
        return await self._list(path, convert, label_selector, 0)

    async def _list(
        self, path: str, convert: Callable[[Object], T], selector: str | None, limit: int
    ) -> Listing[T]:
        items: list[T] = []
        params = {"limit": str(limit)} if limit else {}
        if selector:
            params["labelSelector"] = selector
        while True:
            page = await self._request("GET", path, params=params)
            items.extend(map(convert, page.get("items") or ()))
            metadata = page.get("metadata") or {}
            if not (token := metadata.get("continue")):
                return Listing(items, str(metadata.get("resourceVersion", "")))
            params["continue"] = token

    async def get(self, path: str) -> Object | None:
        """One object, or None."""
        try:
            return await self._request("GET", path)
        except NotFound:
            return None

    async def watch(
        self, path: str, *, resource_version: str, label_selector: str | None = None
    ) -> AsyncIterator[tuple[str, Object]]:
        """Events of a collection from a version on: `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, with objects.

        Ends when the API server ends it, every few minutes: go on from the last object's version.

        Raises:
            Expired: That version is too old; list again.
            Unavailable: The connection broke, or not even a bookmark has come for too long.
        """
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(random.randrange(WATCH_SECONDS, 2 * WATCH_SECONDS)),
        }
        if label_selector:
            params["labelSelector"] = label_selector
        if self._connection.due:
            self._authorization = await self._connection.refresh()
        if self._session is None:
            raise Unavailable(0, "Closed", "the connection to the API server is closed")
        url = URL(f"{self._server}{path}?{urlencode(params)}", encoded=True)
        headers = {"Accept": _JSON, **({"Authorization": self._authorization} if self._authorization else {})}
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
        try:
            async with self._session.get(
                url,
                headers=headers,
                timeout=timeout,
                read_bufsize=_LONGEST_EVENT // 2,
                allow_redirects=False,
                **self._extra,
            ) as response:
                if response.status != 200:
                    answer = _object(await response.read())
                    raise error_of(response.status, response.headers, answer, f"watch {path}")
                async for line in response.content:
                    event = _object(line)
                    kind, found = str(event.get("type", "")), event.get("object") or {}
                    if not kind or not found:
                        raise Unavailable(0, "CutOff", f"watch {path}: an event was cut off")
                    if kind == "ERROR":
                        raise error_of(int(found.get("code") or 500), {}, found, f"watch {path}")
                    yield kind, found
        except TimeoutError as error:
            raise Unavailable(0, "Timeout", f"watch {path}: silent for too long") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = redact(str(error) or type(error).__name__)[:MAX_MESSAGE]
            raise Unavailable(0, "Unreachable", f"watch {path}: {text}") from error

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────────

    async def create(self, path: str, body: Object, *, metadata_only: bool = False) -> Object:
        """POST to a collection; returns the object, or only its metadata, which is cheaper to read.

        Raises:
            AlreadyExists: There is one of this name.
        """
        self._count("create", path)
        accept = _METADATA if metadata_only else _JSON
        return await self._request("POST", path, body=body, accept=accept)

    async def delete(self, path: str, *, uid: str | None = None, grace_seconds: int | None = None) -> bool:
        """Delete an object; False if it, or the one with this UID, is not there."""
        options: Object = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        self._count("delete", path)
        try:
            await self._request("DELETE", path, body=options, accept=_METADATA, parse=False)
        except NotFound:
            return False
        except Conflict:
            if uid is None:
                raise
            return False
        return True

    async def apply(
        self, path: str, body: Object, *, field_manager: str, metadata_only: bool = False
    ) -> Object:
        """Server-side apply of an object; another manager's fields are taken over.

        Returns the object, or only its metadata, which is cheaper to read.
        """
        self._count("apply", path)
        params = {"fieldManager": field_manager, "force": "true"}
        accept = _METADATA if metadata_only else _JSON
        return await self._request(
            "PATCH", path, params=params, body=body, content_type=_APPLY, accept=accept
        )

    async def apply_status(self, path: str, body: Object, *, field_manager: str) -> Object:
        """Server-side apply of the status of the object at `path`; returns the object's metadata."""
        return await self.apply(f"{path}/status", body, field_manager=field_manager, metadata_only=True)

    async def patch_merge(self, path: str, body: Object) -> Object:
        """Merge patch."""
        self._count("patch", path)
        return await self._request("PATCH", path, body=body, content_type=_MERGE)

    async def update(self, path: str, body: Object) -> Object:
        """Replace an object.

        Raises:
            Conflict: `metadata.resourceVersion` of the body is not the current one.
        """
        self._count("update", path)
        return await self._request("PUT", path, body=body)

    # ── Private parts ───────────────────────────────────────────────────────────────────────────────

    def _count(self, verb: str, path: str) -> None:
        if self.on_write is not None:
            self.on_write(f"{verb}_{resource_of(path)}")

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        parse: bool = True,
    ) -> Object:
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        url = URL(f"{self._server}{path}{f'?{urlencode(params)}' if params else ''}", encoded=True)
        if self._connection.due:
            self._authorization = await self._connection.refresh()
        status, headers, raw = await self._send(method, url, data, content_type, accept)
        if status == 401 and (renewed := await self._connection.refresh()) != self._authorization:
            self._authorization = renewed
            status, headers, raw = await self._send(method, url, data, content_type, accept)
        if status < 400 and not parse:
            return {}
        try:
            answer = (_read_metadata(raw) if accept == _METADATA else json.loads(raw)) if raw else {}
        except ValueError:
            answer = {"message": raw[:MAX_MESSAGE].decode(errors="replace")}
            if status < 400:
                raise Unavailable(
                    status, "InvalidAnswer", f"{method} {path}: the answer is no JSON"
                ) from None
        if status < 400 and isinstance(answer, dict):
            return answer
        error = error_of(status, headers, answer if isinstance(answer, dict) else {}, f"{method} {path}")
        if self.on_throttled is not None and (
            isinstance(error, TooManyRequests) or (isinstance(error, Unavailable) and error.asks_for_pause)
        ):
            self.on_throttled(error.retry_after)
        raise error

    async def _send(
        self, method: str, url: URL, data: bytes | None, content_type: str, accept: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        if self._session is None:
            raise Unavailable(0, "Closed", "the connection to the API server is closed")
        headers = {"Accept": accept}
        if data is not None:
            headers["Content-Type"] = content_type
        if self._authorization:
            headers["Authorization"] = self._authorization
        try:
            async with self._session.request(
                method, url, data=data, headers=headers, allow_redirects=False, **self._extra
            ) as response:
                return response.status, response.headers, await response.read()
        except TimeoutError as error:
            text = f"{method} {url.path}: no answer from {self._server} within {self._timeout:g} s"
            raise Unavailable(0, "Timeout", text) from error
        except (aiohttp.ClientError, OSError) as error:
            text = redact(str(error) or type(error).__name__)[:MAX_MESSAGE]
            raise Unavailable(0, "Unreachable", f"{method} {url.path}: {text}") from error


def _object(raw: bytes) -> Object:
    """Decoded JSON, or an empty object for what is none."""
    try:
        decoded = json.loads(raw) if raw else {}
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def resource_of(path: str) -> str:
    """Plural of an API path's resource, with a subresource after an underscore.

    `/api/v1/namespaces/N/pods/P` is `pods`; `/apis/G/V/namespaces/N/cameras/C/status` is `cameras_status`.
    """
    parts = path.split("/")
    rest = parts[3:] if parts[1] == "api" else parts[4:]
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    return f"{rest[0]}_{rest[2]}" if len(rest) > 2 else rest[0]


def _read_metadata(raw: bytes) -> Any:
    """Parse an answer to `_METADATA` without `managedFields`, the last and by far the largest of its fields.

    Inside a JSON string the quotes would be escaped, so what is looked for cannot be a label's value.
    """
    head, found, _ = raw.partition(b',"managedFields":')
    if found:
        try:
            return json.loads(head + b"}}")
        except ValueError:  # another order than every API server's so far
            pass
    return json.loads(raw)
