"""The Kubernetes API as JSON over HTTP: configuration and TLS by the official client, without its models.

Its models cost about a millisecond of CPU per object, and a Camera is read with our own anyway. Importing
this module takes most of a second, so only a gateway in a cluster does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config.config_exception import ConfigException

from camfleet_gateway.directory import BackendError
from camfleet_protocol import __version__

logger = logging.getLogger(__name__)

CALL_SECONDS = 10.0
CONNECT_SECONDS = 5.0
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
"""Server-side apply; JSON is YAML."""

Json = dict[str, Any]


class KubeConfigError(BackendError):
    """It is not known where the API server is or how to talk to it."""


class KubeError(Exception):
    """The API server has refused; the text is its own message."""

    def __init__(self, status: int, reason: str, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message or reason or f"HTTP {status}")
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        """Seconds it asks us to wait, with 429 and some 503; else 0."""


class KubeUnreachableError(Exception):
    """No answer came: no connection, TLS, a timeout."""

    def __init__(self, text: str, *, untrusted: bool = False) -> None:
        super().__init__(text)
        self.untrusted = untrusted
        """Whether TLS failed: the certificates that we were given may be old."""


class Kube:
    """A connection pool to one API server."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        """Prepare it; nothing is read yet.

        Args:
            kubeconfig: Where the API server is; None for a pod's own ServiceAccount.
        """
        self._kubeconfig = kubeconfig
        self._configuration: Configuration | None = None
        self._rest: RESTClientObject | None = None

    async def open(self) -> None:
        """Read the configuration (again): after a 401 or a TLS failure, files may have changed.

        Raises:
            KubeConfigError: It cannot be used.
        """
        configuration = Configuration()
        try:
            if self._kubeconfig is None:
                kubernetes_config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
                # A proxy of the environment is for the world outside, never for the cluster's own API server.
                configuration.client_session_kwargs = {"trust_env": False}
            else:
                await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                    str(self._kubeconfig), client_configuration=configuration, persist_config=False
                )
            rest = RESTClientObject(configuration)
        except (ConfigException, OSError, ValueError, yaml.YAMLError) as error:
            where = f"kubeconfig {self._kubeconfig}" if self._kubeconfig else "this pod's ServiceAccount"
            raise KubeConfigError(f"the API server cannot be addressed by {where}: {error}") from None
        before, self._rest, self._configuration = self._rest, rest, configuration
        if before is not None:
            await _close(before)

    async def close(self) -> None:
        """End all connections."""
        if self._rest is not None:
            await _close(self._rest)
            self._rest = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = JSON,
        seconds: float = CALL_SECONDS,
    ) -> Json:
        """Make one request and decode the answer.

        Raises:
            KubeError: The API server refused.
            KubeUnreachableError: It did not answer in time.
        """
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        async with self._answer(method, path, query, body, content_type, limits) as answer:
            return _decode(await answer.read())

    @contextlib.asynccontextmanager
    async def lines(
        self, path: str, query: Mapping[str, str], *, idle_seconds: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Open an answer that comes line by line, each within `idle_seconds` of the one before.

        Raises:
            KubeError: The API server refused.
            KubeUnreachableError: The connection broke or fell silent, also while lines are read.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=idle_seconds)
        async with self._answer("GET", path, query, None, JSON, limits) as answer:
            yield answer.content

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Json | None,
        content_type: str,
        limits: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        rest, configuration = self._rest, self._configuration
        if rest is None or configuration is None:
            raise KubeUnreachableError("not connected")
        url = configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {
            "Content-Type": content_type,
            "Accept": JSON,
            "User-Agent": f"camfleet-gateway/{__version__}",
        }
        try:
            settings: Any = await configuration.auth_settings()
            headers |= {setting["key"]: setting["value"] for setting in settings.values()}
            made: Any = await rest.request(  # type: ignore[no-untyped-call]
                method, url, headers=headers, body=body, _request_timeout=limits
            )
            async with made.response as answer:
                if answer.status >= 400:
                    raise _refusal(answer, await answer.read())
                yield answer
        except TimeoutError:
            raise KubeUnreachableError("no answer in time") from None
        except (aiohttp.ClientError, ConfigException, OSError) as error:
            text = str(error) or type(error).__name__
            raise KubeUnreachableError(text, untrusted=isinstance(error, aiohttp.ClientSSLError)) from None


async def _close(rest: RESTClientObject) -> None:
    await rest.close()
    await asyncio.sleep(0)  # its transports close in the loop's next turn


def _decode(content: bytes) -> Json:
    try:
        decoded = json.loads(content)
    except ValueError:
        raise KubeUnreachableError("an answer that is not JSON") from None
    if not isinstance(decoded, dict):
        raise KubeUnreachableError("an answer that is not an object")
    return decoded


def _refusal(answer: aiohttp.ClientResponse, content: bytes) -> KubeError:
    try:
        status = json.loads(content)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        status = {}
    try:
        retry_after = float(answer.headers.get("Retry-After", "0"))
    except ValueError:
        retry_after = 0.0
    return KubeError(
        answer.status,
        str(status.get("reason") or answer.reason or ""),
        str(status.get("message") or ""),
        retry_after=min(max(retry_after, 0.0), 60.0),
    )
