"""A client of Prometheus' query API, and of whatever speaks it: Thanos, Mimir, VictoriaMetrics.

Instant queries only. What is not a whole and clean answer raises `PrometheusError` with a reason, for half an
answer is worse than none. No credential gets into an error.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from yarl import URL

from camfleet_protocol.redaction import MASK, redact

MAX_BYTES = 64 * 1024 * 1024
"""Of one answer: twenty thousand cameras on ten gateways."""
MAX_CREDENTIAL_BYTES = 64 * 1024
_MAX_TEXT = 300
_CHUNK = 256 * 1024
_CONNECTIONS = 8

UNREACHABLE = "PrometheusUnreachable"
TIMEOUT = "PrometheusTimeout"
REFUSED = "PrometheusRefused"
QUERY_INVALID = "PrometheusQueryInvalid"
UNAVAILABLE = "PrometheusUnavailable"
WARNINGS = "PrometheusWarnings"
INVALID = "PrometheusInvalid"


class PrometheusError(Exception):
    """There is no usable answer.

    Attributes:
        reason: One of the constants above.
        message: A sentence for people, without credentials.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Vector:
    """An answer.

    Attributes:
        samples: The labels and the value of each series; the value is the server's text: `1`, `NaN`.
        time: When it was evaluated, by the server's clock, Unix seconds; None if there are no samples.
    """

    samples: Sequence[tuple[dict[str, str], str]]
    time: float | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to make oneself known. Files are read again when they change.

    Attributes:
        ca_file: Who may have signed the server's certificate; the system's authorities if not given.
        cert_file: Our certificate in PEM; may hold the key too.
        headers: Name and value of more headers, such as `X-Scope-OrgID`.
        insecure: Take any certificate of the server.
    """

    bearer_token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    insecure: bool = False
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class Prometheus:
    """One server.

    Args:
        url: Its base, to which `/api/v1/query` is added; may have a path and a query string.
        credentials: How to make oneself known.
        timeout: Seconds for one answer, everything included.
    """

    def __init__(self, url: str, credentials: Credentials | None = None, *, timeout: float = 5.0) -> None:
        parts = urlsplit(url)
        path = f"{parts.path.rstrip('/')}/api/v1/query"
        self.url = redact(urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")))
        """Its base, fit for display."""
        self._target = URL(urlunsplit((parts.scheme, parts.netloc, path, parts.query, "")), encoded=True)
        self._credentials = credentials or Credentials()
        self._timeout = timeout
        self._files: dict[Path, tuple[tuple[int, ...], str]] = {}
        self._context: tuple[object, ssl.SSLContext] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._users = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Prometheus]:
        """Hold connections to it. Several users share them."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=30.0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "camfleet-operator",
                },
                auto_decompress=False,
            )
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            if not self._users:
                session, self._session = self._session, None
                await session.close()

    async def query(self, expression: str, time: float | None = None) -> Vector:
        """Evaluate an instant query.

        Args:
            expression: PromQL that gives a vector.
            time: When to evaluate it, Unix seconds; the server's present if not given.

        Raises:
            PrometheusError: There is no usable answer.
        """
        # VictoriaMetrics holds back the last half minute unless told `nocache`; others do not know the word.
        form = {"query": expression, "nocache": "1"}
        if time is not None:
            form["time"] = repr(time)
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    status, body = await self._post(form)
                except aiohttp.ServerDisconnectedError:  # it has closed an idle connection just now
                    status, body = await self._post(form)
        except TimeoutError:
            raise PrometheusError(TIMEOUT, f"no answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise PrometheusError(UNREACHABLE, self._clean(str(error)) or type(error).__name__) from None
        if status != 200:
            self._fail(status, body)
        vector = self._read(body)
        await asyncio.sleep(0)  # a large answer was read: others have their turn before the next
        return vector

    # ── The request ─────────────────────────────────────────────────────────────────────────────────

    async def _post(self, form: dict[str, str]) -> tuple[int, bytes]:
        if self._session is None:
            raise RuntimeError("the client is not open")
        async with self._session.post(
            self._target, data=form, headers=self._headers(), ssl=self._tls(), allow_redirects=False
        ) as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise PrometheusError(INVALID, "the answer is compressed, which was not asked for")
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > MAX_BYTES:
                    response.close()
                    raise PrometheusError(INVALID, f"the answer has more than {MAX_BYTES} bytes")
            return response.status, bytes(body)

    def _headers(self) -> dict[str, str]:
        known = self._credentials
        headers = dict(known.headers)
        if known.bearer_token_file is not None:
            headers["Authorization"] = f"Bearer {self._secret(known.bearer_token_file)}"
        elif known.username is not None:
            password = self._secret(known.password_file) if known.password_file is not None else ""
            pair = base64.b64encode(f"{known.username}:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        return headers

    def _secret(self, path: Path) -> str:
        """The content of a file, read again if it is another one than before."""
        try:
            state = _state(path)
            if (held := self._files.get(path)) is not None and held[0] == state:
                return held[1]
            with path.open("rb") as file:
                text = file.read(MAX_CREDENTIAL_BYTES).decode().strip("\r\n ")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not text"
            raise PrometheusError(REFUSED, f"the credentials in {path} cannot be read: {why}") from None
        if not text or not text.isprintable():
            raise PrometheusError(REFUSED, f"the credentials in {path} are empty or not one line")
        self._files[path] = (state, text)
        return text

    def _tls(self) -> ssl.SSLContext | bool:
        known = self._credentials
        files = [path for path in (known.ca_file, known.cert_file, known.key_file) if path is not None]
        if self._target.scheme != "https" or not (files or known.insecure):
            return True
        try:
            state = [_state(path) for path in files]
            if self._context is not None and self._context[0] == state:
                return self._context[1]
            context = ssl.create_default_context(cafile=known.ca_file)
            if known.insecure:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if known.cert_file is not None:
                context.load_cert_chain(known.cert_file, known.key_file, password=_no_password)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            named = ", ".join(map(str, files))
            raise PrometheusError(REFUSED, f"of {named}, not all can be used: {error}") from None
        self._context = (state, context)
        return context

    # ── The answer ──────────────────────────────────────────────────────────────────────────────────

    def _fail(self, status: int, body: bytes) -> NoReturn:
        said = self._clean(_error_text(body))
        match status:
            case 401 | 403:
                reason = REFUSED
            case 400 | 422:
                reason = QUERY_INVALID
            case 429:
                reason = UNAVAILABLE
            case _ if status >= 500:
                reason = UNAVAILABLE
            case _ if 300 <= status < 400:
                reason, said = INVALID, "it sends us elsewhere, which is not followed; is the URL right?"
            case _:
                reason = INVALID
        raise PrometheusError(reason, f"status {status}{': ' if said else ''}{said}")

    def _read(self, body: bytes) -> Vector:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise PrometheusError(INVALID, "the answer is not JSON; is the URL right?") from None
        if not isinstance(answer, dict) or not isinstance(data := answer.get("data"), dict):
            raise PrometheusError(INVALID, "the answer is none of Prometheus' API")
        if answer.get("status") != "success":
            raise PrometheusError(INVALID, f"the answer is no success: {self._clean(_error_text(body))}")
        if warnings := answer.get("warnings"):
            raise PrometheusError(WARNINGS, self._clean(str(warnings)))
        if answer.get("isPartial"):  # VictoriaMetrics' word for it
            raise PrometheusError(WARNINGS, "the answer is partial")
        if data.get("resultType") != "vector":
            kind = self._clean(str(data.get("resultType")))
            raise PrometheusError(INVALID, f"the answer is a {kind}, not a vector")
        try:
            samples = [(sample["metric"], sample["value"][1]) for sample in data["result"]]
            time = float(data["result"][0]["value"][0]) if samples else None
        except (TypeError, KeyError, IndexError, ValueError, OverflowError):
            raise PrometheusError(INVALID, "the answer's vector is not one") from None
        for labels, value in samples:
            if type(labels) is not dict or not all(map(_is_text, (value, *labels.values()))):
                raise PrometheusError(INVALID, "the answer's vector is not one")
        if time is not None and not math.isfinite(time):
            raise PrometheusError(INVALID, "the answer's time is none")
        return Vector(samples, time)

    def _clean(self, text: str) -> str:
        """A text from outside, short, on one line and without credentials."""
        secrets = [held for _, held in self._files.values()]
        secrets += [value for _, value in self._credentials.headers]
        secrets += [value.partition(" ")[2] for value in self._basic()]
        for secret in secrets:
            if len(secret) >= 4:
                text = text.replace(secret, MASK)
        text = " ".join(redact(text[: 10 * _MAX_TEXT]).split())
        return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"

    def _basic(self) -> list[str]:
        if self._credentials.username is None:
            return []
        try:
            return [self._headers()["Authorization"]]
        except PrometheusError:
            return []


def _error_text(body: bytes) -> str:
    """What Prometheus says went wrong, or the beginning of what something before it says."""
    try:
        answer: Any = json.loads(body[:_CHUNK])
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("error"), str):
        return str(answer["error"])
    text = body[: 10 * _MAX_TEXT].decode(errors="replace")
    return "" if "<" in text else text  # a page of some proxy helps nobody


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


def _no_password() -> str:
    """Instead of asking at the terminal."""
    raise ValueError("the key is encrypted")


def _is_text(value: object) -> bool:
    """Whether a JSON value is a string that can be encoded: half a surrogate pair cannot."""
    if type(value) is not str:
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
