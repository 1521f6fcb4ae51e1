"""The CustomResourceDefinitions as files: up to date, described and bounded throughout. Needs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from crds.generate import DEFINITIONS, FOLDER, Definition, files

from camfleet_operator.cluster.podspec import _DEFAULT_RESOURCES
from camfleet_protocol.camera import Camera, CameraProfile
from camfleet_protocol.settings import Settings

Schema = dict[str, Any]
_KUBERNETES_OWN = {".apiVersion", ".kind", ".metadata", ".metadata.name"}


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema inside a schema with its path; `[]` for items and `{}` for values of a map."""
    if path not in _KUBERNETES_OWN:
        yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from nodes(schema[key], path + mark)


def schema_of(definition: Definition) -> Schema:
    (version,) = yaml.safe_load(definition.path.read_text())["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


ALL = [
    pytest.param(path, schema, id=f"{definition.kind}{path}")
    for definition in DEFINITIONS
    for path, schema in nodes(schema_of(definition))
]


def test_the_files_are_up_to_date() -> None:
    assert {item.path for item in DEFINITIONS} == set(FOLDER.glob("*.yaml"))
    for path, text in files().items():
        assert path.read_text() == text, "run python -m crds.generate"


@pytest.mark.parametrize(("path", "schema"), ALL)
def test_every_field_is_described_and_bounded(path: str, schema: Schema) -> None:
    if not path.endswith(("[]", "{}")):
        assert re.search(r"[.]$", schema["description"]), "a sentence"
    assert not {"default", "$ref", "anyOf", "oneOf", "allOf", "nullable"} & schema.keys()
    kind = schema.get("type")
    if kind == "string":
        assert "maxLength" in schema or "enum" in schema or schema.get("format") == "date-time"
    elif kind in ("integer", "number"):
        assert "minimum" in schema and "maximum" in schema
    elif kind == "array":
        assert "maxItems" in schema and "x-kubernetes-list-type" in schema
    elif kind == "object":
        closed = "properties" in schema and "additionalProperties" not in schema
        assert closed or "maxProperties" in schema
    elif kind is None:
        assert schema["x-kubernetes-int-or-string"]
        assert {"pattern", "maxLength", "minimum", "maximum"} <= schema.keys()
    else:
        assert kind == "boolean"
    for rule in schema.get("x-kubernetes-validations", ()):
        assert rule["message"] and len(rule["message"]) < 200


def test_only_what_kubernetes_itself_checks_is_left_open() -> None:
    found = {
        path
        for definition in DEFINITIONS
        for path, schema in nodes(schema_of(definition))
        if schema.get("x-kubernetes-preserve-unknown-fields")
    }
    affinity = ".spec.placement.affinity."
    kinds = ("nodeAffinity", "podAffinity", "podAntiAffinity")
    assert found == {".status.settings.values", *(affinity + kind for kind in kinds)}


def not_set(value: object) -> bool:
    return value is None or value == []


def test_descriptions_tell_the_defaults_in_effect() -> None:
    """A default is in a description and in `Settings`; here they are compared."""
    schema = dict(nodes(schema_of(DEFINITIONS[0])))
    checked = 0
    for block, values in Settings().values().items():
        for name, value in (values or {}).items() if isinstance(values, dict) else ():
            path = f".spec.{block}.{name}"
            if isinstance(value, dict):
                path, value = f"{path}.enabled", value["enabled"]
            unset = re.search(r"Unset: (.*)\.$", schema[path]["description"])
            assert unset, path
            (wanted,) = value if isinstance(value, list) and value else ("none" if not_set(value) else value,)
            assert yaml.safe_load(unset.group(1)) == wanted, path
            checked += 1
    assert checked >= 12


def test_descriptions_tell_the_resources_in_effect() -> None:
    schema = dict(nodes(schema_of(DEFINITIONS[0])))
    for name, values in _DEFAULT_RESOURCES.items():
        said = " and ".join(f"{resource} {amount}" for resource, amount in values.items())
        assert f"Unset: {said}." in schema[f".spec.resources.{name}"]["description"]


def test_a_profile_has_every_field_that_a_camera_may_inherit() -> None:
    camera, profile = (
        set(model.model_fields["spec"].annotation.model_fields) for model in (Camera, CameraProfile)
    )
    assert camera - profile == {"source", "profile_ref", "suspend"}
