"""Turns a pydantic model into the schema that a CustomResourceDefinition wants.

The models say what is allowed; this says how Kubernetes wants to be told: a structural OpenAPI v3 schema
without references, where an optional field is one that is not required, and no field has a default, for a
profile or the installation may set it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from camfleet_protocol.fields import MAX_LABEL, RULES, Rule

Schema = dict[str, Any]

_KEPT = (
    *("type", "format", "description", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum"),
    *("multipleOf", "minItems", "maxItems", "maxProperties", "required"),
    *("items", "properties", "additionalProperties"),
    *("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations"),
)
"""What a structural schema may hold of what pydantic writes, in the order of the files."""
_IGNORED = {"title", "default", "propertyNames", "minProperties"}


def object_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a kind."""
    schema = model.model_json_schema(by_alias=True)
    structural = _structural(schema, schema.get("$defs", {}))
    properties = structural["properties"]
    for name in ("apiVersion", "kind"):  # Kubernetes checks these itself
        properties[name] = {"type": "string"}
    properties["metadata"] = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": MAX_LABEL}},
    }
    order = ("apiVersion", "kind", "metadata", "spec", "status")
    structural["properties"] = {name: properties[name] for name in order if name in properties}
    structural["required"] = ["spec"]
    return structural


def _structural(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    schema = _resolved(schema, definitions)
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in schema:
            raise ValueError(
                f"use an inclusive bound instead of {exclusive}: {bound} reads the same in all tools"
            )
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if schema.get("additionalProperties") in (True, False):
        del schema["additionalProperties"]  # Kubernetes prunes or refuses unknown fields by itself
    if schema.get("type") == "integer":
        schema["format"] = "int32" if schema.get("maximum", 2**63) < 2**31 else "int64"
    if schema.get("type") == "number" and (low := schema["minimum"]) % 1:
        # The API server compares an integer with the bound's whole part only: 0 would pass for 0.1 or more.
        rule = Rule(f"self >= {low}", f"must be at least {low}")
        schema[RULES] = [*schema.get(RULES, ()), rule.schema()]
    if schema.get("type") == "array":
        schema.setdefault("x-kubernetes-list-type", "atomic")
    if unknown := schema.keys() - set(_KEPT) - _IGNORED:
        raise ValueError(f"a structural schema has no {', '.join(sorted(unknown))}")
    if "properties" in schema:
        schema["properties"] = {
            name: _structural(inner, definitions) for name, inner in schema["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if key in schema:
            schema[key] = _structural(schema[key], definitions)
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    return {key: schema[key] for key in _KEPT if key in schema}


def _resolved(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """The schema with its reference and its `or null` replaced; what it says itself wins."""
    schema = {key: value for key, value in schema.items() if key != "$defs"}
    if "anyOf" in schema:
        (inner,) = (choice for choice in schema.pop("anyOf") if choice != {"type": "null"})
        schema = {**inner, **schema}
    if "$ref" in schema:
        inner = definitions[schema.pop("$ref").rpartition("/")[2]]
        schema = {**_resolved(inner, definitions), **schema}
    return schema
