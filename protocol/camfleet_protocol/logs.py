"""Structured logs for all programs: one line per record, keys at the end, nothing secret.

`configure_logging` puts one handler on the root logger whose formatter redacts the finished text, tracebacks
included, so that no logger and no library can go around it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any, Literal

from camfleet_protocol.redaction import redact

LogFormat = Literal["text", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_CHATTY = ("watchfiles", "websockets", "asyncio", "httpx")
"""Libraries whose INFO is a running commentary."""
_CONTEXT_KEYS = ("namespace", "camera", "pod", "attempt")


class _Formatter(logging.Formatter):
    def _context(self, record: logging.LogRecord) -> dict[str, Any]:
        return {
            key: value for key in _CONTEXT_KEYS if (value := getattr(record, key, None)) not in (None, "")
        }

    def _message(self, record: logging.LogRecord) -> str:
        """The message; arguments that do not fit it must not reach logging's own, unredacted complaint."""
        try:
            return record.getMessage()
        except (TypeError, ValueError, KeyError):
            return f"{record.msg} {record.args!r}"

    def _time(self, record: logging.LogRecord) -> str:
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{whole}.{int(record.msecs):03d}Z"


class TextFormatter(_Formatter):
    """`time LEVEL logger: message camera=…`, redacted."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record; control characters in the message cannot start a new line."""
        message = self._message(record).replace("\r", "\\r").replace("\n", "\\n")
        context = "".join(f" {key}={value}" for key, value in self._context(record).items())
        line = f"{self._time(record)} {record.levelname:<7} {record.name}: {message}{context}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return redact(line)


class JsonFormatter(_Formatter):
    """One JSON object a line, redacted."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        entry: dict[str, Any] = {
            "time": self._time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(self._message(record)),
            **{
                key: redact(value) if isinstance(value, str) else value
                for key, value in self._context(record).items()
            },
        }
        if record.exc_info:
            entry["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


class ContextAdapter(logging.LoggerAdapter[logging.Logger]):
    """Adds namespace, camera, pod and attempt to every record of one logger."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the adapter's context into the record's."""
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


def configure_logging(level: str = "INFO", form: LogFormat = "text") -> None:
    """Send all logs of the process to standard error through the redaction."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(max(root.level, logging.WARNING))
