"""What a document from outside may look like before any model sees it: plain, bounded JSON.

YAML can hold more than JSON can say (dates, bytes, a mapping inside itself), and a few bytes of it can stand
for millions of nodes through aliases. Such documents are refused here, in time proportional to the bound.
"""

from __future__ import annotations

from collections.abc import Mapping

MAX_DEPTH = 32
MAX_NODES = 10_000
MAX_CHARACTERS = 1024 * 1024
_MAX_INTEGER = 2**63


def refuse_reason(document: object) -> str | None:
    """Why a decoded YAML or JSON document is not plain and bounded, or None if it is.

    An alias counts as often as it stands for something. The text names no value of the document.
    """
    nodes = characters = 0
    pending: list[tuple[object, int]] = [(document, 0)]
    while pending:
        node, depth = pending.pop()
        nodes += 1
        if depth > MAX_DEPTH:
            return f"nested deeper than {MAX_DEPTH} levels"
        if nodes > MAX_NODES:
            return f"more than {MAX_NODES} values"
        if isinstance(node, str):
            characters += len(node)
            if characters > MAX_CHARACTERS:
                return f"more than {MAX_CHARACTERS} characters"
            if not _encodable(node):
                return "a text with characters that are none"
        elif isinstance(node, Mapping):
            for key, value in node.items():
                if not isinstance(key, str):
                    return "a key that is not a text; put it in quotes"
                pending.append((key, depth + 1))
                pending.append((value, depth + 1))
                if len(pending) > 2 * MAX_NODES:
                    return f"more than {MAX_NODES} values"
        elif isinstance(node, list):
            if len(node) > MAX_NODES:
                return f"more than {MAX_NODES} values"
            pending.extend((value, depth + 1) for value in node)
        elif (problem := _scalar_problem(node)) is not None:
            return problem
    return None


def _scalar_problem(node: object) -> str | None:
    if node is None or isinstance(node, bool | float):
        return None
    if isinstance(node, int):
        return None if abs(node) < _MAX_INTEGER else "a number that is too large"
    return f"a value of the type {type(node).__name__}; put it in quotes"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
