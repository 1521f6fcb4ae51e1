"""Where the API server is and who we are there, from a kubeconfig or from the pod's ServiceAccount.

Reading both formats is left to the official client's configuration loader; its API classes are not used, for
a call through them costs several times the CPU of one through a raw session. Tokens are short-lived: the
sources are read again every minute, and at once when the API server says 401.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException
from kubernetes.aio.config.incluster_config import SERVICE_HOST_ENV_NAME

from camfleet_protocol.redaction import redact

REFRESH_SECONDS = 60.0

_loader: Any = kubernetes_config  # its functions have no annotations


class ConnectionConfigError(Exception):
    """There is no usable configuration; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """How to reach the API server, for clients other than ours.

    Attributes:
        server: Its URL.
        authorization: Value of the Authorization header now, or empty where a client certificate is used.
        ca_path: File with the CA, or None for the system's.
        insecure: Whether the server's certificate is not verified.
        certificate_path: The client's certificate.
        private_key_path: Its key.
        server_name: Name that the server's certificate is for, where it is not the URL's.
        proxy: URL of an HTTP proxy.
    """

    server: str
    authorization: str = field(default="", repr=False)
    ca_path: str | None = None
    insecure: bool = False
    certificate_path: str | None = None
    private_key_path: str | None = None
    server_name: str | None = None
    proxy: str | None = None

    def ssl_context(self) -> ssl.SSLContext:
        """Verify the server as configured and present the client's certificate, if there is one."""
        context = ssl.create_default_context(cafile=self.ca_path)
        # Clusters' own CAs often lack what RFC 5280 wants of them, and newer Pythons check it by default.
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate_path:
            context.load_cert_chain(self.certificate_path, self.private_key_path)
        return context


class Connection:
    """A configuration that is kept fresh.

    Args:
        kubeconfig: A kubeconfig file; None for the ServiceAccount of the pod that this process runs in.
        clock: Monotonic seconds.
    """

    def __init__(self, kubeconfig: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._kubeconfig = kubeconfig
        self._clock = clock
        self._configuration: Any = Configuration()
        self._loaded_at = float("-inf")

    async def load(self) -> ConnectionInfo:
        """Read everything.

        Raises:
            ConnectionConfigError: There is no configuration, or it is not usable.
        """
        try:
            await self._read()
            self.info.ssl_context()
        except (ConfigException, OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            where = self._kubeconfig or "the pod's ServiceAccount"
            raise ConnectionConfigError(f"{where}: {redact(str(error))}") from error
        return self.info

    @property
    def info(self) -> ConnectionInfo:
        """What was read last."""
        read = self._configuration
        return ConnectionInfo(
            server=str(read.host).rstrip("/"),
            authorization=_scheme(read.api_key.get("BearerToken") or ""),
            ca_path=read.ssl_ca_cert or None,
            insecure=not read.verify_ssl,
            certificate_path=read.cert_file or None,
            private_key_path=read.key_file or None,
            server_name=getattr(read, "tls_server_name", None),
            proxy=getattr(read, "proxy", None),
        )

    @property
    def due(self) -> bool:
        """Whether the token should be read again."""
        return self._clock() - self._loaded_at >= REFRESH_SECONDS

    async def refresh(self) -> str:
        """Read the sources again; returns the Authorization header, the old one where they cannot be read."""
        try:
            await self._read()
        except (ConfigException, OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
            # A file in the middle of its replacement; the old token is good for minutes to come.
            self._loaded_at = self._clock()
        return self.info.authorization

    async def _read(self) -> None:
        if self._kubeconfig is None:
            if not os.environ.get(SERVICE_HOST_ENV_NAME):
                raise ConfigException("this is not a pod of a cluster; name a kubeconfig file")
            _loader.load_incluster_config(self._configuration, try_refresh_token=False)
        else:
            if not self._kubeconfig.is_file():
                raise ConfigException("no such file")
            await _loader.load_kube_config(
                str(self._kubeconfig), client_configuration=self._configuration, persist_config=False
            )
        self._loaded_at = self._clock()


def _scheme(value: str) -> str:
    # The loader writes `bearer`; some proxies in front of API servers know only `Bearer`. A token file may
    # end with a newline, which no header may hold.
    scheme, _, rest = value.strip().partition(" ")
    return f"{scheme.capitalize()} {rest.strip()}" if rest else value.strip()
