"""The API server: paths and dicts in, dicts or a `Problem` out.

The official client reads the kubeconfig (contexts, exec plugins, certificates, proxies) and makes the
connection pool; requests are raw, because a list of 5,000 Cameras is not to become 5,000 model objects.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
import yaml
from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config
from urllib3.exceptions import HTTPError

from camfleet.kubectl.errors import Missing, Problem, Refused, Unreachable
from camfleet.kubectl.target import Target
from camfleet_protocol import __version__
from camfleet_protocol.cluster import GROUP, VERSION
from camfleet_protocol.redaction import redact

FIELD_MANAGER = "kubectl-camfleet"
CAMFLEET_API = f"/apis/{GROUP}/{VERSION}"
_PAGE = 500
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0
_MERGE = "application/merge-patch+json"

Json = dict[str, Any]

# Neither has annotations that could be checked.
_client: Any = kubernetes_client
_config: Any = kubernetes_config


class Cluster:
    """One API server, as one user.

    Attributes:
        namespace: The namespace that is meant where none is given.
        context: Name of the context; empty in a pod.
        server: URL of the API server.
    """

    def __init__(self, configuration: Any, *, namespace: str, context: str) -> None:
        self.namespace = namespace
        self.context = context
        self.server = str(configuration.host).rstrip("/")
        self._configuration = configuration
        self._pool: urllib3.PoolManager = _client.ApiClient(configuration).rest_client.pool_manager

    @classmethod
    def connect(cls, target: Target) -> Cluster:
        """Read the configuration; no request is made yet.

        Raises:
            Problem: There is none, or it cannot be used.
        """
        configuration = _client.Configuration()
        path = target.kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
        present = any(Path(part).expanduser().is_file() for part in path.split(os.pathsep) if part)
        try:
            if present:
                context = _load_file(path, target, configuration)
                return cls(
                    configuration,
                    namespace=target.namespace or context.get("namespace") or "default",
                    context=context["name"],
                )
            if target.kubeconfig or not os.environ.get("KUBERNETES_SERVICE_HOST"):
                raise Problem(
                    f"there is no kubeconfig at {path}", "name one with --kubeconfig, or set KUBECONFIG"
                )
            _config.load_incluster_config(configuration)
        except (_config.ConfigException, yaml.YAMLError, OSError, KeyError, TypeError, ValueError) as error:
            raise Problem(f"the kubeconfig {path} cannot be used: {_one_line(error)}") from None
        namespace = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
        own = namespace.read_text().strip() if namespace.is_file() else "default"
        return cls(configuration, namespace=target.namespace or own, context="")

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────────

    def get(self, path: str) -> Json:
        """One object.

        Raises:
            Missing: It is not there.
        """
        return self._json("GET", path, {})

    def find(self, path: str) -> Json | None:
        """One object, or None."""
        try:
            return self.get(path)
        except Missing:
            return None

    def items(
        self, path: str, params: Mapping[str, str] | None = None, *, names_only: bool = False, most: int = 0
    ) -> list[Json]:
        """All objects of a collection, or at least the first `most`, in pages."""
        found: list[Json] = []
        kind = "PartialObjectMetadataList"
        accept = f"application/json;as={kind};g=meta.k8s.io;v=v1" if names_only else "application/json"
        page: dict[str, str] = {**(params or {}), "limit": str(_PAGE)}
        while True:
            try:
                answer = self._json("GET", path, page, accept=accept)
            except Refused as error:
                if error.status != 410 or "continue" not in page:
                    raise
                # The rest of that version is gone; once more, all at once.
                return list(self._json("GET", path, params or {}, accept=accept).get("items") or ())
            found += answer.get("items") or ()
            token = (answer.get("metadata") or {}).get("continue")
            if not token or 0 < most <= len(found):
                return found
            page["continue"] = token

    def cameras(self, namespace: str | None) -> list[Json]:
        """All Cameras of a namespace, or of all."""
        return self.items(collection("cameras", namespace))

    def lines(self, path: str, params: Mapping[str, str]) -> Iterator[str]:
        """Lines of text as they come, such as a pod's log; with `follow` there is no time limit."""
        answer = self._send("GET", path, params, read_seconds=None if "follow" in params else _READ_SECONDS)
        _check(answer, path)
        rest = b""
        try:
            for chunk in answer.stream(65536, decode_content=True):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
        except HTTPError as error:
            raise Unreachable(f"{self.server} broke off: {_one_line(error)}") from None
        finally:
            answer.close()
        if rest:
            yield rest.decode(errors="replace")

    def pod_page(self, namespace: str, pod: str, port: int, path: str) -> tuple[int, bytes]:
        """GET a page of a pod's HTTP server through the API server: status and body.

        Raises:
            Refused: The API server does not let us.
            Unreachable: The API server cannot reach the pod.
        """
        base = f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy"
        answer = self._send("GET", f"{base}{path}", {})
        try:
            body = answer.read(decode_content=True)
        except HTTPError as error:
            raise Unreachable(f"pod {namespace}/{pod} broke off: {_one_line(error)}") from None
        # A Status is the API server's own word; anything else is the pod's.
        if answer.status >= 400 and _parse(body).get("kind") == "Status":
            if answer.status == 503:
                raise Unreachable(
                    f"the API server cannot reach pod {namespace}/{pod}: {_message(answer, body)}"
                )
            raise _error(answer, body, base)
        return answer.status, body

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────────

    def annotate(self, path: str, name: str, value: str | None) -> Json:
        """Set or remove one annotation of an object, and nothing else of it."""
        body = {"metadata": {"annotations": {name: value}}}
        return self._json("PATCH", path, {"fieldManager": FIELD_MANAGER}, body=body)

    # ── Private parts ───────────────────────────────────────────────────────────────────────────────

    def _json(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        body: Json | None = None,
        accept: str = "application/json",
    ) -> Json:
        answer = self._send(method, path, params, body=body, accept=accept)
        _check(answer, path)
        try:
            return _parse(answer.read(decode_content=True))
        except HTTPError as error:
            raise Unreachable(f"{self.server} broke off: {_one_line(error)}") from None

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        body: Json | None = None,
        accept: str = "application/json, text/plain, */*",
        read_seconds: float | None = _READ_SECONDS,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": accept, "User-Agent": f"kubectl-camfleet/{__version__}"}
        if body is not None:
            headers["Content-Type"] = _MERGE
        # Asked for every time: an exec plugin's token may have expired meanwhile.
        if authorization := self._configuration.get_api_key_with_prefix("BearerToken", "authorization"):
            headers["Authorization"] = authorization
        elif self._configuration.username:
            headers["Authorization"] = self._configuration.get_basic_auth_token()
        url = f"{self.server}{quote(path, safe='/:?=&%,')}{f'?{urlencode(params)}' if params else ''}"
        try:
            return self._pool.request(
                method,
                url,
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=read_seconds),
                preload_content=False,
                redirect=False,
                retries=False,
            )
        except (HTTPError, OSError) as error:
            where = f" (context {self.context})" if self.context else ""
            raise Unreachable(
                f"the API server {self.server}{where} cannot be reached: {_one_line(error)}",
                "kubectl cluster-info says what kubectl sees",
            ) from None


