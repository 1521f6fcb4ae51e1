"""Kubernetes objects and texts made fit to be shown or sent to somebody.

A Camera's URL has no userinfo, but nothing stops a person from putting a key into its query; so the values of
every query go. Of annotations only ours keep their values, of environment variables too: anything may be in
the others. What is left passes the redaction that the programs' logs pass.
"""

from __future__ import annotations

import json
import re
from typing import Any

from camfleet_protocol.redaction import MASK, redact

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{0,20}://)([^\s\"'<>\\]*)")
_END = re.compile(r"[?;#]")
_OWN = ("camfleet.io/", "kubernetes.io/", "deployment.kubernetes.io/")
_OWN_VARIABLE = "CAMFLEET_"
_SECRET_KEY = re.compile(
    r"(?:pass(?:word|wd|phrase)?|pwd|token|secret|api[_-]?key|access[_-]?key|authorization|cookie)$", re.I
)
_SECRET_FLAG = re.compile(
    r"^(--?[\w-]*(?:header|password|token|secret|key|credential)[\w-]*)(?:=|\s).*", re.I | re.S
)
_FILE_FLAG = re.compile(r"^--?[\w-]*-file(?:=|\s)", re.I)
_DROPPED_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration", "camfleet.io/replaced")


def clean_text(text: str) -> str:
    """Text without credentials and without the queries of URLs."""
    if "://" in text:
        text = _URL.sub(_without_query, text)
    return redact(text)


def _without_query(url: re.Match[str]) -> str:
    # In code, not in the pattern, so that a hostile text costs linear time.
    end = _END.search(url[2])
    return url[0] if end is None else f"{url[1]}{url[2][: end.start()]}?{MASK}"


def clean(value: Any) -> Any:
    """A JSON value, such as a Kubernetes object, made fit to be shown."""
    if isinstance(value, str):
        return _text_or_json(value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("name"), str) and isinstance(value.get("value"), str):
        return {**value, "value": _named(value["name"], value["value"])}
    made: dict[str, Any] = {}
    for key, inner in value.items():
        if key == "managedFields":
            continue
        if key == "annotations" and isinstance(inner, dict):
            made[key] = _annotations(inner)
        elif key in ("args", "command") and isinstance(inner, list):
            made[key] = _arguments(inner)
        elif isinstance(inner, str) and _SECRET_KEY.search(key):
            made[key] = MASK
        else:
            made[clean_text(key)] = clean(inner)
    return made


def clean_line(line: str) -> str:
    """A line of a log: JSON is cleaned as an object, for in a string of JSON quotes are escaped."""
    return _text_or_json(line)


def _text_or_json(text: str) -> str:
    """Settings are handed to workers as JSON in a string: what is in it is cleaned as an object."""
    if text[:1] in "{[" and text[-1:] in "}]":
        try:
            return json.dumps(clean(json.loads(text)), ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
    return clean_text(text)


def _annotations(found: dict[str, Any]) -> dict[str, Any]:
    return {
        key: clean(value) if _is_own(key) else MASK
        for key, value in found.items()
        if key not in _DROPPED_ANNOTATIONS
    }


def _is_own(key: str) -> bool:
    prefix = key.partition("/")[0] + "/"
    return prefix.endswith(_OWN)


def _named(name: str, value: str) -> str:
    """The value of an environment variable or a header: only those of our own may stay."""
    if not name.startswith(_OWN_VARIABLE) or _SECRET_KEY.search(name):
        return MASK
    return _text_or_json(value)


def _arguments(found: list[Any]) -> list[Any]:
    """Values of flags that could be secrets go, also where the value is an argument of its own."""
    made: list[Any] = []
    hide = False
    for item in found:
        text = str(item)
        if hide and not text.startswith("-"):
            made.append(MASK)
            hide = False
            continue
        hide = False
        secret = _SECRET_FLAG.match(f"{text} ")
        if secret is None or _FILE_FLAG.match(f"{text} "):
            made.append(clean_text(text))
        elif "=" in text:
            made.append(f"{secret[1]}={MASK}")
        else:
            made.append(text)
            hide = True
    return made
