"""The file with queries that replace the built-in ones: a YAML mapping of names to PromQL."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml

MAX_LENGTH = 8192


class QueriesError(ValueError):
    """The file cannot be used; the text names every mistake."""


def read_queries(path: Path | None, known: Iterable[str]) -> dict[str, str]:
    """Read the file; without one, nothing is replaced.

    Args:
        path: The file.
        known: The names that there are.

    Raises:
        QueriesError: It cannot be read, is not such a mapping, or names what there is not.
    """
    if path is None:
        return {}
    try:
        document = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise QueriesError(f"{path} cannot be read: {why}") from None
    except yaml.YAMLError as error:
        raise QueriesError(f"{path} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise QueriesError(f"{path} is not a mapping of names to queries")
    names = sorted(known)
    mistakes = [_mistake(name, query, names) for name, query in document.items()]
    if found := [mistake for mistake in mistakes if mistake]:
        raise QueriesError(f"{path}: " + "; ".join(found))
    return {str(name): query.strip() for name, query in document.items()}


def _mistake(name: object, query: object, known: list[str]) -> str:
    if name not in known:
        return f"{name}: there is no such query; known are {', '.join(known)}"
    if not isinstance(query, str) or not query.strip():
        return f"{name}: is not a query"
    return f"{name}: is longer than {MAX_LENGTH} characters" if len(query) > MAX_LENGTH else ""
