"""Server-side apply as this gateway uses it: which fields are ours, and what to apply next. Pure.

An apply states all fields of its manager; what it leaves out is given up, and removed unless somebody else
owns it too. So before each apply we read from `managedFields` what is ours, and lay the new controls on it.

To take over a field that had a value removes every trace of that value, so it is kept in an annotation of the
same apply. `null` then means: leave the field to whoever else owns it; else put the kept value back; else
give the field up, so that profile and installation decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from camfleet_gateway.kubernetes_objects import OUR_ANNOTATIONS
from camfleet_protocol.camera import API_VERSION
from camfleet_protocol.cluster import GATEWAY_FIELD_MANAGER

REPLACED_ANNOTATION = f"{OUR_ANNOTATIONS}replaced"
"""JSON of the values, shaped like the spec, that this gateway's controls have taken the place of."""

Json = dict[str, Any]
Path = tuple[str, ...]


def next_apply(live: Mapping[str, Any], controls: Mapping[str, Any]) -> Json:
    """The whole apply after a change.

    Args:
        live: The Camera as the API server has it, with `managedFields`.
        controls: Fields of the spec to change, null to give a field or a block back; camelCase.
    """
    metadata, spec = live["metadata"], live["spec"]
    ours, others = _owners(metadata.get("managedFields") or ())
    applied = {path: value for path in ours if (value := _at(spec, path)) is not None}
    replaced = {path: value for path, value in _leaves(_kept(metadata)) if path in applied}
    for path, value in _leaves(controls):
        if value is None:
            for owned in [owned for owned in applied if owned[: len(path)] == path]:
                if owned in replaced and owned not in others:
                    applied[owned] = replaced[owned]
                else:
                    del applied[owned]
                    replaced.pop(owned, None)
            continue
        before = _at(spec, path)
        if path not in applied and before is not None and before != value:
            replaced[path] = before
        applied[path] = value
    document: Json = {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            # With these an apply never makes a Camera anew, and never undoes what came in between.
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
    }
    if replaced:
        document["metadata"]["annotations"] = {
            REPLACED_ANNOTATION: json.dumps(_tree(replaced), sort_keys=True, separators=(",", ":"))
        }
    if applied:
        document["spec"] = _tree(applied)
    return document


def _owners(managed_fields: Any) -> tuple[set[Path], set[Path]]:
    """The fields of the spec that our applies own, and those that anybody else owns."""
    ours: set[Path] = set()
    others: set[Path] = set()
    for entry in managed_fields:
        if entry.get("subresource"):
            continue
        mine = entry.get("manager") == GATEWAY_FIELD_MANAGER and entry.get("operation") == "Apply"
        fields = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        (ours if mine else others).update(_owned(fields))
    return ours, others


def _owned(fields: Mapping[str, Any], above: Path = ()) -> Iterator[Path]:
    """The leaves of a `fieldsV1` tree; the elements of a list belong to the list."""
    for key, inner in fields.items():
        if not key.startswith("f:"):
            continue
        path = (*above, key.removeprefix("f:"))
        if any(name.startswith("f:") for name in inner):
            yield from _owned(inner, path)
        else:
            yield path


def _leaves(document: Mapping[str, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _at(document: Mapping[str, Any], path: Path) -> Any:
    """The value of a leaf; None if there is none, or an object in its place."""
    found: Any = document
    for key in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return None if isinstance(found, Mapping) else found


def _tree(leaves: Mapping[Path, Any]) -> Json:
    document: Json = {}
    for path, value in leaves.items():
        inner = document
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value
    return document


def _kept(metadata: Mapping[str, Any]) -> Json:
    try:
        kept = json.loads((metadata.get("annotations") or {}).get(REPLACED_ANNOTATION, "{}"))
    except ValueError:
        return {}
    return kept if isinstance(kept, dict) else {}