def collection(plural: str, namespace: str | None) -> str:
    """Path of Cameras or CameraProfiles."""
    return f"{CAMFLEET_API}/namespaces/{namespace}/{plural}" if namespace else f"{CAMFLEET_API}/{plural}"


def _load_file(path: str, target: Target, configuration: Any) -> dict[str, str]:
    contexts, active = _config.list_kube_config_contexts(path)
    names = [str(context["name"]) for context in contexts]
    if target.context and target.context not in names:
        raise Problem(
            f"the kubeconfig has no context {target.context}", f"it has {', '.join(names) or 'none'}"
        )
    chosen = next((c for c in contexts if c["name"] == target.context), active)
    _config.load_kube_config(path, chosen["name"], configuration, persist_config=False)
    return {"name": str(chosen["name"]), "namespace": str(chosen["context"].get("namespace") or "")}


def _parse(body: bytes) -> Json:
    try:
        decoded = json.loads(body) if body else {}
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _message(answer: urllib3.BaseHTTPResponse, body: bytes) -> str:
    said = str(_parse(body).get("message") or "") or body[:300].decode(errors="replace")
    return redact(" ".join(said.split())) or f"HTTP {answer.status}"


def _check(answer: urllib3.BaseHTTPResponse, path: str) -> None:
    if answer.status >= 300:
        raise _error(answer, answer.read(decode_content=True), path)


def _error(answer: urllib3.BaseHTTPResponse, body: bytes, path: str) -> Refused:
    message, details = _message(answer, body), _parse(body).get("details") or {}
    if answer.status == 401:
        return Refused(
            401, "the API server does not know you: the credentials are wrong or have expired", "log in again"
        )
    if answer.status == 403:
        return Refused(403, f"not allowed: {message}", _rights_hint(details, path))
    if answer.status == 404 and path.startswith(f"{CAMFLEET_API}/") and not details.get("name"):
        return Missing(
            404,
            f"this cluster does not know Cameras: the CRDs of {GROUP}/{VERSION} are not installed",
            "is this the right --context? The chart installs them; see docs/install.md",
        )
    return (Missing if answer.status == 404 else Refused)(answer.status, f"the API server says: {message}")


def _rights_hint(details: Mapping[str, Any], path: str) -> str:
    if "/namespaces/" not in path:
        return "without -A, and with -n NAMESPACE, it takes a right in one namespace only"
    return "docs/kubectl.md lists the rights that each command needs"


def _one_line(error: BaseException) -> str:
    """The text of an error without addresses of objects and line breaks."""
    text = str(error) or type(error).__name__
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        text = str(reason)
    text = text.rpartition(">: ")[2] if ">: " in text else text
    if "): " in text and text.startswith("HTTP"):
        text = text.split("): ", 1)[1]
    return redact(" ".join(text.split()))[:300]
