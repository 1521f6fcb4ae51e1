"""Writes docs/reference.md: every field of both kinds with its bounds, its default and its description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

INTRODUCTION = """\
# Reference of fields

<!-- Written by python -m crds.generate; not to be edited. -->

Every field of `Camera` and `CameraProfile`, `camfleet.io/v1alpha1`. `kubectl explain camera.spec` says the
same in a terminal, and the API server refuses what breaks a bound, before anything runs.
[Cameras and profiles](cameras.md) is the way in; this page is for looking up.

*Default* is what applies when neither the camera, nor its profile, nor the installation sets the field. No
default is ever written into an object: a field that is unset stays unset, so that a profile can set it for
all its cameras.

The name of a Camera or CameraProfile is a DNS label: at most 63 lower-case letters, digits and `-`, with a
letter or digit at both ends.
"""
CAMERA = """
## Camera

Namespaced, short name `cam`, in the category `camfleet` (`kubectl get camfleet`). The kind of `source` may
change: the old worker ends before the next one starts, and the gateway takes pictures from the newest only.
"""
PROFILE = """
## CameraProfile

Namespaced, short name `camprofile`, in the category `camfleet`. Its spec has these blocks of a Camera, with
the same fields, bounds and defaults; all of them are optional.
"""
STATUS = """
## Status of a Camera

Only the operator writes it. Rates, ages and counts are [metrics](metrics.md), never status.
"""


def page(definitions: list[dict[str, Any]]) -> str:
    """The page, from the CustomResourceDefinitions of Camera and CameraProfile."""
    camera, profile = (_schema(document) for document in definitions)
    lines = [INTRODUCTION.rstrip(), CAMERA.rstrip(), *_blocks("spec", camera["properties"]["spec"])]
    lines += [PROFILE.rstrip(), "", "| block | description |", "|---|---|"]
    for name, schema in profile["properties"]["spec"]["properties"].items():
        shown = f"[`{name}`](#{_anchor(f'spec.{name}')})" if _has_block(schema) else f"[`{name}`](#spec)"
        lines.append(f"| {shown} | {_split(schema)[0]} |")
    lines += [STATUS.rstrip(), *_blocks("status", camera["properties"]["status"], defaults=False)]
    for document in definitions:
        lines += _columns(document)
    return "\n".join(lines) + "\n"


def _schema(document: dict[str, Any]) -> Schema:
    (version,) = document["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def _blocks(path: str, schema: Schema, *, defaults: bool = True) -> Iterator[str]:
    """The tables of a block and of the blocks in it."""
    titles = ["field", "type", "bounds", *(["default"] if defaults else []), "description"]
    yield f"\n### {path}\n\n{_split(schema)[0]}\n\n{_row(titles)}\n{'|---' * len(titles)}|"
    required = schema.get("required", [])
    fields = schema["properties"]
    ordered = [*(name for name in fields if name in required), *(n for n in fields if n not in required)]
    for name in ordered:
        inner = fields[name]
        text, default = _split(inner)
        shown = f"[`{name}`](#{_anchor(f'{path}.{name}')})" if _has_block(inner) else f"`{name}`"
        applies = ["**required**" if name in required else default] if defaults else []
        yield _row([shown, _type(inner), _bounds(inner), *applies, text])
    yield from _rules(schema)
    for name in ordered:
        if _has_block(fields[name]):
            yield from _blocks(f"{path}.{name}", _block(fields[name]), defaults=defaults)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _rules(schema: Schema) -> Iterator[str]:
    """What the API server says when a rule of the block is broken, each with the fields that it is about."""
    fields: dict[str, list[str]] = {}
    for rule in schema.get("x-kubernetes-validations", ()):
        named = rule.get("fieldPath", "").lstrip(".")
        fields.setdefault(rule["message"], []).extend([f"`{named}`"] if named else [])
    if fields:
        yield "\nMessages when a rule of the block is broken:\n"
    for message, names in fields.items():
        yield f"* {', '.join(names)}{': ' if names else ''}{message}"


def _columns(document: dict[str, Any]) -> Iterator[str]:
    names = document["spec"]["names"]
    yield f"\n## Columns of kubectl get {names['plural']}\n\n| column | description |\n|---|---|"
    for column in document["spec"]["versions"][0]["additionalPrinterColumns"]:
        wide = " (with `-o wide`)" if column.get("priority") else ""
        yield f"| {column['name']}{wide} | {column['description']} |"


def _block(schema: Schema) -> Schema:
    """The block that a field holds, or holds a list of."""
    inner: Schema = schema["items"] if schema.get("type") == "array" else schema
    return inner


def _has_block(schema: Schema) -> bool:
    return "properties" in _block(schema)


def _split(schema: Schema) -> tuple[str, str]:
    """The description, and what it says about the field being unset."""
    text, _, unset = schema["description"].partition(" Unset: ")
    default, dot, rest = unset.partition(". ")
    return (f"{text} {rest}".strip() if dot else text), default.rstrip(".")


def _type(schema: Schema) -> str:
    if "enum" in schema:
        *values, last = (f"`{value}`" for value in schema["enum"])
        return f"{', '.join(values)} or {last}"
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind: str = schema["type"]
    if kind == "array":
        return f"list of {_type(schema['items'])}s"
    if "additionalProperties" in schema:
        inner = "quantities" if "type" not in schema["additionalProperties"] else "strings"
        return f"map of {inner}"
    return "time" if schema.get("format") == "date-time" else kind


def _bounds(schema: Schema) -> str:
    found = []
    low, high = schema.get("minimum"), schema.get("maximum")
    if high is not None and schema.get("type") in ("integer", "number"):
        found.append(f"{low} to {high}" if high < 2**31 - 1 else f"at least {low}")
    if schema.get("multipleOf") == 2:
        found.append("even")
    if "maxLength" in schema:
        found.append(f"at most {schema['maxLength']} characters")
    if "maxItems" in schema:
        found.append(f"at most {schema['maxItems']}")
    if "maxProperties" in schema:
        found.append(f"at most {schema['maxProperties']} keys")
    inner: Schema = schema.get("items") or schema.get("additionalProperties") or {}
    if not _has_block(schema):
        rules = [*schema.get("x-kubernetes-validations", ()), *inner.get("x-kubernetes-validations", ())]
        messages = [rule["message"] for rule in rules if "type" not in schema or schema["type"] != "number"]
        found.extend(message.removeprefix("must be ").partition(": ")[0] for message in messages)
    return "; ".join(found)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
