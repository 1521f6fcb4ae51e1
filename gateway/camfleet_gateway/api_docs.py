"""`/docs`: the API on one page, made from the OpenAPI document. No script, nothing from other hosts."""

from __future__ import annotations

import html
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    ":root{color-scheme:light dark}"
    "code{font-family:ui-monospace,monospace}h2{margin-top:2rem}"
    "li{margin:.3rem 0}section{border-top:1px solid #8884;padding:.5rem 0}"
)


def render_docs(document: dict[str, Any]) -> str:
    """An HTML page of all operations of an OpenAPI document."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{html.escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(info['title'])} {html.escape(info['version'])}</h1>",
        f"<p>{html.escape(info.get('description', ''))}</p>",
        "<p>Machine-readable: <a href='openapi.json'>openapi.json</a></p>",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(path, method, operation))
    return "".join(parts)


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{html.escape(p['name'])}</code> in {html.escape(p['in'])}"
        for p in operation.get("parameters", ())
    )
    body = operation.get("requestBody", {}).get("description")
    answers = "".join(
        f"<li><code>{html.escape(status)}</code> {html.escape(answer.get('description', ''))}"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<section><h3><code>{method.upper()} {html.escape(path)}</code></h3>"
        f"<p>{html.escape(operation.get('description', operation.get('summary', '')))}</p>"
        + (f"<p>Body: {html.escape(body)}</p>" if body else "")
        + (f"<ul>{parameters}</ul>" if parameters else "")
        + f"<ul>{answers}</ul></section>"
    )
