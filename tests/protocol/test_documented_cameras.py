"""Cameras and profiles in the documentation are written as the API server takes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from camfleet_protocol.camera import parse_object

DOCS = Path(__file__).parents[2] / "docs"
_YAML = re.compile(r"^```yaml[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _examples() -> list[Any]:
    return [
        pytest.param(document, id=f"{path.stem}-{document['metadata']['name']}")
        for path in sorted(DOCS.rglob("*.md"))
        for block in _YAML.findall(path.read_text())
        for document in yaml.safe_load_all(block)
        if isinstance(document, dict) and document.get("kind") in ("Camera", "CameraProfile")
    ]


@pytest.mark.parametrize("document", _examples())
def test_an_example_is_what_it_is_read_as(document: dict[str, Any]) -> None:
    """The models also take what the schema does not, such as a point by its keys."""
    read = parse_object(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert read["spec"] == document["spec"]


def test_there_are_examples() -> None:
    assert len(_examples()) >= 6
